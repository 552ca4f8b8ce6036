"""Pools that published code draws: exact standard deviations, and the draws themselves.

A pool of m pictures is drawn without replacement from n. A query's candidates that are as
similar as the true one or more keep it from being first; there are :math:`b_i` of them.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

#: Queries that are first in a smaller share of the pools don't move the variance.
NEGLIGIBLE = 1e-15
#: Rows of pairs looked at together.
ROW_STEP = 1024


def keeps_from_first(similarity: np.ndarray) -> np.ndarray:
    """Tell which candidates keep a query from rank 1; bool (n, n), the true one is column i."""
    keeps = similarity >= np.diagonal(similarity)[:, None]
    np.fill_diagonal(keeps, False)
    return keeps


def joint_pool_sd(keeps: np.ndarray, pool: int) -> float:
    r"""Return the standard deviation of top-1 in one pool that is queries and candidates at once.

    With :math:`I_i` for "i is in the pool" and :math:`H_i` for "and comes first there", a draw
    gives :math:`X = \frac1m \sum_i I_i H_i`, and

    .. math:: E[X^2] = \frac{1}{m^2} \Big( \frac{m}{n} \sum_i h_i + \frac{m(m-1)}{n(n-1)}
        \sum_{i \ne j} h_{ij} \Big), \qquad
        h_{ij} = \binom{n - 2 - u_{ij}}{m - 2} \Big/ \binom{n - 2}{m - 2}

    with :math:`u_{ij} = b_i + b_j - |B_i \cap B_j|` for the candidates that keep i or j from
    being first, and :math:`h_{ij} = 0` where i keeps j, or j keeps i. The intersections are one
    matrix product, :math:`O(n^3)` at its speed and :math:`O(n^2)` memory.

    Parameters
    ----------
    keeps : bool array (n, n)
        :func:`keeps_from_first`.
    pool : int
        m, from 2 to n.

    Returns
    -------
    float
        Of one draw; the mean of d draws has this over the root of d.
    """
    n = len(keeps)
    n_keeping = np.count_nonzero(keeps, axis=1)
    alone = _share_without(n - 1, pool - 1)[n_keeping]
    asked = np.flatnonzero(alone > NEGLIGIBLE)
    if pool == n or not len(asked):
        return 0.0
    both = _share_without(n - 2, pool - 2)
    counts = keeps[asked].astype(np.float32)
    pairs = 0.0
    for start in range(0, len(asked), ROW_STEP):
        rows = asked[start : start + ROW_STEP]
        common = counts[start : start + ROW_STEP] @ counts.T
        union = n_keeping[rows][:, None] + n_keeping[asked] - common.astype(np.int64)
        clash = keeps[np.ix_(rows, asked)] | keeps[np.ix_(asked, rows)].T
        clash |= rows[:, None] == asked
        # A union of all others, n - 1 of them, needs a clash.
        pairs += both[np.minimum(union, n - 2)][~clash].sum()
    square = alone.sum() * pool / n + pairs * pool * (pool - 1) / (n * (n - 1))
    return float(np.sqrt(max(0.0, square / pool**2 - alone.mean() ** 2)))


def _share_without(n: int, drawn: int) -> np.ndarray:
    """Return the share of subsets of n that miss u given ones, for u = 0 ... n; float64."""
    left = n - np.arange(n + 1.0)
    possible = left >= drawn
    left = np.where(possible, left, n)
    log_share = (
        gammaln(left + 1) - gammaln(left - drawn + 1) - gammaln(n + 1) + gammaln(n - drawn + 1)
    )
    return np.where(possible, np.exp(log_share), 0.0)


def own_pools_sd(hits: np.ndarray) -> float:
    r"""Return the standard deviation of a draw with a pool for each query, independent of others.

    .. math:: \sqrt{\sum_i h_i (1 - h_i)} / n

    Parameters
    ----------
    hits : array (n_queries,)
        Probability of a hit (:func:`braindecode_clip.metrics.expected_top_k`).
    """
    return float(np.sqrt((hits * (1 - hits)).sum()) / len(hits))


def draw_joint(
    keeps: tuple[np.ndarray, ...], pool: int, *, n_draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Return top-1 in drawn pools, (n_tables, n_draws): the same pools for every table."""
    drawn = [rng.choice(len(keeps[0]), pool, replace=False) for _ in range(n_draws)]
    return np.array(
        [[1 - table[np.ix_(own, own)].any(axis=1).mean() for own in drawn] for table in keeps]
    )


def draw_own(
    n_better: np.ndarray,
    n_tied: np.ndarray,
    n_distractors: int,
    *,
    k: int,
    pool: int,
    n_draws: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return top-k with a drawn pool for each query, (n_draws,).

    How many better and tied candidates a pool holds is drawn, which is all that matters of it.
    """
    shape = (n_draws, len(n_better))
    better, tied = np.broadcast_to(n_better, shape), np.broadcast_to(n_tied, shape)
    in_better = rng.hypergeometric(better, n_distractors - better, pool - 1)
    in_tied = rng.hypergeometric(tied, n_distractors - better - tied, pool - 1 - in_better)
    return (1 + in_better + in_tied / 2 <= k).mean(axis=1)
