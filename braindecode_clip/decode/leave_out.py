"""Exact leave-fold-out residuals of ridge regression for a whole grid of penalties.

With the hat matrix ``H`` of a linear smoother whose penalty does not depend on the rows, the
residuals of a block of rows F under the model fitted without them are

    e_F = (I - H)_FF⁻¹ ((I - H) Y)_F ,

which holds for ridge with an unpenalised intercept too. So one eigendecomposition serves
every fold and every penalty (:class:`DualRoute`, :class:`PrimalRoute`). With many more rows
than voxels the blocks get expensive, and a decomposition for each fold of the downdated
``XᵀX`` is cheaper (:class:`DowndateRoute`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.linalg

from braindecode_clip.decode.spectrum import (
    centred_columns,
    centred_rows,
    column_gram,
    eigh,
    eigh_of_centred_rows,
    plan_filters,
    row_gram,
)

#: One symmetric eigendecomposition costs about as much as this many products m × m × m.
EIGH_PRODUCTS = 4.5
#: Rows per voxel up to which the rows are decomposed. Just above 1 the residual matrix of the
#: primal form is almost singular, as training folds have about as many rows as voxels.
DUAL_RATIO = 1.3
#: Pivots below this many roundings have lost the penalty: a row predicts itself.
SMALL_PIVOT = 1000
#: Columns of a factor, with filter values or filtered rows for them.
Part = tuple[slice, np.ndarray]


class NotPositiveError(ArithmeticError):
    """A block of the residual matrix is singular in the working precision."""


class BlockRoute:
    """Residuals from ``A_FF`` and ``(A Y)_F`` with ``A = base · C + sign · L diag(f_α) Lᵀ``.

    ``C`` is the centring matrix ``I - 11ᵀ/n``. A subclass sets ``factor`` (``L``, of shape
    (n_rows, m), in the working dtype), ``targets`` (n_targets, n_rows; centred) and ``folds``
    (the held-out rows of each), and calls :meth:`prepare`.
    """

    factor: np.ndarray
    targets: np.ndarray
    folds: Sequence[np.ndarray]

    def prepare(self, filters: np.ndarray, *, base: float, sign: float) -> None:
        """Project the targets and choose the filters that are really computed.

        Parameters
        ----------
        filters : ndarray (n_alphas, m) float64
            ``f_α``, positive.
        base, sign : float
            As in the formula for ``A``.
        """
        dtype = self.targets.dtype
        plan = plan_filters(filters, tolerance=_tolerance(dtype))
        self.filters = filters.astype(dtype)
        self.parts = [(columns, values.astype(dtype)) for columns, values in plan.parts]
        self.combine = (sign * plan.coefficients).astype(dtype)
        self.base, self.sign = base, sign
        self.projected = self.targets @ self.factor

    def squared_errors(self, fold: int, *, block: int) -> np.ndarray:
        """Sum the squared residuals of the held-out rows.

        Parameters
        ----------
        fold : int
            Position of the fold.
        block : int
            Number of targets worked on at a time.

        Returns
        -------
        ndarray (n_alphas, n_targets) float64
        """
        rows = self.folds[fold]
        factor = self.factor[rows]
        factors = self._cholesky_blocks(factor, self.parts, self.combine)
        weighted = [(columns, factor[:, columns] * values) for columns, values in self.parts]
        total = np.empty((len(self.combine), len(self.targets)))
        for start in range(0, len(self.targets), block):
            part = slice(start, start + block)
            pieces = _products(self.projected[part], weighted)
            base = self.base * self.targets[part][:, rows] if self.base else None
            sides = (self.combine @ pieces).reshape(len(factors), -1, len(rows))
            for i, (lower, right) in enumerate(zip(factors, sides, strict=True)):
                if base is not None:
                    right += base
                errors = _solve(lower, right)
                total[i, part] = np.einsum("tf,tf->t", errors, errors)
        return total

    def errors_at(self, fold: int, best: np.ndarray) -> np.ndarray:
        """Return the held-out residuals at one penalty for each target.

        Parameters
        ----------
        fold : int
        best : ndarray (n_targets,) int
            Position of each target's penalty.

        Returns
        -------
        ndarray (n_targets, n_fold)
        """
        rows = self.folds[fold]
        factor = self.factor[rows]
        errors = np.empty((len(self.targets), len(rows)), dtype=factor.dtype)
        sign = np.array([[self.sign]], dtype=factor.dtype)
        for i in np.unique(best):
            part = np.flatnonzero(best == i)
            whole = [(slice(None), self.filters[i])]
            lower = self._cholesky_blocks(factor, whole, sign)[0]
            right = self.sign * (self.projected[part] * self.filters[i]) @ factor.T
            if self.base:
                right += self.base * self.targets[np.ix_(part, rows)]
            errors[part] = _solve(lower, right)
        return errors

    def _cholesky_blocks(
        self, factor: np.ndarray, parts: Sequence[Part], combine: np.ndarray
    ) -> list[np.ndarray]:
        """Factor ``A_FF`` of every penalty; each (n_fold, n_fold) in LAPACK's order."""
        n_rows = len(factor)
        pieces = np.empty((len(parts), n_rows, n_rows), dtype=factor.dtype)
        for piece, (columns, values) in zip(pieces, parts, strict=True):
            root = factor[:, columns] * np.sqrt(values)
            np.matmul(root, root.T, out=piece)
        blocks = (combine @ pieces.reshape(len(parts), -1)).reshape(-1, n_rows, n_rows)
        if self.base:
            blocks += self.base * (np.eye(n_rows) - 1 / len(self.factor)).astype(blocks.dtype)
        (potrf,) = scipy.linalg.get_lapack_funcs(("potrf",), (blocks,))
        eps, factors = np.finfo(blocks.dtype).eps, []
        for block in blocks:
            lower, info = potrf(block.T, lower=1, overwrite_a=1, clean=0)
            # Without a base all terms are positive and a small pivot is as exact as a large
            # one; with it, small pivots are what is left of a difference.
            if info or (self.base and lower.diagonal().min() ** 2 < SMALL_PIVOT * eps):
                raise NotPositiveError
            factors.append(lower)
        return factors


class DualRoute(BlockRoute):
    """Few rows for the voxels: one decomposition of ``Xc Xcᵀ``.

    ``A = α (Xc Xcᵀ + αI)⁻¹ - 11ᵀ/n``, up to a factor that cancels.
    """

    def __init__(
        self,
        X: np.ndarray,
        mean: np.ndarray,
        *,
        targets: np.ndarray,
        alphas: np.ndarray,
        folds: Sequence[np.ndarray],
    ) -> None:
        self.X, self.mean = X, mean
        self.targets, self.alphas, self.folds = targets, alphas, folds
        self.values, self.vectors = eigh_of_centred_rows(row_gram(X, mean))
        self.factor = self.vectors.astype(targets.dtype, copy=False)
        filters = (self.values[0] + alphas[:, None]) / (self.values + alphas[:, None])
        self.prepare(filters, base=0.0, sign=1.0)

    def coefficients_at(self, best: np.ndarray) -> np.ndarray:
        """Return the weights (n_voxels, n_targets) at one penalty for each target."""
        # Rounding in dual weights would be multiplied by the largest eigenvalue: float64.
        scaled = self.targets.astype(np.float64, copy=False) @ self.vectors
        scaled /= self.values + self.alphas[best, None]
        dual = self.vectors @ scaled.T
        weights = np.empty((self.X.shape[1], len(best)), dtype=self.targets.dtype)
        for part, block in centred_columns(self.X, self.mean):
            weights[part] = block.T @ dual
        return weights


class PrimalRoute(BlockRoute):
    """More rows than voxels: one decomposition of ``Xcᵀ Xc``.

    ``A = I - 11ᵀ/n - Z diag(1/(w + α)) Zᵀ`` with ``Z = Xc V``.
    """

    def __init__(
        self,
        X: np.ndarray,
        mean: np.ndarray,
        *,
        targets: np.ndarray,
        alphas: np.ndarray,
        folds: Sequence[np.ndarray],
    ) -> None:
        self.targets, self.alphas, self.folds = targets, alphas, folds
        gram, self.cross = column_gram(X, mean, targets=targets)
        self.values, self.vectors = eigh(gram)
        self.factor = np.empty(X.shape, dtype=targets.dtype)
        for part, block in centred_rows(X, mean):
            self.factor[part] = block @ self.vectors
        self.prepare(1 / (self.values + alphas[:, None]), base=1.0, sign=-1.0)

    def coefficients_at(self, best: np.ndarray) -> np.ndarray:
        """Return the weights (n_voxels, n_targets) at one penalty for each target."""
        return _primal_weights(self, best)


class DowndateRoute:
    """Many more rows than voxels: ``XᵀX`` without the fold, decomposed for each fold.

    Memory: n_voxels · (n_rows + n_folds · n_targets) numbers.
    """

    def __init__(
        self,
        X: np.ndarray,
        mean: np.ndarray,
        *,
        targets: np.ndarray,
        alphas: np.ndarray,
        folds: Sequence[np.ndarray],
    ) -> None:
        self.targets, self.alphas, self.folds = targets, alphas, folds
        gram, self.cross = column_gram(X, mean, targets=targets)
        self.spectra = [
            self._without(X[rows] - mean, targets[:, rows], gram=gram) for rows in folds
        ]
        self.values, self.vectors = eigh(gram)

    def _without(
        self, held: np.ndarray, answers: np.ndarray, *, gram: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """Decompose the training part of a fold.

        Returns the values (m,), the held-out rows (n_fold, m) and the training targets
        (n_targets, m) on the vectors, and the mean of the training targets (n_targets,).
        """
        dtype = self.targets.dtype
        n_train = self.targets.shape[1] - len(held)
        # Means of the training rows, in coordinates where the mean of all rows is 0.
        centre = -held.sum(axis=0) / n_train
        offset = -answers.sum(axis=1, dtype=np.float64) / n_train
        inner = gram - held.T @ held
        inner -= np.outer(n_train * centre, centre)
        cross = self.cross - answers @ held - np.outer(n_train * offset, centre)
        values, vectors = eigh(inner)
        left, cross = (held - centre) @ vectors, cross @ vectors
        return values, left.astype(dtype), cross.astype(dtype), offset.astype(dtype)

    def squared_errors(self, fold: int, *, block: int) -> np.ndarray:
        """See :meth:`BlockRoute.squared_errors`."""
        rows, dtype = self.folds[fold], self.targets.dtype
        values, left, cross, offset = self.spectra[fold]
        filters = 1 / (values + self.alphas[:, None])
        plan = plan_filters(filters, tolerance=_tolerance(dtype))
        weighted = [
            (columns, left[:, columns] * values.astype(dtype)) for columns, values in plan.parts
        ]
        combine = plan.coefficients.astype(dtype)
        total = np.empty((len(filters), len(cross)))
        for start in range(0, len(cross), block):
            part = slice(start, start + block)
            truth = self.targets[part][:, rows] - offset[part, None]
            pieces = _products(cross[part], weighted)
            errors = truth - (combine @ pieces).reshape(-1, *truth.shape)
            total[:, part] = np.einsum("atf,atf->at", errors, errors)
        return total

    def errors_at(self, fold: int, best: np.ndarray) -> np.ndarray:
        """See :meth:`BlockRoute.errors_at`."""
        values, left, cross, offset = self.spectra[fold]
        scaled = cross / (values + self.alphas[best, None]).astype(cross.dtype)
        return self.targets[:, self.folds[fold]] - offset[:, None] - scaled @ left.T

    def coefficients_at(self, best: np.ndarray) -> np.ndarray:
        """Return the weights (n_voxels, n_targets) at one penalty for each target."""
        return _primal_weights(self, best)


Route = DualRoute | PrimalRoute | DowndateRoute


def choose_route(
    n_rows: int, n_voxels: int, *, fold_sizes: Sequence[int], n_alphas: int
) -> type[Route]:
    """Choose the cheapest route by its count of multiplications."""
    if n_rows <= DUAL_RATIO * n_voxels:
        return DualRoute
    sizes = np.asarray(fold_sizes, dtype=float)
    # Products with the targets cost the same either way. About half of the penalties are
    # computed, the others combined.
    block = EIGH_PRODUCTS * n_voxels**3 + n_rows * n_voxels**2
    block += (n_alphas / 3 * sizes**3 + n_alphas / 4 * sizes**2 * n_voxels).sum()
    downdate = (len(sizes) + 1) * EIGH_PRODUCTS * n_voxels**3 + n_rows * n_voxels**2 * 1.5
    return PrimalRoute if block <= downdate else DowndateRoute


def _tolerance(dtype: np.dtype) -> float:
    """Return the relative error that an interpolated filter may have."""
    return 1e-6 if dtype == np.float32 else 1e-13


def _products(left: np.ndarray, right: Sequence[Part]) -> np.ndarray:
    """Return ``left[:, c] @ r.T`` for every (c, r), flattened; (n_parts, n_targets · n_fold)."""
    pieces = np.empty((len(right), len(left), len(right[0][1])), dtype=left.dtype)
    for piece, (columns, factor) in zip(pieces, right, strict=True):
        np.matmul(left[:, columns], factor.T, out=piece)
    return pieces.reshape(len(right), -1)


def _primal_weights(route: PrimalRoute | DowndateRoute, best: np.ndarray) -> np.ndarray:
    """Return ``V diag(1/(w + α_t)) Vᵀ Xcᵀ y_t`` for every target; (n_voxels, n_targets)."""
    scaled = route.cross @ route.vectors
    scaled /= route.values + route.alphas[best, None]
    return route.vectors @ scaled.T


def _solve(lower: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve for every row of ``right`` (n_targets, n_fold), which is overwritten."""
    (potrs,) = scipy.linalg.get_lapack_funcs(("potrs",), (lower,))
    solution, _ = potrs(lower, right.T, lower=1, overwrite_b=1)
    return solution.T
