"""Held-out residuals of ridge regression from Cholesky factors at a few poles.

With ``K = X Xᵀ`` of centred rows, write ``K = D + U S Uᵀ``: ``D`` well conditioned, ``U`` the few
directions that most voxels share (:mod:`braindecode_clip.decode.deflation`) and the constant, whose
``S`` is infinite because the intercept is not penalised. For the kernel ``D`` alone one needs, for
every fold F with training rows T, with ``R = (D_TT + αI)⁻¹``, ``M = (D + αI)⁻¹`` and ``Z`` for the
columns of targets and of ``U``,

    the held-out predictions  D_FT R Z_T = Z_F - M_FF⁻¹ (M Z)_F
    and the products          U_Tᵀ R Z_T = Uᵀ M Z - (M U)_Fᵀ M_FF⁻¹ (M Z)_F .

As functions of α these are sums of ``1/(λ + α)`` over the spectrum of ``D_TT``, so their values at
a few poles, and at infinity, combine to those at every penalty of the grid
(:mod:`braindecode_clip.decode.poles`). ``K`` follows by the Woodbury identity:

    e_F(Y; K) = e_F(Y; D) - e_F(U; D) (S⁻¹ + U_Tᵀ R U_T)⁻¹ U_Tᵀ R Y_T .

No eigendecomposition is needed, and all large products are in float32: what would need float64
is in ``U``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from braindecode_clip.decode.deflation import N_VECTORS, deflate, spectrum_bounds
from braindecode_clip.decode.factors import factor, invert, solve_factored, solve_triangle
from braindecode_clip.decode.leave_out import RESIDUAL_BYTES, sum_in_order
from braindecode_clip.decode.poles import choose_poles, combine_poles
from braindecode_clip.decode.spectrum import row_gram_single
from braindecode_clip.decode.tables import VoxelTable
from braindecode_clip.threads import run_blocks

#: Fewer rows are decomposed in no time.
FEWEST_ROWS = 500
#: Poles beyond which an eigendecomposition is cheaper.
MOST_POLES = 12
#: Rows of the sample from which a wide spectrum is recognised.
SAMPLE_ROWS = 200
#: Largest relative error of an interpolated filter. It has both signs over a spectrum, and the
#: mean squared errors come out to 2e-6, which is what float32 makes of them anyway.
TOLERANCE = 6e-6
#: Rounding of the Gram matrix against its smallest eigenvalue plus penalty, at most.
MOST_ROUNDING = 1e-4
#: Relative residual of a random right side, over the whole grid, at most.
MOST_RESIDUAL = 1e-4
#: Eigenvalues above this multiple of the bulk need more than float32 in the weights.
LARGE = 50
#: Bytes of the solutions at all poles, at most.
SOLUTION_BYTES = 2**30


class UnsuitableError(ArithmeticError):
    """The spectrum is too wide for a few poles, or for float32."""


class PoleRoute:
    """Residuals and weights from a few poles, in the interface of the block routes.

    In float32, for all targets in one block. Memory: two n_rows² float32 matrices and, for each
    of k poles, n_rows · (n_targets + about 100) float32 numbers.

    Raises
    ------
    UnsuitableError
        Another route must be taken; known before the costly part.
    NotPositiveError
        A matrix is singular in float32.
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
        self.table, self.alphas, self.folds = table, alphas, folds
        if dtype != np.float32 or not self._seems_narrow():
            raise UnsuitableError
        rng = np.random.default_rng(0)
        gram = row_gram_single(table)
        rounding = np.finfo(np.float32).eps * np.linalg.norm(gram) / np.sqrt(len(gram))
        deflated = deflate(gram, rng=rng)
        vectors, self.inverse_excess = deflated.vectors, 1 / deflated.excess
        self.bulk = deflated.bulk
        if direction is not None:
            unit = direction.astype(np.float32)[:, None]
            gram += (np.float32(deflated.bulk) * unit) @ unit.T
            vectors = np.hstack([vectors, unit])
            self.inverse_excess = np.append(self.inverse_excess, 0.0)
        low, high = spectrum_bounds(gram, rng=rng)
        if low <= 0 or rounding > MOST_ROUNDING * (low + alphas.min()):
            raise UnsuitableError
        most = min(MOST_POLES, len(alphas))
        poles = choose_poles(low, high, alphas, tolerance=TOLERANCE, most=most)
        if poles is None:
            raise UnsuitableError
        self.poles = poles
        self.combine = combine_poles(low, high, poles, alphas)[0]
        # Rows of a fold side by side: their blocks of the inverse then cost least.
        order = np.concatenate([*folds, np.arange(len(gram))])
        self.order = order[np.sort(np.unique(order, return_index=True)[1])]
        position = np.argsort(self.order)
        self.places = [np.sort(position[rows]) for rows in folds]
        self.in_order = bool((self.order == np.arange(len(gram))).all())
        self.gram = gram if self.in_order else gram[np.ix_(self.order, self.order)]
        self.vectors = np.ascontiguousarray(vectors[self.order].T)
        self.probe = rng.standard_normal(len(gram)).astype(np.float32)

    def _seems_narrow(self) -> bool:
        """Look at a sample of the rows, whose spectrum is narrower but of the same shape."""
        n_rows = self.table.shape[0]
        sample = self.table.take(np.arange(0, n_rows, max(1, n_rows // SAMPLE_ROWS)))
        values = np.linalg.eigvalsh(sample @ sample.T)[1:]
        n_taken = min(N_VECTORS, n_rows // 4) * len(sample) // n_rows
        high = values[-1 - n_taken]
        if values[0] <= 0:
            return False
        found = choose_poles(values[0], high, self.alphas, tolerance=TOLERANCE, most=MOST_POLES)
        return found is not None

    @staticmethod
    def serves(n_rows: int, n_voxels: int, *, n_targets: int, n_alphas: int) -> bool:
        """Whether the route is worth a try at a shape."""
        numbers = n_rows * (MOST_POLES + 1) * (n_targets + N_VECTORS)
        return FEWEST_ROWS <= n_rows <= n_voxels and n_alphas > 1 and 4 * numbers <= SOLUTION_BYTES

    def load(self, targets: np.ndarray) -> None:
        """Take the targets (n_targets, n_rows) that all methods are about."""
        self.n_targets = len(targets)
        moved = targets if self.in_order else targets[:, self.order]
        self.columns = np.vstack([moved, self.vectors, self.probe])
        self.solutions = np.empty((len(self.poles), *self.columns.shape), dtype=np.float32)
        self.factors: list[list[np.ndarray]] = [[] for _ in self.poles]
        run_blocks(self._solve_at, range(len(self.poles)))
        self._check_probe()
        self.columns, self.solutions = self.columns[:-1], self.solutions[:, :-1]
        everything = [self.columns, *self.solutions]
        self.inner = np.stack([each @ self.vectors.T for each in everything])

    def _solve_at(self, i: int) -> None:
        """Solve for all columns at a pole; keep the factors of the blocks ``M_FF``."""
        matrix = self.gram.copy().T
        np.einsum("ii->i", matrix)[:] += np.float32(self.poles[i])
        lower = factor(matrix)
        self.solutions[i] = self.columns
        solve_triangle(lower, self.solutions[i], transposed=False)
        solve_triangle(lower, self.solutions[i], transposed=True)
        inverse = invert(lower)
        for places in self.places:
            # LAPACK leaves the other triangle as it was.
            for place in places:
                inverse[places[0] : place, place] = 0
            part = inverse[places[0] :, _slice(places)]
            self.factors[i].append(factor((part.T @ part).T))

    def _check_probe(self) -> None:
        """Refuse a grid whose filters do not combine: the spectrum was bounded wrongly."""
        pieces = np.vstack([self.columns[-1], self.solutions[:, -1]])
        found = self.combine.astype(np.float32) @ pieces
        residual = found @ self.gram + self.alphas.astype(np.float32)[:, None] * found - self.probe
        if np.linalg.norm(residual, axis=1).max() > MOST_RESIDUAL * np.linalg.norm(self.probe):
            raise UnsuitableError

    def fold_errors(self) -> np.ndarray:
        """Sum the squared residuals of the held-out rows; (n_alphas, n_targets) float64."""
        found: dict[int, np.ndarray] = {}

        def score(fold: int) -> None:
            found[fold] = self._squared_errors(fold)

        run_blocks(score, range(len(self.folds)))
        # In the order of the folds, whoever was first: sums must not depend on it.
        return sum_in_order(found)

    def _squared_errors(self, fold: int) -> np.ndarray:
        truth, predicted, inner = self._pieces(fold)
        combine = self.combine.astype(np.float32)
        shared, weights = self._shared(truth, predicted, inner, self.combine)
        total = np.empty((len(combine), self.n_targets))
        step = max(16, RESIDUAL_BYTES // (4 * truth.shape[1] * len(combine)))
        for start in range(0, self.n_targets, step):
            part = slice(start, min(start + step, self.n_targets))
            pieces = predicted[:, part].reshape(len(predicted), -1)
            errors = (combine @ pieces).reshape(-1, *truth[part].shape)
            for each, axes, weight in zip(errors, shared, weights[:, part], strict=True):
                each += weight @ axes
            np.subtract(truth[part], errors, out=errors)
            total[:, part] = np.einsum("atf,atf->at", errors, errors)
        return total

    def forget_folds(self) -> None:
        """Free what only held-out residuals need."""
        del self.gram, self.factors

    def errors_at(self, best: np.ndarray) -> list[np.ndarray]:
        """See :meth:`~braindecode_clip.decode.leave_out.BlockRoute.errors_at`."""
        found = []
        for fold, places in enumerate(self.places):
            truth, predicted, inner = self._pieces(fold)
            errors = truth[: self.n_targets].copy()
            for i in np.unique(best):
                part = np.flatnonzero(best == i)
                kept = self.combine[[i]]
                shared, weights = self._shared(truth, predicted, inner, kept)
                errors[part] -= np.tensordot(kept[0].astype(np.float32), predicted[:, part], 1)
                errors[part] -= weights[0, part] @ shared[0]
            # The rows of a fold were sorted by their new places.
            found.append(
                errors[:, np.searchsorted(places, np.argsort(self.order)[self.folds[fold]])]
            )
        return found

    def _pieces(self, fold: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what a fold needs of ``D`` at infinity and at every pole.

        Returns
        -------
        truth : ndarray (n_columns, n_fold)
            ``Z_F``.
        predicted : ndarray (1 + n_poles, n_columns, n_fold)
            ``D_FT R Z_T``.
        inner : ndarray (1 + n_poles, n_columns, n_vectors)
            ``Z_Tᵀ R U_T``.
        """
        places = _slice(self.places[fold])
        truth = np.ascontiguousarray(self.columns[:, places])
        inner = self.inner.copy()
        predicted = np.empty((len(inner), *truth.shape), dtype=np.float32)
        np.matmul(self.columns, self.gram[:, places], out=predicted[0])
        predicted[0] -= truth @ self.gram[places][:, places]
        inner[0] -= truth @ truth[self.n_targets :].T
        for i, factors in enumerate(self.factors, start=1):
            solved = self.solutions[i - 1][:, places]
            held_out = solve_factored(factors[fold], np.ascontiguousarray(solved).copy())
            np.subtract(truth, held_out, out=predicted[i])
            inner[i] -= held_out @ solved[self.n_targets :].T
        return truth, predicted, inner

    def _shared(
        self, truth: np.ndarray, predicted: np.ndarray, inner: np.ndarray, combine: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the residuals of ``U``, and their weights in those of the targets.

        Returns
        -------
        shared : ndarray (n_alphas, n_vectors, n_fold)
        weights : ndarray (n_alphas, n_targets, n_vectors)
        """
        n_vectors = len(self.vectors)
        shape = (len(combine), n_vectors, truth.shape[1])
        flat = predicted[:, self.n_targets :].reshape(len(predicted), shape[1] * shape[2])
        shared = truth[self.n_targets :] - (combine.astype(np.float32) @ flat).reshape(shape)
        products = (combine @ inner.reshape(len(inner), -1)).reshape(-1, *inner.shape[1:])
        return shared, self._weights(products.astype(np.float32, copy=False), self.n_targets)

    def _weights(self, products: np.ndarray, n_targets: int) -> np.ndarray:
        """Solve ``(S⁻¹ + Uᵀ R U) wᵀ = Uᵀ R Y`` for all penalties; (n_alphas, n_targets, n_vectors).

        ``products`` (n_alphas, n_targets + n_vectors, n_vectors) is overwritten.
        """
        diagonal = np.diag(self.inverse_excess).astype(products.dtype)
        found = products[:, :n_targets]
        for inner, right in zip(products[:, n_targets:], found, strict=True):
            solve_factored(factor((inner + diagonal).T), right)
        return found

    def coefficients_at(self, best: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the weights of blocks of voxels at one penalty for each target."""
        grid = self.combine.astype(np.float32)
        combine = grid[best]
        dual = combine[:, :1] * self.columns[: self.n_targets]
        for column, solved in zip(combine.T[1:, :, None], self.solutions, strict=True):
            dual += column * solved[: self.n_targets]
        n_vectors = len(self.vectors)
        of_vectors = [each[self.n_targets :] for each in (self.columns, *self.solutions)]
        weights = np.empty((len(best), len(self.vectors)))
        for i in np.unique(best):
            part = np.flatnonzero(best == i)
            rows = np.concatenate([part, np.arange(self.n_targets, self.inner.shape[1])])
            products = np.tensordot(self.combine[i], self.inner[:, rows], 1)[None]
            weights[part] = self._weights(products, len(part))[0]
            solved = np.zeros((n_vectors, dual.shape[1]), dtype=np.float32)
            for share, each in zip(grid[i], of_vectors, strict=True):
                solved += share * each
            dual[part] -= weights[part].astype(np.float32) @ solved
        # Rounding of the dual weights is multiplied by the eigenvalues. On the largest ones these
        # weights are known without cancellation, and what float32 lost of them is added again.
        large = (self.inverse_excess > 0) & (self.inverse_excess * LARGE * self.bulk < 1)
        top = self.vectors[large]
        exact = weights[:, large] * self.inverse_excess[large]
        lost = (exact - dual.astype(np.float64) @ top.T).astype(np.float32)
        left, axes = np.empty_like(dual), np.empty_like(top)
        left[:, self.order], axes[:, self.order] = dual, top
        for voxels, block in self.table.columns(np.float32):
            found = block.T @ left.T
            found += (block.T @ axes.T) @ lost.T
            yield voxels, found


def _slice(places: np.ndarray) -> slice | np.ndarray:
    """Return neighbouring places as a slice, which copies nothing."""
    if places[-1] - places[0] + 1 == len(places):
        return slice(int(places[0]), int(places[-1]) + 1)
    return places
