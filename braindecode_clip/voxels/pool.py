"""All trials of one subject in one matrix: ROI, labels, normalisation without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from braindecode_clip.artifacts import Betas, VoxelSpace
from braindecode_clip.artifacts.records import run_name
from braindecode_clip.checks import Problems, some
from braindecode_clip.config.voxels import VoxelsConfig
from braindecode_clip.errors import ConfigError, DataError

_MISSING = {"", "n/a", "nan", "None"}


@dataclass(frozen=True)
class Pool:
    """Trials of all runs.

    Attributes
    ----------
    data : ndarray (n_trials, n_voxels) float32
        Runs in order, trials of a run in the order of their onsets.
    label : ndarray (n_trials,) str
        What was shown, renamed.
    run, session : ndarray (n_trials,) str
        ``ses-01_run-02`` (``run-02`` where sessions have no name), and the session.
    space : VoxelSpace
        The ROI within the brain mask.
    subject : str
    n_excluded : int
        Trials left out by name.
    n_outside : int
        Voxels of the ROI outside the brain mask.
    names : tuple of ndarray (n_trials,) str
        What the events call the trials: stimulus_id, trial_type and ``voxels.label``.
    """

    data: np.ndarray
    label: np.ndarray
    run: np.ndarray
    session: np.ndarray
    space: VoxelSpace
    subject: str
    n_excluded: int
    n_outside: int
    names: tuple[np.ndarray, ...]


def pool_trials(betas: Sequence[Betas], mask: VoxelSpace, *, config: VoxelsConfig) -> Pool:
    """Stack the runs of a subject, keep the ROI's voxels, and name every trial.

    Parameters
    ----------
    betas : sequence of Betas
        One for each run, all on one grid and mask, of one subject.
    mask : VoxelSpace
        The ROI.
    config : VoxelsConfig
        ``label``, ``rename``, ``exclude`` and ``normalise`` are used.

    Raises
    ------
    DataError
        Runs of several subjects or grids, a run given twice, an ROI of another grid or without
        a voxel in the brain mask, trials without a label; each with what to do.
    ConfigError
        ``exclude`` or ``rename`` names a label that no trial has.
    """
    runs = sorted((_name_run(item, i) for i, item in enumerate(betas)), key=_run_order)
    subject = _check_runs(runs)
    columns, space, n_outside = _roi_columns(runs[0].betas.space, mask)
    table = pd.concat([run.betas.trials for run in runs], ignore_index=True)
    sizes = [len(run.betas.trials) for run in runs]
    names = np.repeat([run.name for run in runs], sizes)
    sessions = np.repeat([run.session for run in runs], sizes)
    keep = ~_excluded(table, config)
    label = _labels(table, names, keep, config=config)
    data = np.concatenate([run.betas.data[:, columns] for run in runs])[keep]
    data = data.astype(np.float32, copy=False)
    run_of, session_of = names[keep], sessions[keep]
    if config.normalise != "none":
        data = _normalise(data, run_of if config.normalise == "run" else session_of)
    return Pool(
        data=data,
        label=label,
        run=run_of,
        session=session_of,
        space=space,
        subject=subject,
        n_excluded=int((~keep).sum()),
        n_outside=n_outside,
        names=tuple(
            _text(table, column)[keep]
            for column in dict.fromkeys(("stimulus_id", "trial_type", config.label))
        ),
    )


@dataclass(frozen=True)
class _Run:
    betas: Betas
    subject: str
    session: str
    run: str

    @property
    def name(self) -> str:
        return run_name(self.session, self.run)


def _name_run(betas: Betas, position: int) -> _Run:
    def only(column: str, default: str) -> str:
        if column not in betas.trials:
            return default
        values = {"" if str(value) in _MISSING else str(value) for value in betas.trials[column]}
        if len(values) != 1:
            raise DataError(
                f"responses number {position + 1}: hold trials of {len(values)} values of "
                f"'{column}' ({some(sorted(values))}), expected one run each."
            )
        return values.pop() or default

    return _Run(betas, only("subject", ""), only("session", ""), only("run", f"{position + 1:02d}"))


def _run_order(run: _Run) -> tuple[str, ...]:
    return run.session.zfill(8), run.run.zfill(8)


def _check_runs(runs: Sequence[_Run]) -> str:
    """Return the subject, or raise for runs that do not belong together."""
    if not runs:
        raise DataError("no responses were given. Pass the betas of at least one run.")
    problems = Problems(f"betas of {len(runs)} runs")
    subjects = sorted({run.subject for run in runs})
    if len(subjects) > 1:
        problems.add(f"come from several subjects ({some(subjects)}). Pass one subject's runs.")
    names = [run.name for run in runs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        problems.add(f"given more than once: {some(twice)}. Pass every run once.")
    first = runs[0].betas.space
    for run in runs:
        space = run.betas.space
        if space is None:
            problems.add(f"{run.name} has no voxel space, so no mask can be laid on it.")
        elif first is not None and not first.fits(space):
            problems.add(
                f"{run.name} lies on another grid than {runs[0].name}: {space.describe()} against "
                f"{first.describe()}. Resample the runs to one grid before `preprocess`."
            )
        elif first is not None and not first.same_columns(space):
            problems.add(
                f"{run.name} has {space.n_voxels} voxels of another brain mask than "
                f"{runs[0].name} ({first.n_voxels}). Run `preprocess` with one mask for all."
            )
    problems.raise_if_any()
    return subjects[0]


def _roi_columns(brain: VoxelSpace, mask: VoxelSpace) -> tuple[np.ndarray, VoxelSpace, int]:
    """Return the columns inside the ROI, their space, and the ROI's voxels outside the brain."""
    if brain.is_volume != mask.is_volume:
        kinds = {True: "a volume (NIfTI)", False: "surfaces or grayordinates (CIFTI, GIFTI)"}
        raise DataError(
            f"the ROI mask is {kinds[mask.is_volume]}, the responses are of "
            f"{kinds[brain.is_volume]}. Give a mask of the same kind as the BOLD runs."
        )
    if not brain.fits(mask):
        raise DataError(
            f"the ROI mask has {mask.describe()}, the responses have {brain.describe()}. Resample "
            "the mask to the functional grid (nearest neighbour), or choose the mask of this space."
        )
    columns = np.flatnonzero(brain.locate(mask) >= 0)
    if columns.size == 0:
        raise DataError(
            f"the ROI is empty: none of the mask's {mask.n_voxels} voxels lies in the brain mask "
            f"of {brain.n_voxels} voxels. Look at both masks on the functional image; a mask of "
            "the other hemisphere, of another subject or of zeros does this."
        )
    return columns, brain.subset(columns), mask.n_voxels - len(columns)


def _text(table: pd.DataFrame, column: str) -> np.ndarray:
    """Return a column as strings, "" where it is absent or missing."""
    if column not in table:
        return np.full(len(table), "")
    values = table[column].astype(object).where(table[column].notna(), "")
    text = np.array([str(value) for value in values], dtype=str)
    return np.where(np.isin(text, list(_MISSING)), "", text)


def _excluded(table: pd.DataFrame, config: VoxelsConfig) -> np.ndarray:
    names = [_text(table, column) for column in ("trial_type", config.label)]
    unknown = sorted(set(config.exclude) - set(np.concatenate(names)))
    if unknown:
        known = sorted(set(names[0]) | set(names[1]) - {""})
        raise ConfigError(
            f"voxels.exclude names {some(unknown)}, but no trial is called so. "
            f"The trials' names: {some(known, limit=12)}."
        )
    return np.isin(names[0], config.exclude) | np.isin(names[1], config.exclude)


def _labels(
    table: pd.DataFrame, runs: np.ndarray, keep: np.ndarray, *, config: VoxelsConfig
) -> np.ndarray:
    """Return the renamed labels of the kept trials."""
    if not keep.any():
        raise DataError(f"no trial is left: `exclude` names all {len(keep)}.")
    label = _text(table, config.label)[keep]
    missing = np.flatnonzero(label == "")
    if missing.size:
        onset = table["onset"].to_numpy()[keep]
        where = [f"{runs[keep][i]} at {onset[i]:g} s" for i in missing]
        other = "trial_type" if config.label == "stimulus_id" else "stimulus_id"
        raise DataError(
            f"{len(missing)} of {len(label)} trials have no {config.label}: {some(where)}. Fill "
            f"the column in their events.tsv, leave the trials out with `exclude`, or set "
            f"`label: {other}`."
        )
    unknown = sorted(set(config.rename) - set(label))
    if unknown:
        raise ConfigError(
            f"voxels.rename names {some(unknown)}, but no trial is called so. "
            f"The trials' names: {some(sorted(set(label)), limit=12)}."
        )
    return np.array([config.rename.get(name, name) for name in label], dtype=str)


def _normalise(data: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Z-score each voxel over the trials of each group; constant voxels become 0."""
    result = np.empty_like(data)
    for name in np.unique(group):
        rows = np.flatnonzero(group == name)
        if len(rows) < 2:
            raise DataError(
                f"'{name}' has one trial, which cannot be z-scored. Set `normalise: none`."
            )
        part = data[rows].astype(np.float64)
        sd = part.std(axis=0)
        result[rows] = (part - part.mean(axis=0)) / np.where(sd > 0, sd, 1)
    return result
