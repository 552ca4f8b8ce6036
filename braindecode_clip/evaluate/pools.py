"""Top-k accuracy against the number of candidates, exact over all pools."""

from __future__ import annotations

from typing import Any

import numpy as np

from braindecode_clip.metrics import expected_top_k, wilson
from braindecode_clip.resampling.bootstrap import interval, resample, weighted_mean


def pool_sizes(n_gallery: int, n_points: int) -> np.ndarray:
    """Return about ``n_points`` whole sizes from 2 to ``n_gallery`` in equal ratios."""
    return np.unique(np.geomspace(2, n_gallery, n_points).round().astype(int))


def pool_curve(
    n_better: np.ndarray,
    n_tied: np.ndarray,
    n_distractors: np.ndarray,
    clusters: np.ndarray,
    *,
    top_k: tuple[int, ...],
    n_points: int,
    confidence: float,
    n_bootstrap: int,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Expect top-k in pools of every size, the mean over all pools, with intervals.

    Parameters
    ----------
    n_better, n_tied, n_distractors : int array (n_queries,)
        In the whole gallery.
    clusters : array (n_queries,)
        What the bootstrap draws.
    top_k : tuple of int
        Each k is given for pools larger than k.
    n_points, confidence, n_bootstrap, rng
        See :class:`braindecode_clip.config.evaluate.EvaluateConfig`.

    Returns
    -------
    list of dict
        metric, k, pool_size, value, chance, ci_low, ci_high.
    """
    sizes = pool_sizes(int(n_distractors.min()) + 1, n_points)
    points = [(k, int(size)) for k in top_k for size in sizes if size > k]
    if not points:
        return []
    hits = np.stack(
        [expected_top_k(n_better, n_tied, n_distractors, k=k, pool=size) for k, size in points],
        axis=1,
    )
    resamples = resample(weighted_mean(hits), clusters, n_bootstrap=n_bootstrap, rng=rng)
    curve = []
    for column, (k, size) in enumerate(points):
        value = float(hits[:, column].mean())
        fallback = wilson(value, resamples.n_clusters, confidence=confidence)
        low, high, _ = interval(value, resamples, column, confidence=confidence, fallback=fallback)
        curve.append(
            {
                "metric": f"top_{k}",
                "k": k,
                "pool_size": size,
                "value": value,
                "chance": k / size,
                "ci_low": low,
                "ci_high": high,
            }
        )
    return curve
