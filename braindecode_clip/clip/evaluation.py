"""What a model can do on held-out pairs: retrieval, zero-shot classification, geometry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from braindecode_clip.clip.class_scores import class_table, score_table, truth_table
from braindecode_clip.clip.encoders import ClipEncoder
from braindecode_clip.clip.geometry import geometry_measures, rank_scores
from braindecode_clip.clip.grouped_recall import (
    Captioned,
    first_ranks,
    fold_ranks,
    recall_scores,
    score_records,
)
from braindecode_clip.clip.recall import POOL_SIZE, pooled_recall
from braindecode_clip.clip.score import scored, table_rows
from braindecode_clip.clip.zero_shot import TextEncoder, class_vectors, zero_shot_accuracy
from braindecode_clip.seeds import make_rng

_KINDS = ("grouped", "ungrouped")


@dataclass(frozen=True)
class ZeroShotTask:
    """A classification without training.

    Attributes
    ----------
    rows : ndarray (n,) int64
        Pictures that have one true class, as rows of the pairs.
    labels : sequence of str (n,)
        Their true classes.
    class_names : sequence of str
        All candidates.
    templates : sequence of str
        Prompts with ``{}``.
    wordings : mapping of str to sequence of str, optional
        What each class is called in prompts; its name by default.
    """

    rows: np.ndarray
    labels: Sequence[str]
    class_names: Sequence[str]
    templates: Sequence[str]
    wordings: Mapping[str, Sequence[str]] | None = None

    def class_vectors(self, encoder: TextEncoder) -> np.ndarray:
        """Return the unit vectors (n_classes, n_dims) of the classes."""
        words = [(self.wordings or {}).get(name, name) for name in self.class_names]
        return class_vectors(encoder, words, self.templates)

    def is_true(self) -> np.ndarray:
        """Return the true class of every picture of the task, (n, n_classes) bool."""
        return truth_table([[label] for label in self.labels], self.class_names)


def evaluate_model(
    encoder: ClipEncoder,
    pictures: Sequence[Image.Image],
    captions: Sequence[str],
    *,
    tasks: Mapping[str, ZeroShotTask],
    seed: int = 0,
    pool_size: int = POOL_SIZE,
) -> dict[str, Any]:
    """Measure retrieval in pools and the accuracy of each zero-shot task.

    Parameters
    ----------
    encoder : ClipEncoder
        The model.
    pictures : sequence of PIL images (n,)
        Held-out pictures of any size.
    captions : sequence of str (n,)
        One caption for each.
    tasks : mapping of str to ZeroShotTask
        May be empty.
    seed : int
        Deals the pools.
    pool_size : int
        Distinct captions in a pool.

    Returns
    -------
    dict
        ``n_pairs``, ``image_to_text`` and ``text_to_image`` (fields of
        :class:`~braindecode_clip.clip.recall.Recall`) and ``zero_shot`` (fields of
        :class:`~braindecode_clip.clip.zero_shot.Accuracy` by task).
    """
    images = encoder.encode_image(pictures)
    texts = encoder.encode_text(list(captions))
    pooled = pooled_record(images, texts, captions, seed=seed, pool_size=pool_size)
    return {**pooled, "zero_shot": zero_shot_record(encoder, images, tasks)}


def pooled_record(
    images: np.ndarray, texts: np.ndarray, captions: Sequence[str], *, seed: int, pool_size: int
) -> dict[str, Any]:
    """Return ``n_pairs`` and retrieval in pools; see :func:`evaluate_model`."""
    to_text, to_image = pooled_recall(
        images,
        texts,
        np.asarray(captions),
        rng=np.random.default_rng(seed),
        pool_size=pool_size,
    )
    return {
        "n_pairs": len(captions),
        "image_to_text": asdict(to_text),
        "text_to_image": asdict(to_image),
    }


def zero_shot_record(
    encoder: TextEncoder, images: np.ndarray, tasks: Mapping[str, ZeroShotTask]
) -> dict[str, Any]:
    """Return the accuracy of each task; see :func:`evaluate_model`."""
    zero_shot = {}
    for name, task in tasks.items():
        index = {label: i for i, label in enumerate(task.class_names)}
        labels = [index[label] for label in task.labels]
        vectors = task.class_vectors(encoder)
        zero_shot[name] = asdict(zero_shot_accuracy(images[task.rows], vectors, labels))
    return zero_shot


def retrieval_record(
    data: Captioned, *, seed: int, fold_size: int | None = None, n_bootstrap: int = 1000
) -> dict[str, Any]:
    """Score retrieval in both directions, with and without groups, for JSON.

    Parameters
    ----------
    data : Captioned
    seed : int
        Of folds and bootstrap.
    fold_size : int, optional
        Score in folds of so many pictures too, where there are as many.
    n_bootstrap : int

    Returns
    -------
    dict
        Numbers of pictures, captions and clusters; "grouped" and "ungrouped" by direction
        (:func:`~braindecode_clip.clip.grouped_recall.recall_scores`), and "folds" the same.
    """

    def summarise(found: list[dict[str, Any]], name: str) -> dict[str, Any]:
        return {
            kind: {
                direction: score_records(
                    # The same draws for both kinds, so that equal figures have equal intervals.
                    recall_scores(own, rng=make_rng(seed, name, direction), n_bootstrap=n_bootstrap)
                )
                for direction, own in ranks.items()
            }
            for kind, ranks in zip(_KINDS, found, strict=True)
        }

    record: dict[str, Any] = {
        "n_images": len(data.images),
        "n_captions": len(data.texts),
        "n_distinct_images": len(np.unique(data.picture)),
        "n_distinct_captions": len(np.unique(data.caption)),
        "n_clusters": len(np.unique(data.cluster)),
        "drawn_together": data.drawn_together,
        **summarise(first_ranks(data, also_ungrouped=True), "retrieval"),
    }
    if fold_size is not None and len(data.images) >= fold_size:
        rng = make_rng(seed, "folds")
        found = fold_ranks(data, fold_size, rng=rng, also_ungrouped=True)
        n_folds = len(data.images) // fold_size
        folds = {"n_folds": n_folds, "fold_size": fold_size, "n_left_out": len(data.images)}
        folds["n_left_out"] -= n_folds * fold_size
        record["folds"] = {**folds, **summarise(found, "folds")}
    return record


def geometry_record(data: Captioned, *, seed: int, n_bootstrap: int = 1000) -> dict[str, Any]:
    """Describe the space by :mod:`~braindecode_clip.clip.geometry`, for JSON."""
    measures = geometry_measures(data, seed=seed)
    found = scored(measures, rng=make_rng(seed, "geometry"), n_bootstrap=n_bootstrap)
    return score_records({**found, **rank_scores(data, seed=seed)})


def classification_record(
    encoder: TextEncoder,
    images: np.ndarray,
    tasks: Mapping[str, ZeroShotTask],
    *,
    seed: int,
    n_bootstrap: int = 1000,
) -> dict[str, Any]:
    """Score every zero-shot task by top-k, mean per class and class, for JSON.

    Returns
    -------
    dict by task
        "templates", "n", "n_classes", "metrics" and "classes": the rows of
        :func:`~braindecode_clip.clip.class_scores.score_table` (by metric) and
        :func:`~braindecode_clip.clip.class_scores.class_table`.
    """
    found = {}
    for name, task in tasks.items():
        similarity = images[task.rows] @ task.class_vectors(encoder).T
        is_true = task.is_true()
        rng = make_rng(seed, "classification", name)
        metrics = score_table(similarity, is_true, rng=rng, n_bootstrap=n_bootstrap)
        found[name] = {
            "templates": list(task.templates),
            "n": len(task.rows),
            "n_classes": len(task.class_names),
            "metrics": {row.pop("metric"): row for row in table_rows(metrics)},
            "classes": table_rows(class_table(similarity, is_true, task.class_names)),
        }
    return found
