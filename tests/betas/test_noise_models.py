"""AR(1) prewhitening against nilearn's and against generalised least squares written out."""

import numpy as np
import pandas as pd
import pytest
from nilearn.glm.first_level import make_first_level_design_matrix, run_glm

from braindecode_clip.betas import estimate_single_trials
from braindecode_clip.betas.autocorrelation import BIN, binned, lag_one, whiten

TR_S = 2.0


@pytest.fixture
def coloured(make_run):
    """Return a run whose noise is autocorrelated, differently in every voxel."""
    _, events, confounds = make_run(n_volumes=180, n_trials=14, n_voxels=12, seed=21)
    rng = np.random.default_rng(22)
    rho = np.linspace(-0.2, 0.7, 12)
    noise = rng.normal(size=(180, 12))
    for i in range(1, 180):
        noise[i] += rho * noise[i - 1]
    return 800.0 + 5.0 * noise, events, confounds, rho


def design(events, names, confounds, hrf="spm"):
    return make_first_level_design_matrix(
        np.arange(180) * TR_S,
        events[["onset", "duration"]].assign(trial_type=names),
        hrf_model=hrf,
        high_pass=0.01,
        add_regs=confounds,
    )


def generalised(matrix, signals, rho):
    """Least squares under the covariance of nilearn's filter, by its inverse."""
    n = len(matrix)
    root = np.eye(n) - np.diag(np.full(n - 1, rho), -1)
    precision = root.T @ root
    return np.linalg.solve(matrix.T @ precision @ matrix, matrix.T @ precision @ signals)


def test_lag_one_is_the_unbiased_ratio_of_autocovariances():
    rng = np.random.default_rng(0)
    residuals = rng.normal(size=(50, 3))
    expected = [(np.dot(r[1:], r[:-1]) / 49) / (np.dot(r, r) / 50) for r in residuals.T]
    np.testing.assert_allclose(lag_one(residuals), expected, rtol=1e-12)
    assert lag_one(np.zeros((9, 2))).tolist() == [0.0, 0.0]
    np.testing.assert_allclose(binned(np.array([0.013, -0.5, 2.0]), 0.02), [0.02, -0.5, 0.96])


def test_whitening_leaves_the_first_row():
    columns = np.arange(12.0).reshape(4, 3)
    expected = np.vstack([columns[0], columns[1:] - 0.4 * columns[:-1]])
    np.testing.assert_allclose(whiten(columns, 0.4), expected)


def test_lsa_equals_generalised_least_squares_at_the_binned_coefficient(coloured):
    signals, events, confounds, _ = coloured
    names = [f"trial_{i:02d}" for i in range(14)]
    matrix = design(events, names, confounds).to_numpy()
    residuals = signals - matrix @ np.linalg.lstsq(matrix, signals, rcond=None)[0]
    rho = binned(lag_one(residuals), BIN)
    assert len(np.unique(rho)) > 5
    expected = np.column_stack(
        [generalised(matrix, y, r)[:14] for y, r in zip(signals.T, rho, strict=True)]
    )
    found = estimate_single_trials(
        signals, events, tr_s=TR_S, method="lsa", noise_model="ar1", confounds=confounds
    )
    np.testing.assert_allclose(found.data, expected, rtol=1e-7, atol=1e-7)
    assert found.info["autocorrelation_median"] == pytest.approx(np.median(rho))


def test_lsa_agrees_with_nilearns_ar1_but_for_its_bins(coloured):
    signals, events, confounds, _ = coloured
    names = [f"trial_{i:02d}" for i in range(14)]
    matrix = design(events, names, confounds)
    labels, results = run_glm(signals, matrix.to_numpy(), noise_model="ar1", bins=100)
    expected = np.column_stack(
        [
            results[label].theta[:14, np.flatnonzero(np.flatnonzero(labels == label) == v)[0]]
            for v, label in enumerate(labels)
        ]
    )
    options = {"tr_s": TR_S, "method": "lsa", "confounds": confounds}
    found = estimate_single_trials(signals, events, noise_model="ar1", **options).data
    # nilearn cuts the coefficient to steps of 0.01, we round it to 0.02.
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    plain = estimate_single_trials(signals, events, **options).data
    ignored = np.linalg.norm(plain - expected) / np.linalg.norm(expected)
    assert error < 0.01 < 0.1 < ignored


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_lss_follows_the_exact_fit_of_every_trial(coloured, dtype):
    signals, events, confounds, _ = coloured
    signals = signals.astype(dtype)
    expected = []
    for trial in range(len(events)):
        names = ["target" if i == trial else "other" for i in range(len(events))]
        matrix = design(events, names, confounds)
        # As finely binned as may be: the coefficient of every trial's own residuals.
        labels, results = run_glm(
            signals.astype(np.float64), matrix.to_numpy(), noise_model="ar1", bins=10_000
        )
        row = np.empty(signals.shape[1])
        for label in np.unique(labels):
            row[labels == label] = results[label].theta[matrix.columns.get_loc("target")]
        expected.append(row)
    found = estimate_single_trials(
        signals, events, tr_s=TR_S, noise_model="ar1", confounds=confounds
    ).data
    r = np.corrcoef(found.ravel(), np.ravel(expected))[0, 1]
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert r > 0.999
    assert error < 0.03


def test_the_average_loses_what_generalised_least_squares_fits(coloured):
    signals, events, confounds, _ = coloured
    rng = np.random.default_rng(5)
    events = events.assign(duration=4.0)
    options = {"tr_s": TR_S, "method": "average", "noise_model": "ar1"}
    plain = estimate_single_trials(signals, events, confounds=confounds, **options)
    shifted = signals + (confounds - confounds.mean(axis=0)) @ rng.normal(size=(3, 12)) * 9.0
    found = estimate_single_trials(shifted, events, confounds=confounds, **options)
    np.testing.assert_allclose(found.data, plain.data, rtol=1e-9)
    # The level of the signals stays.
    raised = estimate_single_trials(signals + 55.0, events, confounds=confounds, **options)
    np.testing.assert_allclose(raised.data, plain.data + 55.0, rtol=1e-9)


def test_white_noise_changes_little(make_run):
    _, events, confounds = make_run(n_volumes=180, n_trials=9, n_voxels=30, seed=3)
    signals = np.random.default_rng(4).normal(size=(180, 30)) + 100.0
    options = {"tr_s": TR_S, "confounds": confounds}
    plain = estimate_single_trials(signals, events, **options).data
    whitened = estimate_single_trials(signals, events, noise_model="ar1", **options).data
    assert np.corrcoef(plain.ravel(), whitened.ravel())[0, 1] > 0.98
    assert not np.array_equal(plain, whitened)


def test_a_voxel_without_any_signal_is_zero(make_run):
    signals, events, _ = make_run(n_trials=6)
    signals[:, 2] = 7.0
    found = estimate_single_trials(signals, events, tr_s=TR_S, noise_model="ar1")
    np.testing.assert_allclose(found.data[:, 2], 0.0, atol=1e-9)
    assert pd.notna(found.data).all()
