"""Voxels and targets that are read in blocks, from memory or from a file.

Anything with ``shape``, ``dtype`` and slices serves: an array, ``numpy.memmap``, an HDF5 data
set. A block is read in the stored type (float16 too) and converted here, which is several times
faster than HDF5's own conversion.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

#: Bytes of centred copies of X that are alive at one time.
BLOCK_BYTES = 2**25


def is_streamed(data: Any) -> bool:
    """Whether ``data`` is a file's array, to be read in blocks."""
    if isinstance(data, np.memmap):
        return True
    has_slices = all(hasattr(data, name) for name in ("shape", "dtype", "__getitem__"))
    in_memory = any(hasattr(data, name) for name in ("__array_interface__", "iloc", "tocsr"))
    return has_slices and not in_memory


class VoxelTable:
    """``diag(root) (X - mean)`` in blocks.

    The subtraction comes before any product: taking n·mean·meanᵀ off a finished Gram matrix would
    cancel where the mean is large against the spread.

    Parameters
    ----------
    data : array-like (n_rows, n_voxels)
    mean : ndarray (n_voxels,) float64
    root : ndarray (n_rows,) float64 or None
        Roots of the sample weights; None for equal weights.
    """

    def __init__(self, data: Any, *, mean: np.ndarray, root: np.ndarray | None) -> None:
        self.data, self.mean, self.root = data, mean, root
        self.shape: tuple[int, int] = tuple(data.shape)

    @property
    def working_dtype(self) -> np.dtype:
        """float64 for float64 data, else float32."""
        return np.dtype(np.float64 if self.data.dtype == np.float64 else np.float32)

    @property
    def direction(self) -> np.ndarray:
        """The unit vector along the roots of the weights, along which an intercept moves rows."""
        root = np.ones(self.shape[0]) if self.root is None else self.root
        return root / np.linalg.norm(root)

    def columns(self, dtype: Any = np.float64) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield blocks of columns, centred, as ``dtype``; (n_rows, n_block)."""
        for part in slices(self.shape[1], bytes_each=8 * self.shape[0]):
            values = np.asarray(self.data[:, part])
            block = np.empty(values.shape, dtype=dtype)
            # A mean in float32 moves a column by a constant, of which no result depends: the
            # intercept takes it up. Mixed types would take several times longer.
            mean = self.mean[part].astype(block.dtype)
            np.subtract(values, mean, out=block, casting="same_kind")
            if self.root is not None:
                block *= self.root[:, None].astype(dtype)
            yield part, block

    def rows(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield blocks of rows; (n_block, n_voxels)."""
        for part in slices(self.shape[0], bytes_each=8 * self.shape[1]):
            yield part, self.take(part)

    def take(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return some rows, in rising order; (n_taken, n_voxels)."""
        block = np.asarray(self.data[rows]) - self.mean
        return block if self.root is None else block * self.root[rows, None]


class TargetTable:
    """Targets in blocks, centred and weighted.

    Parameters
    ----------
    data : array-like (n_rows, n_targets) or (n_rows, n_tokens, n_dims)
        Three axes are flattened to n_tokens · n_dims targets.
    root : ndarray (n_rows,) float64 or None
        As in :class:`VoxelTable`.
    centred : bool
        Take the weighted mean of every target off.
    """

    def __init__(self, data: Any, *, root: np.ndarray | None, centred: bool) -> None:
        self.data, self.root, self.centred = data, root, centred
        self.n_dims = int(data.shape[2]) if len(data.shape) == 3 else 1
        self.n_targets = int(data.shape[1]) * self.n_dims

    def parts(self, n_batch: int) -> list[slice]:
        """Cut the targets into blocks of about ``n_batch``, never within a token."""
        step = max(1, n_batch // self.n_dims) * self.n_dims
        starts = range(0, self.n_targets, step)
        return [slice(start, min(start + step, self.n_targets)) for start in starts]

    def read(self, part: slice, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
        """Return the targets of a block (n_block, n_rows), and their means (n_block,) float64.

        Raises
        ------
        ValueError
            For NaN or infinite numbers.
        """
        columns = slice(part.start // self.n_dims, part.stop // self.n_dims)
        block = np.asarray(self.data[:, columns])
        block = block.reshape(len(block), -1)
        mean = weighted_mean(block, self.root) if self.centred else np.zeros(block.shape[1])
        if not np.isfinite(mean).all() or not np.isfinite(block).all():
            raise ValueError("the targets hold NaN or infinite numbers. Leave those rows out.")
        block = block - mean
        if self.root is not None:
            block *= self.root[:, None]
        return np.ascontiguousarray(block.T, dtype=dtype), mean


def weighted_mean(block: np.ndarray, root: np.ndarray | None) -> np.ndarray:
    """Return the mean of every column, summed in float64; (n_columns,) float64."""
    if root is None:
        return block.mean(axis=0, dtype=np.float64)
    weights = np.square(root)
    return weights @ block.astype(np.float64, copy=False) / weights.sum()


def column_means(data: Any, *, root: np.ndarray | None) -> np.ndarray:
    """Return the weighted mean of every column of a table; (n_columns,) float64.

    Raises
    ------
    ValueError
        For NaN or infinite numbers.
    """
    weights = np.ones(data.shape[0]) if root is None else np.square(root)
    total = np.zeros(data.shape[1])
    for part in slices(data.shape[0], bytes_each=8 * data.shape[1]):
        total += weights[part] @ np.asarray(data[part]).astype(np.float64)
    if not np.isfinite(total).all():
        raise ValueError("the voxels hold NaN or infinite numbers. Leave those voxels or rows out.")
    return total / weights.sum()


def slices(length: int, *, bytes_each: int) -> Iterator[slice]:
    """Cut a length into slices of at most ``BLOCK_BYTES``."""
    size = max(1, BLOCK_BYTES // bytes_each)
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))
