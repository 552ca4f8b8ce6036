"""What passes between the stages: frozen dataclasses that check themselves.

Arrays have samples first. Every class can be written to HDF5 and read back by
:mod:`braindecode_clip.io.hdf5`, field by field, which is why a field is an array, a
table (``pandas.DataFrame``), a JSON-able dict, a number, a string, or one of these
classes, or a tuple of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from braindecode_clip.checks import Problems, some
from braindecode_clip.constants import AFFINE_TOLERANCE_MM
from braindecode_clip.errors import ArtifactError

#: Numbers looked at in one step when a matrix is checked.
BLOCK_NUMBERS = 1 << 18


def _check_matrix(problems: Problems, name: str, array: np.ndarray, shape: tuple) -> None:
    """Check shape (``None`` = any) and that every number is finite."""
    fits = array.ndim == len(shape) and all(
        want is None or got == want for got, want in zip(array.shape, shape, strict=False)
    )
    if not fits:
        want = tuple("any" if size is None else size for size in shape)
        problems.add(f"'{name}' has shape {array.shape}, expected {want}.")
    elif array.dtype.kind == "f" and (n_bad := _count_not_finite(array)):
        problems.add(f"'{name}' holds {n_bad} NaN or infinite numbers of {array.size}.")


def _count_not_finite(array: np.ndarray) -> int:
    # Some rows at a time: the mask of a whole run would be a quarter of its size.
    step = max(1, BLOCK_NUMBERS * len(array) // max(array.size, 1))
    blocks = (array[start : start + step] for start in range(0, len(array), step))
    return sum(block.size - int(np.count_nonzero(np.isfinite(block))) for block in blocks)


def _check_unique(problems: Problems, name: str, values: np.ndarray) -> None:
    names, counts = np.unique(values.astype(str), return_counts=True)
    if (counts > 1).any():
        problems.add(f"'{name}' must be unique; more than once: {some(names[counts > 1])}.")


def _check_columns(problems: Problems, name: str, table: pd.DataFrame, columns: set[str]) -> None:
    missing = sorted(columns - set(table.columns))
    if missing:
        problems.add(f"table '{name}' lacks the columns {some(missing)}.")


@dataclass(frozen=True)
class VoxelSpace:
    """Where the columns of a voxel matrix lie.

    Attributes
    ----------
    affine : ndarray (4, 4) float64
        Voxel indices to mm.
    shape : ndarray (3,) int64
        The grid.
    ijk : ndarray (n_voxels, 3) int32
        Grid indices of every column, in C order of the mask.
    """

    affine: np.ndarray
    shape: np.ndarray
    ijk: np.ndarray

    def __post_init__(self) -> None:
        problems = Problems("VoxelSpace")
        _check_matrix(problems, "affine", self.affine, (4, 4))
        _check_matrix(problems, "shape", self.shape, (3,))
        _check_matrix(problems, "ijk", self.ijk, (None, 3))
        if not problems and len(self.ijk):
            outside = (self.ijk < 0).any() or (self.ijk >= self.shape).any()
            if outside:
                problems.add("'ijk' points outside the grid.")
        problems.raise_if_any(ArtifactError)

    @property
    def n_voxels(self) -> int:
        """Number of voxels."""
        return len(self.ijk)

    def same_grid(self, affine: np.ndarray, shape: tuple[int, ...]) -> bool:
        """Tell whether a grid has this shape and this affine (within 1 µm)."""
        return tuple(shape) == tuple(int(size) for size in self.shape) and bool(
            np.abs(np.asarray(affine) - self.affine).max() <= AFFINE_TOLERANCE_MM
        )

    def to_volume(self, values: np.ndarray, *, fill: float = 0.0) -> np.ndarray:
        """Lay (n_voxels,) values out on the grid, ``fill`` elsewhere; float32."""
        volume = np.full(tuple(int(size) for size in self.shape), fill, dtype=np.float32)
        volume[tuple(self.ijk.T)] = values
        return volume

    def subset(self, index: np.ndarray) -> VoxelSpace:
        """Return the space of some of the voxels."""
        return VoxelSpace(self.affine, self.shape, self.ijk[index])


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
        _check_matrix(problems, "data", self.data, (None, self.space.n_voxels))
        _check_matrix(problems, "mean", self.mean, (self.space.n_voxels,))
        _check_matrix(problems, "sd", self.sd, (self.space.n_voxels,))
        _check_columns(
            problems, "volumes", self.volumes, {"framewise_displacement", "dvars", "censored"}
        )
        if len(self.volumes) != len(self.data):
            problems.add(
                f"'volumes' has {len(self.volumes)} rows, expected one for each of the "
                f"{len(self.data)} volumes."
            )
        _check_matrix(problems, "regressors", self.regressors, (len(self.data), None))
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
    """

    data: np.ndarray
    trials: pd.DataFrame
    space: VoxelSpace | None = None
    info: dict[str, Any] = field(default_factory=dict)
    r2: np.ndarray | None = None

    def __post_init__(self) -> None:
        problems = Problems("Betas")
        n_voxels = None if self.space is None else self.space.n_voxels
        _check_matrix(problems, "data", self.data, (len(self.trials), n_voxels))
        _check_columns(problems, "trials", self.trials, {"onset", "duration", "trial_type"})
        if self.r2 is not None:
            _check_matrix(problems, "r2", self.r2, (self.data.shape[1],))
        problems.raise_if_any(ArtifactError)


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
        _check_matrix(problems, "data", self.data, (n_samples, None))
        _check_matrix(problems, "group", self.group, (n_samples,))
        _check_matrix(problems, "n_repeats", self.n_repeats, (n_samples,))
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
    """

    name: str
    train: Samples
    test: Samples
    voxel_index: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    seen: np.ndarray

    def __post_init__(self) -> None:
        problems = Problems(f"Fold '{self.name}'")
        n_kept = len(self.voxel_index)
        _check_matrix(problems, "train.data", self.train.data, (None, n_kept))
        _check_matrix(problems, "test.data", self.test.data, (None, n_kept))
        _check_matrix(problems, "mean", self.mean, (n_kept,))
        _check_matrix(problems, "sd", self.sd, (n_kept,))
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
    noise_ceiling : ndarray (n_voxels,) float32
        NSD's noise ceiling (% variance) from all repeats, for reporting only; NaN where nothing
        repeats.
    table : DataFrame
        Where every trial, picture, repeat and voxel went.
    """

    subject: str
    roi: str
    split: str
    unit: str
    folds: tuple[Fold, ...]
    space: VoxelSpace
    reliability: np.ndarray
    noise_ceiling: np.ndarray
    table: pd.DataFrame

    def __post_init__(self) -> None:
        problems = Problems(f"VoxelSet sub-{self.subject} roi-{self.roi}")
        for name in ("reliability", "noise_ceiling"):
            if getattr(self, name).shape != (self.space.n_voxels,):
                problems.add(f"'{name}' must have one number for each voxel.")
        if not self.folds:
            problems.add("no folds.")
        problems.raise_if_any(ArtifactError)


@dataclass(frozen=True)
class Embeddings:
    """Target vectors.

    Attributes
    ----------
    ids : ndarray (n_stimuli,) str
        Unique.
    vectors : ndarray (n_stimuli, n_dims) float32
        Unit norm.
    modality : str
        "image" or "text".
    fingerprint : dict
        What made the vectors: two embedding files may be mixed only when it is equal.
    """

    ids: np.ndarray
    vectors: np.ndarray
    modality: str
    fingerprint: dict[str, Any]

    def __post_init__(self) -> None:
        problems = Problems("Embeddings")
        _check_matrix(problems, "vectors", self.vectors, (len(self.ids), None))
        _check_unique(problems, "ids", self.ids)
        if not problems and len(self.ids):
            worst = float(np.abs(np.linalg.norm(self.vectors, axis=1) - 1).max())
            if worst > 1e-3:
                problems.add(f"'vectors' must have unit norm; the worst is off by {worst:.3g}.")
        problems.raise_if_any(ArtifactError)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Return the positions of ``ids``; all missing ones in one error."""
        position = {str(name): i for i, name in enumerate(self.ids)}
        missing = sorted({str(name) for name in ids} - position.keys())
        if missing:
            raise ArtifactError(
                f"{len(missing)} of {len(set(map(str, ids)))} stimuli have no embedding: "
                f"{some(missing)}. Re-run `embed` with a stimulus list that holds them, or "
                "leave them out of the events."
            )
        return np.array([position[str(name)] for name in ids], dtype=np.int64)


@dataclass(frozen=True)
class Predictions:
    """Predicted embeddings of test samples, all folds one after another.

    Attributes
    ----------
    vectors : ndarray (n_queries, n_dims) float32
        Calibrated, not normalised.
    stimulus_id : ndarray (n_queries,) str
        The stimulus that was really shown.
    group : ndarray (n_queries,) str
        See :class:`Samples`.
    fold : ndarray (n_queries,) str
    n_repeats : ndarray (n_queries,) int64
    train_ids : ndarray (n,) str
        Stimuli of the training part. Disjoint from the test stimuli when ``unit`` is
        "stimulus".
    unit : str
        See :class:`VoxelSet`.
    fingerprint : dict
        Of the embeddings that the decoder was trained on.
    info : dict
        subject, roi, split, decoder, encoder, and what the fit reported.
    """

    vectors: np.ndarray
    stimulus_id: np.ndarray
    group: np.ndarray
    fold: np.ndarray
    n_repeats: np.ndarray
    train_ids: np.ndarray
    unit: str
    fingerprint: dict[str, Any]
    info: dict[str, Any]

    def __post_init__(self) -> None:
        problems = Problems("Predictions")
        n_queries = len(self.stimulus_id)
        _check_matrix(problems, "vectors", self.vectors, (n_queries, None))
        for name in ("group", "fold", "n_repeats"):
            _check_matrix(problems, name, getattr(self, name), (n_queries,))
        problems.raise_if_any(ArtifactError)


@dataclass(frozen=True)
class Retrieval:
    """Where the true stimulus came out for every query, in one named direction.

    Attributes
    ----------
    direction : str
        "brain_to_image": each brain sample ranks the gallery. "image_to_brain": each shown
        image ranks the brain samples.
    queries : DataFrame
        One row a query: stimulus_id, group, fold, n_repeats, rank (1-based, ties as mean
        rank), n_beaten (distractors beaten, ties count one half), n_distractors, similarity
        (to the true one).
    top_id : ndarray (n_queries, k) str
        Best candidates, best first (stimulus ids).
    top_similarity : ndarray (n_queries, k) float32
    gallery_ids : ndarray (n_gallery,) str
    similarity : ndarray (n_queries, n_gallery) float32
        Cosine similarities, kept for permutation tests and pool sizes.
    true_index : ndarray (n_queries,) int64
        Column of the true candidate.
    info : dict
        subject, roi, split, decoder, encoder, gallery.
    """

    direction: str
    queries: pd.DataFrame
    top_id: np.ndarray
    top_similarity: np.ndarray
    gallery_ids: np.ndarray
    similarity: np.ndarray
    true_index: np.ndarray
    info: dict[str, Any]

    def __post_init__(self) -> None:
        problems = Problems("Retrieval")
        n_queries, n_gallery = len(self.queries), len(self.gallery_ids)
        _check_columns(problems, "queries", self.queries, {"stimulus_id", "group", "rank"})
        _check_matrix(problems, "similarity", self.similarity, (n_queries, n_gallery))
        _check_matrix(problems, "true_index", self.true_index, (n_queries,))
        _check_matrix(problems, "top_id", self.top_id, (n_queries, None))
        _check_matrix(problems, "top_similarity", self.top_similarity, self.top_id.shape)
        problems.raise_if_any(ArtifactError)
