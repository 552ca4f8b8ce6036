"""Targets of one axis, of dimensions, or of tokens by dimensions, as one matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Shape:
    """What the axes of the targets after the first one were.

    Attributes
    ----------
    tail : tuple of int
        () for a vector, (n_dims,), or (n_tokens, n_dims).
    """

    tail: tuple[int, ...]

    @property
    def n_tokens(self) -> int:
        """Number of tokens; 1 without a token axis."""
        return self.tail[0] if len(self.tail) == 2 else 1

    def restore(self, flat: np.ndarray) -> np.ndarray:
        """Give (n, n_targets) the axes back."""
        return flat.reshape(len(flat), *self.tail)


def flattened(Y: Any) -> tuple[Any, Shape]:
    """Flatten the tokens of (n_samples, n_tokens, n_dims); leave other targets as they are."""
    array = np.asarray(Y)
    shape = Shape(tuple(array.shape[1:]))
    return (array.reshape(len(array), -1) if array.ndim == 3 else Y), shape
