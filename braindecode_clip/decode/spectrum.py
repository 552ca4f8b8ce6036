"""One symmetric eigendecomposition of centred data, and ridge filters on it.

Everything that ridge regression needs at any penalty follows from the spectrum of the
centred Gram matrix: of the rows (``X Xᵀ``) where there are fewer rows than voxels, of the
voxels (``Xᵀ X``) otherwise.

Gram matrices and decompositions are in float64 whatever the input: voxels share much of
their variance, and float32 rounds the small eigenvalues, those that a small penalty cares
for, by 1e-7 of the largest one. (On data of eight strong components and weak noise the
held-out predictions are off by 2e-3 standard deviations in float32 at a penalty of 1e-3 of
the largest eigenvalue; with this, by 2e-6.)
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from braindecode_clip.decode.tables import VoxelTable

#: Points of a spectrum that an interpolation is fitted on; its error is checked on all.
FIT_POINTS = 400
#: Points of a spectrum that the number of filters is estimated from.
RANK_POINTS = 48
#: Eigenvalues below which planning takes longer than it saves.
FEW_COLUMNS = 400


def row_gram(table: VoxelTable) -> np.ndarray:
    """Return ``X Xᵀ`` of a centred table; (n_rows, n_rows) float64."""
    gram = np.zeros((table.shape[0], table.shape[0]))
    for _, block in table.columns():
        # numpy sees a product with the own transpose and computes one triangle only.
        gram += block @ block.T
    return gram


def row_gram_single(table: VoxelTable) -> np.ndarray:
    """Return ``X Xᵀ`` in float32, for data whose small eigenvalues survive its rounding.

    Sums of blocks err by 1e-7 of an entry: of the square root of n_rows times that in the
    eigenvalues, where the rounding of an eigendecomposition is 1e-7 of the largest one.
    """
    gram = np.zeros((table.shape[0], table.shape[0]), dtype=np.float32, order="F")
    for _, block in table.columns(np.float32):
        gram = scipy.linalg.blas.ssyrk(
            1.0, block.T, beta=1.0, c=gram, trans=1, lower=1, overwrite_c=1
        )
    step = 512
    for start in range(0, len(gram), step):
        stop = start + step
        gram[start:stop, stop:] = gram[stop:, start:stop].T
        square = gram[start:stop, start:stop]
        square += np.tril(square, -1).T - np.triu(square, 1)
    return gram.T


def column_gram(table: VoxelTable) -> np.ndarray:
    """Return ``Xᵀ X`` of a centred table; (n_columns, n_columns) float64."""
    gram = np.zeros((table.shape[1], table.shape[1]))
    for _, block in table.rows():
        gram += block.T @ block
    return gram


def cross_products(table: VoxelTable, targets: np.ndarray) -> np.ndarray:
    """Return ``targets X`` for targets (n_targets, n_rows); (n_targets, n_columns) float64."""
    cross = np.zeros((len(targets), table.shape[1]))
    for part, block in table.rows():
        cross += targets[:, part] @ block
    return cross


def eigh(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Decompose a positive semi-definite matrix, which is overwritten.

    Returns
    -------
    values : ndarray (m,)
        Ascending, rounding below zero clipped.
    vectors : ndarray (m, m)
        In columns.
    """
    # The transpose of a symmetric C-ordered array is the same matrix in LAPACK's order, so
    # nothing is copied; divide and conquer is about three times faster than the default.
    values, vectors = scipy.linalg.eigh(gram.T, driver="evd", overwrite_a=True, check_finite=False)
    # numpy multiplies C-ordered halves fastest, and the vectors are sliced by rows.
    vectors = np.ascontiguousarray(vectors)
    return np.maximum(values, 0), vectors


def eigh_without(gram: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Decompose a row Gram matrix on the complement of a vector of its null space.

    Centred rows have the constant (with weights: their roots) as an eigenvector with value 0.
    At a small penalty it would outweigh all others in ``(K + αI)⁻¹``, and taking it off
    afterwards would cancel; so a Householder reflection turns it into the first axis, which is
    left out.

    Parameters
    ----------
    gram : ndarray (n, n)
        Overwritten.
    direction : ndarray (n,)
        Of length 1, no entry below 0.

    Returns
    -------
    values : ndarray (n - 1,)
    vectors : ndarray (n, n - 1)
        Orthonormal and orthogonal to the direction.
    """
    n_rows = len(gram)
    reflector = direction.copy()
    reflector[0] += 1
    beta = 2 / (reflector @ reflector)
    image = beta * (gram @ reflector)
    image -= (beta / 2) * (reflector @ image) * reflector
    gram -= np.outer(image, reflector)
    gram -= np.outer(reflector, image)
    rest = np.ascontiguousarray(gram[1:, 1:])
    del gram
    values, inner = eigh(rest)
    vectors = np.zeros((n_rows, n_rows - 1))
    vectors[1:] = inner
    vectors -= np.outer(beta * reflector, reflector @ vectors)
    return values, vectors


@dataclass(frozen=True)
class FilterPlan:
    """A table of filters as combinations of a few filters on parts of the spectrum.

    Attributes
    ----------
    parts : list of (slice, ndarray)
        Columns of the table, and the values of one filter there.
    coefficients : ndarray (n_alphas, len(parts)) float64
        Row i of the table is the sum over parts of coefficient times values.
    """

    parts: list[tuple[slice, np.ndarray]]
    coefficients: np.ndarray


def plan_filters(table: np.ndarray, *, tolerance: float) -> FilterPlan:
    """Write all filters of a grid of penalties by as few products as possible.

    Filters ``1/(w + α)`` of neighbouring penalties look alike where the spectrum is narrow. A
    spectrum often has a broad top of few values and a narrow bulk of many, so it is cut where
    the products that are left (columns times filters kept, in every piece) cost least.

    Parameters
    ----------
    table : ndarray (n_alphas, m) float64
        Positive filter values, the columns in the order of the eigenvalues.
    tolerance : float
        Largest relative error of any entry.
    """
    n_alphas, n_columns = table.shape
    if n_columns < FEW_COLUMNS:
        return FilterPlan([(slice(None), row) for row in table], np.eye(n_alphas))
    shares = [0, 1 / 4, 1 / 2, 3 / 4, 7 / 8, 15 / 16, 31 / 32, 63 / 64, 1]
    cuts = np.unique([round(share * n_columns) for share in shares]).tolist()
    best: dict[int, tuple[float, list[int]]] = {0: (0.0, [0])}
    for end in cuts[1:]:
        options = []
        for start in cuts[: cuts.index(end)]:
            # Combining a product into all filters costs as much as n_alphas more columns.
            cost = _numerical_rank(table[:, start:end], tolerance) * (end - start + n_alphas)
            options.append((best[start][0] + cost, [*best[start][1], end]))
        best[end] = min(options)
    parts, blocks = [], []
    for start, end in itertools.pairwise(best[n_columns][1]):
        skeleton, coefficients = interpolate(table[:, start:end], tolerance=tolerance)
        parts += [(slice(start, end), table[row, start:end]) for row in skeleton]
        blocks.append(coefficients)
    return FilterPlan(parts, np.hstack(blocks))


def _sampled(table: np.ndarray, n_points: int) -> np.ndarray:
    columns = np.unique(np.linspace(0, table.shape[1] - 1, n_points).astype(int))
    return table[:, columns]


def _numerical_rank(table: np.ndarray, tolerance: float) -> int:
    part = _sampled(table, RANK_POINTS)
    part = part / np.linalg.norm(part, axis=1, keepdims=True)
    triangle = scipy.linalg.qr(part.T, mode="r", pivoting=True, check_finite=False)[0]
    sizes = np.abs(np.diag(triangle))
    return int((sizes > tolerance * sizes[0]).sum())


def interpolate(table: np.ndarray, *, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Write every row of a table as a combination of a few of its own rows.

    Rows are picked by pivoted QR; the coefficients minimise the relative error, since a filter
    may span many orders of magnitude.

    Parameters
    ----------
    table : ndarray (n_alphas, m) float64
        Positive filter values.
    tolerance : float
        Largest relative error allowed for any entry.

    Returns
    -------
    skeleton : ndarray (r,) int
        Rows that are kept.
    coefficients : ndarray (n_alphas, r) float64
        ``coefficients @ table[skeleton]`` is ``table`` within the tolerance.
    """
    n_rows = len(table)
    part = _sampled(table, FIT_POINTS)
    norms = np.linalg.norm(part, axis=1)
    scaled = part / norms[:, None]
    triangle, pivots = scipy.linalg.qr(scaled.T, mode="r", pivoting=True)
    sizes = np.abs(np.diag(triangle))
    first = max(1, int((sizes > tolerance * sizes[0]).sum()))
    for rank in range(first, min(n_rows, len(sizes))):
        skeleton = np.sort(pivots[:rank])
        basis = scaled[skeleton]
        coefficients = np.empty((n_rows, rank))
        for i, row in enumerate(scaled):
            coefficients[i] = np.linalg.lstsq((basis / row).T, np.ones(len(row)))[0]
        coefficients *= norms[:, None] / norms[skeleton]
        worst = np.abs(coefficients @ table[skeleton] / table - 1).max()
        if worst <= tolerance:
            return skeleton, coefficients
    return np.arange(n_rows), np.eye(n_rows)
