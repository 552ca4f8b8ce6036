r"""Top-k and pairwise scores as a distance d' between true candidate and distractors.

The similarity of the true candidate is :math:`N(d', 1)`, that of each distractor
:math:`N(0, 1)`, all independent. The true one is then among the best k of m with probability

.. math:: \int \varphi(z - d')\, F_\mathrm{bin}(k - 1;\; m - 1,\, \Phi(-z))\, dz

(Green & Swets, Signal Detection Theory and Psychophysics, 1966, for k = 1), and a pairwise
comparison is won with probability :math:`\Phi(d' / \sqrt 2)`.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.special import bdtr, ndtr, ndtri

#: Distances that scores are looked up for; the last wins among 10**9 candidates.
GRID = np.linspace(-2.0, 12.0, 561)


def hit_rate(dprime: np.ndarray, *, k: int, pool: int) -> np.ndarray:
    """Return the probability of rank k or better in a pool, in the shape of ``dprime``."""
    clipped = np.clip(dprime, GRID[0], GRID[-1])
    return np.interp(clipped, GRID, _table(k, pool))


def dprime_of_hits(share: np.ndarray, *, k: int, pool: int) -> np.ndarray:
    """Return the distance at which :func:`hit_rate` is ``share``, within the grid's ends."""
    rates = _table(k, pool)
    # Near 1 rates are equal in float64: the first distance that reaches them is meant.
    rates, first = np.unique(rates, return_index=True)
    return np.interp(share, rates, GRID[first])


def pairwise_rate(dprime: np.ndarray) -> np.ndarray:
    """Return the probability that the true candidate beats one distractor."""
    return ndtr(np.asarray(dprime) / np.sqrt(2))


def dprime_of_pairwise(share: np.ndarray) -> np.ndarray:
    """Return the distance of a pairwise score, within the grid's ends."""
    return np.clip(np.sqrt(2) * ndtri(share), GRID[0], GRID[-1])


@cache
def _table(k: int, pool: int) -> np.ndarray:
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    z = GRID[:, None] + nodes
    return bdtr(k - 1, pool - 1, ndtr(-z)) @ weights / np.sqrt(2 * np.pi)
