"""Identification accuracy of predicted vectors against a gallery, in one call."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from braindecode_clip import metrics
from braindecode_clip.errors import DataError
from braindecode_clip.products import ScaledGallery, count_pairs
from braindecode_clip.similarity import SimilarityKind, check_vectors, similarity_blocks

#: Queries whose products are formed at a time.
QUERY_STEP = 1024
#: Pairs of a query that are scored one by one before its whole row is.
MOST_EXACT = 64


@dataclass(frozen=True)
class Identification:
    """Where the true candidate came out for every query.

    Attributes
    ----------
    n_better, n_tied : ndarray (n_queries,) int64
        Candidates more similar than the true one, and equally similar ones.
    n_gallery : int
        Number of candidates, the true one included.
    """

    n_better: np.ndarray
    n_tied: np.ndarray
    n_gallery: int

    @property
    def rank(self) -> np.ndarray:
        """Rank of the true candidate, (n_queries,) float64: 1-based, ties as mean ranks."""
        return metrics.ranks(self.n_better, self.n_tied)

    @property
    def pairwise(self) -> float:
        """Share of the distractors beaten, ties one half (2AFC); chance 0.5."""
        return metrics.pairwise(self.rank, self.n_gallery - 1)

    @property
    def percentile_rank(self) -> float:
        """Mean percentile rank, as a share; chance 0.5."""
        return metrics.percentile_rank(self.rank, self.n_gallery)

    @property
    def mean_rank(self) -> float:
        """Mean rank; chance (n_gallery + 1) / 2."""
        return float(self.rank.mean())

    @property
    def median_rank(self) -> float:
        """Median rank; chance (n_gallery + 1) / 2."""
        return float(np.median(self.rank))

    @property
    def mean_reciprocal_rank(self) -> float:
        """Mean of 1 / rank; chance is the mean of 1 / i over i = 1 ... n_gallery."""
        return metrics.mean_reciprocal_rank(self.rank)

    def top_k(self, k: int) -> float:
        """Return the share of queries with rank at most ``k``, ranks being mean ranks.

        A tie over the border is no hit: two equal best candidates have rank 1.5 each, and
        neither is found first.
        """
        return metrics.top_k(self.rank, k)

    def chance_top_k(self, k: int) -> float:
        """Return k / n_gallery, at most 1."""
        return metrics.chance_top_k(k, self.n_gallery)

    def expected_top_k(self, k: int, pool: int) -> float:
        """Return the mean top-k over all pools of ``pool`` candidates with the true one.

        Exact (hypergeometric in the rank), so no pools are drawn; chance is k / pool.
        """
        hits = metrics.expected_top_k(
            self.n_better, self.n_tied, self.n_gallery - 1, k=k, pool=pool
        )
        return float(hits.mean())


def identification(
    predicted: np.ndarray,
    gallery: np.ndarray,
    true_index: np.ndarray,
    *,
    similarity: SimilarityKind = "cosine",
) -> Identification:
    """Rank the gallery for every predicted vector (brain to image).

    Parameters
    ----------
    predicted : array (n_queries, n_dims)
        Of any scale.
    gallery : array (n_gallery, n_dims)
        Candidate vectors, at least two.
    true_index : int array (n_queries,)
        Row of ``gallery`` that is the truth for each query, counted from 0.
    similarity : {"cosine", "correlation"}

    Returns
    -------
    Identification
        ``.rank``, ``.top_k(k)``, ``.pairwise``, ``.percentile_rank``, ``.mean_rank``,
        ``.median_rank``, ``.mean_reciprocal_rank``, ``.chance_top_k(k)``,
        ``.expected_top_k(k, pool)``.

    Raises
    ------
    DataError
        Shapes that do not fit, an index outside the gallery, NaN or infinite numbers, a
        vector without a direction, fewer than two candidates.

    Notes
    -----
    Products are formed in float32 with a bound on their error; pairs that it can't tell apart
    are scored in float64, so ranks and ties are those of
    :func:`braindecode_clip.similarity.similarity_matrix`. Blocks stay in a core's cache, and
    the memory added under about 300 MB for any number of queries.

    Examples
    --------
    >>> import numpy as np
    >>> found = identification(np.eye(3), np.eye(3), np.arange(3))
    >>> found.rank, found.top_k(1), found.pairwise
    (array([1., 1., 1.]), 1.0, 1.0)
    """
    predicted, gallery = check_vectors(predicted, gallery)
    n_gallery = len(gallery)
    true_index = metrics.check_true_index(true_index, (len(predicted), n_gallery))
    if n_gallery < 2:
        raise DataError(
            f"gallery: got {n_gallery} candidate, expected at least 2. With one there is no choice."
        )
    better = np.empty(len(predicted), dtype=np.int64)
    tied = np.empty(len(predicted), dtype=np.int64)
    scaled = ScaledGallery(gallery, similarity=similarity, offset=None, device="cpu")
    for start in range(0, len(predicted), QUERY_STEP):
        rows = slice(start, min(start + QUERY_STEP, len(predicted)))
        scorer = scaled.scorer(predicted[rows], first_row=start)
        found = count_pairs(scorer, true_index[rows], most_exact=MOST_EXACT * (rows.stop - start))
        # Where almost all tie, the whole table in float64 costs less than pair by pair.
        better[rows], tied[rows] = found or _count_in_table(
            predicted[rows], gallery, true_index[rows], similarity=similarity
        )
    return Identification(n_better=better, n_tied=tied, n_gallery=n_gallery)


def _count_in_table(
    predicted: np.ndarray,
    gallery: np.ndarray,
    true_index: np.ndarray,
    *,
    similarity: SimilarityKind,
) -> tuple[np.ndarray, np.ndarray]:
    parts = [
        metrics.count_better(block, true_index[rows])
        for rows, block in similarity_blocks(predicted, gallery, similarity=similarity)
    ]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
