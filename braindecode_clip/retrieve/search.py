"""Exact nearest candidates and exact ranks, at the speed of a float32 product.

The products are formed in float32, block by block. A float32 product is off by a known bound
at most, so it settles nearly all comparisons by itself; the few that it leaves open are
formed again as :func:`braindecode_clip.similarity.similarity_matrix` does, in float64 and
rounded to a grid. The results are those of a full sort of that table: equal candidates tie,
wherever they stand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from braindecode_clip.errors import ConfigError
from braindecode_clip.logs import progress
from braindecode_clip.metrics import check_true_index
from braindecode_clip.products.blocks import Block
from braindecode_clip.products.count import count_pairs
from braindecode_clip.products.scaled import ScaledGallery, Scorer
from braindecode_clip.similarity import SimilarityKind, check_vectors

#: Queries that go through the gallery together.
QUERY_STEP = 1024


@dataclass(frozen=True)
class Neighbours:
    """The best candidates of every query.

    Attributes
    ----------
    index : ndarray (n_queries, k) int64
        Rows of the gallery, best first; equal scores stand in the order of the gallery.
    score : ndarray (n_queries, k) float32
        Similarity, less the candidate's offset where there are offsets.
    """

    index: np.ndarray
    score: np.ndarray


class ExactSearch:
    """Exact search in one gallery for any number of queries.

    Parameters
    ----------
    gallery : array (n_gallery, n_dims)
        Float32 is used in place (a memory map too); other types are copied to float32.
    similarity : {"cosine", "correlation", "euclidean"}
        As in :func:`braindecode_clip.similarity.similarity_matrix`; of "euclidean" the score is
        minus the distance.
    offset : array (n_gallery,), optional
        Taken off each candidate's similarity, in its unit: a correction of hubness
        (:mod:`braindecode_clip.retrieve.hubness`). Not with "euclidean".
    device : str
        "cpu" forms products with numpy, any other torch device ("cuda", "cuda:1") with torch
        there; "torch" is torch on the CPU. Results are the same.

    Raises
    ------
    DataError
        NaN or infinite numbers, a candidate without a direction, offsets of another length.
    ConfigError
        Unknown similarity, or offsets with "euclidean".

    Notes
    -----
    Memory beside the gallery: a block of scores (4 MiB to some tens of MiB) and about
    ``3 k`` candidates for each query.
    """

    def __init__(
        self,
        gallery: np.ndarray,
        *,
        similarity: SimilarityKind = "cosine",
        offset: np.ndarray | None = None,
        device: str = "cpu",
    ) -> None:
        self._gallery = ScaledGallery(gallery, similarity=similarity, offset=offset, device=device)

    @property
    def n_gallery(self) -> int:
        """Number of candidates."""
        return self._gallery.n_gallery

    def nearest(self, queries: np.ndarray, k: int, *, show_progress: bool = False) -> Neighbours:
        """Find the ``k`` best candidates of every query.

        Parameters
        ----------
        queries : array (n_queries, n_dims)
        k : int
            All candidates when there are fewer.
        show_progress : bool
            A bar over the queries.

        Returns
        -------
        Neighbours
        """
        queries, _ = check_vectors(queries, self._gallery.vectors)
        if k < 1:
            raise ConfigError(f"k: got {k}, expected 1 or more.")
        k = min(k, self.n_gallery)
        starts = range(0, len(queries), QUERY_STEP)
        found = [
            self._nearest(queries[start : start + QUERY_STEP], k, first_row=start)
            for start in (progress(starts, what="searching") if show_progress else starts)
        ]
        return Neighbours(
            np.concatenate([part.index for part in found]),
            np.concatenate([part.score for part in found]),
        )

    def _nearest(self, queries: np.ndarray, k: int, *, first_row: int) -> Neighbours:
        scorer = self._gallery.scorer(queries, first_row=first_row)
        shortlist = _Shortlist(len(queries), k, 2 * scorer.slack)
        for start, block in scorer.blocks():
            shortlist.add(start, block)
            if shortlist.is_crowded:
                # Rare: more near ties than memory should hold. The exact scores tell them apart.
                shortlist.settle(*_best_of(scorer, *shortlist.pairs(), k)[:2])
        _, columns, score = _best_of(scorer, *shortlist.pairs(), k)
        return Neighbours(columns.reshape(-1, k), score.reshape(-1, k))

    def count_better(
        self, queries: np.ndarray, true_index: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Count the candidates above and level with the true one.

        Parameters
        ----------
        queries : array (n_queries, n_dims)
        true_index : int array (n_queries,)
            Row of the true candidate in the gallery.

        Returns
        -------
        n_better, n_tied : ndarray (n_queries,) int64
            As :func:`braindecode_clip.metrics.count_better` finds them in the whole table, which
            is never held; :func:`braindecode_clip.metrics.ranks` makes ranks of them.
        """
        queries, _ = check_vectors(queries, self._gallery.vectors)
        true_index = check_true_index(true_index, (len(queries), self.n_gallery))
        better = np.zeros(len(queries), dtype=np.int64)
        tied = np.zeros(len(queries), dtype=np.int64)
        for start in range(0, len(queries), QUERY_STEP):
            rows = slice(start, min(start + QUERY_STEP, len(queries)))
            scorer = self._gallery.scorer(queries[rows], first_row=start)
            better[rows], tied[rows] = count_pairs(scorer, true_index[rows])
        return better, tied


def nearest(
    queries: np.ndarray,
    gallery: np.ndarray,
    *,
    k: int = 10,
    similarity: SimilarityKind = "cosine",
    offset: np.ndarray | None = None,
    device: str = "cpu",
) -> Neighbours:
    """Find the ``k`` best candidates of every query, exactly; see :class:`ExactSearch`."""
    search = ExactSearch(gallery, similarity=similarity, offset=offset, device=device)
    return search.nearest(queries, k)


class _Shortlist:
    """Candidates that may still be among the best ``k`` of their query."""

    def __init__(self, n_queries: int, k: int, slack: np.ndarray) -> None:
        self._k, self._slack, self._n_queries = k, slack, n_queries
        self._threshold = np.full(n_queries, -np.inf)
        self._kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._n_new = self._n_settled = 0

    def add(self, start: int, block: Block) -> None:
        """Note what a block of scores holds above the thresholds."""
        if not self._kept:
            self._threshold = block.border(self._k) - self._slack
        rows, columns, values = block.at_least(self._threshold)
        if not len(rows):
            return
        self._kept.append((rows, columns + start, values))
        self._n_new += len(rows)
        if self._n_new >= self._n_queries * self._k:
            self._tighten()

    @property
    def is_crowded(self) -> bool:
        """Whether it holds far more than ``k`` candidates a query."""
        return self._n_settled + self._n_new > self._n_queries * (8 * self._k + 256)

    def _tighten(self) -> None:
        rows, columns, values = (np.concatenate(part) for part in zip(*self._kept, strict=True))
        order = np.lexsort((-values, rows))
        rows, columns, values = rows[order], columns[order], values[order]
        first = np.searchsorted(rows, np.arange(self._n_queries + 1))
        full = np.flatnonzero(np.diff(first) >= self._k)
        border = values[first[full] + self._k - 1] - self._slack[full]
        self._threshold[full] = np.maximum(self._threshold[full], border)
        keep = values >= self._threshold[rows]
        self._kept = [(rows[keep], columns[keep], values[keep])]
        self._n_settled, self._n_new = int(keep.sum()), 0

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the row and the column of every candidate left."""
        self._tighten()
        rows, columns, _ = self._kept[0]
        return rows, columns

    def settle(self, rows: np.ndarray, columns: np.ndarray) -> None:
        """Keep these candidates alone."""
        (all_rows, all_columns, values) = self._kept[0]
        width = int(all_columns.max(initial=0)) + 1
        keep = np.isin(all_rows * width + all_columns, rows * width + columns)
        self._kept = [(all_rows[keep], all_columns[keep], values[keep])]
        self._n_settled, self._n_new = int(keep.sum()), 0


def _best_of(
    scorer: Scorer, rows: np.ndarray, columns: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row, column and exact score of the best ``k`` of each row, equal ones by column."""
    scores = scorer.exact(rows, columns)
    order = np.lexsort((columns, -scores, rows))
    ordered = rows[order]
    best = order[np.arange(len(rows)) - np.searchsorted(ordered, ordered) < k]
    return rows[best], columns[best], scores[best]
