"""Cosine, correlation and Euclidean similarity of predictions with candidates, block by block.

The products are formed in float64 and rounded once: to a grid of 2**-30, then to float32.
Float32 is enough to hold a similarity, but not to compute one for ranking: the rounding of a
float32 dot product depends on where a column stands in its block, so two identical candidates
would come out different and a tie would be broken by chance. The grid does the same for ties
near zero, where float32 resolves the rounding of float64. Squared distances are rounded to a
grid of 2**-40 of the largest that the query could have.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np

from braindecode_clip.checks import Problems, some
from braindecode_clip.errors import ConfigError, DataError

SimilarityKind = Literal["cosine", "correlation", "euclidean"]

#: Numbers in the float64 working copy of one block of rows (64 MiB).
BLOCK_NUMBERS = 2**23

#: Added and taken off again, this rounds a float64 in [-1, 1] to a multiple of 2**-30.
ROUNDER = 1.5 * 2.0 ** (52 - 30)

#: Bits of a squared distance that count, below the largest that a query could have.
DISTANCE_BITS = 40

#: Beyond this the square of a distance between float32 vectors leaves float32.
LARGEST_COORDINATE = 1e15


def similarity_matrix(
    queries: np.ndarray, gallery: np.ndarray, *, similarity: SimilarityKind = "cosine"
) -> np.ndarray:
    r"""Compare every query with every candidate.

    .. math:: s_{ij} = \frac{q_i^\top g_j}{\lVert q_i \rVert \lVert g_j \rVert}

    with the mean over dimensions taken off each vector first for "correlation";
    :math:`s_{ij} = -\lVert q_i - g_j \rVert` for "euclidean".

    Parameters
    ----------
    queries : array (n_queries, n_dims), or tokens (n_queries, n_tokens, n_dims)
        Any real dtype, any scale. Tokens are compared as one long vector
        (:func:`token_similarity`), and may lie in a file.
    gallery : array (n_gallery, n_dims), or tokens (n_gallery, n_tokens, n_dims)
    similarity : {"cosine", "correlation", "euclidean"}

    Returns
    -------
    ndarray (n_queries, n_gallery) float32
        In [-1, 1]; of "euclidean" at most 0, in the unit of the vectors.

    Raises
    ------
    DataError
        Unequal n_dims, NaN or infinite numbers, or a vector without a direction (all zeros;
        for "correlation" all numbers equal; "euclidean" needs none, but numbers up to 1e15).
    """
    if len(np.shape(queries)) == 3 and len(np.shape(gallery)) == 3:
        return token_similarity(queries, gallery, similarity=similarity)
    queries, gallery = check_vectors(queries, gallery)
    result = np.empty((len(queries), len(gallery)), dtype=np.float32)
    for rows, block in similarity_blocks(queries, gallery, similarity=similarity):
        result[rows] = block
    return result


def similarity_blocks(
    queries: np.ndarray, gallery: np.ndarray, *, similarity: SimilarityKind = "cosine"
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield :func:`similarity_matrix` in blocks of queries, for galleries of any size.

    Parameters
    ----------
    queries, gallery, similarity
        As for :func:`similarity_matrix`.

    Yields
    ------
    rows : slice
        Of the queries.
    block : ndarray (n_rows, n_gallery) float32

    Notes
    -----
    Beside the inputs, memory holds the block (at most 64 MiB in float64, unless one row is
    larger) and a few float64 working copies of at most that size.
    """
    if similarity not in get_args(SimilarityKind):
        raise ConfigError(
            f"similarity: got {similarity!r}, expected one of {get_args(SimilarityKind)}."
        )
    queries, gallery = check_vectors(queries, gallery)
    n_gallery, n_dims = gallery.shape
    gallery_step = max(1, BLOCK_NUMBERS // n_dims)
    query_step = max(1, BLOCK_NUMBERS // max(n_gallery, n_dims))
    # A gallery that fits one block is scaled once, not once for every block of queries.
    whole = prepared_rows(gallery, similarity, "gallery") if n_gallery <= gallery_step else None
    largest = 0.0
    if similarity == "euclidean":
        parts = (gallery[i : i + gallery_step] for i in range(0, n_gallery, gallery_step))
        largest = max(float(squared_lengths(part).max()) for part in parts)
    for start in range(0, len(queries), query_step):
        rows = slice(start, min(start + query_step, len(queries)))
        scaled = prepared_rows(queries[rows], similarity, "predicted", first_row=start)
        block = np.empty((len(scaled), n_gallery), dtype=np.float32)
        for first in range(0, n_gallery, gallery_step):
            columns = slice(first, first + gallery_step)
            part = whole
            if part is None:
                part = prepared_rows(gallery[columns], similarity, "gallery", first_row=first)
            if similarity == "euclidean":
                block[:, columns] = _negative_distances(scaled, part, largest)
            else:
                block[:, columns] = np.clip(_products(scaled, part), -1.0, 1.0)
        yield rows, block


def _products(scaled: np.ndarray, part: np.ndarray) -> np.ndarray:
    products = scaled @ part.T
    products += ROUNDER
    products -= ROUNDER
    return products


def _negative_distances(queries: np.ndarray, part: np.ndarray, largest: float) -> np.ndarray:
    lengths = squared_lengths(queries)[:, None]
    squares = queries @ part.T
    squares *= -2.0
    squares += lengths
    squares += squared_lengths(part)
    return rounded_distances(squares, lengths + largest)


def squared_lengths(rows: np.ndarray) -> np.ndarray:
    """Return the squared length of every row, (n,) float64."""
    rows = np.asarray(rows, dtype=np.float64)
    return np.einsum("ij,ij->i", rows, rows)


def rounded_distances(squares: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Return minus the root of squared distances after rounding them, in float64.

    Parameters
    ----------
    squares : ndarray float64
        Squared distances, changed in place.
    largest : ndarray, of a shape that fits
        Squared length of the query plus that of the longest candidate; sets the grid.
    """
    # Only the power of two matters; a grid of zero (all vectors zero) rounds nothing.
    rounder = 1.5 * np.exp2(52 - DISTANCE_BITS + np.ceil(np.log2(np.maximum(largest, 1e-300))))
    squares += rounder
    squares -= rounder
    np.maximum(squares, 0.0, out=squares)
    return -np.sqrt(squares, out=squares)


def prepared_rows(
    vectors: np.ndarray, similarity: SimilarityKind, name: str, *, first_row: int = 0
) -> np.ndarray:
    """Return :func:`unit_rows`, or for "euclidean" the checked rows as they are, in float64."""
    if similarity != "euclidean":
        return unit_rows(vectors, similarity, name, first_row=first_row)
    rows = np.array(vectors, dtype=np.float64)
    largest = np.abs(rows).max(axis=1)
    _refuse(~np.isfinite(largest), name, first_row, "NaN or infinite numbers")
    _refuse(largest > LARGEST_COORDINATE, name, first_row, f"numbers above {LARGEST_COORDINATE:g}")
    return rows


def check_vectors(queries: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both as 2-D arrays of equal n_dims; every fault in one DataError."""
    queries, gallery = np.asarray(queries), np.asarray(gallery)
    problems = Problems("similarity")
    for name, array in (("predicted", queries), ("gallery", gallery)):
        if array.ndim != 2 or array.shape[0] == 0 or array.shape[1] == 0:
            problems.add(f"'{name}' has shape {array.shape}, expected (n, n_dims), not empty.")
        elif array.dtype.kind not in "fiub":
            problems.add(f"'{name}' has dtype {array.dtype}, expected real numbers.")
    if not problems and queries.shape[1] != gallery.shape[1]:
        problems.add(
            f"'predicted' has {queries.shape[1]} dimensions and 'gallery' has "
            f"{gallery.shape[1]}. Use the embeddings that the decoder was trained on."
        )
    problems.raise_if_any()
    return queries, gallery


def unit_rows(
    vectors: np.ndarray,
    similarity: SimilarityKind = "cosine",
    name: str = "vectors",
    *,
    first_row: int = 0,
) -> np.ndarray:
    """Scale every row to unit length in float64, centred first for "correlation".

    Parameters
    ----------
    vectors : array (n, n_dims)
    similarity : {"cosine", "correlation"}
    name : str
        What the rows are, for messages.
    first_row : int
        Number of the first row in the user's array, for messages.

    Returns
    -------
    ndarray (n, n_dims) float64

    Raises
    ------
    DataError
        A row with NaN or infinite numbers, or without a direction.
    """
    rows = np.array(vectors, dtype=np.float64)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    _refuse(~np.isfinite(largest[:, 0]), name, first_row, "NaN or infinite numbers")
    _refuse(largest[:, 0] == 0, name, first_row, "only zeros, so no direction")
    # Scaled by the largest number first: squares of 1e-200 or 1e200 leave float64's range.
    rows /= largest
    if similarity == "correlation":
        rows -= rows.mean(axis=1, keepdims=True)
        # What is left of equal numbers after centring is rounding, at most about eps each.
        spread = np.abs(rows).max(axis=1)
        flat = spread <= 8 * np.finfo(np.float64).eps
        _refuse(flat, name, first_row, "equal numbers only, so no correlation")
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def _refuse(bad: np.ndarray, name: str, first_row: int, fault: str) -> None:
    if bad.any():
        where = [int(row) + first_row for row in np.flatnonzero(bad)]
        raise DataError(
            f"{name}: {len(where)} vectors hold {fault}, rows {some(where)}. "
            "A similarity with them is undefined: look at what made them."
        )


def token_similarity(
    queries: np.ndarray, gallery: np.ndarray, *, similarity: SimilarityKind = "cosine"
) -> np.ndarray:
    """Compare the tokens of every query, laid end to end, with those of every candidate.

    The similarity of MindEye's retrieval (Scotti et al., NeurIPS 2023): a token is compared with
    the token of the same place alone. Some tokens of all rows are in memory at a time, in
    float64, so both sides may lie in a file (:class:`~braindecode_clip.artifacts.TokenRows`).

    Parameters
    ----------
    queries : array-like (n_queries, n_tokens, n_dims)
    gallery : array-like (n_gallery, n_tokens, n_dims)
    similarity : {"cosine", "correlation"}
        "correlation" takes the mean over all numbers off each row first.

    Returns
    -------
    ndarray (n_queries, n_gallery) float32
        In [-1, 1], rounded as by :func:`similarity_matrix`.

    Raises
    ------
    DataError
        As :func:`similarity_matrix`.
    """
    if similarity not in ("cosine", "correlation"):
        raise ConfigError(
            f"similarity: got {similarity!r}; tokens are compared by cosine or correlation."
        )
    if min(*queries.shape, *gallery.shape) == 0 or queries.shape[1:] != gallery.shape[1:]:
        raise DataError(
            f"similarity: 'predicted' has shape {queries.shape} and 'gallery' {gallery.shape}, "
            "expected the same tokens and dimensions, not empty. Use the embeddings that the "
            "decoder was trained on."
        )
    sides = {"predicted": queries, "gallery": gallery}
    means = {name: np.zeros((len(side), 1)) for name, side in sides.items()}
    if similarity == "correlation":
        for name, side in sides.items():
            numbers = side.shape[1] * side.shape[2]
            means[name] = sum(part.sum(axis=1, keepdims=True) for part in _token_blocks(side))
            means[name] = means[name] / numbers
    step = _tokens_at_once(len(queries) + len(gallery), queries.shape[2])
    products = np.zeros((len(queries), len(gallery)))
    squares = {name: np.zeros(len(side)) for name, side in sides.items()}
    raw = {name: np.zeros(len(side)) for name, side in sides.items()}
    pairs = zip(_token_blocks(queries, step), _token_blocks(gallery, step), strict=True)
    for blocks in pairs:
        centred = {}
        for (name, mean), block in zip(means.items(), blocks, strict=True):
            raw[name] += np.einsum("ij,ij->i", block, block)
            centred[name] = block - mean if similarity == "correlation" else block
            squares[name] += np.einsum("ij,ij->i", centred[name], centred[name])
        products += centred["predicted"] @ centred["gallery"].T
    for name, sums in squares.items():
        _refuse(~np.isfinite(raw[name]), name, 0, "NaN or infinite numbers")
        _refuse(raw[name] == 0, name, 0, "only zeros, so no direction")
        # What is left of equal numbers after centring is rounding.
        flat = sums <= raw[name] * (8 * np.finfo(np.float64).eps) ** 2
        _refuse(flat, name, 0, "equal numbers only, so no correlation")
    products /= np.sqrt(squares["predicted"])[:, None]
    products /= np.sqrt(squares["gallery"])
    products += ROUNDER
    products -= ROUNDER
    return np.clip(products, -1.0, 1.0).astype(np.float32)


def _tokens_at_once(n_rows: int, n_dims: int) -> int:
    return max(1, BLOCK_NUMBERS // (n_rows * n_dims))


def _token_blocks(side: np.ndarray, step: int | None = None) -> Iterator[np.ndarray]:
    """Yield some tokens of all rows, laid end to end; (n, n_tokens · n_dims) float64."""
    step = step or _tokens_at_once(len(side), side.shape[2])
    for start in range(0, side.shape[1], step):
        block = np.asarray(side[:, start : start + step])
        yield block.reshape(len(block), -1).astype(np.float64)
