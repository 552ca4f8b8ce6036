"""Exact search and exact ranks against a full sort of the float64 table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import rankdata

from braindecode_clip.errors import ConfigError, DataError
from braindecode_clip.metrics import ranks
from braindecode_clip.products import ScaledGallery, blocks
from braindecode_clip.retrieve import ExactSearch, nearest, search
from braindecode_clip.similarity import similarity_matrix

KINDS = ("cosine", "correlation", "euclidean")
DEVICES = ("cpu", "torch")


def table_of(queries: np.ndarray, gallery: np.ndarray, kind: str, offset=None) -> np.ndarray:
    """Return the similarities that a full sort starts from, ties included."""
    table = similarity_matrix(queries, gallery, similarity=kind)
    return table if offset is None else (table - offset).astype(np.float32)


def full_sort(table: np.ndarray, k: int) -> np.ndarray:
    return np.argsort(-table, axis=1, kind="stable")[:, :k]


def mean_ranks(table: np.ndarray, true: np.ndarray) -> np.ndarray:
    return rankdata(-table, axis=1)[np.arange(len(table)), true]


def data(seed: int, n: int, m: int, d: int, *, copies: bool = False):
    rng = np.random.default_rng(seed)
    gallery = rng.standard_normal((m, d)).astype(np.float32)
    if copies:
        gallery[m // 2 :] = gallery[: m - m // 2]
        gallery[-(m // 5) :] = gallery[0]
    queries = 3.0 * rng.standard_normal((n, d))
    queries[0] = gallery[0]
    return queries, gallery, rng.integers(0, m, n)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make several blocks of candidates and several of queries out of little data."""
    monkeypatch.setattr(blocks, "CPU_NUMBERS", 64)
    monkeypatch.setattr(blocks, "LEAST_WIDTH", 7)
    monkeypatch.setattr(search, "QUERY_STEP", 5)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.parametrize(("n", "m", "d", "k"), [(1, 3, 2, 2), (13, 61, 5, 4), (6, 203, 33, 12)])
def test_equals_a_full_sort(kind, device, copies, n, m, d, k) -> None:
    queries, gallery, true = data(m, n, m, d, copies=copies)
    table = table_of(queries, gallery, kind)
    exact = ExactSearch(gallery, similarity=kind, device=device)
    found = exact.nearest(queries, k)
    best = full_sort(table, k)
    assert np.array_equal(found.index, best)
    assert np.array_equal(found.score, np.take_along_axis(table, best, axis=1))
    better, tied = exact.count_better(queries, true)
    assert np.array_equal(ranks(better, tied), mean_ranks(table, true))


def test_agrees_with_scipy_where_nothing_ties() -> None:
    queries, gallery, true = data(1, 9, 150, 24)
    for kind in KINDS:
        distance = cdist(queries, gallery.astype(float), kind)
        exact = ExactSearch(gallery, similarity=kind)
        assert np.array_equal(exact.nearest(queries, 7).index, np.argsort(distance, axis=1)[:, :7])
        expected = rankdata(distance, axis=1)[np.arange(9), true]
        assert np.array_equal(ranks(*exact.count_better(queries, true)), expected)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["cosine", "correlation"])
def test_offsets_are_taken_off(kind: str, device: str) -> None:
    queries, gallery, true = data(2, 11, 83, 9, copies=True)
    offset = np.random.default_rng(3).normal(0, 0.3, 83)
    offset[41:] = offset[:42]
    table = table_of(queries, gallery, kind, offset)
    exact = ExactSearch(gallery, similarity=kind, offset=offset, device=device)
    assert np.array_equal(exact.nearest(queries, 9).index, full_sort(table, 9))
    assert np.array_equal(ranks(*exact.count_better(queries, true)), mean_ranks(table, true))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_equal_candidates_tie_and_fit_in_memory(kind: str) -> None:
    rng = np.random.default_rng(4)
    gallery = np.repeat(rng.standard_normal((2, 19)).astype(np.float32), 1500, axis=0)
    rng.shuffle(gallery)
    queries = rng.standard_normal((3, 19))
    table = table_of(queries, gallery, kind)
    exact = ExactSearch(gallery, similarity=kind)
    assert np.array_equal(exact.nearest(queries, 20).index, full_sort(table, 20))
    true = np.array([0, 1500, 2999])
    expected = mean_ranks(table, true)
    assert set(expected % 1) == {0.5}
    assert np.array_equal(ranks(*exact.count_better(queries, true)), expected)


def test_the_shortlist_is_settled_where_near_ties_crowd_it(monkeypatch) -> None:
    settled = []
    original = search._Shortlist.settle
    monkeypatch.setattr(
        search._Shortlist,
        "settle",
        lambda self, *pairs: (settled.append(1), original(self, *pairs)),
    )
    gallery = np.tile(np.float32([[1.0, 2.0, 3.0]]), (6000, 1))
    gallery[5900] += 1e-2
    monkeypatch.setattr(blocks, "CPU_NUMBERS", 1024)
    found = nearest(np.array([[1.0, 2.0, 3.0], [1.01, 2.01, 3.01]]), gallery, k=3)
    assert settled
    assert found.index[0].tolist() == [0, 1, 2] and found.index[1].tolist() == [5900, 0, 1]


def test_differences_below_float32_are_seen() -> None:
    # Similarities that differ by 1e-8: a float32 product mixes them up, the exact score does not.
    d = 512
    rng = np.random.default_rng(5)
    base = rng.standard_normal(d)
    base /= np.linalg.norm(base)
    side = rng.standard_normal((300, d))
    side -= (side @ base)[:, None] * base
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    cosine = 0.01 + 1e-8 * rng.permutation(300)
    gallery = cosine[:, None] * base + np.sqrt(1 - cosine[:, None] ** 2) * side
    exact = ExactSearch(gallery)
    assert np.array_equal(exact.nearest(base[None], 300).index[0], np.argsort(-cosine))
    float32 = gallery.astype(np.float32) @ base.astype(np.float32)
    assert not np.array_equal(np.argsort(-float32), np.argsort(-cosine))
    better, _ = exact.count_better(np.tile(base, (300, 1)), np.arange(300))
    assert np.array_equal(better, 299 - np.argsort(np.argsort(cosine)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e7])
@pytest.mark.parametrize("mean", [0.0, 30.0])
def test_the_bound_on_float32_holds(kind: str, scale: float, mean: float) -> None:
    rng = np.random.default_rng(6)
    gallery = (scale * (rng.standard_normal((90, 130)) + mean)).astype(np.float32)
    queries = scale * (rng.standard_normal((8, 130)) + mean)
    offset = None if kind == "euclidean" else rng.normal(0, 2, 90)
    scaled = ScaledGallery(gallery, similarity=kind, offset=offset, device="cpu")
    scorer = scaled.scorer(queries)
    rows, columns = np.divmod(np.arange(8 * 90), 90)
    true = scorer.linear(rows, columns).reshape(8, 90)
    for start, block in scorer.blocks():
        error = np.abs(block._scores - true[:, start : start + block._scores.shape[1]])
        assert (error <= scorer.slack[:, None]).all()
    # Orders the pairs as the stored scores do, where these differ by more than the bound.
    score = scorer.exact(rows, columns).reshape(8, 90)
    for i in range(8):
        apart = true[i][:, None] - true[i][None, :] > 2 * scorer.slack[i]
        assert (score[i][:, None] > score[i][None, :])[apart].all()


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32])
def test_other_number_types(dtype: type) -> None:
    rng = np.random.default_rng(7)
    gallery = (10 * rng.standard_normal((40, 6))).astype(dtype)
    gallery[:, 0] += dtype(1)
    queries = rng.standard_normal((5, 6))
    for kind in KINDS:
        table = table_of(queries, gallery, kind)
        assert np.array_equal(
            nearest(queries, gallery, k=4, similarity=kind).index, full_sort(table, 4)
        )


@pytest.mark.parametrize("exponent", [-200, 200])
def test_numbers_whose_squares_leave_float32(exponent: int) -> None:
    queries, gallery, _ = data(8, 4, 30, 7)
    wide = gallery.astype(float) * 10.0**exponent
    for kind in ("cosine", "correlation"):
        table = table_of(queries, gallery, kind)
        assert np.array_equal(
            nearest(queries, wide, k=5, similarity=kind).index, full_sort(table, 5)
        )
    small = nearest(queries * 1e-14, gallery * np.float32(1e-14), k=5, similarity="euclidean")
    expected = full_sort(table_of(queries, gallery, "euclidean"), 5)
    assert np.array_equal(small.index, expected)


def test_a_memory_map_is_searched_in_place(tmp_path: Path) -> None:
    queries, gallery, _ = data(9, 3, 50, 4)
    np.save(tmp_path / "vectors.npy", gallery)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    for device in DEVICES:
        found = nearest(queries, mapped, k=3, device=device)
        assert np.array_equal(found.index, full_sort(table_of(queries, gallery, "cosine"), 3))


def test_more_wanted_than_there_are() -> None:
    queries, gallery, _ = data(10, 2, 5, 3)
    assert nearest(queries, gallery, k=9).index.shape == (2, 5)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"similarity": "angular"}, ConfigError, "expected one of"),
        ({"similarity": "euclidean", "offset": np.zeros(5)}, ConfigError, "not off distances"),
        ({"offset": np.zeros(4)}, DataError, r"shape \(4,\), expected one number for each of 5"),
        ({"offset": np.full(5, np.nan)}, DataError, "NaN"),
        ({"device": "abacus"}, ConfigError, "unknown"),
        ({"device": "cuda:77"}, ConfigError, "device"),
    ],
)
def test_bad_galleries_are_refused(arguments: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        ExactSearch(np.ones((5, 3), dtype=np.float32) + np.eye(5, 3, dtype=np.float32), **arguments)


def test_bad_vectors_are_refused_with_their_rows() -> None:
    gallery = np.eye(4, dtype=np.float32)
    gallery[2] = 0
    with pytest.raises(DataError, match=r"only zeros.*'2'"):
        ExactSearch(gallery)
    gallery[2] = np.nan
    for kind in KINDS:
        with pytest.raises(DataError, match=r"NaN.*'2'"):
            ExactSearch(gallery, similarity=kind)
    exact = ExactSearch(np.eye(4))
    with pytest.raises(DataError, match="5 dimensions"):
        exact.nearest(np.ones((1, 5)), 2)
    with pytest.raises(ConfigError, match="k: got 0"):
        exact.nearest(np.ones((1, 4)), 0)
    with pytest.raises(DataError, match="outside the gallery"):
        exact.count_better(np.ones((1, 4)), np.array([4]))
