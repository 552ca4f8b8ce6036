"""Two answers to the same questions that change places: the null distribution of a paired test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Exchanges multiplied at a time; 2**20 float64 are 8 MiB.
CHUNK_NUMBERS = 2**20


@dataclass(frozen=True)
class Exchanges:
    """In which clusters the two change places.

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
