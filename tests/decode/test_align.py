"""Functional alignment against scipy's Procrustes and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from braindecode_clip.decode.align import common_means, hyperalign, procrustes
from braindecode_clip.errors import DataError, LeakageError


def test_equal_sizes_are_scipys_rotation():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((30, 7)) + 4, rng.standard_normal((30, 7))
    expected, _ = scipy.linalg.orthogonal_procrustes(X - X.mean(axis=0), Y - Y.mean(axis=0))
    np.testing.assert_allclose(procrustes(X, Y), expected, atol=1e-12)


@pytest.mark.parametrize(("n_x", "n_y"), [(9, 5), (5, 9)])
def test_unequal_sizes_are_scipys_rotation_of_padded_spaces(n_x, n_y):
    rng = np.random.default_rng(1)
    X, Y = rng.standard_normal((40, n_x)), rng.standard_normal((40, n_y))
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    wide = max(n_x, n_y)
    padded = [np.pad(part, ((0, 0), (0, wide - part.shape[1]))) for part in (X, Y)]
    rotation, _ = scipy.linalg.orthogonal_procrustes(*padded)
    found = procrustes(X, Y)
    assert np.trace(Y.T @ X @ found) == pytest.approx(
        np.trace(padded[1].T @ padded[0] @ rotation), rel=1e-10
    )
    small = found.T @ found if n_x > n_y else found @ found.T
    np.testing.assert_allclose(small, np.eye(min(n_x, n_y)), atol=1e-12)


def test_whitening_leads_to_canonical_correlation():
    rng = np.random.default_rng(2)
    Z = rng.standard_normal((60, 3))
    X = Z @ rng.standard_normal((3, 3)) * [5, 1, 0.2] + 0.3 * rng.standard_normal((60, 3))
    Y = Z @ rng.standard_normal((3, 3)) + 0.3 * rng.standard_normal((60, 3))
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    roots = [scipy.linalg.fractional_matrix_power(part.T @ part, -0.5) for part in (X, Y)]
    left, _, right = np.linalg.svd(roots[0] @ X.T @ Y @ roots[1])
    expected = roots[0] @ left @ right
    found = procrustes(X, Y, whitening=1 - 1e-9)
    scale = np.linalg.norm(found) / np.linalg.norm(expected)
    np.testing.assert_allclose(found, scale * expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="expected 0 to below 1"):
        procrustes(X, Y, whitening=1.0)


def test_hyperalignment_finds_the_common_space():
    rng = np.random.default_rng(3)
    G = rng.standard_normal((50, 4)) * [4, 3, 2, 1]
    G -= G.mean(axis=0)
    rotations = [np.linalg.qr(rng.standard_normal((p, 4)))[0] for p in (12, 20, 9)]
    clean = hyperalign([G @ R.T + 7 for R in rotations], n_components=4)
    assert clean.errors[-1] == pytest.approx(0, abs=1e-12)
    # The same up to one rotation for all.
    turn, _ = scipy.linalg.orthogonal_procrustes(clean.shared, G)
    np.testing.assert_allclose(clean.shared @ turn, G, atol=1e-9)
    new = rng.standard_normal((6, 4))
    carried = [clean.transform(new @ R.T + 7, i) @ turn for i, R in enumerate(rotations)]
    np.testing.assert_allclose(carried, [new] * 3, atol=1e-9)


def test_the_error_is_the_objective_and_never_rises():
    rng = np.random.default_rng(4)
    parts = [rng.standard_normal((25, p)) for p in (8, 13, 10)]
    found = hyperalign(parts, n_components=5, n_iterations=20, tolerance=0)
    assert len(found.errors) >= 5 and (np.diff(found.errors) <= 1e-12).all()
    centred = [X - X.mean(axis=0) for X in parts]
    left = sum(
        np.square(X - found.shared @ R.T).sum() for X, R in zip(centred, found.maps, strict=True)
    )
    assert found.errors[-1] == pytest.approx(left / sum(np.square(X).sum() for X in centred))


def test_means_of_shared_training_stimuli_in_one_order():
    rng = np.random.default_rng(5)
    ids = [np.array(["c", "a", "b", "a", "d"]), np.array(["a", "x", "d", "c"])]
    X = [rng.standard_normal((5, 3)), rng.standard_normal((4, 2))]
    first, second = common_means(X, ids, names=["1", "2"], test_ids=["t"])
    np.testing.assert_allclose(first, [(X[0][1] + X[0][3]) / 2, X[0][0], X[0][4]])
    np.testing.assert_allclose(second, X[1][[0, 3, 2]])
    with pytest.raises(LeakageError, match="'c'"):
        common_means(X, ids, names=["1", "2"], test_ids=["c", "q"])
    ids[1] = np.array(["a", "x", "y", "z"])
    with pytest.raises(DataError, match=r"sub-1, sub-2: they share 1 .*'alignment' to 'none'"):
        common_means(X, ids, names=["1", "2"], test_ids=[])


def test_refuses_what_cannot_be_aligned():
    X = np.zeros((5, 3))
    with pytest.raises(DataError, match="expected two or more to align"):
        hyperalign([X], n_components=1)
    with pytest.raises(DataError, match="expected 1 to 3"):
        hyperalign([X, np.zeros((5, 4))], n_components=4)
    with pytest.raises(DataError, match=r"(?s)2 problems.*rows.*NaN"):
        procrustes(X, np.full((4, 2), np.nan))
