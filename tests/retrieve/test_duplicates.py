from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from braindecode_clip.errors import ConfigError, DataError
from braindecode_clip.retrieve import duplicates
from braindecode_clip.retrieve.duplicates import near_duplicates


def drawn(n, seed, n_dims=13):
    """Return vectors of any length, a third of them near to an earlier one."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, n_dims))
    for k in range(2, n, 3):
        rows[k] = rows[rng.integers(0, k)] + 0.1 * rng.standard_normal(n_dims)
    return (rows * rng.uniform(0.5, 2, (n, 1))).astype(np.float32)


@pytest.mark.parametrize("threshold", [0.3, 0.9, 0.98])
def test_pairs_within_a_set_equal_the_full_table(threshold, monkeypatch):
    monkeypatch.setattr(duplicates, "_ROWS_AT_ONCE", 17)
    vectors = drawn(71, 1)
    table = cosine_similarity(vectors.astype(np.float64))
    want = {
        (i, j): table[i, j]
        for i, j in itertools.combinations(range(71), 2)
        if table[i, j] >= threshold
    }
    found = near_duplicates(vectors, threshold=threshold)
    pairs = list(zip(found["first"], found["second"], strict=True))
    assert len(pairs) == len(want) > 3
    assert set(pairs) == set(want)
    np.testing.assert_allclose(found["score"], [want[pair] for pair in pairs], atol=1e-6)
    assert (np.diff(found["score"]) <= 0).all()


def test_pairs_between_two_sets_equal_the_full_table():
    one, two = drawn(40, 2), drawn(53, 3)
    two[[4, 50]] = 3 * one[[7, 39]]
    table = cosine_similarity(one.astype(np.float64), two.astype(np.float64))
    found = near_duplicates(one, threshold=0.5, against=two)
    pairs = set(zip(found["first"], found["second"], strict=True))
    assert pairs == set(zip(*map(np.ndarray.tolist, np.nonzero(table >= 0.5)), strict=True))
    assert {(7, 4), (39, 50)} <= pairs
    np.testing.assert_allclose(found["score"][:2], 1.0, atol=1e-6)


def test_groups_are_the_connected_components():
    axis = np.eye(5)
    a, b = axis[0], axis[1]
    # A chain a - m - b whose ends are no pair, and a pair apart from it.
    vectors = np.stack([axis[3], a, axis[4], (a + b) / np.sqrt(2), b, axis[3] + 0.01 * axis[2]])
    found = near_duplicates(vectors, threshold=0.7)
    groups = {(r.first, r.second): r.group for r in found.itertuples()}
    assert groups == {(1, 3): 1, (3, 4): 1, (0, 5): 2}
    # Of two sets row 0 of one is not row 0 of the other.
    between = near_duplicates(axis[:3], threshold=0.9, against=axis[[1, 2, 4]])
    assert between["group"].nunique() == len(between) == 2


def test_the_threshold_itself_counts():
    vectors = np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)], [0.4999, np.sqrt(1 - 0.4999**2)]])
    found = near_duplicates(vectors, threshold=0.5)
    assert (0, 1) in set(zip(found["first"], found["second"], strict=True))
    assert (0, 2) not in set(zip(found["first"], found["second"], strict=True))


def test_a_pair_at_its_own_cosine_is_never_lost_to_rounding():
    """Float32 products are off by 1e-7: a threshold of exactly a pair's cosine keeps the pair."""
    vectors = drawn(60, 9, n_dims=301)
    table = near_duplicates(vectors, threshold=-1.0)
    assert len(table) == 60 * 59 // 2
    for row in table.iloc[::59].itertuples():
        found = near_duplicates(vectors, threshold=float(row.score))
        assert (row.first, row.second) in set(zip(found["first"], found["second"], strict=True))
        assert (found["score"] >= row.score).all()


def test_no_pairs_make_an_empty_table():
    found = near_duplicates(np.eye(4), threshold=0.5)
    assert found.columns.tolist() == ["first", "second", "score", "group"] and not len(found)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ConfigError, match=r"threshold: got 1\.2"):
        near_duplicates(np.eye(3), threshold=1.2)
    with pytest.raises(DataError, match="3 and of 2 dimensions"):
        near_duplicates(np.eye(3), threshold=0.5, against=np.eye(2))
    with pytest.raises(DataError, match="more than 5 pairs"):
        near_duplicates(np.ones((10, 3)), threshold=0.5, most_pairs=5)
    with pytest.raises(DataError, match="only zeros"):
        near_duplicates(np.array([[1.0, 0], [0, 0]]), threshold=0.5)
