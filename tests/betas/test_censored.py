"""Censored volumes: betas equal those of the kept volumes alone."""

import numpy as np
import pandas as pd
import pytest

from braindecode_clip.artifacts import VoxelSpace
from braindecode_clip.betas import estimate_run, estimate_single_trials
from braindecode_clip.betas.basis import event_regressors, fine_grid
from braindecode_clip.betas.hrf import hrf_kernels
from braindecode_clip.config.betas import BetasConfig
from braindecode_clip.config.preprocess import PreprocessConfig
from braindecode_clip.errors import DataError
from braindecode_clip.nuisance import cosine_drifts
from braindecode_clip.preprocess import clean_run

CENSORED = [0, 9, 10, 11, 53, 54, 80, 121, 122, 139]


@pytest.fixture
def censored():
    return np.isin(np.arange(140), CENSORED)


def trial_regressors(events, n_volumes=140, tr_s=2.0):
    grid = fine_grid(
        n_volumes,
        tr_s=tr_s,
        first_volume_s=0.0,
        slice_time_ref=0.0,
        oversampling=50,
        min_onset_s=-24.0,
    )
    (kernel,) = hrf_kernels("spm", step_s=grid.step_s)
    return event_regressors(
        events["onset"].to_numpy(), events["duration"].to_numpy(), grid=grid, kernel=kernel
    )


def lss_of_kept(signals, events, confounds, censored):
    """Fit one model a trial by lstsq, to the kept volumes only."""
    expected = trial_regressors(events)
    drifts = cosine_drifts(140, tr_s=2.0, high_pass_hz=0.01)
    betas = []
    for trial in range(len(events)):
        others = expected.sum(axis=1) - expected[:, trial]
        columns = [expected[:, trial], others, np.ones(140), drifts, confounds]
        design = np.column_stack(columns)[~censored]
        betas.append(np.linalg.lstsq(design, signals[~censored], rcond=None)[0][0])
    return np.array(betas)


@pytest.mark.parametrize("how", ["censored", "regressors", "both"])
def test_lss_equals_the_fit_to_the_kept_volumes(make_run, censored, how):
    signals, events, confounds = make_run()
    signals[censored] += 500.0
    expected = lss_of_kept(signals, events, confounds, censored)
    spikes = np.eye(140)[:, censored]
    options = {"confounds": confounds if how == "censored" else np.c_[confounds, spikes]}
    if how != "regressors":
        options["censored"] = censored
    found = estimate_single_trials(signals, events, tr_s=2.0, **options)
    np.testing.assert_allclose(found.data, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    plain = estimate_single_trials(signals, events, tr_s=2.0, confounds=confounds)
    assert np.abs(plain.data - expected).max() > 0.1 * np.abs(expected).max()


def test_lsa_equals_the_fit_to_the_kept_volumes(make_run, censored):
    signals, events, confounds = make_run()
    signals[censored] += 500.0
    drifts = cosine_drifts(140, tr_s=2.0, high_pass_hz=0.01)
    columns = [trial_regressors(events), np.ones(140), drifts, confounds]
    design = np.column_stack(columns)[~censored]
    expected = np.linalg.lstsq(design, signals[~censored], rcond=None)[0][: len(events)]
    found = estimate_single_trials(
        signals, events, tr_s=2.0, method="lsa", confounds=confounds, censored=censored
    )
    np.testing.assert_allclose(found.data, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def run_of(signals, confounds, censored, unit):
    n_voxels = signals.shape[1]
    ijk = np.column_stack([np.arange(n_voxels), np.zeros((n_voxels, 2))]).astype(np.int32)
    table = pd.DataFrame(confounds).add_prefix("c")
    return clean_run(
        signals.astype(np.float32),
        space=VoxelSpace(np.eye(4), np.array([n_voxels, 1, 1]), ijk),
        tr_s=2.0,
        confounds=table.assign(framewise_displacement=np.where(censored, 1.0, 0.0)),
        config=PreprocessConfig(confounds=("c*",), standardize=unit, censor={"fd_mm": 0.5}),
    )


def test_a_cleaned_run_gives_the_same(make_run, censored):
    """Through float32 signals and regressors, the same up to their rounding."""
    signals, events, confounds = make_run()
    signals[censored] += 500.0
    expected = lss_of_kept(signals, events, confounds, censored)
    run = run_of(signals, confounds, censored, "raw")
    found = estimate_run(run, events, config=BetasConfig())
    atol = 2e-4 * np.abs(expected).max()
    np.testing.assert_allclose(found.data, expected, rtol=0, atol=atol)
    assert found.info["n_censored"] == len(CENSORED)


@pytest.mark.parametrize("unit", ["zscore", "raw"])
def test_averages_leave_censored_volumes_out(make_run, censored, unit):
    signals, events, confounds = make_run()
    events["duration"] = 9.0
    signals[censored] += 500.0
    run = run_of(signals, confounds, censored, unit)
    found = estimate_run(run, events, config=BetasConfig(method="average"))
    times = np.arange(140) * 2.0
    for onset, duration, row in zip(events["onset"], events["duration"], found.data, strict=True):
        inside = (times >= onset + 4.0) & (times <= onset + duration + 4.0)
        expected = run.data[inside & ~censored].mean(axis=0)
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-5)


def test_averages_of_signals_as_they_are_keep_the_mean_of_kept_volumes(make_run, censored):
    signals, events, confounds = make_run()
    events["duration"] = 9.0
    options = {"tr_s": 2.0, "method": "average", "confounds": confounds, "censored": censored}
    expected = estimate_single_trials(signals, events, **options).data
    signals[censored] = 1e5
    found = estimate_single_trials(signals, events, **options).data
    # Rounding is relative to what the censored volumes hold.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * 1e5)


def test_a_trial_whose_window_is_censored_is_named(make_run, censored):
    signals, events, _ = make_run()
    events["duration"] = 9.0
    events["stimulus_id"] = [f"pic-{i}" for i in range(len(events))]
    events.loc[2, ["onset", "duration"]] = [14.5, 2.0]
    with pytest.raises(DataError, match=r"windows of 1 trials are censored: 'pic-2 at 14.5 s'"):
        estimate_single_trials(signals, events, tr_s=2.0, method="average", censored=censored)


def test_censored_is_one_bool_a_volume(make_run, censored):
    signals, events, _ = make_run()
    for wrong in (censored[:-1], censored.astype(int), np.flatnonzero(censored)):
        with pytest.raises(DataError, match=r"expected one bool for each of the 140 volumes"):
            estimate_single_trials(signals, events, tr_s=2.0, censored=wrong)


@pytest.mark.parametrize("method", ["lss", "lsa", "average"])
def test_what_censored_volumes_hold_changes_nothing_with_ar1_either(make_run, censored, method):
    signals, events, confounds = make_run()
    events = events.assign(duration=6.0)
    options = {"tr_s": 2.0, "method": method, "noise_model": "ar1", "censored": censored}
    options["confounds"] = confounds
    expected = estimate_single_trials(signals, events, **options)
    signals[censored] += np.random.default_rng(2).normal(size=(len(CENSORED), 7)) * 300.0
    found = estimate_single_trials(signals, events, **options)
    np.testing.assert_allclose(found.data, expected.data, rtol=1e-6, atol=1e-6)
