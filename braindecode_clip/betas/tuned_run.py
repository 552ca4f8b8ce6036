"""A run as the tuning sees it: signals in blocks of voxels, seen trials, all else nuisance."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from braindecode_clip.artifacts.records import run_name
from braindecode_clip.betas.hrf import LIBRARY_REFERENCE
from braindecode_clip.betas.run_inputs import RunInputs
from braindecode_clip.config.betas import BetasConfig
from braindecode_clip.errors import DataError
from braindecode_clip.nuisance import project_out

#: Voxels read and compared at a time, of all runs together.
BLOCK_VOXELS = 4096


@dataclass(frozen=True)
class RunToTune:
    """One run of a subject.

    Attributes
    ----------
    inputs : RunInputs
    signals : array (n_volumes, n_voxels)
        An array, or what gives one by ``signals[:, start:stop]`` (an HDF5 dataset).
    mean : ndarray (n_voxels,)
        Temporal mean in the scanner's unit.
    session, run : str
        Labels.
    """

    inputs: RunInputs
    signals: Any
    mean: np.ndarray
    session: str = ""
    run: str = ""


class TunedRun:
    """A run with its seen trials and a growing nuisance.

    Attributes
    ----------
    columns : ndarray (n_hrfs, n_volumes, n_seen) float64
        Expected response to every seen trial.
    labels, conditions : ndarray (n_seen,) str
        Stimulus ("" where it has none) and trial_type.
    stimuli, all_stimuli : ndarray (n_seen,) and (n_trials,) str
        Stimuli of the seen and of all trials, also where the choices may not know ``labels``.
    names : list of str
        The seen trials in messages.
    basis : ndarray (n_volumes, rank) float64
        Orthonormal nuisance: the constant, confounds, drifts, other events, unseen trials.
    """

    def __init__(
        self, run: RunToTune, *, config: BetasConfig, seen: Collection[str] | None
    ) -> None:
        design = run.inputs.design(config, None)
        trials = design.trials
        labels = _labels(trials, config.tune.label)
        allowed = np.ones(len(labels), bool) if seen is None else np.isin(labels, list(seen))
        # Compared responses must lose the same nuisance, so that has one response for all.
        reference = LIBRARY_REFERENCE if len(design.columns) > 1 else 0
        self.columns = design.columns[:, :, allowed, 0]
        self.labels = labels[allowed]
        self.stimuli, self.all_stimuli = self.labels, labels
        self.conditions = trials["trial_type"].to_numpy(dtype=str)[allowed]
        self.names = [name for name, keep in zip(design.names, allowed, strict=True) if keep]
        self.basis = design.basis(reference)
        self.session, self.run = run.session, run.run
        self._signals = run.signals
        if not allowed.all():
            hidden = design.columns[reference][:, ~allowed]
            self.add_nuisance(hidden.reshape(len(hidden), -1))

    @property
    def n_voxels(self) -> int:
        """Number of voxels."""
        return self._signals.shape[1]

    def add_nuisance(self, columns: np.ndarray) -> None:
        """Put more columns (n_volumes, n) into the nuisance."""
        rest = project_out(self.basis, columns)
        left, singular, _ = np.linalg.svd(rest, full_matrices=False)
        kept = left[:, singular > 1e-8 * np.linalg.norm(columns, axis=0).max()]
        self.basis = np.column_stack([self.basis, project_out(self.basis, kept)])

    def cleaned(self, block: slice) -> np.ndarray:
        """Read a block of voxels and project the nuisance out; (n_volumes, n_block) float32."""
        signals = np.asarray(self._signals[:, block.start : block.stop])
        signals = (signals - signals.mean(axis=0)).astype(np.float32, copy=False)
        basis = self.basis.astype(np.float32)
        return signals - basis @ (basis.T @ signals)


@dataclass(frozen=True)
class ShownTrials:
    """Trials with their stimulus and run, for the record of what saw them."""

    stimulus_id: np.ndarray
    group: np.ndarray

    @classmethod
    def of(cls, runs: Sequence[TunedRun], *, unseen: bool = False) -> ShownTrials:
        """Take the trials that the choices see, or with ``unseen`` all."""
        parts = [run.all_stimuli if unseen else run.stimuli for run in runs]
        names = [run_name(run.session, run.run) for run in runs]
        return cls(np.concatenate(parts), np.repeat(names, [len(part) for part in parts]))


def _labels(trials: pd.DataFrame, label: str) -> np.ndarray:
    if label == "auto":
        label = "stimulus_id" if "stimulus_id" in trials else "trial_type"
    if label not in trials:
        raise DataError(
            f"tune: the events have no column '{label}'. Set 'tune: {{label: trial_type}}', or "
            "add it."
        )
    return trials[label].to_numpy(dtype=str)


def prepare_runs(
    runs: Sequence[RunToTune], *, config: BetasConfig, seen: Collection[str] | None
) -> list[TunedRun]:
    """Build the designs of all runs.

    Raises
    ------
    DataError
        When runs differ in their voxels.
    """
    sizes = {run.signals.shape[1] for run in runs}
    if len(sizes) > 1:
        raise DataError(
            f"the runs have {sorted(sizes)} voxels, expected the same ones in all. Clean them "
            "with one mask."
        )
    if config.method == "average":
        config = config.model_copy(update={"method": "lss", "hrf": "spm"})
    return [TunedRun(run, config=config, seen=seen) for run in runs]


def voxel_blocks(n_voxels: int) -> Iterator[slice]:
    """Yield slices of at most :data:`BLOCK_VOXELS` voxels."""
    for start in range(0, n_voxels, BLOCK_VOXELS):
        yield slice(start, min(start + BLOCK_VOXELS, n_voxels))
