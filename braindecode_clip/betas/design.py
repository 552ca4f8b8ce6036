"""The design of a run: checked events, nuisance, and the operators they give."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from braindecode_clip.betas.autocorrelation import whiten, whitened_operator
from braindecode_clip.betas.basis import event_basis, fine_grid
from braindecode_clip.betas.events import RunEvents
from braindecode_clip.betas.operators import (
    TrialOperator,
    lsa_operator,
    lss_operator,
    window_operator,
)
from braindecode_clip.checks import some
from braindecode_clip.config.betas import BetasConfig, WindowConfig
from braindecode_clip.errors import DataError
from braindecode_clip.logs import get_logger
from braindecode_clip.nuisance import censoring_regressors, orthonormal_basis, project_out

logger = get_logger(__name__)

#: Variance inflation above which a trial's beta is mostly noise, worth a warning.
HIGH_VIF = 100.0


@dataclass(frozen=True)
class RunDesign:
    """What a GLM needs to know of a run, for every response of the library.

    Attributes
    ----------
    trials : DataFrame
        See :class:`~braindecode_clip.betas.events.RunEvents`.
    columns : ndarray (n_hrfs, n_volumes, n_trials, n_functions) float64
        Expected response to every trial; ``n_hrfs`` is 1 but for the library.
    events : ndarray (n_hrfs, n_volumes, n_columns) float64
        Expected response to the events that are no trials, one set for each trial_type.
    nuisance : ndarray (n_volumes, rank) float64
        Orthonormal: the constant, confounds, drifts, noise regressors.
    contrast : ndarray (n_trials, n_functions) float64
    method : str
    by_condition : bool
        LSS: the other trials form one regressor for each trial_type.
    """

    trials: pd.DataFrame
    columns: np.ndarray
    events: np.ndarray
    nuisance: np.ndarray
    contrast: np.ndarray
    method: str
    by_condition: bool = False
    _operators: dict[tuple[int, float], TrialOperator] = field(default_factory=dict, repr=False)

    @property
    def names(self) -> list[str]:
        """Name the trials for messages: "stim-00417 at 68 s"."""
        return trial_names(self.trials)

    def basis(self, hrf_index: int) -> np.ndarray:
        """Return an orthonormal basis of all that is no trial, for one response."""
        events = self.events[hrf_index]
        if not events.shape[1]:
            return self.nuisance
        rest = orthonormal_basis(project_out(self.nuisance, events))
        return np.column_stack([self.nuisance, project_out(self.nuisance, rest)])

    def operator(self, hrf_index: int, rho: float = 0.0) -> TrialOperator:
        """Return the operator of LSS or LSA for one response and one autocorrelation.

        Parameters
        ----------
        hrf_index : int
        rho : float
            Coefficient of the autoregression of order 1 by which data and design are whitened;
            the rows of the operator apply to the data as they are.
        """
        key = (hrf_index, rho)
        if key not in self._operators:
            self._operators[key] = self._solve(hrf_index, rho)
        return self._operators[key]

    def _solve(self, hrf_index: int, rho: float) -> TrialOperator:
        columns, basis = self.columns[hrf_index], self.basis(hrf_index)
        if rho:
            columns, basis = whiten(columns, rho), np.linalg.qr(whiten(basis, rho))[0]
        shared = {"contrast": self.contrast, "nuisance": basis, "names": self.names}
        if self.method == "lsa":
            operator = lsa_operator(columns, **shared)
        else:
            conditions = self.trials["trial_type"].to_numpy(dtype=str)
            operator = lss_operator(
                columns, conditions=conditions, by_condition=self.by_condition, **shared
            )
        return whitened_operator(operator, rho) if rho else operator

    def scale(self, hrf_index: int) -> float:
        """Return the mean squared norm of a trial's regressor without the nuisance."""
        columns = project_out(self.basis(hrf_index), self.columns[hrf_index, :, :, 0])
        return float(np.square(columns).sum(axis=0).mean())

    def joined(self, hrf_index: int) -> np.ndarray:
        """Return an orthonormal basis of the nuisance with all trials as one regressor."""
        return self._with(hrf_index, self.columns[hrf_index].sum(axis=1))

    def saturated(self, hrf_index: int) -> np.ndarray:
        """Return an orthonormal basis of the nuisance and every single trial."""
        columns = self.columns[hrf_index]
        return self._with(hrf_index, columns.reshape(len(columns), -1))

    def _with(self, hrf_index: int, columns: np.ndarray) -> np.ndarray:
        basis = self.basis(hrf_index)
        left, singular, _ = np.linalg.svd(project_out(basis, columns), full_matrices=False)
        return np.column_stack([basis, left[:, singular > 1e-10 * max(singular[0], 1e-300)]])


def run_design(
    run_events: RunEvents,
    nuisance: np.ndarray,
    *,
    config: BetasConfig,
    n_volumes: int,
    tr_s: float,
    first_volume_s: float,
) -> RunDesign:
    """Build the design of a run.

    Parameters
    ----------
    run_events : RunEvents
        Events that are no trials become nuisance regressors, one set for each trial_type.
    nuisance : ndarray (n_volumes, n_columns)
        Confounds, drifts, noise regressors; a constant is added.
    config : BetasConfig
    n_volumes : int
    tr_s, first_volume_s : float
        Seconds.
    """
    grid = fine_grid(
        n_volumes,
        tr_s=tr_s,
        first_volume_s=first_volume_s,
        slice_time_ref=config.slice_time_ref,
        oversampling=config.oversampling,
        min_onset_s=config.min_onset_s,
    )

    def expected(table: pd.DataFrame) -> Any:
        onsets, durations = table["onset"].to_numpy(), table["duration"].to_numpy()
        return event_basis(onsets, durations, grid=grid, hrf=config.hrf, fir=config.fir)

    trials = expected(run_events.trials)
    other = expected(run_events.others).columns
    types = run_events.others["trial_type"].to_numpy(dtype=str)
    by_type = [other[:, :, types == name].sum(axis=2) for name in np.unique(types)]
    events = np.concatenate(by_type, axis=-1) if by_type else other[:, :, 0:0, 0]
    return RunDesign(
        trials=run_events.trials,
        columns=trials.columns,
        events=events,
        nuisance=with_constant(nuisance),
        contrast=trials.contrast,
        method=config.method,
        by_condition=config.others == "by_condition",
    )


def with_constant(nuisance: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis of the constant and the nuisance."""
    n_volumes = len(nuisance)
    return np.column_stack([np.full(n_volumes, n_volumes**-0.5), orthonormal_basis(nuisance)])


def describe_design(
    design: RunDesign, operators: list[TrialOperator], *, shrunken: bool = False
) -> dict[str, Any]:
    """Return what a user may want to know of the design, and warn of trials that it mixes up.

    ``efficiency`` is the harmonic mean over trials of one over the variance inflation: 1 when
    every trial is estimated as well as if it stood alone. It speaks of least squares; with
    shrinkage collinear trials do no harm and are not warned of.
    """
    vif = np.mean([operator.vif for operator in operators], axis=0)
    types = np.unique(design.trials["trial_type"]).tolist()
    info: dict[str, Any] = {
        "n_trials": len(design.trials),
        "trial_types": types,
        "vif_median": float(np.median(vif)),
        "vif_max": float(vif.max()),
        "efficiency": float(1.0 / vif.mean()),
        "warnings": [],
    }
    noisy = np.flatnonzero(vif > HIGH_VIF)
    if len(noisy) and not shrunken:
        message = (
            f"{len(noisy)} of {len(vif)} trials are nearly collinear with others or with the "
            f"nuisance (variance inflation up to {vif.max():.0f}): "
            f"{some([design.names[i] for i in noisy])}"
        )
        logger.warning("%s", message)
        info["warnings"].append(message)
    return info


def average_operator(
    trials: pd.DataFrame,
    nuisance: np.ndarray,
    volume_times_s: np.ndarray,
    window: WindowConfig,
    *,
    censored: np.ndarray,
    rho: float = 0.0,
) -> np.ndarray:
    """Return the operator of the mean over a window, of data without the nuisance.

    The mean of the signals stays: their constant is no nuisance here.

    Parameters
    ----------
    trials : DataFrame
        onset, duration.
    nuisance : ndarray (n_volumes, n_columns)
        Confounds, drifts, noise regressors, without the constant.
    volume_times_s : ndarray (n_volumes,)
        On the clock of the events.
    window : WindowConfig
    censored : ndarray (n_volumes,) bool
        Volumes that have no weight.
    rho : float
        The nuisance is fitted by generalised least squares with this autocorrelation.

    Returns
    -------
    ndarray (n_trials, n_volumes) float64
    """
    weights = window_operator(
        trials["onset"].to_numpy(),
        trials["duration"].to_numpy(),
        volume_times_s=volume_times_s,
        start_s=window.start_s,
        end_after_offset_s=window.end_after_offset_s,
        names=trial_names(trials),
        censored=censored,
    )
    # Over the kept volumes alone, or the mean that stays would be one of the censored too.
    whole = censoring_regressors(orthonormal_basis(nuisance[~censored]), censored)
    if not rho:
        return weights - (weights @ whole) @ whole.T
    # The constant takes part in the fit, and its share of the data is left in.
    full = np.column_stack([np.ones(len(whole)), whole])
    fit = np.linalg.pinv(whiten(full, rho)) @ whiten(np.eye(len(full)), rho)
    return weights - (weights @ whole) @ fit[1:]


def trial_names(trials: pd.DataFrame) -> list[str]:
    """Name trials for messages: "stim-00417 at 68 s"."""
    label = trials["stimulus_id"] if "stimulus_id" in trials else trials["trial_type"]
    return [f"{what} at {onset:g} s" for what, onset in zip(label, trials["onset"], strict=True)]


def check_finite(level: np.ndarray) -> None:
    """Refuse voxels whose mean is not finite.

    Raises
    ------
    DataError
        When voxels hold NaN or infinity.
    """
    bad = np.flatnonzero(~np.isfinite(level))
    if len(bad):
        raise DataError(
            f"signals: {len(bad)} of {len(level)} voxels are NaN or infinite at some volume "
            f"(first: column {bad[0]}). Leave these voxels out of the mask."
        )
