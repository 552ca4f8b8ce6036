"""Two decoders (or ROIs) on the same test samples: difference, interval, exchange test, verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from braindecode_clip.evaluate.bootstrap import interval, resample, weighted_mean
from braindecode_clip.evaluate.equivalence import bayes_factor_t, mean_of_clusters, tost

#: Exchanges multiplied at a time; 2**20 float64 are 8 MiB.
CHUNK_NUMBERS = 2**20


@dataclass(frozen=True)
class Exchanges:
    """In which clusters the two decoders change places.

    Attributes
    ----------
    signs : ndarray (n_exchanges, n_clusters) int8
        -1 where they do.
    complete : bool
        Whether these are all arrangements, the identity among them.
    """

    signs: np.ndarray
    complete: bool

    def p(self, value: np.ndarray, null: np.ndarray) -> np.ndarray:
        """Return two-sided p-values (m,) of values (m,) against their null (n_exchanges, m)."""
        slack = 1e-9 * np.maximum(np.abs(value), 1e-300)
        # Without any difference every exchange gives rounding or nothing: all are as large.
        hits = (np.abs(null) >= np.abs(value) - np.maximum(slack, 1e-14)).sum(axis=0)
        return hits / len(null) if self.complete else (1 + hits) / (1 + len(null))


def draw_exchanges(n_clusters: int, n_permutations: int, rng: np.random.Generator) -> Exchanges:
    """Draw exchanges, or list them all where there are no more than ``n_permutations``."""
    if n_clusters < 63 and 2**n_clusters <= n_permutations:
        bits = np.arange(2**n_clusters)[:, None] >> np.arange(n_clusters)
        return Exchanges((1 - 2 * (bits & 1)).astype(np.int8), complete=True)
    drawn = rng.integers(0, 2, size=(n_permutations, n_clusters), dtype=np.int8)
    return Exchanges(1 - 2 * drawn, complete=False)


def exchanged_means(
    differences: np.ndarray, cluster_of: np.ndarray, exchanges: Exchanges
) -> np.ndarray:
    """Return mean differences when the two change places in whole clusters.

    Parameters
    ----------
    differences : ndarray (n_queries, m) float64
    cluster_of : ndarray (n_queries,) int64
        Column of ``exchanges.signs``.
    exchanges : Exchanges

    Returns
    -------
    ndarray (n_exchanges, m) float64
    """
    n_clusters = exchanges.signs.shape[1]
    sums = np.zeros((n_clusters, differences.shape[1]))
    np.add.at(sums, cluster_of, differences)
    means = np.empty((len(exchanges.signs), differences.shape[1]))
    step = max(1, CHUNK_NUMBERS // n_clusters)
    for start in range(0, len(means), step):
        signs = exchanges.signs[start : start + step].astype(np.float64)
        means[start : start + step] = signs @ sums / len(differences)
    return means


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
