"""Drifts against nilearn's, and bases against what linear algebra demands."""

import numpy as np
import pytest
from nilearn.glm.first_level import make_first_level_design_matrix

from braindecode_clip.errors import ConfigError
from braindecode_clip.nuisance import (
    cosine_drifts,
    orthonormal_basis,
    polynomial_drifts,
    project_out,
)


@pytest.mark.parametrize("tr_s", [0.72, 1.333, 2.0, 2.5])
@pytest.mark.parametrize("high_pass_hz", [0.008, 1 / 128, 0.01])
def test_cosines_equal_nilearns_also_where_rounding_decides(tr_s, high_pass_hz):
    # At TR 2.0 and 2.5 and 0.01 Hz, 2 n TR f is a whole number for many of these lengths.
    for n_volumes in range(60, 320, 20):
        reference = make_first_level_design_matrix(
            np.arange(n_volumes) * tr_s, drift_model="cosine", high_pass=high_pass_hz
        )
        drifts = cosine_drifts(n_volumes, tr_s=tr_s, high_pass_hz=high_pass_hz)
        np.testing.assert_allclose(drifts, reference.to_numpy()[:, :-1], atol=1e-12)


def test_no_cut_off_gives_no_columns_and_too_high_a_one_an_error():
    assert cosine_drifts(50, tr_s=2.0, high_pass_hz=None).shape == (50, 0)
    with pytest.raises(ConfigError, match=r"high_pass_hz is 0.25 Hz.*50 volumes"):
        cosine_drifts(50, tr_s=2.0, high_pass_hz=0.25)


def test_polynomials_span_the_powers_of_time():
    ours = np.column_stack([np.ones(31), polynomial_drifts(31, order=3)])
    powers = np.vander(np.arange(31.0) / 31, 4)
    fitted = ours @ np.linalg.lstsq(ours, powers, rcond=None)[0]
    np.testing.assert_allclose(fitted, powers, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_basis_is_orthonormal_centred_and_of_the_true_rank(dtype):
    rng = np.random.default_rng(4)
    columns = rng.normal(size=(83, 5)) * [1.0, 1e-6, 1e4, 1.0, 1.0] + [0.0, 0.0, 1e5, 3.0, 0.0]
    dependent = np.column_stack([columns, columns[:, 0] - 2 * columns[:, 3], np.full(83, 7.0)])
    basis = orthonormal_basis(dependent.astype(dtype))
    assert basis.shape == (83, 5)
    np.testing.assert_allclose(basis.T @ basis, np.eye(5), atol=1e-13)
    np.testing.assert_allclose(basis.sum(axis=0), 0.0, atol=1e-13)
    # It spans the same space: nothing is left of the centred columns.
    centred = dependent.astype(dtype).astype(np.float64)
    centred -= centred.mean(axis=0)
    left = project_out(basis, centred)
    tolerance = 100 * np.finfo(dtype).eps * np.abs(dependent).max(axis=0)
    assert (np.abs(left).max(axis=0) <= tolerance).all()


def test_a_basis_of_nothing_is_empty():
    assert orthonormal_basis(np.zeros((20, 0))).shape == (20, 0)
    assert orthonormal_basis(np.full((20, 3), 5.0)).shape == (20, 0)
