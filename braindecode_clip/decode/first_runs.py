"""The first runs of a subject alone, as if the scan had ended there."""

from __future__ import annotations

import dataclasses

import numpy as np

from braindecode_clip.artifacts import Fold, Samples, VoxelSet
from braindecode_clip.errors import DataError


def runs_in_order(voxels: VoxelSet) -> list[str]:
    """Return the names of the training runs in the order of acquisition, which names follow."""
    names = np.unique(np.concatenate([fold.train.group for fold in voxels.folds]))
    return sorted({run for name in names for run in str(name).split("+")})


def first_runs(voxels: VoxelSet, n_runs: int) -> VoxelSet:
    """Keep the training rows that the first runs alone could give; test rows stay.

    A row that averages trials of several runs is there once its last run is. Voxels are
    scaled anew with the mean and standard deviation of the kept rows.

    Parameters
    ----------
    voxels : VoxelSet
    n_runs : int
        From 1.

    Returns
    -------
    VoxelSet
        The selection of voxels is still that of all training trials: switch the selection
        off where the curve has to be free of it. ``seen`` stays too.

    Raises
    ------
    DataError
        No rows are left in a fold.
    """
    runs = set(runs_in_order(voxels)[:n_runs])
    folds = []
    for fold in voxels.folds:
        keep = np.array([set(str(name).split("+")) <= runs for name in fold.train.group])
        if not keep.any():
            raise DataError(
                f"fold '{fold.name}': no training row of sub-{voxels.subject} lies within the "
                f"first {n_runs} runs. Take more runs, or do not average training repeats over "
                "runs."
            )
        folds.append(_rescaled(fold, np.flatnonzero(keep)))
    return dataclasses.replace(voxels, folds=tuple(folds))


def _rescaled(fold: Fold, rows: np.ndarray) -> Fold:
    kept = fold.train.data[rows].astype(np.float64)
    mean, sd = kept.mean(axis=0), kept.std(axis=0)
    sd = np.where(sd > 0, sd, 1.0)
    train = Samples(
        data=((kept - mean) / sd).astype(np.float32),
        stimulus_id=fold.train.stimulus_id[rows],
        group=fold.train.group[rows],
        n_repeats=fold.train.n_repeats[rows],
    )
    test = dataclasses.replace(fold.test, data=((fold.test.data - mean) / sd).astype(np.float32))
    return dataclasses.replace(
        fold,
        train=train,
        test=test,
        mean=(fold.mean + mean * fold.sd).astype(np.float32),
        sd=(fold.sd * sd).astype(np.float32),
    )
