"""The folds that choose a penalty."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold, KFold, check_cv


def held_out_rows(cv: Any, n_rows: int, *, groups: Any, answers: Any = None) -> list[np.ndarray]:
    """Return the held-out rows of every fold.

    Raises
    ------
    ValueError
        When the training part of a fold is not the complement of its test part.
    """
    if isinstance(cv, int | np.integer):
        cv = KFold(int(cv)) if groups is None else GroupKFold(int(cv))
    folds = []
    for train, test in check_cv(cv).split(np.zeros((n_rows, 1)), answers, groups):
        held = np.zeros(n_rows, dtype=bool)
        held[test] = True
        kept = np.zeros(n_rows, dtype=bool)
        kept[train] = True
        if not (kept ^ held).all() or held.all() or not held.any():
            raise ValueError(
                "every fold of 'cv' must train on exactly the rows that it does not test, got "
                f"{kept.sum()} training and {held.sum()} test rows of {n_rows}, "
                f"{(kept & held).sum()} of them in both. Use KFold, GroupKFold, LeaveOneOut "
                "or a list of such pairs."
            )
        folds.append(np.flatnonzero(held))
    return folds
