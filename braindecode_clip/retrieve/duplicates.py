"""Pairs of candidates that are nearly the same: repeats within a set, overlap between two."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from braindecode_clip.checks import Problems
from braindecode_clip.errors import ConfigError, DataError
from braindecode_clip.logs import progress
from braindecode_clip.products.scaled import ScaledGallery

#: Rows whose products are formed together.
_ROWS_AT_ONCE = 1024
#: More pairs than this are no list that anybody reads.
MOST_PAIRS = 1_000_000


def near_duplicates(
    vectors: np.ndarray,
    *,
    threshold: float,
    against: np.ndarray | None = None,
    most_pairs: int = MOST_PAIRS,
) -> pd.DataFrame:
    """List the pairs whose cosine reaches a threshold.

    Parameters
    ----------
    vectors : array (n, n_dims)
    threshold : float
        -1 to 1; the cosine, in float64, is at least this.
    against : array (n_other, n_dims), optional
        Pairs of a vector with one of these; by default with another of ``vectors``.
    most_pairs : int

    Returns
    -------
    DataFrame
        first, second (rows; first < second within one set), score (float32), and group: pairs
        that are linked by a chain of pairs have one number, from 1 for the largest group on.
        The highest score first.

    Raises
    ------
    ConfigError
        A threshold outside -1 to 1.
    DataError
        More pairs than ``most_pairs``, vectors of unequal lengths, or without a direction.

    Notes
    -----
    Exact: float32 products only choose candidates, within their error bound, and float64
    decides. Time grows with n squared; memory is a block of products and the pairs.
    """
    if not -1 <= threshold <= 1:
        raise ConfigError(f"threshold: got {threshold}, expected a cosine, -1 to 1.")
    other = vectors if against is None else against
    _check_dims(vectors, other)
    gallery = ScaledGallery(other, similarity="cosine", offset=None, device="cpu")
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    n_found = 0
    starts = range(0, len(vectors), _ROWS_AT_ONCE)
    for start in progress(starts, what="comparing pairs"):
        scorer = gallery.scorer(vectors[start : start + _ROWS_AT_ONCE], first_row=start)
        low = (threshold - scorer.slack).astype(np.float32)
        for first_column, block in scorer.blocks():
            rows, columns, _ = block.at_least(low)
            columns = columns + first_column
            if against is None:
                once = columns > rows + start
                rows, columns = rows[once], columns[once]
            scores = scorer.exact(rows, columns)
            kept = scores >= np.float32(threshold)
            found.append((rows[kept] + start, columns[kept], scores[kept]))
            n_found += int(kept.sum())
            if n_found > most_pairs:
                raise DataError(
                    f"near duplicates: more than {most_pairs:,} pairs reach {threshold}. Raise "
                    "the threshold."
                )
    first, second, score = (np.concatenate(part) for part in zip(*found, strict=True))
    group = _groups(first, second, len(vectors), 0 if against is None else len(other))
    order = np.lexsort((second, first, -score))
    table = pd.DataFrame({"first": first, "second": second, "score": score, "group": group})
    return table.iloc[order].reset_index(drop=True)


def _check_dims(vectors: np.ndarray, other: np.ndarray) -> None:
    problems = Problems("near duplicates")
    for name, array in (("the first set", vectors), ("the second set", other)):
        if np.ndim(array) != 2 or not len(array):
            problems.add(f"{name} has shape {np.shape(array)}, expected (n, n_dims), n > 0.")
    if not problems and vectors.shape[1] != other.shape[1]:
        problems.add(f"vectors of {vectors.shape[1]} and of {other.shape[1]} dimensions.")
    problems.raise_if_any()


def _groups(first: np.ndarray, second: np.ndarray, n: int, n_other: int) -> np.ndarray:
    """Number the connected groups of pairs, the largest first."""
    # Two sets stand one after the other; one set stands once.
    columns = second + (n if n_other else 0)
    size = n + n_other
    links = coo_array((np.ones(len(first), dtype=np.int8), (first, columns)), shape=(size, size))
    label = connected_components(links, directed=False)[1]
    names, members = np.unique(label, return_counts=True)
    place = np.empty(len(names), dtype=np.int64)
    place[np.lexsort((names, -members))] = np.arange(1, len(names) + 1)
    return place[label[first]]
