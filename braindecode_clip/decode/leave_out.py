"""Exact leave-fold-out residuals of ridge regression for a whole grid of penalties.

With the hat matrix ``H`` of a linear smoother whose penalty does not depend on the rows, the
residuals of a block of rows F under the model fitted without them are

    e_F = (I - H)_FF⁻¹ ((I - H) Y)_F ,

which holds for ridge with an unpenalised intercept too. So one eigendecomposition serves
every fold and every penalty (:class:`DualRoute`, :class:`PrimalRoute`). With many more rows
than voxels the blocks get expensive, and a decomposition for each fold of the downdated
``XᵀX`` is cheaper (:class:`~braindecode_clip.decode.downdate.DowndateRoute`).

Sample weights multiply rows and targets by their roots; all residuals here are weighted so. With
``u`` the unit vector along these roots (equal weights: ``1/√n``), ``uuᵀ`` is the part of ``H``
that the intercept adds; without an intercept it is None.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np

from braindecode_clip.decode.factors import NotPositiveError, solve_factored
from braindecode_clip.decode.factors import factor as factor_matrix
from braindecode_clip.decode.spectrum import (
    column_gram,
    cross_products,
    eigh,
    eigh_without,
    plan_filters,
    row_gram,
)
from braindecode_clip.decode.tables import VoxelTable
from braindecode_clip.threads import run_blocks

#: Bytes of held-out residuals that are alive at one time.
RESIDUAL_BYTES = 2**23
#: Eigenvectors on which the rounding of dual weights is made good.
N_CORRECTED = 128
#: Ratio of the largest eigenvalue to the smallest plus penalty up to which the weights are made in
#: float32; the predictions are then within about 3e-5 standard deviations of those of float64.
NARROW_SPECTRUM = 5e3
#: Relative rounding of coordinates on the eigenvectors up to which float32 makes them.
SMALL_ROUNDING = 3e-5
#: Pivots below this many roundings have lost the penalty: a row predicts itself.
SMALL_PIVOT = 1000
#: Columns of a factor, with filter values or filtered rows for them.
Part = tuple[slice, np.ndarray]


class BlockRoute(ABC):
    """Residuals from ``A_FF`` and ``(A Y)_F`` with ``A = base · C + sign · L diag(f_α) Lᵀ``.

    ``C`` is ``I - uuᵀ``. A subclass sets ``factor`` (``L``, of shape (n_rows, m), in the working
    dtype), ``direction`` (``u``), ``values`` (m,), ``alphas`` and ``folds`` (the held-out rows
    of each), calls :meth:`prepare`, and in its ``load`` sets ``targets`` (n_targets, n_rows;
    centred) and ``projected`` (n_targets, m).
    """

    factor: np.ndarray
    direction: np.ndarray | None
    values: np.ndarray
    alphas: np.ndarray
    folds: Sequence[np.ndarray]
    targets: np.ndarray
    projected: np.ndarray

    def prepare(self, filters: np.ndarray, *, base: float, sign: float) -> None:
        """Choose the filters that are really computed.

        Parameters
        ----------
        filters : ndarray (n_alphas, m) float64
            ``f_α``, positive.
        base, sign : float
            As in the formula for ``A``.
        """
        dtype = self.factor.dtype
        plan = plan_filters(filters, tolerance=filter_tolerance(dtype))
        self.filters = filters.astype(dtype)
        self.parts = [(columns, values.astype(dtype)) for columns, values in plan.parts]
        self.combine = (sign * plan.coefficients).astype(dtype)
        self.base, self.sign = base, sign

    def fold_errors(self) -> np.ndarray:
        """Sum the squared residuals of the held-out rows; (n_alphas, n_targets) float64."""
        found: dict[int, np.ndarray] = {}

        def score(fold: int) -> None:
            found[fold] = self._squared_errors(self.folds[fold])

        run_blocks(score, range(len(self.folds)))
        # In the order of the folds, whoever was first: sums must not depend on it.
        return sum_in_order(found)

    def _squared_errors(self, rows: np.ndarray) -> np.ndarray:
        factor = self.factor[rows]
        factors = self._cholesky_blocks(rows, self.parts, self.combine)
        weighted = [(columns, factor[:, columns] * values) for columns, values in self.parts]
        total = np.empty((len(self.combine), len(self.targets)))
        for part in self._target_slices(len(rows)):
            pieces = products(self.projected[part], weighted)
            base = self.base * self.targets[part][:, rows] if self.base else None
            sides = (self.combine @ pieces).reshape(len(factors), -1, len(rows))
            for i, (lower, right) in enumerate(zip(factors, sides, strict=True)):
                if base is not None:
                    right += base
                errors = solve_factored(lower, np.ascontiguousarray(right))
                total[i, part] = np.einsum("tf,tf->t", errors, errors)
        return total

    def errors_at(self, best: np.ndarray) -> list[np.ndarray]:
        """Return the held-out residuals at one penalty for each target.

        Parameters
        ----------
        best : ndarray (n_targets,) int
            Position of each target's penalty.

        Returns
        -------
        list of ndarray (n_targets, n_fold)
            One for each fold.
        """
        return [self._errors_at(rows, best) for rows in self.folds]

    def _errors_at(self, rows: np.ndarray, best: np.ndarray) -> np.ndarray:
        factor = self.factor[rows]
        errors = np.empty((len(self.targets), len(rows)), dtype=factor.dtype)
        sign = np.array([[self.sign]], dtype=factor.dtype)
        for i in np.unique(best):
            part = np.flatnonzero(best == i)
            whole = [(slice(None), self.filters[i])]
            lower = self._cholesky_blocks(rows, whole, sign)[0]
            right = self.sign * (self.projected[part] * self.filters[i]) @ factor.T
            if self.base:
                right += self.base * self.targets[np.ix_(part, rows)]
            errors[part] = solve_factored(lower, np.ascontiguousarray(right))
        return errors

    def leave_one_out_errors(self) -> np.ndarray:
        """Sum the squared residuals of every row left out singly: ``(A y)_i / A_ii``.

        Returns
        -------
        ndarray (n_alphas, n_targets) float64
        """
        diagonal = self.sign * (self.filters @ np.square(self.factor).T)
        if self.base:
            diagonal += self.base * (1 - self._leverage_of_intercept()).astype(diagonal.dtype)
            if diagonal.min() < SMALL_PIVOT * np.finfo(diagonal.dtype).eps:
                raise NotPositiveError
        weighted = [(columns, self.factor[:, columns] * kept) for columns, kept in self.parts]
        total = np.empty((len(self.alphas), len(self.targets)))
        for part in self._target_slices(len(self.factor)):
            pieces = products(self.projected[part], weighted)
            errors = (self.combine @ pieces).reshape(len(diagonal), -1, len(self.factor))
            if self.base:
                errors += self.base * self.targets[part]
            errors /= diagonal[:, None]
            total[:, part] = np.einsum("atn,atn->at", errors, errors)
        return total

    def generalised_errors(self) -> np.ndarray:
        """Return ``n² ‖A y‖² / tr(A)²``, the generalised cross-validation of Golub et al. (1979).

        Returns
        -------
        ndarray (n_alphas, n_targets) float64

        References
        ----------
        Golub, Heath & Wahba (1979), Technometrics 21, eq. 1.4.
        """
        n_rows = len(self.factor)
        shrunk = self.alphas[:, None] / (self.values + self.alphas[:, None])
        free = n_rows - len(self.values) - (0 if self.direction is None else 1)
        squares = np.square(self.coordinates())
        # What no voxel pattern spans stays in the residuals at every penalty.
        beyond = np.einsum("tn,tn->t", self.targets, self.targets, dtype=np.float64)
        beyond = np.maximum(beyond - squares.sum(axis=1), 0) if free > 0 else 0 * beyond
        size = np.square(shrunk) @ squares.T + beyond
        return n_rows**2 * size / np.square(shrunk.sum(axis=1) + max(free, 0))[:, None]

    @abstractmethod
    def coordinates(self) -> np.ndarray:
        """Return the targets on the left singular vectors of X; (n_targets, m) float64."""

    def _leverage_of_intercept(self) -> np.ndarray | float:
        return 0.0 if self.direction is None else np.square(self.direction)

    def _target_slices(self, n_rows: int) -> Iterator[slice]:
        row_bytes = n_rows * len(self.alphas) * self.targets.dtype.itemsize
        block = max(16, RESIDUAL_BYTES // row_bytes)
        for start in range(0, len(self.targets), block):
            yield slice(start, start + block)

    def _cholesky_blocks(
        self, rows: np.ndarray, parts: Sequence[Part], combine: np.ndarray
    ) -> list[np.ndarray]:
        """Factor ``A_FF`` of every penalty; each (n_fold, n_fold) in LAPACK's order."""
        factor = self.factor[rows]
        n_rows = len(factor)
        n_pieces = len(parts) + bool(self.base)
        pieces = np.empty((n_pieces, n_rows, n_rows), dtype=factor.dtype)
        for piece, (columns, values) in zip(pieces, parts, strict=False):
            root = factor[:, columns] * np.sqrt(values)
            np.matmul(root, root.T, out=piece)
        if self.base:
            centring = np.eye(n_rows)
            if self.direction is not None:
                centring -= np.outer(self.direction[rows], self.direction[rows])
            pieces[-1] = centring
            base = np.full((len(combine), 1), self.base, dtype=combine.dtype)
            combine = np.hstack([combine, base])
        blocks = (combine @ pieces.reshape(n_pieces, -1)).reshape(-1, n_rows, n_rows)
        eps, factors = np.finfo(blocks.dtype).eps, []
        for block in blocks:
            lower = factor_matrix(block.T)
            # Without a base all terms are positive and a small pivot is as exact as a large
            # one; with it, small pivots are what is left of a difference.
            if self.base and lower.diagonal().min() ** 2 < SMALL_PIVOT * eps:
                raise NotPositiveError
            factors.append(lower)
        return factors


class DualRoute(BlockRoute):
    """Few rows for the voxels: one decomposition of ``X Xᵀ``.

    ``A = α (X Xᵀ + αI)⁻¹ - uuᵀ``, up to a factor that cancels.
    """

    def __init__(
        self,
        table: VoxelTable,
        *,
        direction: np.ndarray | None,
        alphas: np.ndarray,
        folds: Sequence[np.ndarray],
        dtype: np.dtype,
    ) -> None:
        self.table, self.direction = table, direction
        self.alphas, self.folds = alphas, folds
        # The Gram matrix is passed on without a name, so that it can be freed in there.
        if direction is None:
            self.values, self.vectors = eigh(row_gram(table))
        else:
            self.values, self.vectors = eigh_without(row_gram(table), direction)
        self.factor = self.vectors.astype(dtype, copy=False)
        filters = (self.values[0] + alphas[:, None]) / (self.values + alphas[:, None])
        self.prepare(filters, base=0.0, sign=1.0)

    def load(self, targets: np.ndarray) -> None:
        """Take the targets (n_targets, n_rows) that all methods are about."""
        self.targets = targets
        self.projected = targets @ self.factor

    def coordinates(self) -> np.ndarray:
        """See :meth:`BlockRoute.coordinates`."""
        return self.targets.astype(np.float64, copy=False) @ self.vectors

    def coefficients_at(self, best: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the weights of blocks of voxels at one penalty for each target."""
        scaled = self.coordinates()
        scaled /= self.values + self.alphas[best, None]
        dual = self.vectors @ scaled.T
        smallest = self.values[0] + self.alphas[best].min()
        exact = self.values[-1] > NARROW_SPECTRUM * smallest
        # Rounding of the dual weights is multiplied by the eigenvalues: what float32 loses of
        # them on the largest is added again.
        narrow = dual.astype(np.float64 if exact else self.factor.dtype)
        top = self.vectors[:, -N_CORRECTED:]
        lost = (top.T @ (dual - narrow)).astype(narrow.dtype)
        right = np.hstack([narrow, top.astype(narrow.dtype)])
        for part, block in self.table.columns(narrow.dtype):
            found = block.T @ right
            yield part, found[:, : len(best)] + found[:, len(best) :] @ lost


class PrimalRoute(BlockRoute):
    """More rows than voxels: one decomposition of ``Xᵀ X``.

    ``A = I - uuᵀ - Z diag(1/(w + α)) Zᵀ`` with ``Z = X V``.
    """

    def __init__(
        self,
        table: VoxelTable,
        *,
        direction: np.ndarray | None,
        alphas: np.ndarray,
        folds: Sequence[np.ndarray],
        dtype: np.dtype,
    ) -> None:
        self.table, self.direction = table, direction
        self.alphas, self.folds = alphas, folds
        self.values, self.vectors = eigh(column_gram(table))
        self.factor = np.empty(table.shape, dtype=dtype)
        # A product in float32 errs by its eps times the length of a row; where the shortest
        # coordinate that counts is long enough, that is no more than storing it costs.
        rounding = np.finfo(dtype).eps * np.sqrt(
            self.values.sum() / max(self.values[0] + alphas.min(), np.finfo(np.float64).tiny)
        )
        vectors = self.vectors.astype(dtype) if rounding < SMALL_ROUNDING else self.vectors
        for part, block in table.rows():
            self.factor[part] = block.astype(vectors.dtype, copy=False) @ vectors
        self.prepare(1 / (self.values + alphas[:, None]), base=1.0, sign=-1.0)

    def load(self, targets: np.ndarray) -> None:
        """Take the targets (n_targets, n_rows) that all methods are about."""
        self.targets = targets
        self.cross = cross_products(self.table, targets) @ self.vectors
        self.projected = self.cross.astype(self.factor.dtype, copy=False)

    def coordinates(self) -> np.ndarray:
        """See :meth:`BlockRoute.coordinates`."""
        floor = np.finfo(np.float64).eps * len(self.values) * self.values[-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.values > floor, self.cross / np.sqrt(self.values), 0)

    def coefficients_at(self, best: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the weights of all voxels at one penalty for each target."""
        scaled = self.cross / (self.values + self.alphas[best, None])
        yield slice(0, len(self.values)), self.vectors @ scaled.T


def filter_tolerance(dtype: np.dtype) -> float:
    """Return the relative error that an interpolated filter may have."""
    return 1e-6 if dtype == np.float32 else 1e-13


def products(left: np.ndarray, right: Sequence[Part]) -> np.ndarray:
    """Return ``left[:, c] @ r.T`` for every (c, r), flattened; (n_parts, n_targets · n_fold)."""
    pieces = np.empty((len(right), len(left), len(right[0][1])), dtype=left.dtype)
    for piece, (columns, factor) in zip(pieces, right, strict=True):
        np.matmul(left[:, columns], factor.T, out=piece)
    return pieces.reshape(len(right), -1)


def sum_in_order(found: dict[int, np.ndarray]) -> np.ndarray:
    """Add what the folds found, the first fold first."""
    total = np.zeros_like(found[0])
    for fold in range(len(found)):
        total += found[fold]
    return total
