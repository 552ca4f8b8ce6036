"""From checked events to the operator of a run, for each method."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from braindecode_clip.betas.events import RunEvents
from braindecode_clip.betas.hrf import FineGrid, event_regressors
from braindecode_clip.betas.operators import lsa_operator, lss_operator, window_operator
from braindecode_clip.checks import some
from braindecode_clip.config.betas import WindowConfig
from braindecode_clip.logs import get_logger
from braindecode_clip.nuisance import orthonormal_basis

logger = get_logger(__name__)

#: Variance inflation above which a trial's beta is mostly noise, worth a warning.
HIGH_VIF = 100.0


def glm_operator(
    run_events: RunEvents,
    nuisance: np.ndarray,
    grid: FineGrid,
    *,
    method: Literal["lss", "lsa"],
    hrf: Literal["spm", "glover"],
    others: Literal["all", "by_condition"],
) -> tuple[np.ndarray, dict[str, Any]]:
    """Build the design of a run and return its LSS or LSA operator.

    Parameters
    ----------
    run_events : RunEvents
        Events that are no trials become one nuisance regressor for each trial_type.
    nuisance : ndarray (n_volumes, n_columns)
        Confounds and drifts; a constant is added.
    grid : FineGrid
    method, hrf, others
        As in :func:`braindecode_clip.betas.estimate_single_trials`.

    Returns
    -------
    weights : ndarray (n_trials, n_volumes) float64
    info : dict
        What the design held.
    """
    trials = run_events.trials
    names = trial_names(trials)
    expected = _expected(trials, grid, hrf)
    other_types = run_events.others["trial_type"].to_numpy(dtype=str)
    other = _expected(run_events.others, grid, hrf)
    by_type = [other[:, other_types == name].sum(axis=1) for name in np.unique(other_types)]
    n_volumes = len(expected)
    basis = orthonormal_basis(np.column_stack([nuisance, *by_type]))
    basis = np.column_stack([np.full(n_volumes, n_volumes**-0.5), basis])
    info: dict[str, Any] = {
        "hrf": hrf,
        "n_nuisance": basis.shape[1],
        "nuisance_events": [str(name) for name in np.unique(other_types)],
    }
    if method == "lss":
        info["others"] = others
        operator = lss_operator(
            expected,
            nuisance=basis,
            conditions=trials["trial_type"].to_numpy(dtype=str),
            names=names,
            by_condition=others == "by_condition",
        )
    else:
        operator = lsa_operator(expected, nuisance=basis, names=names)
    _warn_of_collinear(operator.vif, names)
    info |= {"vif_median": float(np.median(operator.vif)), "vif_max": float(operator.vif.max())}
    return operator.weights, info


def average_operator(
    run_events: RunEvents,
    nuisance: np.ndarray,
    volume_times_s: np.ndarray,
    window: WindowConfig,
    censored: np.ndarray | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the operator of the mean over a window, of data without the nuisance.

    The mean of the signals stays: their constant is no nuisance here. Events that are no trials
    have no part.

    Parameters
    ----------
    run_events : RunEvents
    nuisance : ndarray (n_volumes, n_columns)
        Confounds and drifts.
    volume_times_s : ndarray (n_volumes,)
        On the clock of the events.
    window : WindowConfig
    censored : ndarray (n_volumes,) bool, optional
        Volumes that have no weight.

    Returns
    -------
    weights : ndarray (n_trials, n_volumes) float64
    info : dict
    """
    weights = window_operator(
        run_events.trials["onset"].to_numpy(),
        run_events.trials["duration"].to_numpy(),
        volume_times_s=volume_times_s,
        start_s=window.start_s,
        end_after_offset_s=window.end_after_offset_s,
        names=trial_names(run_events.trials),
        censored=censored,
    )
    kept = slice(None) if censored is None else ~censored
    # Over the kept volumes alone, or the mean that stays would be one of the censored too.
    basis = orthonormal_basis(nuisance[kept])
    weights[:, kept] -= (weights[:, kept] @ basis) @ basis.T
    return weights, {"window": window.model_dump(mode="json"), "n_nuisance": basis.shape[1]}


def trial_names(trials: pd.DataFrame) -> list[str]:
    """Name the trials for messages: "stim-00417 at 68 s"."""
    label = trials["stimulus_id"] if "stimulus_id" in trials else trials["trial_type"]
    return [f"{what} at {onset:g} s" for what, onset in zip(label, trials["onset"], strict=True)]


def _expected(events: pd.DataFrame, grid: FineGrid, hrf: Literal["spm", "glover"]) -> np.ndarray:
    onsets, durations = events["onset"].to_numpy(), events["duration"].to_numpy()
    return event_regressors(onsets, durations, grid=grid, hrf=hrf)


def _warn_of_collinear(vif: np.ndarray, names: list[str]) -> None:
    noisy = np.flatnonzero(vif > HIGH_VIF)
    if len(noisy):
        logger.warning(
            "%d of %d trials are nearly collinear with others or with the nuisance (variance "
            "inflation up to %.0f): %s",
            len(noisy),
            len(names),
            vif.max(),
            some([names[i] for i in noisy]),
        )
