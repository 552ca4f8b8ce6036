"""Derivatives, delays and the library against nilearn's designs."""

import numpy as np
import pytest
from nilearn.glm.first_level import make_first_level_design_matrix
from nilearn.glm.first_level.hemodynamic_models import compute_regressor, spm_hrf

from braindecode_clip.betas import estimate_single_trials
from braindecode_clip.betas.basis import event_basis, event_regressors, fine_grid
from braindecode_clip.betas.hrf import (
    LIBRARY_PEAKS_S,
    LIBRARY_REFERENCE,
    LIBRARY_SIZE,
    library_kernels,
    library_peak_s,
)
from braindecode_clip.config.betas import FirConfig
from braindecode_clip.errors import ConfigError, DataError

DERIVATIVES = [
    "spm + derivative",
    "spm + derivative + dispersion",
    "glover + derivative",
    "glover + derivative + dispersion",
]


def naive_lss(signals, events, *, hrf, contrast, confounds=None, fir_delays=None, tr_s=2.0):
    """One least-squares fit for every trial; the contrast is over the target's columns."""
    betas = []
    for trial in range(len(events)):
        names = ["target" if i == trial else "other" for i in range(len(events))]
        matrix = make_first_level_design_matrix(
            np.arange(len(signals)) * tr_s,
            events[["onset", "duration"]].assign(trial_type=names),
            hrf_model=hrf,
            high_pass=0.01,
            add_regs=confounds,
            fir_delays=fir_delays,
        )
        target = [i for i, name in enumerate(matrix.columns) if str(name).startswith("target")]
        weights = np.linalg.lstsq(matrix.to_numpy(), signals, rcond=None)[0][target]
        betas.append(contrast @ weights)
    return np.array(betas)


@pytest.mark.parametrize("hrf", DERIVATIVES)
def test_lss_with_derivatives_equals_one_nilearn_design_a_trial(make_run, hrf):
    signals, events, confounds = make_run(n_volumes=160, n_trials=9)
    contrast = np.eye(hrf.count("+") + 1)[0]
    expected = naive_lss(signals, events, hrf=hrf, contrast=contrast, confounds=confounds)
    found = estimate_single_trials(signals, events, tr_s=2.0, hrf=hrf, confounds=confounds)
    np.testing.assert_allclose(found.data, expected, rtol=1e-6, atol=1e-7)
    single = estimate_single_trials(
        signals.astype(np.float32), events, tr_s=2.0, hrf=hrf, confounds=confounds
    )
    error = np.linalg.norm(single.data - expected) / np.linalg.norm(expected)
    assert error < 1e-5


@pytest.mark.parametrize("hrf", DERIVATIVES[:2])
def test_lsa_with_derivatives_equals_one_nilearn_design(make_run, hrf):
    signals, events, confounds = make_run(n_volumes=190, n_trials=8)
    matrix = make_first_level_design_matrix(
        np.arange(190) * 2.0,
        events[["onset", "duration"]].assign(trial_type=[f"t{i}" for i in range(8)]),
        hrf_model=hrf,
        high_pass=0.01,
        add_regs=confounds,
    )
    weights = np.linalg.lstsq(matrix.to_numpy(), signals, rcond=None)[0]
    expected = np.array([weights[matrix.columns.get_loc(f"t{i}")] for i in range(8)])
    found = estimate_single_trials(
        signals, events, tr_s=2.0, method="lsa", hrf=hrf, confounds=confounds
    )
    np.testing.assert_allclose(found.data, expected, rtol=1e-6, atol=1e-7)


def test_the_delays_equal_nilearns(make_run):
    grid = fine_grid(70, tr_s=1.5, slice_time_ref=0.5)
    onsets, durations = np.array([4.2, 30.0, 71.7]), np.array([1.5, 0.0, 6.0])
    basis = event_basis(onsets, durations, grid=grid, hrf="fir", fir=FirConfig(length_s=9.0))
    assert basis.columns.shape == (1, 70, 3, 6)
    for event, onset in enumerate(onsets):
        # An event of one TR, whatever its duration.
        condition = (np.array([onset]), np.array([1.5]), np.array([1.0]))
        expected, _ = compute_regressor(condition, "fir", grid.frame_times_s, fir_delays=range(6))
        np.testing.assert_allclose(basis.columns[0, :, event], expected, atol=1e-12)
    # Delays at 4.5, 6.0 and 7.5 s lie between 4 and 8 s.
    np.testing.assert_allclose(basis.contrast, [[0, 0, 0, 1 / 3, 1 / 3, 1 / 3]] * 3)


def test_lss_with_delays_is_the_mean_of_the_window(make_run):
    signals, events, _ = make_run(n_volumes=170, n_trials=7)
    fir = FirConfig(length_s=12.0, start_s=3.0, end_s=8.0)
    contrast = np.array([0, 0, 1, 1, 1, 0]) / 3
    short = events.assign(duration=2.0)
    expected = naive_lss(signals, short, hrf="fir", contrast=contrast, fir_delays=range(6))
    found = estimate_single_trials(signals, events, tr_s=2.0, hrf="fir", fir=fir)
    np.testing.assert_allclose(found.data, expected, rtol=1e-6, atol=1e-7)


def test_delays_beyond_the_end_of_the_run_matter_only_where_they_are_asked_for(make_run):
    signals, events, _ = make_run(n_volumes=120, n_trials=5)
    events.loc[4, "onset"] = 120 * 2.0 - 11.0
    found = estimate_single_trials(
        signals, events, tr_s=2.0, hrf="fir", fir=FirConfig(length_s=16.0, end_s=6.0)
    )
    assert np.isfinite(found.data).all()
    events.loc[4, "onset"] = 120 * 2.0 - 5.0
    with pytest.raises(DataError, match=r"1 of 5 trials are fully explained"):
        estimate_single_trials(signals, events, tr_s=2.0, hrf="fir")


def test_a_window_without_a_delay_is_an_error(make_run):
    signals, events, _ = make_run()
    with pytest.raises(ConfigError, match=r"no delay lies between start_s = 4.5 s and end_s = 5"):
        estimate_single_trials(
            signals, events, tr_s=2.0, hrf="fir", fir=FirConfig(start_s=4.5, end_s=5.0)
        )


def test_the_library_spans_peaks_and_widths_around_the_canonical_response():
    step_s = 0.05
    kernels = np.array(library_kernels(step_s=step_s))
    assert kernels.shape == (LIBRARY_SIZE, 640) == (20, 640)
    np.testing.assert_allclose(kernels.sum(axis=1), 1.0)
    peaks = kernels.argmax(axis=1) * step_s
    # The undershoot pulls the peak forward by little.
    np.testing.assert_allclose(peaks, library_peak_s(np.arange(20)), rtol=0.03)
    assert sorted(set(library_peak_s(np.arange(20)))) == pytest.approx(LIBRARY_PEAKS_S)
    half = (kernels > kernels.max(axis=1, keepdims=True) / 2).sum(axis=1) * step_s
    assert (np.diff(half.reshape(5, 4), axis=1) > 0).all()
    canonical = spm_hrf(step_s, 1, time_length=32.0)
    nearest = [np.corrcoef(kernel, canonical)[0, 1] for kernel in kernels]
    assert int(np.argmax(nearest)) == LIBRARY_REFERENCE


def test_the_library_has_one_set_of_columns_for_each_response():
    grid = fine_grid(50, tr_s=2.0)
    onsets, durations = np.array([3.0, 40.0]), np.array([2.0, 2.0])
    basis = event_basis(onsets, durations, grid=grid, hrf="library", fir=FirConfig())
    assert basis.columns.shape == (20, 50, 2, 1)
    kernel = library_kernels(step_s=grid.step_s)[13]
    expected = event_regressors(onsets, durations, grid=grid, kernel=kernel)
    np.testing.assert_array_equal(basis.columns[13, :, :, 0], expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "average", "hrf": "library"}, "method average fits no response"),
        ({"method": "average", "shrinkage": "ridge"}, "method average fits no response"),
        ({"hrf": "fir", "shrinkage": "ridge"}, "choose another hrf than fir"),
        ({"noise_regressors": 31}, "expected 0 to 30 or auto"),
        ({"hrf": "library"}, "chosen from all runs of a subject"),
        ({"noise_regressors": "auto"}, "chosen from all runs of a subject"),
    ],
)
def test_options_that_do_not_fit_say_so(make_run, options, message):
    signals, events, _ = make_run()
    with pytest.raises(ConfigError, match=message):
        estimate_single_trials(signals, events, tr_s=2.0, **options)
