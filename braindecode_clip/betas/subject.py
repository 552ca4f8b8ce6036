"""All runs of a subject at once, from arrays."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from braindecode_clip.artifacts import Betas, Tuning
from braindecode_clip.betas.estimate import estimate_inputs
from braindecode_clip.betas.inputs import as_signals, parse_options
from braindecode_clip.betas.run_inputs import run_inputs
from braindecode_clip.betas.tune import tune_subject
from braindecode_clip.betas.tuned_run import RunToTune
from braindecode_clip.constants import HIGH_PASS_HZ
from braindecode_clip.errors import DataError


def estimate_subject(
    signals: Sequence[np.ndarray],
    events: Sequence[pd.DataFrame],
    *,
    tr_s: float,
    confounds: Sequence[np.ndarray | pd.DataFrame] | None = None,
    high_pass_hz: float | None = HIGH_PASS_HZ,
    first_volume_s: float = 0.0,
    seen: Collection[str] | None = None,
    use_labels: bool = True,
    **options: Any,
) -> tuple[list[Betas], Tuning | None]:
    """Estimate the trials of all runs, with what is best chosen from all of them.

    The response of the library is chosen for each voxel by prediction of left-out runs; noise
    regressors come from voxels that other runs do not predict, their number from the same
    prediction; responses are shrunk towards the voxel's mean by a penalty that is chosen by
    the repeats of stimuli, or by likelihood where nothing repeats.

    Parameters
    ----------
    signals : sequence of ndarray (n_volumes, n_voxels)
        One for each run, with the same voxels; runs may differ in length.
    events : sequence of DataFrame
        As in :func:`~braindecode_clip.betas.estimate_single_trials`, one for each run. Trials
        with the same stimulus_id (trial_type, where there is none) are repeats.
    tr_s : float
        Repetition time in seconds.
    confounds : sequence of ndarray or DataFrame, optional
        One for each run.
    high_pass_hz, first_volume_s
        As in :func:`~braindecode_clip.betas.estimate_single_trials`.
    seen : collection of str, optional
        Stimuli whose trials the choices may see, e.g. those of the training set; all by default,
        which is leakage where test trials are among them and ``use_labels`` is true.
    use_labels : bool
        Whether the choices may know which trials show the same stimulus. Without labels runs are
        predicted by the response to all trials alone, and penalties are chosen by likelihood.
    **options
        Fields of :class:`~braindecode_clip.config.betas.BetasConfig`, e.g.
        ``method="lsa", hrf="library", noise_regressors="auto", shrinkage="ridge"``.

    Returns
    -------
    betas : list of Betas
        One for each run.
    tuning : Tuning or None
        The choices; None when the options ask for none.

    References
    ----------
    The steps follow Prince et al. (2022), eLife 11:e77599 (GLMsingle): a library of responses,
    noise regressors, ridge. They differ in how each is chosen, and in that ridge shrinks
    towards the mean response.
    """
    config = parse_options(options, tr_s=tr_s, where="estimate_subject")
    given = [None] * len(signals) if confounds is None else list(confounds)
    if not len(signals) == len(events) == len(given):
        raise DataError(
            f"estimate_subject: {len(signals)} runs of signals, {len(events)} of events, "
            f"{len(given)} of confounds; expected one of each for every run."
        )
    arrays = [as_signals(run) for run in signals]
    inputs = [
        run_inputs(
            table,
            n_volumes=len(run),
            tr_s=tr_s,
            config=config,
            confounds=columns,
            high_pass_hz=high_pass_hz,
            first_volume_s=first_volume_s,
            where=f"events of run {number}",
        )
        for number, (run, table, columns) in enumerate(zip(arrays, events, given, strict=True), 1)
    ]
    tuning = None
    if config.needs_tuning:
        runs = [
            RunToTune(item, run, run.mean(axis=0), run=f"{number:02d}")
            for number, (item, run) in enumerate(zip(inputs, arrays, strict=True), 1)
        ]
        tuning = tune_subject(runs, config=config, seen=seen, use_labels=use_labels)
    betas = [
        estimate_inputs(
            item,
            run,
            config=config,
            tuning=tuning,
            noise_regressors=None if tuning is None else tuning.regressors_of("", f"{number:02d}"),
        )
        for number, (item, run) in enumerate(zip(inputs, arrays, strict=True), 1)
    ]
    if tuning is not None:
        betas = [replace(item, records=tuning.records) for item in betas]
    return betas, tuning
