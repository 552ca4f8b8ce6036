"""Scores of every picture and of every category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from braindecode_clip.artifacts import Retrieval
from braindecode_clip.config.evaluate import EvaluateConfig
from braindecode_clip.evaluate.rows import Design
from braindecode_clip.evaluate.scores import identification_scores
from braindecode_clip.metrics import count_better, expected_top_k
from braindecode_clip.resampling.bootstrap import interval, resample, weighted_mean, wilson_of_mean

#: Pool whose expected hits are given, where the gallery is as large.
POOL = 300


def item_rows(
    retrieval: Retrieval,
    design: Design,
    *,
    options: EvaluateConfig,
    labels: Mapping[str, Any],
    rng: np.random.Generator,
    categories: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Score each picture, and each category, over its own samples.

    Parameters
    ----------
    retrieval : Retrieval
    design : Design
    options : EvaluateConfig
    labels : mapping
        Columns that all rows share.
    rng : Generator
        Of the bootstrap.
    categories : mapping, optional
        Stimulus to category. Where whole runs are held out and there are none, every stimulus
        is a category: it comes again in every run.

    Returns
    -------
    list of dict
        level ("picture" or "category"), name, category, n (samples), n_pictures, n_repeats
        (summed), rank, percentile_rank, pairwise and its interval (of categories; drawn are
        pictures, or runs where runs are held out), the top-k, expected_top_1 in pools of
        pool_size (exact), and the chances of the last two. Means over the samples.
    """
    rank = retrieval.queries["rank"].to_numpy(dtype=np.float64)
    others = retrieval.queries["n_distractors"].to_numpy(dtype=np.float64)
    pool = min(POOL, int(others.min()) + 1)
    found = {
        score.name: score.per_query(rank, others)
        for score in identification_scores(options.top_k, others)
        if score.is_mean and score.name not in ("mean_rank", "mean_reciprocal_rank")
    }
    columns = {
        "rank": rank,
        "percentile_rank": found.pop("percentile_rank"),
        "pairwise": found.pop("pairwise"),
        **found,
        "expected_top_1": _expected(retrieval, design, others, pool),
    }
    table = np.stack(list(columns.values()), axis=1)
    names = design.stimuli.astype(str)
    categories = dict(categories or {})
    if design.unit == "run" and not categories:
        categories = {name: name for name in names}
    of_stimulus = np.array([categories.get(name, "") for name in names], dtype=str)
    of_sample = of_stimulus[design.labels]
    groups = [("picture", name, design.labels == i) for i, name in enumerate(names)]
    groups += [("category", name, of_sample == name) for name in np.unique(of_stimulus) if name]
    rows = []
    for level, name, own in groups:
        low, high = (None, None)
        if level == "category":
            low, high = _interval(columns["pairwise"][own], design.clusters[own], options, rng)
        rows.append(
            {
                **labels,
                "direction": retrieval.direction,
                "level": level,
                "name": name,
                "category": str(of_sample[own][0]),
                "n": int(own.sum()),
                "n_pictures": len(np.unique(design.labels[own])),
                "n_repeats": int(retrieval.queries["n_repeats"].to_numpy()[own].sum()),
                "n_gallery": round(float(others[own].mean())) + 1,
                **dict(zip(columns, table[own].mean(axis=0).tolist(), strict=True)),
                "pool_size": pool,
                "chance_pairwise": 0.5,
                "chance_expected_top_1": 1 / pool,
                "pairwise_ci_low": low,
                "pairwise_ci_high": high,
                "confidence": options.confidence if level == "category" else None,
            }
        )
    return rows


def _expected(retrieval: Retrieval, design: Design, others: np.ndarray, pool: int) -> np.ndarray:
    names = retrieval.gallery_ids.astype(str)
    better, tied = count_better(
        retrieval.similarity,
        retrieval.true_index,
        distractors=names != design.stimuli[design.labels][:, None],
    )
    return expected_top_k(better, tied, others.astype(np.int64), k=1, pool=pool)


def _interval(
    values: np.ndarray, clusters: np.ndarray, options: EvaluateConfig, rng: np.random.Generator
) -> tuple[float, float]:
    resamples = resample(
        weighted_mean(values[:, None]), clusters, n_bootstrap=options.n_bootstrap, rng=rng
    )
    value = float(values.mean())
    fallback = wilson_of_mean(
        value, (0.0, 1.0), resamples.n_clusters, confidence=options.confidence
    )
    low, high, _ = interval(value, resamples, 0, confidence=options.confidence, fallback=fallback)
    return low, high


def as_categories(names: Sequence[Any], categories: Sequence[Any]) -> dict[str, str]:
    """Return stimulus to category without those that have none (empty or NaN)."""
    return {
        str(name): str(category)
        for name, category in zip(names, categories, strict=True)
        if category == category and category is not None and str(category) != ""
    }
