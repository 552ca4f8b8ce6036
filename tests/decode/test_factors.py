import numpy as np
import pytest
import scipy.linalg

from braindecode_clip.decode.factors import (
    NotPositiveError,
    factor,
    invert,
    solve_factored,
    solve_triangle,
)


def make_matrix(n, dtype):
    rng = np.random.default_rng(n)
    root = rng.standard_normal((n, 2 * n))
    return np.asfortranarray((root @ root.T).astype(dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 7, 83])
def test_equal_scipy(n, dtype):
    matrix, eps = make_matrix(n, dtype), np.finfo(dtype).eps
    exact = matrix.astype(np.float64)
    expected = scipy.linalg.cholesky(exact, lower=True)
    lower = factor(matrix.copy(order="F"))
    tolerance = 50 * n * eps
    np.testing.assert_allclose(np.tril(lower), expected, rtol=0, atol=tolerance * expected.max())
    right = np.random.default_rng(1).standard_normal((5, n)).astype(dtype)
    for transposed in (False, True):
        solved = solve_triangle(lower, right.copy(), transposed=transposed)
        wanted = scipy.linalg.solve_triangular(expected, right.T, lower=True, trans=int(transposed))
        np.testing.assert_allclose(solved, wanted.T, rtol=0, atol=tolerance * np.abs(wanted).max())
    solved, wanted = solve_factored(lower, right.copy()), np.linalg.solve(exact, right.T).T
    scale = np.abs(wanted).max() * np.linalg.cond(exact)
    np.testing.assert_allclose(solved, wanted, rtol=0, atol=50 * eps * scale)
    inverse = np.tril(invert(lower.copy(order="F")))
    wanted = scipy.linalg.inv(expected)
    scale = np.abs(wanted).max() * np.linalg.cond(expected)
    np.testing.assert_allclose(inverse, wanted, rtol=0, atol=50 * eps * scale)


def test_not_positive():
    with pytest.raises(NotPositiveError):
        factor(np.asfortranarray(np.diag([1.0, -1.0, 2.0])))


@pytest.mark.parametrize(
    "right",
    [np.zeros((4, 6))[:, ::2], np.zeros((4, 3), dtype=np.float32), np.zeros((4, 3), dtype=int)],
)
def test_refuses_what_fortran_would_misread(right):
    lower = factor(make_matrix(3, np.float64))
    with pytest.raises(ValueError, match="contiguous"):
        solve_triangle(lower, right, transposed=False)
