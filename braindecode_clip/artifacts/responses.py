"""From cleaned time series to single-trial responses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from braindecode_clip.artifacts.fields import check_columns, check_matrix
from braindecode_clip.artifacts.records import Records
from braindecode_clip.checks import Problems, some
from braindecode_clip.errors import ArtifactError
from braindecode_clip.spaces import VoxelSpace


@dataclass(frozen=True)
class Signals:
    """Cleaned time series of one run.

    Attributes
    ----------
    data : ndarray (n_volumes, n_voxels) float32
        Cleaned signals in ``unit``.
    mean : ndarray (n_voxels,) float32
        Temporal mean before cleaning, in the scanner's unit, over volumes that are not censored.
    regressors : ndarray (n_volumes, n_regressors) float32
        What was regressed out (confounds, drifts and one column for each censored volume, without
        the constant); the GLM projects its design on the complement of the same space.
    space : VoxelSpace
    tr_s : float
        Repetition time in seconds.
    first_volume_s : float
        Time of the first volume kept, in seconds after the run's start (dummy scans dropped).
    subject, session, run : str
        Labels without prefix; ``session`` may be empty.
    unit : str
        "zscore", "percent" or "raw".
    sd : ndarray (n_voxels,) float32
        Temporal standard deviation (n - 1) before cleaning, in the scanner's unit, over volumes
        that are not censored; ``mean / sd`` is the temporal signal-to-noise ratio.
    volumes : DataFrame
        One row for every volume: framewise_displacement (mm; NaN where it is not known), dvars
        (root mean square over voxels of the change from the volume before, in the scanner's
        unit; NaN for the first volume), censored (bool); from `preprocess` also std_dvars (as
        fMRIPrep gives it, or dvars over its median).
    """

    data: np.ndarray
    mean: np.ndarray
    regressors: np.ndarray
    space: VoxelSpace
    tr_s: float
    first_volume_s: float
    subject: str
    session: str
    run: str
    unit: str
    sd: np.ndarray
    volumes: pd.DataFrame

    def __post_init__(self) -> None:
        problems = Problems(f"Signals of sub-{self.subject} run-{self.run}")
        check_matrix(problems, "data", self.data, (None, self.space.n_voxels))
        check_matrix(problems, "mean", self.mean, (self.space.n_voxels,))
        check_matrix(problems, "sd", self.sd, (self.space.n_voxels,))
        check_columns(
            problems, "volumes", self.volumes, {"framewise_displacement", "dvars", "censored"}
        )
        if len(self.volumes) != len(self.data):
            problems.add(
                f"'volumes' has {len(self.volumes)} rows, expected one for each of the "
                f"{len(self.data)} volumes."
            )
        check_matrix(problems, "regressors", self.regressors, (len(self.data), None))
        if not self.tr_s > 0:
            problems.add(f"'tr_s' is {self.tr_s}, expected seconds above 0.")
        problems.raise_if_any(ArtifactError)


@dataclass(frozen=True)
class Betas:
    """One response for each trial and voxel, in the order of the onsets.

    Attributes
    ----------
    data : ndarray (n_trials, n_voxels) float32 or float64
    trials : DataFrame
        One row a trial: onset, duration (s), trial_type, and stimulus_id where the events
        name one; subject, session, run where known.
    space : VoxelSpace or None
        None when the signals came as a bare array.
    info : dict
        Method, HRF, and what they were told.
    r2 : ndarray (n_voxels,) float32 or None
        Share of the variance of the signals, nuisance apart, that the responses explain:
        1 - SS(y - sum_j x_j beta_j) / SS(y). Below 0 where they fit worse than nothing.
    records : Records
        What was fitted on which trials.
    """

    data: np.ndarray
    trials: pd.DataFrame
    space: VoxelSpace | None = None
    info: dict[str, Any] = field(default_factory=dict)
    r2: np.ndarray | None = None
    records: Records = field(default_factory=Records)

    def __post_init__(self) -> None:
        problems = Problems("Betas")
        n_voxels = None if self.space is None else self.space.n_voxels
        check_matrix(problems, "data", self.data, (len(self.trials), n_voxels))
        check_columns(problems, "trials", self.trials, {"onset", "duration", "trial_type"})
        if self.r2 is not None:
            check_matrix(problems, "r2", self.r2, (self.data.shape[1],))
        problems.raise_if_any(ArtifactError)


@dataclass(frozen=True)
class RunRegressors:
    """Noise regressors of one run.

    Attributes
    ----------
    session, run : str
        Labels without prefix.
    columns : ndarray (n_volumes, n_regressors) float32
        Orthonormal, the leading component first.
    """

    session: str
    run: str
    columns: np.ndarray

    def __post_init__(self) -> None:
        problems = Problems(f"RunRegressors of run-{self.run}")
        check_matrix(problems, "columns", self.columns, (None, None))
        problems.raise_if_any(ArtifactError)


@dataclass(frozen=True)
class Tuning:
    """What the estimation of single trials takes from all runs of a subject.

    Attributes
    ----------
    subject : str
    hrf_index : ndarray (n_voxels,) int16
        Response of the library; 0 where there is one response for all.
    r2 : ndarray (n_voxels,) float32
        Share of the variance of a run, nuisance apart, that the other runs predict (0 or below:
        nothing).
    noise_pool : ndarray (n_voxels,) bool
        Voxels whose components are the noise regressors.
    mean_response : ndarray (n_voxels,) float32
        Response to a trial of any stimulus, in the unit of the signals.
    penalty : ndarray (n_voxels,) float32
        Ridge penalty in multiples of the mean squared norm of a trial's regressor; 0 for none.
    noise_regressors : tuple of RunRegressors
        One for each run; empty where none are used.
    curve : DataFrame
        n_regressors, gain: share of the prediction error (mean over responsive voxels) that
        each number of noise regressors saves.
    seen : ndarray (n,) str
        Stimuli whose trials the choices saw.
    space : VoxelSpace or None
        None when the signals came as bare arrays.
    info : dict
        How each choice was made.
    records : Records
        What each choice was made on.
    """

    subject: str
    hrf_index: np.ndarray
    r2: np.ndarray
    noise_pool: np.ndarray
    mean_response: np.ndarray
    penalty: np.ndarray
    noise_regressors: tuple[RunRegressors, ...]
    curve: pd.DataFrame
    seen: np.ndarray
    space: VoxelSpace | None
    info: dict[str, Any]
    records: Records = field(default_factory=Records)

    def __post_init__(self) -> None:
        problems = Problems(f"Tuning of sub-{self.subject}")
        n_voxels = len(self.hrf_index) if self.space is None else self.space.n_voxels
        for name in ("hrf_index", "r2", "noise_pool", "mean_response", "penalty"):
            check_matrix(problems, name, getattr(self, name), (n_voxels,))
        check_columns(problems, "curve", self.curve, {"n_regressors", "gain"})
        problems.raise_if_any(ArtifactError)

    def regressors_of(self, session: str, run: str) -> np.ndarray | None:
        """Return the noise regressors of a run; None where the subject has none."""
        if not self.noise_regressors:
            return None
        for item in self.noise_regressors:
            if (item.session, item.run) == (session, run):
                return item.columns
        have = [f"ses-{item.session} run-{item.run}" for item in self.noise_regressors]
        raise ArtifactError(
            f"Tuning of sub-{self.subject}: no noise regressors for ses-{session} run-{run}; it "
            f"has {some(have)}. Run `tune` again with all runs."
        )
