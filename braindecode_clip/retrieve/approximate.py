"""Approximate search with FAISS (extra ``faiss``): faster in large galleries, and not exact.

Predicted vectors lie off the distribution of the gallery, and approximate indices lose more of
their true neighbours than of pictures' or texts'. So the recall is measured on the predictions
themselves: :func:`measure_recall`.
"""

from __future__ import annotations

from typing import Literal, Protocol, get_args

import numpy as np

from braindecode_clip.errors import ConfigError
from braindecode_clip.logs import get_logger
from braindecode_clip.products.scaled import ROW_STEP, ScaledGallery
from braindecode_clip.retrieve.search import QUERY_STEP, ExactSearch, Neighbours
from braindecode_clip.similarity import SimilarityKind, check_vectors, prepared_rows

IndexKind = Literal["flat", "ivf", "hnsw"]

#: Below this an exact search of ten thousand predictions takes less CPU time than building an
#: index of the same candidates (benchmarks/retrieval.py).
WORTH_INDEXING = 1_000_000
#: Candidates from which the cells are learned, for each cell.
POINTS_PER_CELL = 64

logger = get_logger(__name__)


class Search(Protocol):
    """Finds candidates; exactly or not."""

    def nearest(self, queries: np.ndarray, k: int) -> Neighbours:
        """Return the ``k`` best candidates of every query."""


class ApproximateSearch:
    """A FAISS index of a gallery.

    Parameters
    ----------
    gallery : array (n_gallery, n_dims)
    kind : {"flat", "ivf", "hnsw"}
        "flat" compares all candidates in float32; "ivf" the candidates of the cells nearest to
        the query (Jégou et al., TPAMI 2011); "hnsw" walks a graph of near candidates (Malkov &
        Yashunin, TPAMI 2018).
    similarity : {"cosine", "correlation", "euclidean"}
    offset : array (n_gallery,), optional
        Taken off each candidate's similarity, as one more dimension. Not with "euclidean".
    n_lists : int, optional
        ivf: cells; four times the root of n_gallery by default.
    n_probe : int
        ivf: cells that a query looks into.
    n_links, ef : int
        hnsw: links of a candidate; candidates that a search keeps open.

    Raises
    ------
    ConfigError
        FAISS is not installed, or an unknown kind.
    DataError
        As for :class:`braindecode_clip.retrieve.search.ExactSearch`.

    Notes
    -----
    Memory: a float32 copy of the gallery, and for "hnsw" ``8 n_links`` bytes a candidate.
    """

    def __init__(
        self,
        gallery: np.ndarray,
        *,
        kind: IndexKind = "flat",
        similarity: SimilarityKind = "cosine",
        offset: np.ndarray | None = None,
        n_lists: int | None = None,
        n_probe: int = 32,
        n_links: int = 32,
        ef: int = 256,
    ) -> None:
        if kind not in get_args(IndexKind):
            raise ConfigError(f"index: got {kind!r}, expected one of {get_args(IndexKind)}.")
        try:
            import faiss
        except ImportError as error:
            raise ConfigError(
                f"index '{kind}' needs FAISS, which is not installed. Install it with "
                "pip install 'braindecode-clip[faiss]', or use the exact search."
            ) from error
        self._scaled = ScaledGallery(gallery, similarity=similarity, offset=offset, device="cpu")
        n_gallery, n_dims = self._scaled.vectors.shape
        n_dims += offset is not None
        metric = faiss.METRIC_L2 if similarity == "euclidean" else faiss.METRIC_INNER_PRODUCT
        if kind == "hnsw":
            self._index = faiss.IndexHNSWFlat(n_dims, n_links, metric)
            self._index.hnsw.efSearch = ef
        elif kind == "ivf":
            n_lists = min(n_lists or int(4 * n_gallery**0.5), n_gallery)
            flat = faiss.IndexFlat(n_dims, metric)
            self._index = faiss.IndexIVFFlat(flat, n_dims, n_lists, metric)
            # FAISS keeps a pointer to the quantiser, not a reference.
            self._quantiser = flat
            self._index.nprobe = n_probe
            # Few points for each cell are no fault; FAISS would warn on the terminal.
            self._index.cp.min_points_per_centroid = 1
            self._index.cp.max_points_per_centroid = POINTS_PER_CELL
            chosen = np.linspace(0, n_gallery - 1, min(n_gallery, n_lists * POINTS_PER_CELL))
            self._index.train(self._prepared(chosen.astype(np.int64)))
        else:
            self._index = faiss.IndexFlat(n_dims, metric)
        for start in range(0, n_gallery, ROW_STEP):
            self._index.add(self._prepared(np.arange(start, min(start + ROW_STEP, n_gallery))))

    @property
    def n_gallery(self) -> int:
        """Number of candidates."""
        return self._scaled.n_gallery

    def _prepared(self, rows: np.ndarray) -> np.ndarray:
        scaled = self._scaled
        vectors = prepared_rows(scaled.vectors[rows], scaled.similarity, "gallery")
        if scaled.offset is not None:
            vectors = np.column_stack([vectors, -scaled.offset[rows]])
        return np.ascontiguousarray(vectors, dtype=np.float32)

    def nearest(self, queries: np.ndarray, k: int) -> Neighbours:
        """Find ``k`` near candidates of every query.

        Parameters
        ----------
        queries : array (n_queries, n_dims)
        k : int
            All candidates when there are fewer.

        Returns
        -------
        Neighbours
            Scored and ordered exactly. Where an index finds fewer than ``k``, the rest has
            index -1 and score minus infinity.
        """
        queries, _ = check_vectors(queries, self._scaled.vectors)
        if k < 1:
            raise ConfigError(f"k: got {k}, expected 1 or more.")
        k = min(k, self.n_gallery)
        parts = [
            self._nearest(queries[start : start + QUERY_STEP], k, first_row=start)
            for start in range(0, len(queries), QUERY_STEP)
        ]
        return Neighbours(
            np.concatenate([part.index for part in parts]),
            np.concatenate([part.score for part in parts]),
        )

    def _nearest(self, queries: np.ndarray, k: int, *, first_row: int) -> Neighbours:
        scaled = self._scaled
        rows = prepared_rows(queries, scaled.similarity, "predicted", first_row=first_row)
        if scaled.offset is not None:
            rows = np.column_stack([rows, np.ones(len(rows))])
        _, index = self._index.search(np.ascontiguousarray(rows, dtype=np.float32), k)
        index = index.astype(np.int64)
        score = np.full(index.shape, -np.inf, dtype=np.float32)
        found = index >= 0
        row = np.nonzero(found)[0]
        score[found] = scaled.scorer(queries, first_row=first_row).exact(row, index[found])
        order = np.stack([np.lexsort((i, -s)) for i, s in zip(index, score, strict=True)])
        return Neighbours(
            np.take_along_axis(index, order, axis=1), np.take_along_axis(score, order, axis=1)
        )


def measure_recall(search: Search, exact: ExactSearch, queries: np.ndarray, *, k: int) -> float:
    """Return the share of the exact best ``k`` that a search finds, over queries.

    Parameters
    ----------
    search : Search
        On the same gallery as ``exact``.
    exact : ExactSearch
    queries : array (n_queries, n_dims)
        Of the kind that will be searched: predictions, not pictures.
    k : int

    Returns
    -------
    float
        0 to 1. A candidate level with the last of the exact ones counts as found.
    """
    true = exact.nearest(queries, k)
    found = search.nearest(queries, k)
    return float((found.score >= true.score[:, -1:]).mean())
