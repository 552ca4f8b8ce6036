"""Smaller training sets, each within the next, at random."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from braindecode_clip.artifacts import Fold, VoxelSet
from braindecode_clip.decode.first_runs import rescaled
from braindecode_clip.errors import DataError

#: Fewer training rows than this fit nothing.
FEWEST_ROWS = 10


def nested_subsets(
    voxels: VoxelSet, fractions: Sequence[float], rng: np.random.Generator
) -> list[VoxelSet]:
    """Keep random shares of the training stimuli, or of the runs where runs are held out.

    All trials of a stimulus (or run) stay together. Voxels are scaled anew with the mean and
    standard deviation of the kept rows; their selection stays that of all training rows.

    Parameters
    ----------
    voxels : VoxelSet
    fractions : sequence of float
        Above 0 and up to 1, ascending; the stimuli of each are among those of the next.
    rng : Generator

    Returns
    -------
    list of VoxelSet
        One for each fraction.

    Raises
    ------
    DataError
        Fewer than ten rows, or fewer than two stimuli or runs, are left of a fold.
    """
    orders = [rng.permutation(np.unique(_units(fold, voxels.unit))) for fold in voxels.folds]
    return [
        dataclasses.replace(
            voxels,
            folds=tuple(
                _kept(fold, order, fraction, voxels.unit)
                for fold, order in zip(voxels.folds, orders, strict=True)
            ),
        )
        for fraction in fractions
    ]


def _units(fold: Fold, unit: str) -> np.ndarray:
    return (fold.train.group if unit == "run" else fold.train.stimulus_id).astype(str)


def _kept(fold: Fold, order: np.ndarray, fraction: float, unit: str) -> Fold:
    if fraction == 1:
        return fold
    chosen = order[: math.ceil(fraction * len(order))]
    rows = np.flatnonzero(np.isin(_units(fold, unit), chosen))
    if len(rows) < FEWEST_ROWS or len(chosen) < 2:
        what = "runs" if unit == "run" else "stimuli"
        raise DataError(
            f"fold '{fold.name}': a share of {fraction:g} of the training data is {len(rows)} rows "
            f"of {len(chosen)} {what}, expected at least {FEWEST_ROWS} rows of 2. Take larger "
            "`fractions`."
        )
    return rescaled(fold, rows)
