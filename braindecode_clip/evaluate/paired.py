"""Two decoders (or ROIs) on the same test samples: difference, interval, exchange test, verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from braindecode_clip.evaluate.equivalence import bayes_factor_t, mean_of_clusters, tost
from braindecode_clip.resampling.bootstrap import interval, resample, weighted_mean


def paired_intervals(
    differences: np.ndarray,
    cluster_of: np.ndarray,
    *,
    n_bootstrap: int,
    confidence: float,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Return difference and bootstrap interval over clusters, for each column.

    Parameters
    ----------
    differences : ndarray (n_queries, m) float64
        Score of one less that of the other, for each sample.
    cluster_of : ndarray (n_queries,)
        Pictures, or runs where whole runs are held out.
    n_bootstrap : int
    confidence : float
    rng : Generator

    Returns
    -------
    list of dict
        difference, ci_low, ci_high, ci_method (NaN and "none" without any spread),
        confidence, n_resampled.
    """
    resamples = resample(weighted_mean(differences), cluster_of, n_bootstrap=n_bootstrap, rng=rng)
    found = []
    for column, value in enumerate(differences.mean(axis=0)):
        low, high, method = interval(float(value), resamples, column, confidence=confidence)
        found.append(
            {
                "difference": float(value),
                "ci_low": low,
                "ci_high": high,
                "ci_method": method,
                "confidence": confidence,
                "n_resampled": resamples.n_clusters,
            }
        )
    return found


def judge_equivalence(
    differences: np.ndarray, margin: float, *, clusters: np.ndarray | None = None
) -> dict[str, Any]:
    """Weigh "no difference": TOST within the margin, and the Bayes factor of none.

    Parameters
    ----------
    differences : ndarray (n,) float64
    margin : float
        The largest difference that still counts as none.
    clusters : array (n,), optional

    Returns
    -------
    dict
        margin, p_equivalence, ci90_low, ci90_high and bayes_factor_none (how many times
        likelier the data are without a difference than with one, JZS prior of width .707).
        None with fewer than two clusters, and where nothing varies: equal discrete scores, as
        of two subjects or of two perfect decoders, say nothing about the next ones.
    """
    nothing = dict.fromkeys(("p_equivalence", "ci90_low", "ci90_high", "bayes_factor_none"))
    n = len(differences) if clusters is None else len(np.unique(clusters))
    t = mean_of_clusters(differences, clusters).t if n > 1 else math.nan
    if not math.isfinite(t):
        return {"margin": margin, **nothing}
    found = tost(differences, -margin, margin, clusters=clusters)
    return {
        "margin": margin,
        "p_equivalence": found["p"],
        "ci90_low": found["ci90"][0],
        "ci90_high": found["ci90"][1],
        "bayes_factor_none": 1 / max(bayes_factor_t(t, n), 1e-300),
    }


def verdict(row: Mapping[str, Any], alpha: float) -> str:
    """Say in words what q, TOST and interval of a row amount to.

    Parameters
    ----------
    row : mapping
        difference, q, p_equivalence, level, ci_low and ci_high.
    alpha : float

    Returns
    -------
    str
        "better" and "worse" (of the first; q at most alpha), of a group "in these subjects"
        where the interval over subjects does not leave out 0, since p speaks of those measured
        alone; with "within the margin" where TOST says so too. "equivalent": TOST alone.
        "undecided": neither.
    """
    same = row["p_equivalence"] is not None and row["p_equivalence"] <= alpha
    if row["q"] > alpha:
        return "equivalent" if same else "undecided"
    words = "better" if row["difference"] > 0 else "worse"
    if row["level"] == "group" and not row["ci_low"] * row["ci_high"] > 0:
        words += " in these subjects"
    return f"{words}, within the margin" if same else words
