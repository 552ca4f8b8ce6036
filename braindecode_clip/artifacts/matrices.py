"""Voxel matrices: rows with their stimuli, folds, all of a subject and region."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from braindecode_clip.artifacts.fields import check_matrix
from braindecode_clip.artifacts.records import Records
from braindecode_clip.checks import Problems
from braindecode_clip.errors import ArtifactError
from braindecode_clip.spaces import VoxelSpace


@dataclass(frozen=True)
class Samples:
    """Rows of a voxel matrix with the stimulus of each.

    Attributes
    ----------
    data : ndarray (n_samples, n_voxels) float32
    stimulus_id : ndarray (n_samples,) str
        Names a row of the embeddings.
    group : ndarray (n_samples,) str
        The run (or session) of a row: rows of one group stay in one fold and are
        exchangeable in permutation tests. Rows averaged over several runs carry the
        joined name.
    n_repeats : ndarray (n_samples,) int64
        Number of trials averaged into the row.
    """

    data: np.ndarray
    stimulus_id: np.ndarray
    group: np.ndarray
    n_repeats: np.ndarray

    def __post_init__(self) -> None:
        problems = Problems("Samples")
        n_samples = len(self.stimulus_id)
        check_matrix(problems, "data", self.data, (n_samples, None))
        check_matrix(problems, "group", self.group, (n_samples,))
        check_matrix(problems, "n_repeats", self.n_repeats, (n_samples,))
        problems.raise_if_any(ArtifactError)


@dataclass(frozen=True)
class Fold:
    """One split into train and test, with everything fitted on train alone.

    Attributes
    ----------
    name : str
    train, test : Samples
        Scaled with the statistics below.
    voxel_index : ndarray (n_kept,) int64
        Kept columns, as positions in the ROI's :class:`VoxelSpace`.
    mean, sd : ndarray (n_kept,) float32
        Scaling fitted on the training rows (zeros and ones when scaling is off).
    seen : ndarray (n,) str
        Stimuli that the selection and the scaling were fitted on.
    test_trials : Samples or None
        The single trials that ``test`` averages, scaled alike, for noise ceilings; None where
        ``test`` averages nothing.
    """

    name: str
    train: Samples
    test: Samples
    voxel_index: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    seen: np.ndarray
    test_trials: Samples | None = None

    def __post_init__(self) -> None:
        problems = Problems(f"Fold '{self.name}'")
        n_kept = len(self.voxel_index)
        check_matrix(problems, "train.data", self.train.data, (None, n_kept))
        check_matrix(problems, "test.data", self.test.data, (None, n_kept))
        check_matrix(problems, "mean", self.mean, (n_kept,))
        check_matrix(problems, "sd", self.sd, (n_kept,))
        if self.test_trials is not None:
            check_matrix(problems, "test_trials.data", self.test_trials.data, (None, n_kept))
        for part, samples in (("train", self.train), ("test", self.test)):
            if len(samples.data) == 0:
                problems.add(f"no {part} samples.")
        if n_kept == 0:
            problems.add("no voxels.")
        problems.raise_if_any(ArtifactError)


@dataclass(frozen=True)
class VoxelSet:
    """The voxel matrix of one subject, ROI and split scheme, in one or several folds.

    Attributes
    ----------
    subject, roi, split : str
    unit : str
        "stimulus" when no stimulus may be in train and test of a fold; "run" when whole runs
        are held out and the same categories come again.
    folds : tuple of Fold
    space : VoxelSpace
        Of the ROI before selection.
    reliability : ndarray (n_voxels,) float32
        Split-half reliability of the repeated stimuli in the data of the first fold's train
        part; NaN where nothing repeats.
    ncsnr : ndarray (n_voxels,) float32
        NSD's signal-to-noise ratio of single trials, from all repeats, for reporting only; NaN
        where nothing repeats.
    noise_ceiling : ndarray (n_voxels,) float32
        NSD's noise ceiling (% variance) from all repeats, for reporting only; NaN where nothing
        repeats.
    table : DataFrame
        Where every trial, picture, repeat and voxel went.
    records : Records
        What every statistic of all folds, and of the stages before, was fitted on.
    """

    subject: str
    roi: str
    split: str
    unit: str
    folds: tuple[Fold, ...]
    space: VoxelSpace
    reliability: np.ndarray
    ncsnr: np.ndarray
    noise_ceiling: np.ndarray
    table: pd.DataFrame
    records: Records = field(default_factory=Records)

    def __post_init__(self) -> None:
        problems = Problems(f"VoxelSet sub-{self.subject} roi-{self.roi}")
        for name in ("reliability", "ncsnr", "noise_ceiling"):
            if getattr(self, name).shape != (self.space.n_voxels,):
                problems.add(f"'{name}' must have one number for each voxel.")
        if not self.folds:
            problems.add("no folds.")
        problems.raise_if_any(ArtifactError)
