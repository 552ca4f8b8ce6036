"""Blocks of float32 scores, formed by numpy or by torch on any device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np

from braindecode_clip.errors import ConfigError

if TYPE_CHECKING:
    import torch

#: Scores in a block: about a core's cache on the CPU; large enough to fill a GPU there.
CPU_NUMBERS, DEVICE_NUMBERS = 2**20, 2**26
#: Fewer candidates at once than this make a product slow.
LEAST_WIDTH = 1024


class Block(Protocol):
    """Scores (n_queries, n_columns) float32 of some candidates."""

    def border(self, k: int) -> np.ndarray:
        """Return the ``k``-th largest score of every query; minus infinity where fewer."""

    def at_least(self, low: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return row, column and score of all that reach their row's threshold."""

    def split(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Count the scores above ``high``, and find those from ``low`` to ``high``, both included.

        Returns
        -------
        n_above : ndarray (n_queries,) int64
        row, column : ndarray (n_found,) int64
        """


class Products(Protocol):
    """A gallery that forms blocks of scores."""

    def blocks(self, queries: np.ndarray) -> Iterator[tuple[int, Block]]:
        """Yield the first column and the scores of block after block."""


def make_products(
    vectors: np.ndarray, *, scale: np.ndarray | None, summand: np.ndarray | None, device: str
) -> Products:
    """Choose what forms ``scale · (q · g) + summand``.

    Parameters
    ----------
    vectors : ndarray (n_gallery, n_dims) float32
    scale, summand : ndarray (n_gallery,), or None
        For each candidate.
    device : str
        "cpu" is numpy; "torch" is torch on the CPU; else a torch device.

    Raises
    ------
    ConfigError
        Torch knows no such device, or this machine has none.
    """
    scale = None if scale is None else scale.astype(np.float32)
    summand = None if summand is None else summand.astype(np.float32)
    if device == "cpu":
        return NumpyProducts(vectors, scale, summand)
    return TorchProducts(vectors, scale, summand, "cpu" if device == "torch" else device)


class NumpyProducts:
    """Blocks of scores by numpy."""

    def __init__(
        self, vectors: np.ndarray, scale: np.ndarray | None, summand: np.ndarray | None
    ) -> None:
        self._vectors, self._scale, self._summand = vectors, scale, summand

    def blocks(self, queries: np.ndarray) -> Iterator[tuple[int, NumpyBlock]]:
        """Yield the first column and the scores of block after block."""
        step = max(LEAST_WIDTH, CPU_NUMBERS // len(queries))
        for start in range(0, len(self._vectors), step):
            part = slice(start, start + step)
            scores = queries @ self._vectors[part].T
            if self._scale is not None:
                scores *= self._scale[part]
            if self._summand is not None:
                scores += self._summand[part]
            yield start, NumpyBlock(scores)


class NumpyBlock:
    """A block in numpy; see :class:`Block`."""

    def __init__(self, scores: np.ndarray) -> None:
        self._scores = scores

    def border(self, k: int) -> np.ndarray:
        """Return the ``k``-th largest score of every query."""
        width = self._scores.shape[1]
        if width < k:
            return np.full(len(self._scores), -np.inf, dtype=np.float32)
        return np.partition(self._scores, width - k, axis=1)[:, width - k]

    def at_least(self, low: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return row, column and score of all that reach their row's threshold."""
        rows = np.flatnonzero(self._scores.max(axis=1) >= low)
        part = self._scores if len(rows) == len(low) else self._scores[rows]
        flat = np.flatnonzero(part >= low[rows, None].astype(np.float32))
        row, column = np.divmod(flat, part.shape[1])
        return rows[row], column, part.ravel()[flat]

    def split(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Count the scores above ``high``, and find those from ``low`` to ``high``."""
        above = self._scores > high[:, None].astype(np.float32)
        inside = self._scores >= low[:, None].astype(np.float32)
        inside ^= above
        row, column = np.divmod(np.flatnonzero(inside), inside.shape[1])
        return np.count_nonzero(above, axis=1), row, column


class TorchProducts:
    """Blocks of scores by torch; the gallery stays on the device."""

    def __init__(
        self,
        vectors: np.ndarray,
        scale: np.ndarray | None,
        summand: np.ndarray | None,
        device: str,
    ) -> None:
        import torch

        try:
            self._device = torch.device(device)
        except RuntimeError as error:
            raise ConfigError(f"device '{device}': unknown. Use cpu, torch or cuda.") from error
        if self._device.type == "cuda" and not torch.cuda.is_available():
            raise ConfigError(f"device '{device}': this machine has no CUDA device. Use cpu.")
        self._vectors, self._scale, self._summand = (
            None if array is None else self._moved(array) for array in (vectors, scale, summand)
        )

    def _moved(self, array: np.ndarray) -> torch.Tensor:
        import torch

        # Shared on the CPU where torch may; it warns of arrays that it could not write to.
        own = torch.as_tensor if array.flags.writeable else torch.tensor
        return own(array, device=self._device)

    def blocks(self, queries: np.ndarray) -> Iterator[tuple[int, TorchBlock]]:
        """Yield the first column and the scores of block after block."""
        import torch

        numbers = CPU_NUMBERS if self._device.type == "cpu" else DEVICE_NUMBERS
        step = max(LEAST_WIDTH, numbers // len(queries))
        moved = torch.tensor(queries, device=self._device)
        exact = torch.backends.cuda.matmul.allow_tf32
        # The error bound is that of float32; TF32 keeps 10 bits.
        torch.backends.cuda.matmul.allow_tf32 = False
        try:
            for start in range(0, len(self._vectors), step):
                part = slice(start, start + step)
                scores = moved @ self._vectors[part].T
                if self._scale is not None:
                    scores *= self._scale[part]
                if self._summand is not None:
                    scores += self._summand[part]
                yield start, TorchBlock(scores)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = exact


class TorchBlock:
    """A block in torch; see :class:`Block`."""

    def __init__(self, scores: torch.Tensor) -> None:
        self._scores = scores

    def _column(self, values: np.ndarray) -> torch.Tensor:
        import torch

        return torch.tensor(values, dtype=torch.float32, device=self._scores.device)[:, None]

    def border(self, k: int) -> np.ndarray:
        """Return the ``k``-th largest score of every query."""
        if self._scores.shape[1] < k:
            return np.full(len(self._scores), -np.inf, dtype=np.float32)
        return self._scores.topk(k, dim=1).values[:, -1].cpu().numpy()

    def at_least(self, low: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return row, column and score of all that reach their row's threshold."""
        row, column = (self._scores >= self._column(low)).nonzero(as_tuple=True)
        return row.cpu().numpy(), column.cpu().numpy(), self._scores[row, column].cpu().numpy()

    def split(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Count the scores above ``high``, and find those from ``low`` to ``high``."""
        above = self._scores > self._column(high)
        inside = (self._scores >= self._column(low)) ^ above
        row, column = inside.nonzero(as_tuple=True)
        return above.sum(dim=1).cpu().numpy(), row.cpu().numpy(), column.cpu().numpy()
