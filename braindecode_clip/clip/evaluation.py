"""What a model can do on held-out pairs: retrieval and zero-shot classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from braindecode_clip.clip.encoders import ClipEncoder
from braindecode_clip.clip.recall import POOL_SIZE, pooled_recall
from braindecode_clip.clip.zero_shot import class_vectors, zero_shot_accuracy


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
    """

    rows: np.ndarray
    labels: Sequence[str]
    class_names: Sequence[str]
    templates: Sequence[str]


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
    rng = np.random.default_rng(seed)
    to_text, to_image = pooled_recall(
        images, texts, np.asarray(captions), rng=rng, pool_size=pool_size
    )
    zero_shot = {}
    for name, task in tasks.items():
        classes = class_vectors(encoder, task.class_names, task.templates)
        index = {label: i for i, label in enumerate(task.class_names)}
        labels = [index[label] for label in task.labels]
        zero_shot[name] = asdict(zero_shot_accuracy(images[task.rows], classes, labels))
    return {
        "n_pairs": len(captions),
        "image_to_text": asdict(to_text),
        "text_to_image": asdict(to_image),
        "zero_shot": zero_shot,
    }
