"""One response for every trial and voxel of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from braindecode_clip.artifacts import Betas, Signals
from braindecode_clip.betas.design import average_operator, glm_operator
from braindecode_clip.betas.events import select_trials
from braindecode_clip.betas.hrf import fine_grid
from braindecode_clip.betas.inputs import as_signals, check_options, nuisance_columns
from braindecode_clip.config.betas import BetasConfig, WindowConfig
from braindecode_clip.constants import HIGH_PASS_HZ
from braindecode_clip.errors import DataError

#: Voxels multiplied at a time: the copy that is centred stays small.
BLOCK_VOXELS = 4096


def estimate_single_trials(
    signals: np.ndarray,
    events: pd.DataFrame,
    *,
    tr_s: float,
    method: Literal["lss", "lsa", "average"] = "lss",
    hrf: Literal["spm", "glover"] = "spm",
    confounds: np.ndarray | pd.DataFrame | None = None,
    high_pass_hz: float | None = HIGH_PASS_HZ,
    others: Literal["all", "by_condition"] = "all",
    trial_types: Sequence[str] | None = None,
    window: WindowConfig | None = None,
    first_volume_s: float = 0.0,
    slice_time_ref: float = 0.0,
    min_onset_s: float = -24.0,
    oversampling: int = 50,
    censored: np.ndarray | None = None,
    where: str = "events",
) -> Betas:
    """Estimate the response to every trial of one run by ordinary least squares.

    ``lss`` fits one model for every trial: its regressor, one for all other trials (or one for
    each trial_type, see ``others``), and the nuisance (constant, cosine drifts, confounds,
    events that are no trials). ``lsa`` fits one model with a regressor for every trial.
    ``average`` is the mean of the volumes in a window after each onset, of data from which
    drifts and confounds (not the mean) are removed. Each is one linear operator, built in
    float64 from the design alone and applied to all voxels by one matrix product.

    A betas' unit is that of the signals; nothing is scaled (nilearn's ``signal_scaling=False``).

    Parameters
    ----------
    signals : ndarray (n_volumes, n_voxels) float32 or float64
        One run, raw or cleaned. When cleaned, pass what was regressed out as ``confounds``: the
        design must lose the same space as the data (Frisch-Waugh-Lovell).
    events : DataFrame
        BIDS columns: onset and duration in seconds, trial_type, stimulus_id. Only onset and
        duration are required. A ``modulation`` column is not used.
    tr_s : float
        Repetition time in seconds.
    method : {"lss", "lsa", "average"}
    hrf : {"spm", "glover"}
        Canonical response of lss and lsa.
    confounds : ndarray (n_volumes, n_confounds) or DataFrame, optional
        Nuisance regressors, finite; a constant is added always.
    high_pass_hz : float or None
        Cut-off of the cosine drifts in Hz; None for data that are already filtered.
    others : {"all", "by_condition"}
        lss: the other trials as one regressor, or as one for each trial_type. A trial that is
        alone has no regressor of others.
    trial_types : sequence of str, optional
        Events of these types are trials, each other type is one nuisance regressor; all events
        are trials by default. ``average`` passes over the other events.
    window : WindowConfig, optional
        Window of ``average``: onset + 4 s to offset + 4 s by default.
    first_volume_s : float
        When the first row of ``signals`` was taken, in seconds after the run began, on whose
        clock the onsets are (dropped dummy scans times the TR).
    slice_time_ref : float
        Part of the TR, 0 to 1, at which a volume counts as taken; as nilearn's.
    min_onset_s : float
        Earliest onset modelled, in seconds relative to the first row; 0 or less.
    oversampling : int
        Points of the fine grid in one TR; as nilearn's.
    censored : ndarray (n_volumes,) bool, optional
        Volumes that have no part in any response: the result is that of the others alone.
    where : str
        How messages call the events, e.g. a file name.

    Returns
    -------
    Betas
        ``data`` (n_trials, n_voxels) in the order of the onsets, in the dtype of the signals;
        ``trials`` with onset, duration, trial_type, and stimulus_id where known.

    Raises
    ------
    DataError
        For signals or confounds that are not finite, confounds of another length, events
        outside the run, and trials that cannot be told apart.
    ConfigError
        For options outside their range.

    References
    ----------
    Mumford et al. (2012), NeuroImage 59:2636-2643, section 2.2.
    """
    signals = as_signals(signals)
    n_volumes = len(signals)
    check_options(
        method, hrf, others, tr_s=tr_s, slice_time_ref=slice_time_ref, min_onset_s=min_onset_s
    )
    censored = None if censored is None else np.asarray(censored)
    nuisance = nuisance_columns(
        confounds, n_volumes, tr_s=tr_s, high_pass_hz=high_pass_hz, censored=censored
    )
    volume_times_s = first_volume_s + (np.arange(n_volumes) + slice_time_ref) * tr_s
    run_events = select_trials(
        events,
        run_start_s=first_volume_s,
        run_end_s=float(volume_times_s[-1]),
        earliest_s=first_volume_s + min_onset_s,
        trial_types=trial_types,
        where=where,
    )
    info: dict[str, Any] = {
        "method": method,
        "n_volumes": n_volumes,
        "tr_s": tr_s,
        "first_volume_s": first_volume_s,
        "slice_time_ref": slice_time_ref,
        "high_pass_hz": high_pass_hz,
        "n_censored": 0 if censored is None else int(censored.sum()),
    }
    if method == "average":
        window = window or WindowConfig()
        weights, found = average_operator(run_events, nuisance, volume_times_s, window, censored)
    else:
        grid = fine_grid(
            n_volumes,
            tr_s=tr_s,
            first_volume_s=first_volume_s,
            slice_time_ref=slice_time_ref,
            oversampling=oversampling,
            min_onset_s=min_onset_s,
        )
        weights, found = glm_operator(
            run_events, nuisance, grid, method=method, hrf=hrf, others=others
        )
        info |= {"oversampling": oversampling, "min_onset_s": min_onset_s}
    return Betas(apply_operator(weights, signals), run_events.trials, info=info | found)


def estimate_run(
    signals: Signals, events: pd.DataFrame, *, config: BetasConfig, where: str = "events"
) -> Betas:
    """Estimate the trials of a cleaned run, with the labels of the run in the table.

    The design loses what cleaning took from the data (``signals.regressors``).

    Parameters
    ----------
    signals : Signals
    events : DataFrame
        As in :func:`estimate_single_trials`.
    config : BetasConfig
    where : str
        How messages call the events.

    Returns
    -------
    Betas
        ``trials`` also has subject, session and run.
    """
    betas = estimate_single_trials(
        signals.data,
        events,
        tr_s=signals.tr_s,
        method=config.method,
        hrf=config.hrf,
        confounds=signals.regressors,
        high_pass_hz=None,
        others=config.others,
        trial_types=config.trial_types,
        window=config.window,
        first_volume_s=signals.first_volume_s,
        slice_time_ref=config.slice_time_ref,
        min_onset_s=config.min_onset_s,
        oversampling=config.oversampling,
        censored=signals.volumes["censored"].to_numpy(dtype=bool),
        where=where,
    )
    trials = betas.trials.assign(subject=signals.subject, session=signals.session, run=signals.run)
    return replace(
        betas, trials=trials, space=signals.space, info=betas.info | {"unit": signals.unit}
    )


def apply_operator(weights: np.ndarray, signals: np.ndarray) -> np.ndarray:
    """Return ``weights @ signals`` in the dtype of the signals.

    The level of a voxel goes apart from its fluctuations: a mean of 1000 would cost float32
    three of its seven digits.

    Parameters
    ----------
    weights : ndarray (n_trials, n_volumes) float64
    signals : ndarray (n_volumes, n_voxels) float32 or float64

    Returns
    -------
    ndarray (n_trials, n_voxels)

    Raises
    ------
    DataError
        When voxels hold NaN or infinity.
    """
    n_voxels = signals.shape[1]
    result = np.empty((len(weights), n_voxels), dtype=signals.dtype)
    level = np.empty(n_voxels, dtype=signals.dtype)
    cast = weights.astype(signals.dtype)
    offset = weights.sum(axis=1, keepdims=True).astype(signals.dtype)
    with np.errstate(invalid="ignore"):
        for start in range(0, n_voxels, BLOCK_VOXELS):
            block = slice(start, start + BLOCK_VOXELS)
            # Any number near the mean serves: exactly what is subtracted is added again.
            level[block] = signals[:, block].mean(axis=0)
            np.matmul(cast, signals[:, block] - level[block], out=result[:, block])
            result[:, block] += offset * level[block]
    bad = np.flatnonzero(~np.isfinite(level))
    if len(bad):
        raise DataError(
            f"signals: {len(bad)} of {n_voxels} voxels are NaN or infinite at some volume "
            f"(first: column {bad[0]}). Leave these voxels out of the mask."
        )
    return result
