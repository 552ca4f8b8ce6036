"""The first runs of a subject alone, as if the scan had ended there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from braindecode_clip.artifacts import Embeddings, Fold, Predictions, Samples, VoxelSet
from braindecode_clip.checks import some
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
        folds.append(rescaled(fold, np.flatnonzero(keep)))
    return dataclasses.replace(voxels, folds=tuple(folds))


def minutes_of_runs(
    voxels: VoxelSet, *, trial_s: float | None, durations_s: Mapping[str, float] | None
) -> np.ndarray:
    """Return the minutes after each training run, (n_runs,) float64, increasing.

    Parameters
    ----------
    voxels : VoxelSet
    trial_s : float or None
        Seconds of a training trial, where durations are not known.
    durations_s : mapping of str to float, or None
        Seconds of every run by its name.

    Raises
    ------
    DataError
        The duration of a run is not there.
    """
    runs = runs_in_order(voxels)
    if durations_s is not None:
        missing = [run for run in runs if run not in durations_s]
        if missing:
            raise DataError(
                f"sub-{voxels.subject}: no duration of {some(missing)}, of {len(runs)} training "
                "runs. Pass the signals of every run."
            )
        return np.cumsum([durations_s[run] for run in runs]) / 60
    trials = np.zeros(len(runs))
    place = {run: i for i, run in enumerate(runs)}
    for fold in voxels.folds:
        # A mean over runs is there once its last run is.
        last = [max(place[run] for run in str(name).split("+")) for name in fold.train.group]
        trials += np.bincount(last, weights=fold.train.n_repeats, minlength=len(runs))
    return np.cumsum(trials / len(voxels.folds)) * (trial_s or 0.0) / 60


def without_data(
    voxels: VoxelSet, others: Sequence[VoxelSet], embeddings: Embeddings
) -> Predictions:
    """Predict the mean of the training targets of all subjects for every test trial.

    That is what can be said of a subject that has not been measured: rankings are the same for
    all trials, and identification is at chance.
    """
    parts, known = [], []
    for fold in voxels.folds:
        trained = [item for other in others for item in other.folds if item.name == fold.name]
        ids = np.concatenate([item.train.stimulus_id for item in trained or [fold]])
        known.append(ids)
        mean = embeddings.vectors[embeddings.rows(ids)].mean(axis=0, dtype=np.float64)
        parts.append(np.tile(mean.astype(np.float32), (len(fold.test.data), 1)))
    tested = [fold.test for fold in voxels.folds]
    return Predictions(
        vectors=np.concatenate(parts),
        stimulus_id=np.concatenate([item.stimulus_id for item in tested]),
        group=np.concatenate([item.group for item in tested]),
        fold=np.repeat([fold.name for fold in voxels.folds], [len(part) for part in parts]),
        n_repeats=np.concatenate([item.n_repeats for item in tested]),
        train_ids=np.unique(np.concatenate(known)),
        unit=voxels.unit,
        fingerprint=embeddings.fingerprint,
        info={"subject": voxels.subject},
    )


def rescaled(fold: Fold, rows: np.ndarray) -> Fold:
    """Keep some training rows, and scale train and test by their mean and spread."""
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
    trials = fold.test_trials
    if trials is not None:
        scaled = ((trials.data - mean) / sd).astype(np.float32)
        trials = dataclasses.replace(trials, data=scaled)
    return dataclasses.replace(
        fold,
        train=train,
        test=test,
        test_trials=trials,
        mean=(fold.mean + mean * fold.sd).astype(np.float32),
        sd=(fold.sd * sd).astype(np.float32),
    )
