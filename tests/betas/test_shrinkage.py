"""Ridge towards the mean response, and its two choices, against dense closed forms."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from braindecode_clip.betas.operators import lsa_operator, lss_operator
from braindecode_clip.betas.shrinkage import (
    Likelihood,
    penalty_grid,
    repeat_losses,
    repeat_targets,
    shrunken,
)


@pytest.fixture
def model():
    """Return projected columns (60 x 9), nuisance (60 x 3), signals (60 x 5), means (5)."""
    rng = np.random.default_rng(31)
    nuisance = np.linalg.qr(np.column_stack([np.ones(60), rng.normal(size=(60, 2))]))[0]
    columns = np.cumsum(rng.normal(size=(60, 9)), axis=0)
    signals = rng.normal(size=(60, 5)) + 3.0
    return columns, nuisance, signals, rng.normal(size=5)


def projected(columns, nuisance):
    return columns - nuisance @ (nuisance.T @ columns)


def names(n):
    return [f"trial {i}" for i in range(n)]


@pytest.mark.parametrize("alpha", [0.0, 0.7, 40.0])
def test_lsa_equals_the_normal_equations(model, alpha):
    columns, nuisance, signals, mean = model
    operator = lsa_operator(
        columns[..., None], contrast=np.ones((9, 1)), nuisance=nuisance, names=names(9)
    )
    x = projected(columns, nuisance)
    rest = signals - np.outer(x.sum(axis=1), mean)
    expected = mean + np.linalg.solve(x.T @ x + alpha * np.eye(9), x.T @ rest)
    found = shrunken(operator, operator.rows @ rest, alpha, mean)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)
    if alpha == 0:
        np.testing.assert_allclose(found, operator.weights @ signals, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 0.7, 40.0])
def test_lss_penalises_a_trials_own_weight(model, alpha):
    columns, nuisance, signals, mean = model
    operator = lss_operator(
        columns[..., None],
        contrast=np.ones((9, 1)),
        nuisance=nuisance,
        conditions=np.repeat("a", 9),
        names=names(9),
    )
    x = projected(columns, nuisance)
    rest = signals - np.outer(x.sum(axis=1), mean)
    expected = []
    for trial in range(9):
        pair = np.column_stack([x[:, trial], x.sum(axis=1) - x[:, trial]])
        penalty = np.diag([alpha, 0.0])
        expected.append(mean + np.linalg.solve(pair.T @ pair + penalty, pair.T @ rest)[0])
    found = shrunken(operator, operator.rows @ rest, alpha, mean)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


def test_every_voxel_has_its_own_penalty(model):
    columns, nuisance, signals, mean = model
    operator = lsa_operator(
        columns[..., None], contrast=np.ones((9, 1)), nuisance=nuisance, names=names(9)
    )
    alphas = np.array([0.0, 1.0, 5.0, 50.0, 1e9])
    rows = operator.rows @ signals
    found = shrunken(operator, rows, alphas, mean)
    for voxel, alpha in enumerate(alphas):
        alone = shrunken(operator, rows[:, [voxel]], alpha, mean[[voxel]])
        np.testing.assert_allclose(found[:, [voxel]], alone, rtol=1e-12)
    np.testing.assert_allclose(found[:, 4], mean[4], rtol=1e-4)


def test_repeats_in_the_same_run_do_not_count():
    labels = np.array(["a", "b", "a", "a", "", "b", "c", ""])
    run = np.array(["1", "1", "1", "2", "2", "3", "3", "3"])
    trials, averaging = repeat_targets(labels, run)
    assert trials.tolist() == [0, 1, 2, 3, 5]
    expected = np.zeros((5, 8))
    expected[0, 3] = expected[1, 5] = expected[2, 3] = expected[4, 1] = 1.0
    expected[3, [0, 2]] = 0.5
    np.testing.assert_allclose(averaging.toarray(), expected)


def test_losses_equal_the_double_loop():
    rng = np.random.default_rng(1)
    labels, run = rng.integers(0, 7, 40).astype(str), np.repeat(["1", "2", "3", "4"], 10)
    betas = [rng.normal(size=(40, 3)) for _ in range(3)]
    trials, averaging = repeat_targets(labels, run)
    expected = np.zeros((3, 3))
    for k, beta in enumerate(betas):
        for i in range(40):
            others = [j for j in range(40) if labels[j] == labels[i] and run[j] != run[i]]
            if others:
                expected[k] += (beta[i] - betas[0][others].mean(axis=0)) ** 2
    found = repeat_losses(betas, trials=trials, averaging=averaging)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_likelihood_is_that_of_the_normal_distribution(model):
    columns, nuisance, signals, mean = model
    x = projected(columns, nuisance)
    rest = projected(signals, nuisance) - np.outer(x.sum(axis=1), mean)
    penalties = penalty_grid(6)
    likelihood = Likelihood(penalties, 5)
    likelihood.add(x, rest, n_nuisance=3)
    likelihood.add(x[::-1], rest[::-1] * 2.0, n_nuisance=3)
    scale = np.square(x).sum(axis=0).mean()
    # Coordinates on the complement of the nuisance, where the density is proper.
    complement = np.linalg.svd(nuisance, full_matrices=True)[0][:, 3:]
    both = [(x, rest), (x[::-1], 2.0 * rest[::-1])]
    flipped = complement[::-1]
    value = np.empty((5, 5))
    for i, penalty in enumerate(penalties[1:]):
        covariances = [
            c.T @ (np.eye(60) + a @ a.T / (penalty * scale)) @ c
            for c, (a, _) in zip([complement, flipped], both, strict=True)
        ]
        for v in range(5):
            ys = [c.T @ y[:, v] for c, (_, y) in zip([complement, flipped], both, strict=True)]
            quadratic = sum(y @ np.linalg.solve(s, y) for y, s in zip(ys, covariances, strict=True))
            variance = quadratic / 114
            value[i, v] = sum(
                multivariate_normal(np.zeros(57), variance * s).logpdf(y)
                for y, s in zip(ys, covariances, strict=True)
            )
    found = (
        -(
            likelihood.n_free * np.log(likelihood.squares[1:])
            + likelihood.log_determinants[1:, None]
        )
        / 2
    )
    # Equal up to a constant of every voxel.
    np.testing.assert_allclose(np.diff(found, axis=0), np.diff(value, axis=0), rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(likelihood.best(), value.argmax(axis=0) + 1)


def test_the_likelihood_finds_the_spread_of_the_responses():
    rng = np.random.default_rng(8)
    x = np.cumsum(rng.normal(size=(300, 60)), axis=0)
    x -= x.mean(axis=0)
    scale = np.square(x).sum(axis=0).mean()
    spread = np.repeat([0.02, 0.2], 40)
    noise = rng.normal(size=(300, 80))
    noise -= noise.mean(axis=0)
    signals = x @ (rng.normal(size=(60, 80)) * spread) + noise
    penalties = np.concatenate([[0.0], np.geomspace(1e-5, 10.0, 40)])
    likelihood = Likelihood(penalties, 80)
    likelihood.add(x, signals, n_nuisance=1)
    chosen = penalties[likelihood.best()]
    for value in (0.02, 0.2):
        true = 1.0 / (value**2 * scale)
        assert np.median(np.log(chosen[spread == value] / true)) == pytest.approx(0, abs=0.7)
