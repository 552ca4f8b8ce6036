"""Regressors against nilearn, which computes them by another way (full convolution)."""

import numpy as np
import pytest
from nilearn.glm.first_level.hemodynamic_models import compute_regressor, glover_hrf, spm_hrf

from braindecode_clip.betas.basis import event_regressors, fine_grid
from braindecode_clip.betas.hrf import hrf_kernels

EPS = np.finfo(np.float64).eps


@pytest.mark.parametrize(("hrf", "reference"), [("spm", spm_hrf), ("glover", glover_hrf)])
@pytest.mark.parametrize(("tr_s", "oversampling"), [(2.0, 50), (0.72, 16), (1.33, 7)])
def test_kernel_equals_nilearns(hrf, reference, tr_s, oversampling):
    (kernel,) = hrf_kernels(hrf, step_s=tr_s / oversampling)
    np.testing.assert_allclose(kernel, reference(tr_s, oversampling), rtol=0, atol=100 * EPS)
    assert kernel.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("hrf", ["spm", "glover"])
@pytest.mark.parametrize(
    ("n_volumes", "tr_s", "slice_time_ref", "oversampling", "min_onset_s"),
    [(120, 2.0, 0.0, 50, -24.0), (97, 1.33, 0.5, 50, -24.0), (61, 0.72, 0.3, 16, -10.0)],
)
def test_regressors_equal_nilearns(hrf, n_volumes, tr_s, slice_time_ref, oversampling, min_onset_s):
    rng = np.random.default_rng(3)
    # Onsets before the first volume and after the last belong to what must agree.
    onsets = rng.uniform(-9.0, n_volumes * tr_s * 1.02, 17)
    durations = rng.choice([0.0, 0.1, 1.0, 3.3, 22.5], 17)
    grid = fine_grid(
        n_volumes,
        tr_s=tr_s,
        slice_time_ref=slice_time_ref,
        oversampling=oversampling,
        min_onset_s=min_onset_s,
    )
    (kernel,) = hrf_kernels(hrf, step_s=grid.step_s)
    ours = event_regressors(onsets, durations, grid=grid, kernel=kernel)
    for column, onset, duration in zip(ours.T, onsets, durations, strict=True):
        condition = (np.array([onset]), np.array([duration]), np.array([1.0]))
        reference, _ = compute_regressor(
            condition,
            hrf,
            grid.frame_times_s,
            oversampling=oversampling,
            min_onset=min_onset_s,
        )
        np.testing.assert_allclose(column, reference[:, 0], rtol=0, atol=1000 * EPS)


def test_a_later_first_volume_shifts_the_clock_of_the_events():
    onsets, durations = np.array([21.0, 50.5]), np.array([2.0, 4.0])
    late = fine_grid(60, tr_s=2.0, first_volume_s=8.0)
    start = fine_grid(60, tr_s=2.0)
    (kernel,) = hrf_kernels("spm", step_s=late.step_s)
    np.testing.assert_array_equal(
        event_regressors(onsets, durations, grid=late, kernel=kernel),
        event_regressors(onsets - 8.0, durations, grid=start, kernel=kernel),
    )
