"""Checks of the fields of artefacts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from braindecode_clip.checks import Problems, some

#: Numbers looked at in one step when a matrix is checked.
BLOCK_NUMBERS = 1 << 18


def check_matrix(problems: Problems, name: str, array: np.ndarray, shape: tuple) -> None:
    """Check shape (``None`` = any) and that every number is finite."""
    fits = array.ndim == len(shape) and all(
        want is None or got == want for got, want in zip(array.shape, shape, strict=False)
    )
    if not fits:
        want = tuple("any" if size is None else size for size in shape)
        problems.add(f"'{name}' has shape {array.shape}, expected {want}.")
    elif (
        # What is left in its file was checked when it was written.
        isinstance(array, np.ndarray)
        and array.dtype.kind == "f"
        and (n_bad := count_not_finite(array))
    ):
        problems.add(f"'{name}' holds {n_bad} NaN or infinite numbers of {array.size}.")


def count_not_finite(array: np.ndarray) -> int:
    """Count NaN and infinity."""
    # Some rows at a time: the mask of a whole run would be a quarter of its size.
    step = max(1, BLOCK_NUMBERS * len(array) // max(array.size, 1))
    blocks = (array[start : start + step] for start in range(0, len(array), step))
    return sum(block.size - int(np.count_nonzero(np.isfinite(block))) for block in blocks)


def check_unique(problems: Problems, name: str, values: np.ndarray) -> None:
    """Check that no value comes twice."""
    names, counts = np.unique(values.astype(str), return_counts=True)
    if (counts > 1).any():
        problems.add(f"'{name}' must be unique; more than once: {some(names[counts > 1])}.")


def check_columns(problems: Problems, name: str, table: pd.DataFrame, columns: set[str]) -> None:
    """Check that a table has these columns."""
    missing = sorted(columns - set(table.columns))
    if missing:
        problems.add(f"table '{name}' lacks the columns {some(missing)}.")
