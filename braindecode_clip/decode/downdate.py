"""Many more rows than voxels: one decomposition of the downdated ``XᵀX`` for each fold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from braindecode_clip.decode.leave_out import (
    RESIDUAL_BYTES,
    DualRoute,
    PrimalRoute,
    filter_tolerance,
    products,
)
from braindecode_clip.decode.spectrum import column_gram, cross_products, eigh, plan_filters
from braindecode_clip.decode.tables import VoxelTable

#: One symmetric eigendecomposition costs about as much as this many products m × m × m.
EIGH_PRODUCTS = 4.5
#: Rows per voxel up to which the rows are decomposed. Just above 1 the residual matrix of the
#: primal form is almost singular, as training folds have about as many rows as voxels.
DUAL_RATIO = 1.3


class DowndateRoute:
    """Residuals from the training part of each fold, in the interface of the block routes.

    Memory: n_voxels · (n_rows + n_folds · n_targets) numbers.
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
        self.table, self.alphas, self.folds, self.dtype = table, alphas, folds, dtype
        n_rows = table.shape[0]
        self.centred = direction is not None
        self.root = np.ones(n_rows) if table.root is None else table.root
        gram = column_gram(table)
        self.spectra = [self._without(rows, gram) for rows in folds]
        self.values, self.vectors = eigh(gram)

    def _without(self, rows: np.ndarray, gram: np.ndarray) -> tuple[np.ndarray, ...]:
        """Decompose the training part of a fold.

        Returns the values (m,), the vectors (n_voxels, m), the held-out rows (n_fold, n_voxels)
        and the centre (n_voxels,) of the training rows, in coordinates where that of all rows
        is 0.
        """
        held, root = self.table.take(rows), self.root[rows]
        inner = gram - held.T @ held
        centre = np.zeros(len(gram))
        if self.centred:
            centre = -(root @ held) / self._weight_without(rows)
            inner -= np.outer(self._weight_without(rows) * centre, centre)
        values, vectors = eigh(inner)
        return values, vectors, held, centre

    def _weight_without(self, rows: np.ndarray) -> float:
        return float(np.square(self.root).sum() - np.square(self.root[rows]).sum())

    def load(self, targets: np.ndarray) -> None:
        """Take the targets (n_targets, n_rows) that all methods are about."""
        self.targets = targets
        self.cross = cross_products(self.table, targets)
        self.loaded = [self._load(targets[:, rows], fold) for fold, rows in enumerate(self.folds)]

    def _load(self, answers: np.ndarray, fold: int) -> tuple[np.ndarray, ...]:
        """Return the training targets on the vectors (n_targets, m), and their mean."""
        rows, (_, vectors, held, centre) = self.folds[fold], self.spectra[fold]
        cross = self.cross - answers @ held
        offset = np.zeros(len(answers))
        if self.centred:
            weight = self._weight_without(rows)
            offset = -(answers.astype(np.float64) @ self.root[rows]) / weight
            cross -= np.outer(weight * offset, centre)
        return (cross @ vectors).astype(self.dtype), offset

    def _held_out(self, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the held-out rows on the vectors (n_fold, m), and the residuals of the mean."""
        rows, (_, vectors, held, centre) = self.folds[fold], self.spectra[fold]
        root = self.root[rows]
        left = ((held - np.outer(root, centre)) @ vectors).astype(self.dtype)
        truth = self.targets[:, rows] - np.outer(self.loaded[fold][1], root)
        return left, truth.astype(self.dtype, copy=False)

    def fold_errors(self) -> np.ndarray:
        """See :meth:`~braindecode_clip.decode.leave_out.BlockRoute.fold_errors`."""
        total = np.zeros((len(self.alphas), len(self.targets)))
        for fold in range(len(self.folds)):
            total += self._squared_errors(fold)
        return total

    def _squared_errors(self, fold: int) -> np.ndarray:
        values, cross = self.spectra[fold][0], self.loaded[fold][0]
        left, truth = self._held_out(fold)
        filters = 1 / (values + self.alphas[:, None])
        plan = plan_filters(filters, tolerance=filter_tolerance(self.dtype))
        weighted = [
            (columns, left[:, columns] * kept.astype(self.dtype)) for columns, kept in plan.parts
        ]
        combine = plan.coefficients.astype(self.dtype)
        total = np.empty((len(filters), len(cross)))
        row_bytes = len(left) * len(filters) * self.dtype.itemsize
        block = max(16, RESIDUAL_BYTES // row_bytes)
        for start in range(0, len(cross), block):
            part = slice(start, start + block)
            pieces = products(cross[part], weighted)
            errors = truth[part] - (combine @ pieces).reshape(-1, *truth[part].shape)
            total[:, part] = np.einsum("atf,atf->at", errors, errors)
        return total

    def errors_at(self, best: np.ndarray) -> list[np.ndarray]:
        """See :meth:`~braindecode_clip.decode.leave_out.BlockRoute.errors_at`."""
        found = []
        for fold, (values, *_) in enumerate(self.spectra):
            left, truth = self._held_out(fold)
            cross = self.loaded[fold][0]
            scaled = cross / (values + self.alphas[best, None]).astype(self.dtype)
            found.append(truth - scaled @ left.T)
        return found

    def coefficients_at(self, best: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the weights of all voxels at one penalty for each target."""
        scaled = self.cross @ self.vectors / (self.values + self.alphas[best, None])
        yield slice(0, len(self.values)), self.vectors @ scaled.T


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
