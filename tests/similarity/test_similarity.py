"""Similarity against a literal float64 reference, its invariances and its refusals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from braindecode_clip import similarity as module
from braindecode_clip.errors import ConfigError, DataError
from braindecode_clip.similarity import similarity_blocks, similarity_matrix, unit_rows

EPS = np.finfo(np.float32).eps


def vectors(seed: int, n: int, n_dims: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, n_dims)).astype(np.float32)


@pytest.mark.parametrize("kind", ["cosine", "correlation"])
@pytest.mark.parametrize(("n", "m", "d"), [(7, 13, 5), (1, 2, 3), (40, 3, 129)])
def test_equals_scipy_in_float64(kind: str, n: int, m: int, d: int) -> None:
    queries, gallery = vectors(0, n, d), 3.0 + 0.1 * vectors(1, m, d)
    expected = 1 - cdist(queries.astype(float), gallery.astype(float), kind)
    result = similarity_matrix(queries, gallery, similarity=kind)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=EPS)


@pytest.mark.parametrize("kind", ["cosine", "correlation"])
def test_blocks_of_any_size_give_the_same_numbers(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, gallery = vectors(2, 23, 17), vectors(3, 31, 17)
    whole = similarity_matrix(queries, gallery, similarity=kind)
    for numbers in (17, 17 * 7, 31 * 5):
        monkeypatch.setattr(module, "BLOCK_NUMBERS", numbers)
        rows = [part for part, _ in similarity_blocks(queries, gallery, similarity=kind)]
        assert len(rows) > 1
        assert [part.start for part in rows[1:]] == [part.stop for part in rows[:-1]]
        blocks = similarity_matrix(queries, gallery, similarity=kind)
        np.testing.assert_allclose(blocks, whole, atol=EPS)


def test_scale_and_offset_change_nothing_that_they_should_not() -> None:
    queries, gallery = vectors(4, 6, 9), vectors(5, 8, 9)
    scales = np.geomspace(1e-30, 1e30, 6)[:, None]
    cosine = similarity_matrix(queries, gallery)
    np.testing.assert_allclose(similarity_matrix(queries * scales, gallery), cosine, atol=EPS)
    correlation = similarity_matrix(queries, gallery, similarity="correlation")
    moved = similarity_matrix(queries.astype(float) + 1000, gallery, similarity="correlation")
    np.testing.assert_allclose(moved, correlation, atol=1e-6)
    assert np.abs(similarity_matrix(queries + 1000, gallery) - cosine).max() > 0.1


@pytest.mark.parametrize("exponent", [-300, 300])
def test_numbers_whose_squares_leave_float64(exponent: int) -> None:
    base = vectors(6, 3, 4).astype(float)
    result = similarity_matrix(base * 10.0**exponent, base)
    np.testing.assert_allclose(np.diag(result), 1, atol=EPS)


@pytest.mark.parametrize("n_gallery", [2, 15, 16, 17, 63, 257])
def test_equal_candidates_tie_wherever_they_stand(n_gallery: int) -> None:
    # In a float32 product the last columns of a block are rounded otherwise than the others.
    one = vectors(7, 1, 131)
    table = similarity_matrix(vectors(8, 19, 131), np.repeat(one, n_gallery, axis=0))
    assert (table == table[:, :1]).all()


def test_mathematical_ties_of_unlike_vectors_are_ties() -> None:
    rng = np.random.default_rng(9)
    signs = rng.choice([-1.0, 1.0], size=(40, 10)).astype(np.float32)
    exact = (signs.astype(int) @ signs.astype(int).T) / 10
    table = similarity_matrix(signs, signs)
    for value in np.unique(exact):
        assert len(np.unique(table[exact == value])) == 1


def test_never_leaves_minus_one_to_one() -> None:
    base = vectors(10, 50, 7)
    table = similarity_matrix(np.concatenate([base, -base]), base)
    assert table.max() <= 1
    assert table.min() >= -1


@pytest.mark.parametrize(
    ("kind", "row", "words"),
    [
        ("cosine", np.zeros(4), "only zeros"),
        ("correlation", np.zeros(4), "only zeros"),
        ("correlation", np.full(4, 0.1), "equal numbers only"),
        ("correlation", np.full(4, 1e30), "equal numbers only"),
        ("cosine", [1, np.nan, 0, 0], "NaN"),
        ("cosine", [1, np.inf, 0, 0], "NaN or infinite"),
    ],
)
def test_a_vector_without_direction_is_named(kind: str, row: object, words: str) -> None:
    bad = np.ones((5, 4)) + np.arange(4)
    bad[3] = row
    good = vectors(11, 2, 4)
    with pytest.raises(DataError, match=rf"predicted: 1 vectors hold {words}.*rows '3'"):
        similarity_matrix(bad, good, similarity=kind)
    with pytest.raises(DataError, match=rf"gallery: 1 vectors hold {words}.*rows '3'"):
        similarity_matrix(good, bad, similarity=kind)


def test_rows_are_named_as_the_user_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_NUMBERS", 8)
    bad = np.ones((9, 4))
    bad[7] = 0
    with pytest.raises(DataError, match="rows '7'"):
        similarity_matrix(bad, np.ones((2, 4)))
    with pytest.raises(DataError, match="rows '7'"):
        similarity_matrix(np.ones((2, 4)), bad)


def test_a_nearly_constant_vector_still_correlates() -> None:
    flat = 1 + 1e-9 * np.arange(6.0)
    result = similarity_matrix(flat[None], np.arange(6.0)[None], similarity="correlation")
    np.testing.assert_allclose(result, 1, atol=1e-6)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ((3, 4), (3, 5), "4 dimensions and 'gallery' has 5"),
        ((3,), (3, 3), "has shape"),
        ((0, 3), (3, 3), "not empty"),
        ((3, 0), (3, 0), "not empty"),
    ],
)
def test_shapes_that_do_not_fit(first: tuple, second: tuple, words: str) -> None:
    with pytest.raises(DataError, match=words):
        similarity_matrix(np.ones(first), np.ones(second))


def test_other_kinds_and_dtypes_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected one of"):
        similarity_matrix(np.ones((1, 2)), np.ones((1, 2)), similarity="angular")
    with pytest.raises(DataError, match="dtype"):
        similarity_matrix(np.ones((1, 2), dtype=complex), np.ones((1, 2)))


def test_unit_rows_leaves_its_input_alone() -> None:
    rows = vectors(12, 4, 6)
    before = rows.copy()
    scaled = unit_rows(rows, "correlation")
    assert np.array_equal(rows, before)
    np.testing.assert_allclose(np.linalg.norm(scaled, axis=1), 1, rtol=1e-14)
    np.testing.assert_allclose(scaled.sum(axis=1), 0, atol=1e-14)


@pytest.mark.parametrize(("n", "m", "d"), [(7, 13, 5), (1, 2, 3), (40, 3, 129)])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e9])
def test_euclidean_is_minus_the_distance(n: int, m: int, d: int, scale: float) -> None:
    queries, gallery = scale * vectors(20, n, d).astype(float), scale * vectors(21, m, d)
    expected = -cdist(queries, gallery.astype(float))
    result = similarity_matrix(queries, gallery, similarity="euclidean")
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_euclidean_in_blocks_and_with_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    queries = vectors(22, 9, 17)
    gallery = np.repeat(vectors(23, 1, 17), 31, axis=0)
    gallery[7] = queries[3]
    table = similarity_matrix(queries, gallery, similarity="euclidean")
    assert table[3, 7] == 0.0
    assert (np.delete(table, 7, axis=1) == table[:, :1]).all()
    monkeypatch.setattr(module, "BLOCK_NUMBERS", 17 * 5)
    assert np.array_equal(similarity_matrix(queries, gallery, similarity="euclidean"), table)


def test_euclidean_takes_vectors_without_a_direction_but_no_giants() -> None:
    table = similarity_matrix(np.zeros((2, 3)), np.zeros((4, 3)), similarity="euclidean")
    assert (table == 0).all()
    with pytest.raises(DataError, match=r"numbers above 1e\+15, rows '1'"):
        similarity_matrix(
            np.ones((1, 2)), np.array([[1.0, 2.0], [1e16, 0.0]]), similarity="euclidean"
        )
    with pytest.raises(DataError, match="NaN"):
        similarity_matrix(np.ones((1, 2)), np.full((1, 2), np.nan), similarity="euclidean")
