"""One response for every trial and voxel of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from braindecode_clip.artifacts import Betas, Fitted, Records, Signals, Tuning
from braindecode_clip.artifacts.records import names_of, run_name
from braindecode_clip.betas.apply import (
    VoxelChoices,
    apply_design,
    average_trials,
    estimate_autocorrelation,
    explained_variance,
)
from braindecode_clip.betas.design import average_operator, describe_design
from braindecode_clip.betas.inputs import as_signals, parse_options
from braindecode_clip.betas.run_inputs import RunInputs, run_inputs, signals_inputs
from braindecode_clip.config.betas import BetasConfig
from braindecode_clip.constants import HIGH_PASS_HZ
from braindecode_clip.errors import ConfigError, DataError
from braindecode_clip.nuisance import orthonormal_basis


def estimate_single_trials(
    signals: np.ndarray,
    events: pd.DataFrame,
    *,
    tr_s: float,
    confounds: np.ndarray | pd.DataFrame | None = None,
    high_pass_hz: float | None = HIGH_PASS_HZ,
    first_volume_s: float = 0.0,
    censored: np.ndarray | None = None,
    where: str = "events",
    **options: Any,
) -> Betas:
    """Estimate the response to every trial of one run.

    ``lss`` fits one model for every trial: its regressor, one for all other trials (or one for
    each trial_type, see ``others``), and the nuisance (constant, cosine drifts, confounds,
    events that are no trials). ``lsa`` fits one model with a regressor for every trial.
    ``average`` is the mean of the volumes in a window after each onset, of data from which
    drifts and confounds (not the mean) are removed. Each is one linear operator, built in
    float64 from the design alone and applied to all voxels by one matrix product; with
    ``noise_model="ar1"`` one for every value of the autocorrelation.

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
    confounds : ndarray (n_volumes, n_confounds) or DataFrame, optional
        Nuisance regressors, finite; a constant is added always.
    high_pass_hz : float or None
        Cut-off of the cosine drifts in Hz; None for data that are already filtered.
    first_volume_s : float
        When the first row of ``signals`` was taken, in seconds after the run began, on whose
        clock the onsets are (dropped dummy scans times the TR).
    censored : ndarray (n_volumes,) bool, optional
        Volumes that have no part in any response: the result is that of the others alone.
    where : str
        How messages call the events, e.g. a file name.
    **options
        Fields of :class:`~braindecode_clip.config.betas.BetasConfig`: method, hrf, noise_model,
        others, trial_types, window, fir, ... What is chosen from all runs of a subject (hrf
        "library", noise_regressors, shrinkage) needs
        :func:`~braindecode_clip.betas.estimate_subject`.

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
    config = parse_options(options, tr_s=tr_s, where="estimate_single_trials")
    if config.needs_tuning:
        raise ConfigError(
            "estimate_single_trials: hrf 'library', noise_regressors and shrinkage are chosen "
            "from all runs of a subject. Call estimate_subject, or `tune` before `betas`."
        )
    inputs = run_inputs(
        events,
        n_volumes=len(signals),
        tr_s=tr_s,
        config=config,
        confounds=confounds,
        high_pass_hz=high_pass_hz,
        first_volume_s=first_volume_s,
        censored=censored,
        where=where,
    )
    return estimate_inputs(inputs, signals, config=config, facts={"high_pass_hz": high_pass_hz})


def estimate_run(
    signals: Signals,
    events: pd.DataFrame,
    *,
    config: BetasConfig,
    tuning: Tuning | None = None,
    where: str = "events",
) -> Betas:
    """Estimate the trials of a cleaned run, with the labels of the run in the table.

    The design loses what cleaning took from the data (``signals.regressors``).

    Parameters
    ----------
    signals : Signals
    events : DataFrame
        As in :func:`estimate_single_trials`.
    config : BetasConfig
    tuning : Tuning, optional
        Choices made from all runs, where the config asks for some.
    where : str
        How messages call the events.

    Returns
    -------
    Betas
        ``trials`` also has subject, session and run; ``r2`` is filled where the responses are
        weights of one regressor each.

    Raises
    ------
    DataError
        As :func:`estimate_single_trials`; also when a tuning is missing or of other voxels.
    """
    inputs = signals_inputs(signals, events, config=config, where=where)
    _check_tuning(signals, config, tuning)
    regressors = None if tuning is None else tuning.regressors_of(signals.session, signals.run)
    betas = estimate_inputs(
        inputs,
        signals.data,
        config=config,
        tuning=tuning,
        noise_regressors=regressors,
        want_r2=True,
    )
    trials = betas.trials.assign(subject=signals.subject, session=signals.session, run=signals.run)
    return replace(
        betas,
        trials=trials,
        space=signals.space,
        info=betas.info | {"unit": signals.unit},
        records=_records(trials, signals, tuning),
    )


def _records(trials: pd.DataFrame, signals: Signals, tuning: Tuning | None) -> Records:
    """Return what the estimates rest on: the run itself, and the tuning's choices."""
    names = names_of(trials["stimulus_id" if "stimulus_id" in trials else "trial_type"])
    own = Fitted(
        "cleaning of the run",
        "betas",
        f"sub-{signals.subject}",
        "",
        names,
        frozenset({run_name(signals.session, signals.run)}),
        labels_used=False,
        transductive=True,
        reason="confounds, drifts and scale are of the whole run, test trials among it",
    )
    return Records.of((own, *(tuning.records.items if tuning is not None else ())))


def estimate_inputs(
    inputs: RunInputs,
    signals: np.ndarray,
    *,
    config: BetasConfig,
    tuning: Tuning | None = None,
    noise_regressors: np.ndarray | None = None,
    want_r2: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> Betas:
    """Estimate the trials of a run whose events and nuisance are checked.

    ``facts`` join the ``info`` of the result.
    """
    n_voxels = signals.shape[1]
    hrf_index = np.zeros(n_voxels, np.int16)
    if tuning is not None and config.hrf == "library":
        hrf_index = tuning.hrf_index
    info: dict[str, Any] = {
        **(facts or {}),
        "method": config.method,
        "n_volumes": len(signals),
        "tr_s": inputs.tr_s,
        "first_volume_s": inputs.first_volume_s,
        "slice_time_ref": config.slice_time_ref,
        "noise_model": config.noise_model,
        "n_censored": int(inputs.censored.sum()),
        "n_noise_regressors": 0 if noise_regressors is None else noise_regressors.shape[1],
        "nuisance_events": np.unique(inputs.events.others["trial_type"]).tolist(),
    }
    if tuning is not None:
        info["tuning"] = tuning.info
    if config.method == "average":
        data, found = _averaged(inputs, signals, config, noise_regressors)
        return Betas(data, inputs.events.trials, info=info | found)
    design = inputs.design(config, noise_regressors)
    rho = np.zeros(n_voxels)
    if config.noise_model == "ar1":
        rho = estimate_autocorrelation(design, signals, hrf_index, inputs.censored)
        info["autocorrelation_median"] = float(np.median(rho))
    choices = VoxelChoices(hrf_index, rho)
    if tuning is not None and config.shrinkage == "ridge":
        choices = replace(choices, penalty=tuning.penalty, mean_response=tuning.mean_response)
    data = apply_design(design, signals, choices)
    info |= {
        "hrf": config.hrf,
        "others": config.others,
        "shrinkage": config.shrinkage,
        "n_nuisance": design.basis(0).shape[1],
        "oversampling": config.oversampling,
        "min_onset_s": config.min_onset_s,
    }
    used = np.unique(hrf_index)
    operators = [design.operator(int(index)) for index in used]
    info |= describe_design(design, operators, shrunken=config.shrinkage == "ridge")
    r2 = None
    if want_r2 and config.hrf != "fir":
        r2 = explained_variance(design, signals, data, hrf_index)
    return Betas(data, inputs.events.trials, info=info, r2=r2)


def _averaged(
    inputs: RunInputs,
    signals: np.ndarray,
    config: BetasConfig,
    noise_regressors: np.ndarray | None,
) -> tuple[np.ndarray, dict[str, Any]]:
    nuisance = inputs.with_noise(noise_regressors)
    rho = np.zeros(signals.shape[1])
    if config.noise_model == "ar1":
        design = inputs.design(config.model_copy(update={"method": "lss"}), noise_regressors)
        first = np.zeros(len(rho), np.int16)
        rho = estimate_autocorrelation(design, signals, first, inputs.censored)

    def average(value: float) -> np.ndarray:
        return average_operator(
            inputs.events.trials,
            nuisance,
            inputs.volume_times_s,
            config.window,
            censored=inputs.censored,
            rho=value,
        )

    info = {
        "window": config.window.model_dump(mode="json"),
        "n_nuisance": orthonormal_basis(nuisance).shape[1],
        "n_trials": len(inputs.events.trials),
        "warnings": [],
    }
    return average_trials(average, signals, rho), info


def _check_tuning(signals: Signals, config: BetasConfig, tuning: Tuning | None) -> None:
    where = f"sub-{signals.subject} run-{signals.run}"
    if tuning is None:
        if config.needs_tuning:
            raise DataError(
                f"{where}: hrf 'library', noise_regressors and shrinkage are chosen from all "
                "runs of a subject. Run `tune` first and give its file (--tuning)."
            )
        return
    if tuning.subject != signals.subject:
        raise DataError(f"{where}: the tuning is of sub-{tuning.subject}. Give this subject's.")
    same = tuning.space is not None and tuning.space.same_columns(signals.space)
    if not same:
        raise DataError(
            f"{where}: the tuning has {len(tuning.hrf_index)} voxels, not the same as the run's "
            f"{signals.space.n_voxels}. Run `tune` again."
        )
