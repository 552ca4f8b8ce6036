"""The closed forms behind the reliability, against plain least squares and simulation."""

from __future__ import annotations

import numpy as np
import pytest

from braindecode_clip.errors import ConfigError
from braindecode_clip.simulate.reliability import (
    BetaStatistics,
    beta_statistics,
    draw_reliabilities,
    lss_operator,
    noise_ceiling,
    solve_amplitudes,
)

N_VOLUMES, N_TRIALS = 60, 11


@pytest.fixture(scope="module")
def design() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    regressors = np.abs(rng.standard_normal((N_VOLUMES, N_TRIALS)))
    nuisance = np.column_stack([np.ones(N_VOLUMES), rng.standard_normal((N_VOLUMES, 3))])
    return regressors, nuisance


def test_lss_operator_equals_one_model_a_trial(design) -> None:
    regressors, nuisance = design
    series = np.random.default_rng(1).standard_normal((N_VOLUMES, 4))
    got = lss_operator(regressors, nuisance) @ series
    for trial in range(N_TRIALS):
        others = np.delete(regressors, trial, axis=1).sum(axis=1)
        model = np.column_stack([regressors[:, trial], others, nuisance])
        expected = np.linalg.lstsq(model, series, rcond=None)[0][0]
        np.testing.assert_allclose(got[trial], expected, rtol=1e-9, atol=1e-11)


def test_solved_amplitudes_give_the_reliability_in_simulated_betas(design) -> None:
    regressors, nuisance = design
    rng = np.random.default_rng(2)
    other = regressors + 0.2 * rng.standard_normal(regressors.shape)
    operator = lss_operator(regressors, nuisance)
    lag = np.abs(np.subtract.outer(np.arange(N_VOLUMES), np.arange(N_VOLUMES)))
    covariance = 0.4**lag
    statistics = beta_statistics([operator], [[regressors, other]], [covariance])
    index, wanted = np.array([0, 1]), np.array([0.3, 0.15])
    mean = np.array([1.5, 0.5])
    found = solve_amplitudes(
        wanted,
        index,
        statistics,
        noise_variance=np.array([1.0, 2.0]),
        trial_noise_share=0.4,
        mean_response=mean,
    )
    n = 20_000
    root = np.linalg.cholesky(covariance)
    for voxel, true in enumerate((regressors, other)):
        picture = found.picture_sd[voxel] * rng.standard_normal((N_TRIALS, n))
        trial = found.trial_sd[voxel] * rng.standard_normal((N_TRIALS, n))
        noise = np.sqrt([1.0, 2.0][voxel]) * root @ rng.standard_normal((N_VOLUMES, n))
        betas = operator @ (true @ (mean[voxel] + picture + trial) + noise)
        # What the trial's own picture explains of the variance over all trials.
        slope = (betas * picture).mean(axis=1) / (picture**2).mean(axis=1)
        explained = (slope**2).mean() * found.picture_sd[voxel] ** 2
        assert explained / betas.var() == pytest.approx(wanted[voxel], rel=0.04)


def test_reliability_zero_means_no_response_to_pictures() -> None:
    statistics = BetaStatistics(np.ones(1), np.full(1, 1.6), np.zeros(1), 2.5)
    found = solve_amplitudes(
        np.zeros(3),
        np.zeros(3, dtype=int),
        statistics,
        noise_variance=np.ones(3),
        trial_noise_share=0.3,
        mean_response=np.ones(3),
    )
    assert (found.picture_sd == 0).all() and (found.trial_sd > 0).all()


def test_unreachable_reliability_is_refused() -> None:
    statistics = BetaStatistics(np.ones(1), np.full(1, 1.6), np.zeros(1), 2.5)
    with pytest.raises(ConfigError, match=r"at most 0\.62"):
        solve_amplitudes(
            np.array([0.7]),
            np.zeros(1, dtype=int),
            statistics,
            noise_variance=np.ones(1),
            trial_noise_share=0,
            mean_response=np.zeros(1),
        )


def test_noise_ceiling_is_spearman_brown() -> None:
    reliability = np.array([0.0, 0.1, 0.5, 1.0])
    expected = 3 * reliability / (1 + 2 * reliability)
    np.testing.assert_allclose(noise_ceiling(reliability, 3), expected)
    np.testing.assert_allclose(noise_ceiling(reliability, 1), reliability)


def test_reliabilities_have_the_mean_and_spread_and_stay_below_the_limit() -> None:
    rng = np.random.default_rng(4)
    highest = np.full(20_000, 0.9)
    drawn = draw_reliabilities(20_000, mean=0.2, spread=0.5, highest=highest, rng=rng)
    assert drawn.mean() == pytest.approx(0.2, rel=0.02)
    assert drawn.std() == pytest.approx(0.1, rel=0.03)
    # Near the limit the spread gives way, not the mean.
    cut = draw_reliabilities(20_000, mean=0.5, spread=1, highest=np.full(20_000, 0.6), rng=rng)
    assert cut.max() <= 0.6
    assert cut.mean() == pytest.approx(0.5, rel=0.02) and cut.std() > 0.05
    equal = draw_reliabilities(7, mean=0.3, spread=0, highest=highest[:7], rng=rng)
    np.testing.assert_allclose(equal, 0.3)
    assert (draw_reliabilities(9, mean=0, spread=1, highest=highest[:9], rng=rng) == 0).all()
