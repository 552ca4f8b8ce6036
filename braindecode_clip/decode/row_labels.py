"""Which rows show the same stimulus."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import column_or_1d


def stimulus_numbers(stimuli: Any, n_rows: int) -> np.ndarray:
    """Number the stimuli of the rows, (n_rows,) int64; all differ where none are given.

    Raises
    ------
    ValueError
        Another number of entries than rows.
    """
    if stimuli is None:
        return np.arange(n_rows)
    stimuli = column_or_1d(stimuli)
    if len(stimuli) != n_rows:
        raise ValueError(f"'stimuli' has {len(stimuli)} entries for {n_rows} rows.")
    return np.unique(stimuli, return_inverse=True)[1]
