"""Prediction of left-out runs, and noise regressors, against loops in float64."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from braindecode_clip.betas.crossvalidate import (
    CONDITION_PENALTY,
    MAX_CONDITIONS,
    LeaveOneRunOut,
    repeated_conditions,
    run_columns,
)
from braindecode_clip.betas.noise_pool import (
    enough_components,
    noise_pool,
    principal_components,
    unit_gram,
)


@pytest.fixture
def runs():
    """Return columns (n_volumes, 1 + 4) and signals of four uneven runs."""
    rng = np.random.default_rng(41)
    lengths = (37, 52, 44, 61)
    weights = rng.normal(size=(5, 6))
    columns = [rng.normal(size=(n, 5)) for n in lengths]
    signals = [g @ weights + 2.0 * rng.normal(size=(len(g), 6)) for g in columns]
    return columns, [s.astype(np.float32) for s in signals]


def loop(fitted, predicted, signals, tested):
    """Fit all other runs by the normal equations, predict, and count squares."""
    mean_square = sum(np.square(g[:, 1:]).sum() for g in fitted) / 4 / len(fitted)
    penalty = np.diag([0.0] + [CONDITION_PENALTY * mean_square] * 4)
    gain = np.zeros(signals[0].shape[1])
    for r in range(len(fitted)):
        g = np.concatenate([x for k, x in enumerate(fitted) if k != r])
        y = np.concatenate([x for k, x in enumerate(signals) if k != r]).astype(np.float64)
        weights = np.linalg.solve(g.T @ g + penalty, g.T @ y)
        target = tested[r].astype(np.float64)
        gain += np.square(target).sum(axis=0)
        gain -= np.square(target - predicted[r] @ weights).sum(axis=0)
    return gain


def test_the_gain_is_that_of_fitting_and_predicting_in_turn(runs):
    columns, signals = runs
    found = LeaveOneRunOut(columns).gain(signals)
    expected = loop(columns, columns, signals, signals)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert (found > 0).all()


def test_fit_and_prediction_may_lose_different_nuisance(runs):
    columns, signals = runs
    rng = np.random.default_rng(2)
    nuisance = [np.linalg.qr(rng.normal(size=(len(g), 3)))[0] for g in columns]
    fitted = [g - q @ (q.T @ g) for g, q in zip(columns, nuisance, strict=True)]
    denoised = [s - q @ (q.T @ s) for s, q in zip(signals, nuisance, strict=True)]
    denoised = [s.astype(np.float32) for s in denoised]
    found = LeaveOneRunOut(fitted, columns).gain(denoised, signals)
    expected = loop(fitted, columns, denoised, signals)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_noise_is_not_predicted(runs):
    columns, _ = runs
    rng = np.random.default_rng(3)
    noise = [rng.normal(size=(len(g), 400)).astype(np.float32) for g in columns]
    gain = LeaveOneRunOut(columns).gain(noise)
    assert np.mean(gain) < 0


def test_conditions_come_in_at_least_two_runs():
    labels = [np.array(["a", "b", "a", ""]), np.array(["c", "b"]), np.array(["a", "d", "d"])]
    found = repeated_conditions(labels)
    assert found.names.tolist() == ["a", "b"]
    np.testing.assert_array_equal(found.matrices[0], [[1, 0], [0, 1], [1, 0], [0, 0]])
    np.testing.assert_array_equal(found.matrices[1], [[0, 0], [0, 1]])
    np.testing.assert_array_equal(found.matrices[2], [[1, 0], [0, 0], [0, 0]])
    # One condition for all is the common response.
    assert repeated_conditions([np.array(["x"]), np.array(["x", "x"])]).names.size == 0
    many = [np.arange(600).astype(str), np.arange(600).astype(str), np.arange(300, 310).astype(str)]
    found = repeated_conditions(many)
    assert len(found.names) == MAX_CONDITIONS
    assert set(np.arange(300, 310).astype(str)) <= set(found.names)


def test_columns_are_the_common_response_and_the_conditions():
    rng = np.random.default_rng(4)
    columns, basis = rng.normal(size=(30, 3)), np.linalg.qr(rng.normal(size=(30, 2)))[0]
    conditions = np.array([[1.0, 0], [0, 1], [1, 0]])
    found = run_columns(columns, conditions, basis)
    raw = np.column_stack([columns.sum(axis=1), columns[:, [0, 2]].sum(axis=1), columns[:, 1]])
    expected = raw - basis @ np.linalg.lstsq(basis, raw, rcond=None)[0]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_components_are_those_of_scikit_learn_up_to_their_sign():
    rng = np.random.default_rng(5)
    shared = rng.normal(size=(50, 3)) * [4.0, 2.0, 1.0]
    signals = (shared @ rng.normal(size=(3, 80)) + rng.normal(size=(50, 80))) * rng.uniform(
        1, 9, 80
    )
    signals -= signals.mean(axis=0)
    gram = unit_gram(signals[:, :33]) + unit_gram(signals[:, 33:])
    found = principal_components(gram, 4)
    scaled = signals / np.linalg.norm(signals, axis=0)
    # Components over volumes are the scores of voxels as samples, not centred.
    expected = np.linalg.svd(scaled)[0][:, :4]
    np.testing.assert_allclose(np.abs(np.diag(found.T @ expected)), 1.0, rtol=1e-8)
    by_sklearn = PCA(1).fit(np.vstack([scaled.T, -scaled.T])).components_[0]
    assert abs(by_sklearn @ found[:, 0]) == pytest.approx(1.0, rel=1e-8)
    np.testing.assert_allclose(found.T @ found, np.eye(4), atol=1e-10)


def test_no_more_components_than_the_pool_has():
    signals = np.outer(np.sin(np.arange(20.0)), np.ones(9))
    assert principal_components(unit_gram(signals), 5).shape == (20, 1)
    assert unit_gram(np.zeros((6, 3))).shape == (6, 6)


def test_the_pool_holds_bright_voxels_that_are_not_predicted():
    r2 = np.array([-0.1, 0.0, 0.2, -0.3, -0.2])
    mean = np.array([900.0, 1000.0, 900.0, 5.0, 101.0])
    assert noise_pool(r2, mean, mean_share=0.1).tolist() == [True, True, False, False, True]
    assert noise_pool(r2, mean, mean_share=0.0).tolist() == [True, True, False, True, True]


@pytest.mark.parametrize(
    ("gains", "number"),
    [
        ([0.1, 0.2, 0.28, 0.31, 0.29], 3),
        ([0.1, 0.2, 0.309, 0.31, 0.29], 2),
        ([0.1, 0.09, 0.08], 0),
        ([-0.2, -0.1, -0.1], 1),
        ([0.0, 0.0], 0),
    ],
)
def test_the_smallest_number_near_the_best_is_taken(gains, number):
    assert enough_components(np.array(gains)) == number
