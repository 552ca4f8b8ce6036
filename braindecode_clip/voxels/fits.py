"""What is fitted on the training rows of a fold, each with a record of what it saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from braindecode_clip.artifacts import Betas, Fitted, Samples
from braindecode_clip.artifacts.records import merged, names_of, runs_of
from braindecode_clip.voxels.pool import Pool
from braindecode_clip.voxels.reliability import split_half_reliability

STAGE = "voxels"


def fit_reliability(
    pool: Pool, trials: np.ndarray, *, fold: str, source: str
) -> tuple[np.ndarray, Fitted]:
    """Measure the reliability (n_voxels,) of every voxel on some trials."""
    values = split_half_reliability(pool.data[trials], pool.label[trials])
    seen = names_of(pool.label[trials]), runs_of(pool.run[trials])
    return values, Fitted("reliability", STAGE, source, fold, *seen)


def fit_mean(rows: Samples, *, fold: str, source: str) -> tuple[np.ndarray, Fitted]:
    """Return the mean of every voxel; (n_voxels,) float64."""
    mean = rows.data.mean(axis=0, dtype=np.float64)
    return mean, _record("mean", rows, fold=fold, source=source)


def fit_sd(rows: Samples, *, fold: str, source: str) -> tuple[np.ndarray, Fitted]:
    """Return the standard deviation of every voxel; (n_voxels,) float64."""
    sd = rows.data.std(axis=0, dtype=np.float64)
    return sd, _record("standard deviation", rows, fold=fold, source=source)


def fit_mask(mean: np.ndarray, sd: np.ndarray, fits: Sequence[Fitted]) -> tuple[np.ndarray, Fitted]:
    """Keep voxels that vary, (n_voxels,) bool; it saw what ``fits``, its parts, saw."""
    varies = sd > 8 * np.finfo(np.float32).eps * np.abs(mean)
    parts = [replace(item, statistic="voxel mask", source=fits[0].source) for item in fits]
    return varies, merged(parts)[0]


def normalising(pool: Pool, within: str) -> Fitted:
    """Record the z-scoring of all trials within runs or sessions."""
    return Fitted(
        f"z-scoring within {within}s",
        STAGE,
        f"sub-{pool.subject}",
        "",
        names_of(pool.label),
        runs_of(pool.run),
        labels_used=False,
        transductive=True,
        reason=f"mean and spread of a voxel over all trials of a {within}, test trials among them",
    )


def carried(
    betas: Sequence[Betas], names: Sequence[np.ndarray], label: np.ndarray
) -> tuple[Fitted, ...]:
    """Join the records of all runs, with stimuli called as the voxels call them.

    Parameters
    ----------
    betas : sequence of Betas
    names : sequence of ndarray (n_trials,) str
        What the trials may be called in the records.
    label : ndarray (n_trials,) str
        What the voxels call them.

    Returns
    -------
    tuple of Fitted
        Without those of `betas` where one of the runs has none, so that it is missed.
    """
    found = merged(item for run in betas for item in run.records.items)
    if not all(len(run.records.table) for run in betas):
        found = tuple(item for item in found if item.stage != "betas")
    seen = [
        np.any([np.isin(column, list(item.stimuli)) for column in names], axis=0) for item in found
    ]
    return tuple(
        replace(item, stimuli=names_of(label[rows])) for item, rows in zip(found, seen, strict=True)
    )


def _record(statistic: str, rows: Samples, *, fold: str, source: str) -> Fitted:
    seen = names_of(rows.stimulus_id), runs_of(rows.group)
    return Fitted(statistic, STAGE, source, fold, *seen)
