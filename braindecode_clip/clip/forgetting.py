"""What adapting a model gained and what it cost: two models on the same pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.stats import false_discovery_control

from braindecode_clip.clip.evaluation import ZeroShotTask
from braindecode_clip.clip.geometry import geometry_measures, jackknife_ends, rank_estimates
from braindecode_clip.clip.grouped_recall import Captioned, first_ranks, recall_measures
from braindecode_clip.clip.probe import linear_probe
from braindecode_clip.clip.score import (
    Difference,
    Measure,
    differences,
    mean_measure,
)
from braindecode_clip.clip.zero_shot import TextEncoder, true_ranks
from braindecode_clip.seeds import make_rng

#: Below this q a difference counts.
ALPHA = 0.05
#: Figures that are the better the lower.
_LESS_IS_BETTER = frozenset({"median_rank"})


@dataclass(frozen=True)
class ModelOnSet:
    """One model's vectors of one set.

    Attributes
    ----------
    encoder : TextEncoder
        For prompts.
    images : ndarray (n, n_dims) float32
        Of all pictures.
    captioned : Captioned, optional
        Of those with captions.
    """

    encoder: TextEncoder
    images: np.ndarray
    captioned: Captioned | None


def class_measures(
    similarity: np.ndarray, is_true: np.ndarray, clusters: np.ndarray, *, ks: Sequence[int] = (1, 5)
) -> list[Measure]:
    """Return top_k and mean_per_class_top_k of a classification with one class a picture.

    Parameters
    ----------
    similarity : ndarray (n, n_classes)
    is_true : bool ndarray (n, n_classes)
        One true class in each row.
    clusters : ndarray (n,)
        Pictures of one number are drawn together.
    ks : sequence of int
        Those not below n_classes are left out.
    """
    n_classes = is_true.shape[1]
    rank = true_ranks(similarity, is_true)[is_true]
    label = np.argmax(is_true, axis=1)
    ks = [k for k in ks if k < n_classes]
    chance = {f"top_{k}": k / n_classes for k in ks}
    top = mean_measure(
        {f"top_{k}": rank <= k for k in ks}, clusters, chance=chance, limits=(0.0, 1.0)
    )
    return [top, *(_class_mean(rank <= k, label, clusters, k, n_classes) for k in ks)]


def _class_mean(
    hits: np.ndarray, label: np.ndarray, clusters: np.ndarray, k: int, n_classes: int
) -> Measure:
    present, column = np.unique(label, return_inverse=True)
    names, place = np.unique(clusters, return_inverse=True)
    shape = len(names), len(present)
    # Sparse: 50,000 pictures of 1,000 classes would be 400 MB each.
    found = sparse.csr_array((hits.astype(np.float64), (place, column)), shape=shape)
    sizes = sparse.csr_array((np.ones(len(hits)), (place, column)), shape=shape)

    def statistic(weights: np.ndarray) -> np.ndarray:
        size, right = weights @ sizes, weights @ found
        share = np.divide(right, size, out=np.full_like(size, np.nan), where=size > 0)
        # A class that was not drawn has no share.
        return np.nanmean(share, axis=1, keepdims=True)

    return Measure(
        (f"mean_per_class_top_{k}",),
        statistic,
        n_clusters=len(names),
        n=len(hits),
        chance=(k / n_classes,),
        limits=(0.0, 1.0),
        terms=(found @ (1 / sizes.sum(axis=0)))[:, None] / len(present),
    )


def probe_measure(
    model: ModelOnSet,
    task: ZeroShotTask,
    is_test: np.ndarray,
    files: np.ndarray,
    *,
    rng: np.random.Generator,
) -> Measure:
    """Fit a linear probe to some pictures of a task; return top_1 of the others.

    Parameters
    ----------
    model : ModelOnSet
    task : ZeroShotTask
    is_test : bool ndarray (n,)
        Over the task's rows.
    files : ndarray
        As of :func:`set_measures`.
    rng : Generator
        Of the folds.
    """
    labels, rows = np.array(task.labels), task.rows
    probe = linear_probe(
        model.images[rows[~is_test]],
        labels[~is_test].tolist(),
        model.images[rows[is_test]],
        labels[is_test].tolist(),
        rng=rng,
        n_bootstrap=1,
        n_controls=0,
    )
    chance = {"top_1": 1 / probe.n_classes}
    return mean_measure({"top_1": probe.hits}, files[rows[is_test]], chance=chance)


def set_measures(
    model: ModelOnSet,
    tasks: Mapping[str, ZeroShotTask],
    files: np.ndarray,
    *,
    seed: int,
    probe_tests: Mapping[str, np.ndarray] | None = None,
) -> dict[str, list[Measure]]:
    """Return the measures of one model on one set, by what is measured.

    Parameters
    ----------
    model : ModelOnSet
    tasks : mapping of str to ZeroShotTask
        Rows are those of ``model.images``.
    files : ndarray (n,)
        Equal for pictures of the same file.
    seed : int
        The same for both models.
    probe_tests : mapping of str to ndarray of bool, optional
        For the tasks to fit a probe for: which of their rows are tested.

    Returns
    -------
    dict of str to list of Measure
        "image_to_text" and "text_to_image" (grouped), "zero_shot NAME" for each task, "probe
        NAME", "geometry".
    """
    found = {}
    if model.captioned is not None:
        ranks = first_ranks(model.captioned)[0]
        found |= {direction: recall_measures(own) for direction, own in ranks.items()}
    for name, task in tasks.items():
        similarity = model.images[task.rows] @ task.class_vectors(model.encoder).T
        found[f"zero_shot {name}"] = class_measures(similarity, task.is_true(), files[task.rows])
    for name, is_test in (probe_tests or {}).items():
        rng = make_rng(seed, "probe", name)
        found[f"probe {name}"] = [probe_measure(model, tasks[name], is_test, files, rng=rng)]
    if model.captioned is not None:
        found["geometry"] = geometry_measures(model.captioned, seed=seed)
    return found


def compare_on_set(
    before: ModelOnSet,
    after: ModelOnSet,
    tasks: Mapping[str, ZeroShotTask],
    files: np.ndarray,
    *,
    seed: int,
    probe_tests: Mapping[str, np.ndarray] | None = None,
    n_bootstrap: int = 1000,
    n_permutations: int = 9999,
) -> list[dict[str, Any]]:
    """Compare two models on the same set.

    Parameters
    ----------
    before, after : ModelOnSet
        Of the same pictures and captions in the same order.
    tasks, files, seed, probe_tests
        See :func:`set_measures`.
    n_bootstrap, n_permutations : int

    Returns
    -------
    list of dict
        kind ("image_to_text", "zero_shot NAME", "geometry"), metric, and the fields of
        :class:`~braindecode_clip.clip.score.Difference`; NaN as they come.
    """
    both = [
        set_measures(model, tasks, files, seed=seed, probe_tests=probe_tests)
        for model in (before, after)
    ]
    rows = []
    for kind, old in both[0].items():
        found = differences(
            old,
            both[1][kind],
            rng=make_rng(seed, "forgetting", kind),
            n_bootstrap=n_bootstrap,
            n_permutations=n_permutations,
        )
        if kind == "geometry":
            found |= _rank_differences(before, after, seed)
        rows += [{"kind": kind, "metric": name, **own.__dict__} for name, own in found.items()]
    return rows


def _rank_differences(before: ModelOnSet, after: ModelOnSet, seed: int) -> dict[str, Difference]:
    old, new = (rank_estimates(model.captioned, seed=seed) for model in (before, after))
    found = {}
    for name, (value, without, n) in old.items():
        other, other_without, _ = new[name]
        ends = jackknife_ends(other - value, other_without - without)
        found[name] = Difference(
            value,
            other,
            other - value,
            p=math.nan,
            chance_before=math.nan,
            chance_after=math.nan,
            n=n,
            **ends,
        )
    return found


def with_verdicts(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add q (over all rows with a p) and a verdict.

    Returns
    -------
    list of dict
        With q and verdict: "gained" or "lost" where q is at most :data:`ALPHA` and the interval
        leaves out 0 (the interval alone where there is no p); of geometry "rose" or "fell";
        "same" where both figures are equal; else "undecided".
    """
    p = np.array([row["p"] for row in rows], dtype=np.float64)
    q = np.full(len(rows), math.nan)
    tested = np.isfinite(p)
    if tested.any():
        q[tested] = false_discovery_control(p[tested])
    return [
        {**row, "q": float(own), "verdict": _verdict(row, float(own))}
        for row, own in zip(rows, q, strict=True)
    ]


def _verdict(row: Mapping[str, Any], q: float) -> str:
    difference = row["difference"]
    if difference == 0:
        return "same"
    clear = row["ci_low"] * row["ci_high"] > 0 and not q > ALPHA
    if not clear:
        return "undecided"
    if row["kind"] == "geometry":
        return "rose" if difference > 0 else "fell"
    better = (difference > 0) != (row["metric"] in _LESS_IS_BETTER)
    return "gained" if better else "lost"
