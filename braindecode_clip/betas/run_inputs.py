"""A run as the GLM sees it: checked events, and what is nuisance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from braindecode_clip.artifacts import Signals
from braindecode_clip.betas.design import RunDesign, run_design
from braindecode_clip.betas.events import RunEvents, select_trials
from braindecode_clip.betas.inputs import nuisance_columns
from braindecode_clip.config.betas import BetasConfig
from braindecode_clip.errors import DataError


@dataclass(frozen=True)
class RunInputs:
    """A run as the GLM sees it: events on the clock of the volumes, and what is nuisance.

    Attributes
    ----------
    events : RunEvents
    nuisance : ndarray (n_volumes, n_columns) float64
        Confounds and drifts, without the constant.
    tr_s, first_volume_s : float
        Seconds.
    volume_times_s : ndarray (n_volumes,)
        On the clock of the events.
    censored : ndarray (n_volumes,) bool
        Volumes that have no part; the nuisance holds a column for each.
    """

    events: RunEvents
    nuisance: np.ndarray
    tr_s: float
    first_volume_s: float
    volume_times_s: np.ndarray
    censored: np.ndarray

    def design(self, config: BetasConfig, noise_regressors: np.ndarray | None) -> RunDesign:
        """Return the GLM's design."""
        return run_design(
            self.events,
            self.with_noise(noise_regressors),
            config=config,
            n_volumes=len(self.nuisance),
            tr_s=self.tr_s,
            first_volume_s=self.first_volume_s,
        )

    def with_noise(self, noise_regressors: np.ndarray | None) -> np.ndarray:
        """Return the nuisance with noise regressors beside it."""
        if noise_regressors is None:
            return self.nuisance
        if len(noise_regressors) != len(self.nuisance):
            raise DataError(
                f"the tuning has noise regressors for {len(noise_regressors)} volumes of this "
                f"run, which has {len(self.nuisance)}. Run `tune` again."
            )
        return np.column_stack([self.nuisance, noise_regressors])


def run_inputs(
    events: pd.DataFrame,
    *,
    n_volumes: int,
    tr_s: float,
    config: BetasConfig,
    confounds: np.ndarray | pd.DataFrame | None,
    high_pass_hz: float | None,
    first_volume_s: float,
    where: str,
    censored: np.ndarray | None = None,
) -> RunInputs:
    """Check events and confounds of a run; see :func:`estimate_single_trials`."""
    censored = np.zeros(n_volumes, dtype=bool) if censored is None else np.asarray(censored)
    nuisance = nuisance_columns(
        confounds, n_volumes, tr_s=tr_s, high_pass_hz=high_pass_hz, censored=censored
    )
    volume_times_s = first_volume_s + (np.arange(n_volumes) + config.slice_time_ref) * tr_s
    run_events = select_trials(
        events,
        run_start_s=first_volume_s,
        run_end_s=float(volume_times_s[-1]),
        earliest_s=first_volume_s + config.min_onset_s,
        trial_types=config.trial_types,
        where=where,
    )
    return RunInputs(run_events, nuisance, tr_s, first_volume_s, volume_times_s, censored)


def signals_inputs(
    signals: Signals, events: pd.DataFrame, *, config: BetasConfig, where: str
) -> RunInputs:
    """Return the inputs of a cleaned run; ``signals.data`` is not looked at."""
    return run_inputs(
        events,
        n_volumes=len(signals.regressors),
        tr_s=signals.tr_s,
        config=config,
        confounds=signals.regressors,
        high_pass_hz=None,
        first_volume_s=signals.first_volume_s,
        censored=signals.volumes["censored"].to_numpy(dtype=bool),
        where=where,
    )
