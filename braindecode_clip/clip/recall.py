"""Held-out retrieval: recall at k in pools of distinct captions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from braindecode_clip.errors import DataError

POOL_SIZE = 100


@dataclass(frozen=True)
class Recall:
    """Recall at 1, 5 and 10, each the mean over disjoint pools.

    Attributes
    ----------
    r1, r5, r10 : float
        Share of queries whose partner is among the first k, 0 to 1.
    r1_low, r1_high : float
        95 % interval of ``r1`` from the spread of the pools (Student's t); NaN for one pool.
    n, n_pools, pool_size : int
        Queries, pools, and candidates in a pool. Chance of ``r1`` is 1 / pool_size.
    """

    r1: float
    r5: float
    r10: float
    r1_low: float
    r1_high: float
    n: int
    n_pools: int
    pool_size: int


def pooled_recall(
    image_vectors: np.ndarray,
    text_vectors: np.ndarray,
    captions: np.ndarray,
    *,
    rng: np.random.Generator,
    pool_size: int = POOL_SIZE,
) -> tuple[Recall, Recall]:
    """Rank partners in pools of pairs with distinct captions.

    One pair of each caption is kept, for pictures that share a caption cannot be told apart
    by it: with every caption on two pictures a perfect model would score 0.5. The pairs are
    then dealt into disjoint pools; those left over are not used.

    Parameters
    ----------
    image_vectors, text_vectors : ndarray (n, n_dims)
        Unit norm; row i of both is one pair.
    captions : ndarray (n,) of str
        Equal texts count as one.
    rng : numpy.random.Generator
        Deals the pools.
    pool_size : int
        Candidates; at most the number of distinct captions (else all form one pool).

    Returns
    -------
    image_to_text, text_to_image : Recall

    Raises
    ------
    DataError
        Fewer than two distinct captions.
    """
    _, first = np.unique(np.asarray(captions).astype(str), return_index=True)
    if len(first) < 2:
        raise DataError(
            f"{len(captions)} pairs have {len(first)} distinct captions; retrieval needs two."
        )
    size = min(pool_size, len(first))
    n_pools = len(first) // size
    pools = rng.permutation(first)[: n_pools * size].reshape(n_pools, size)
    similarity = np.einsum("pid,pjd->pij", image_vectors[pools], text_vectors[pools])
    return _summary(similarity), _summary(similarity.transpose(0, 2, 1))


def _summary(similarity: np.ndarray) -> Recall:
    """Summarise (n_pools, queries, candidates) with the partners on the diagonal."""
    n_pools, size = similarity.shape[:2]
    own = np.einsum("pii->pi", similarity)[:, :, None]
    # Ties as mean ranks, so that a collapsed model scores chance and not 1.
    rank = 0.5 + (similarity > own).sum(axis=2) + 0.5 * (similarity == own).sum(axis=2)
    means = {k: (rank <= k).mean(axis=1) for k in (1, 5, 10)}
    low = high = float("nan")
    if n_pools > 1:
        half = stats.t.ppf(0.975, n_pools - 1) * means[1].std(ddof=1) / np.sqrt(n_pools)
        low, high = max(0.0, means[1].mean() - half), min(1.0, means[1].mean() + half)
    return Recall(
        r1=float(means[1].mean()),
        r5=float(means[5].mean()),
        r10=float(means[10].mean()),
        r1_low=float(low),
        r1_high=float(high),
        n=n_pools * size,
        n_pools=n_pools,
        pool_size=size,
    )
