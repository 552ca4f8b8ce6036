"""Operators applied to signals: shrunken responses and explained variance, written out."""

import numpy as np
import pytest

from braindecode_clip.betas.apply import VoxelChoices, apply_design, explained_variance
from braindecode_clip.betas.run_inputs import run_inputs
from braindecode_clip.config.betas import BetasConfig


@pytest.fixture
def library_run(make_run):
    """Return (design, signals, response of every voxel) of a run with the library."""
    signals, events, confounds = make_run(n_volumes=130, n_trials=9, n_voxels=11, seed=61)
    config = BetasConfig(method="lsa", hrf="library")
    inputs = run_inputs(
        events,
        n_volumes=130,
        tr_s=2.0,
        config=config,
        confounds=confounds,
        high_pass_hz=0.01,
        first_volume_s=0.0,
        where="events",
    )
    return inputs.design(config, None), signals, np.arange(11) % 4 * 5


def without_nuisance(design, columns):
    """Return what lstsq leaves of columns beside the nuisance."""
    return columns - design.nuisance @ np.linalg.lstsq(design.nuisance, columns, rcond=None)[0]


def test_penalties_count_in_mean_squared_norms_of_a_regressor(library_run):
    design, signals, hrf_index = library_run
    rng = np.random.default_rng(62)
    penalty, mean = rng.uniform(0.1, 3.0, 11), rng.normal(size=11)
    choices = VoxelChoices(hrf_index, np.zeros(11), penalty=penalty, mean_response=mean)
    found = apply_design(design, signals, choices)
    for voxel, index in enumerate(hrf_index):
        x = without_nuisance(design, design.columns[index, :, :, 0])
        alpha = penalty[voxel] * np.square(x).sum(axis=0).mean()
        rest = signals[:, voxel] - x.sum(axis=1) * mean[voxel]
        expected = mean[voxel] + np.linalg.solve(x.T @ x + alpha * np.eye(9), x.T @ rest)
        np.testing.assert_allclose(found[:, voxel], expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_explained_variance_is_one_minus_the_rest_over_the_whole(library_run, dtype):
    design, signals, hrf_index = library_run
    signals[:, 3] = 7.0
    betas = np.random.default_rng(63).normal(size=(9, 11)) * 3.0
    found = explained_variance(design, signals.astype(dtype), betas.astype(dtype), hrf_index)
    for voxel, index in enumerate(hrf_index):
        x = without_nuisance(design, design.columns[index, :, :, 0])
        y = without_nuisance(design, signals[:, voxel])
        if voxel == 3:
            assert found[voxel] == 0.0
            continue
        expected = 1.0 - np.square(y - x @ betas[:, voxel]).sum() / np.square(y).sum()
        # Signals near 1000 lose three digits of float32 where they are centred.
        assert found[voxel] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_least_squares_explains_most(library_run):
    design, signals, hrf_index = library_run
    choices = VoxelChoices(hrf_index, np.zeros(11))
    betas = apply_design(design, signals, choices)
    best = explained_variance(design, signals, betas, hrf_index)
    other = explained_variance(design, signals, 0.8 * betas, hrf_index)
    assert (best > other).all() and (best > 0).all() and (best < 1).all()
