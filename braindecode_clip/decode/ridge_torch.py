"""The residuals of ridge regression by Cholesky factors in torch, on a GPU or the CPU.

A GPU factors ``K + αI`` anew for every penalty faster than it decomposes K once, so the residual
matrix ``A`` of :mod:`braindecode_clip.decode.leave_out` is made from those factors. Gram matrices
and factors are in float64, products with the targets in the working dtype.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from braindecode_clip.decode.factors import NotPositiveError
from braindecode_clip.decode.leave_out import SMALL_PIVOT
from braindecode_clip.decode.tables import VoxelTable

if TYPE_CHECKING:
    import torch


def pick_device(device: str) -> str | None:
    """Return the torch device of an option, or None for NumPy.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "torch"}
        auto: CUDA where there is one, else NumPy. torch: torch on the CPU.

    Raises
    ------
    ValueError
        An unknown name, or cuda where there is none.
    """
    if device not in ("auto", "cpu", "cuda", "torch"):
        raise ValueError(f"'device' must be auto, cpu, cuda or torch, got {device!r}.")
    if device in ("cpu", "torch"):
        return None if device == "cpu" else "cpu"
    found = _has_driver()
    if found:
        import torch

        found = torch.cuda.is_available()
    if not found and device == "cuda":
        raise ValueError("'device' is cuda, but torch finds no CUDA device. Use 'auto' or 'cpu'.")
    return "cuda" if found else None


def _has_driver() -> bool:
    """Look for the driver first: importing torch takes seconds."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


class TorchRoute:
    """Residuals and weights through torch, in the interface of the other routes.

    Memory on the device: about 3 n² float64 numbers with fewer rows than voxels; otherwise
    n_rows · n_voxels twice.
    """

    def __init__(
        self,
        table: VoxelTable,
        *,
        direction: np.ndarray | None,
        alphas: np.ndarray,
        folds: Sequence[np.ndarray],
        dtype: np.dtype,
        device: str,
    ) -> None:
        import torch

        self.torch, self.device = torch, device
        self.table, self.alphas = table, alphas
        self.folds = folds
        self.held = [torch.as_tensor(rows, device=device) for rows in folds]
        self.dtype = torch.float32 if dtype == np.float32 else torch.float64
        self.direction = None if direction is None else self._put(direction)
        n_rows, n_voxels = table.shape
        self.dual = n_rows <= n_voxels
        if self.dual:
            self.gram = torch.zeros((n_rows, n_rows), dtype=torch.float64, device=device)
            for _, block in table.columns():
                part = self._put(block)
                self.gram += part @ part.T
            if self.direction is not None:
                # A large value for the intercept's vector keeps its inverse from cancelling.
                self.lift = float(self.gram.diagonal().sum()) / n_rows + 1.0
                self.gram += self.lift * torch.outer(self.direction, self.direction)
        else:
            self.rows = torch.cat([self._put(block) for _, block in table.rows()])
            self.gram = self.rows.T @ self.rows

    def load(self, targets: np.ndarray) -> None:
        """Take the targets (n_targets, n_rows) that all methods are about."""
        self.targets = self._put(targets.T)

    def fold_errors(self) -> np.ndarray:
        """See :meth:`~braindecode_clip.decode.leave_out.BlockRoute.fold_errors`."""
        total = np.zeros((len(self.alphas), self.targets.shape[1]))
        for i in range(len(self.alphas)):
            matrix = self._matrix(i)
            sides = self._residuals(matrix, self.targets)
            for rows in self.held:
                errors = self._held_out(matrix, rows, sides)
                total[i] += self._numpy(errors.double().square().sum(0))
        return total

    def leave_one_out_errors(self) -> np.ndarray:
        """See :meth:`~braindecode_clip.decode.leave_out.BlockRoute.leave_one_out_errors`."""
        return self._scaled_errors(mean=False)

    def generalised_errors(self) -> np.ndarray:
        """See :meth:`~braindecode_clip.decode.leave_out.BlockRoute.generalised_errors`."""
        return self._scaled_errors(mean=True)

    def _scaled_errors(self, *, mean: bool) -> np.ndarray:
        total = np.empty((len(self.alphas), self.targets.shape[1]))
        for i in range(len(self.alphas)):
            matrix = self._matrix(i)
            diagonal = self._diagonal(matrix)
            if float(diagonal.min()) < SMALL_PIVOT * np.finfo(np.float64).eps and not self.dual:
                raise NotPositiveError
            scale = diagonal.mean() if mean else diagonal[:, None]
            errors = self._residuals(matrix, self.targets).double() / scale
            total[i] = self._numpy(errors.square().sum(0))
        return total

    def errors_at(self, best: np.ndarray) -> list[np.ndarray]:
        """See :meth:`~braindecode_clip.decode.leave_out.BlockRoute.errors_at`."""
        found = [np.empty((len(best), len(rows))) for rows in self.folds]
        for i in np.unique(best):
            part, matrix = np.flatnonzero(best == i), self._matrix(i)
            sides = self._residuals(matrix, self.targets[:, part])
            for errors, rows in zip(found, self.held, strict=True):
                errors[part] = self._numpy(self._held_out(matrix, rows, sides)).T
        return found

    def coefficients_at(self, best: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the weights of blocks of voxels at one penalty for each target."""
        right = self.targets if self.dual else self.rows.T @ self.targets
        solved = self.torch.empty_like(right)
        for i in np.unique(best):
            part = np.flatnonzero(best == i)
            solved[:, part] = self.torch.cholesky_solve(right[:, part], self._factor(i))
        if not self.dual:
            yield slice(0, len(solved)), solved.cpu().numpy()
            return
        for part, block in self.table.columns():
            yield part, (self._put(block).T @ solved).cpu().numpy()

    def _put(self, values: np.ndarray) -> torch.Tensor:
        return self.torch.tensor(values, dtype=self.torch.float64, device=self.device)

    def _numpy(self, values: torch.Tensor) -> np.ndarray:
        return np.asarray(values.cpu().numpy())

    def _factor(self, i: int) -> torch.Tensor:
        matrix = self.gram.clone()
        matrix.diagonal().add_(float(self.alphas[i]))
        lower, info = self.torch.linalg.cholesky_ex(matrix)
        if int(info):
            raise NotPositiveError
        return lower

    def _matrix(self, i: int) -> torch.Tensor:
        """Return ``A`` (dual), or ``Z`` of ``A = C - Z Zᵀ`` (primal), at one penalty."""
        lower = self._factor(i)
        if not self.dual:
            return self.torch.linalg.solve_triangular(lower, self.rows.T, upper=False).T
        inverse = self.torch.cholesky_inverse(lower)
        if self.direction is not None:
            scale = 1 / (self.lift + float(self.alphas[i]))
            inverse -= scale * self.torch.outer(self.direction, self.direction)
        return inverse.mul_(float(self.alphas[i]))

    def _residuals(self, matrix: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return ``A Y``; the targets are centred already."""
        matrix, targets = matrix.to(self.dtype), targets.to(self.dtype)
        return matrix @ targets if self.dual else targets - matrix @ (matrix.T @ targets)

    def _diagonal(self, matrix: torch.Tensor) -> torch.Tensor:
        if self.dual:
            return matrix.diagonal()
        diagonal = 1 - matrix.square().sum(1)
        return diagonal if self.direction is None else diagonal - self.direction.square()

    def _held_out(
        self, matrix: torch.Tensor, rows: torch.Tensor, sides: torch.Tensor
    ) -> torch.Tensor:
        """Return ``A_FF⁻¹ (A Y)_F``; (n_fold, n_targets)."""
        if self.dual:
            block = matrix[rows][:, rows]
        else:
            block = -matrix[rows] @ matrix[rows].T
            block.diagonal().add_(1)
            if self.direction is not None:
                block -= self.torch.outer(self.direction[rows], self.direction[rows])
        lower, info = self.torch.linalg.cholesky_ex(block)
        small = SMALL_PIVOT * np.finfo(np.float64).eps
        if int(info) or (not self.dual and float(lower.diagonal().min()) ** 2 < small):
            raise NotPositiveError
        return self.torch.cholesky_solve(sides[rows], lower.to(self.dtype))
