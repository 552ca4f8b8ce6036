"""One figure with what a reader needs to trust it, and intervals of means over clusters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from braindecode_clip.resampling.bootstrap import (
    Resamples,
    interval,
    resample,
    wilson_of_mean,
)


@dataclass(frozen=True)
class Score:
    """A figure.

    Attributes
    ----------
    value : float
    ci_low, ci_high : float
        95 % interval; NaN where there is none.
    ci_method : str
        "bca", "t", "wilson", "jackknife" or "none".
    chance : float
        What a model that knows nothing would reach on average; NaN where that means nothing.
    n : int
        What the figure is an average over: queries, pairs or vectors.
    n_resampled : int
        Clusters that the interval draws; 0 without an interval.
    """

    value: float
    ci_low: float = math.nan
    ci_high: float = math.nan
    ci_method: str = "none"
    chance: float = math.nan
    n: int = 0
    n_resampled: int = 0

    def record(self) -> dict[str, Any]:
        """Return the fields for JSON, which knows no NaN: None stands for it."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }


def mean_scores(
    values: Mapping[str, np.ndarray],
    clusters: np.ndarray,
    *,
    chance: Mapping[str, float],
    rng: np.random.Generator | None,
    n_bootstrap: int = 1000,
    limits: tuple[float, float] | None = (0.0, 1.0),
) -> dict[str, Score]:
    """Average values over queries, with intervals of a bootstrap over whole clusters.

    Parameters
    ----------
    values : mapping of str to ndarray (n,)
        Of one measure each.
    clusters : ndarray (n,)
        Queries of one cluster are drawn together.
    chance : mapping of str to float
        By the same names; NaN where one is missing.
    rng : Generator, optional
        None leaves the intervals out.
    n_bootstrap : int
    limits : (low, high), optional
        Of the values; where no resample differs, Wilson's interval between them is given.
    """
    table = np.stack([np.asarray(own, dtype=np.float64) for own in values.values()], axis=1)
    means, n = table.mean(axis=0), len(table)
    resamples = None
    if rng is not None:
        resamples = resample_means(table, clusters, n_bootstrap=n_bootstrap, rng=rng)
    found = {}
    for column, (name, mean) in enumerate(zip(values, means.tolist(), strict=True)):
        own = {"chance": float(chance.get(name, math.nan)), "n": n}
        if resamples is not None:
            fallback = None
            if limits is not None:
                fallback = wilson_of_mean(mean, limits, resamples.n_clusters)
            low, high, method = interval(mean, resamples, column, fallback=fallback)
            own |= {"ci_low": low, "ci_high": high, "ci_method": method}
            own["n_resampled"] = resamples.n_clusters
        found[name] = Score(mean, **own)
    return found


def resample_means(
    table: np.ndarray, clusters: np.ndarray, *, n_bootstrap: int, rng: np.random.Generator
) -> Resamples:
    """Resample the means of the columns of ``table`` (n, m) over whole clusters.

    Sums over clusters are weighted, not queries, so that the cost does not grow with them.
    """
    sums, sizes = cluster_sums(table, clusters)

    def means(weights: np.ndarray) -> np.ndarray:
        return (weights @ sums) / (weights @ sizes)[:, None]

    return resample(means, np.arange(len(sums)), n_bootstrap=n_bootstrap, rng=rng)


def cluster_sums(table: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return sums (n_clusters, m) and sizes (n_clusters,) of the rows of each cluster."""
    names, place = np.unique(clusters, return_inverse=True)
    sums = np.zeros((len(names), table.shape[1]))
    np.add.at(sums, place, table)
    return sums, np.bincount(place, minlength=len(names)).astype(np.float64)
