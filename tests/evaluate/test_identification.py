"""The public call against the published double loop, and its refusals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import hypergeom

from braindecode_clip import similarity as similarity_module
from braindecode_clip.errors import DataError
from braindecode_clip.evaluate import identification, identify
from braindecode_clip.metrics import count_better
from braindecode_clip.products import Scorer, blocks
from braindecode_clip.similarity import similarity_matrix


def literal(predicted: np.ndarray, gallery: np.ndarray, true: np.ndarray, kind: str) -> list:
    def score(a: np.ndarray, b: np.ndarray) -> float:
        if kind == "correlation":
            return float(np.corrcoef(a, b)[0, 1])
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    ranks = []
    for query, t in zip(predicted.astype(float), true, strict=True):
        scores = [score(query, candidate) for candidate in gallery.astype(float)]
        rank = 1.0
        for column, value in enumerate(scores):
            if column != t:
                close = abs(value - scores[t]) < 1e-7
                rank += 0.5 if close else float(value > scores[t])
        ranks.append(rank)
    return ranks


@pytest.mark.parametrize("kind", ["cosine", "correlation"])
@pytest.mark.parametrize(("n", "m", "d"), [(30, 19, 8), (1, 2, 3), (5, 40, 64)])
def test_equals_the_double_loop(kind: str, n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(n)
    gallery = rng.standard_normal((m, d)).astype(np.float32)
    true = rng.integers(0, m, n)
    predicted = (gallery[true] + 2 * rng.standard_normal((n, d))).astype(np.float32)
    found = identification(predicted, gallery, true, similarity=kind)
    expected = literal(predicted, gallery, true, kind)
    assert found.rank.tolist() == expected
    assert found.n_gallery == m
    assert found.mean_rank == pytest.approx(np.mean(expected))
    assert found.median_rank == np.median(expected)
    assert found.mean_reciprocal_rank == pytest.approx(np.mean(1 / np.array(expected)))
    assert found.pairwise == pytest.approx(np.mean((m - np.array(expected)) / (m - 1)))
    for k in (1, 2, 5):
        assert found.top_k(k) == np.mean(np.array(expected) <= k)
        assert found.chance_top_k(k) == min(1, k / m)


@pytest.mark.parametrize("kind", ["cosine", "correlation"])
def test_ties_of_duplicates_and_of_few_valued_vectors(kind: str) -> None:
    rng = np.random.default_rng(1)
    gallery = rng.integers(0, 3, (30, 5)).astype(np.float32)
    gallery[:, 0] += 1
    gallery[:, 1] = gallery[:, 0] + 1
    gallery = np.concatenate([gallery, gallery[:7], 3 * gallery[3:9]])
    true = rng.integers(0, len(gallery), 25)
    predicted = gallery[rng.permutation(true)]
    found = identification(predicted, gallery, true, similarity=kind)
    expected = literal(predicted, gallery, true, kind)
    assert found.rank.tolist() == expected
    assert any(rank % 1 for rank in expected)


def test_two_equal_best_candidates_share_rank_one_and_a_half() -> None:
    gallery = np.array([[1.0, 0], [1, 0], [0, 1]])
    found = identification([[1.0, 0]], gallery, [0])
    assert found.rank.tolist() == [1.5]
    assert (found.top_k(1), found.top_k(2)) == (0.0, 1.0)
    assert found.pairwise == 0.75


def test_the_same_prediction_for_every_query_is_chance_exactly() -> None:
    rng = np.random.default_rng(2)
    gallery = rng.standard_normal((41, 7))
    found = identification(np.tile(gallery[3], (41, 1)), gallery, np.arange(41))
    assert found.mean_rank == 21.0
    assert found.pairwise == pytest.approx(0.5, abs=1e-12)
    assert found.top_k(1) == pytest.approx(found.chance_top_k(1))


def test_order_of_queries_and_of_the_gallery_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    gallery = rng.standard_normal((20, 4)).astype(np.float32)
    predicted, true = rng.standard_normal((9, 4)), rng.integers(0, 20, 9)
    found = identification(predicted, gallery, true)
    order, queries = rng.permutation(20), rng.permutation(9)
    moved = identification(predicted[queries] * 7, gallery[order], np.argsort(order)[true[queries]])
    assert np.array_equal(moved.rank, found.rank[queries])


def test_blocks_do_not_change_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    gallery = np.repeat(rng.standard_normal((15, 6)), 2, axis=0)
    predicted, true = rng.standard_normal((50, 6)), rng.integers(0, 30, 50)
    found = identification(predicted, gallery, true)
    monkeypatch.setattr(similarity_module, "BLOCK_NUMBERS", 64)
    monkeypatch.setattr(blocks, "CPU_NUMBERS", 1)
    monkeypatch.setattr(blocks, "LEAST_WIDTH", 4)
    monkeypatch.setattr(identify, "QUERY_STEP", 7)
    assert np.array_equal(identification(predicted, gallery, true).rank, found.rank)


@pytest.mark.parametrize("kind", ["cosine", "correlation", "euclidean"])
@pytest.mark.parametrize("most_exact", [0, 3, 10**6])
def test_ranks_are_those_of_the_float64_table(
    kind: str, most_exact: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Near ties within float32's rounding, exact ties, and queries where almost all tie."""
    rng = np.random.default_rng(6)
    gallery = rng.standard_normal((60, 30)).astype(np.float32)
    gallery[20:40] = gallery[:20] * (1 + 1e-7 * rng.standard_normal((20, 30)))
    gallery[50:] = gallery[0]
    true = rng.integers(0, 60, 45)
    predicted = gallery[true] + 0.5 * rng.standard_normal((45, 30)).astype(np.float32)
    predicted[:4] = gallery[0]
    table = similarity_matrix(predicted, gallery, similarity=kind)
    expected = count_better(table, true)
    assert np.count_nonzero(expected[1]) > 5
    monkeypatch.setattr(identify, "MOST_EXACT", most_exact)
    monkeypatch.setattr(identify, "QUERY_STEP", 10)
    found = identification(predicted, gallery, true, similarity=kind)
    np.testing.assert_array_equal(found.n_better, expected[0])
    np.testing.assert_array_equal(found.n_tied, expected[1])


def test_a_faulty_query_of_a_later_block_is_named_by_its_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(identify, "QUERY_STEP", 4)
    vectors = np.random.default_rng(7).standard_normal((12, 3))
    predicted = vectors.copy()
    predicted[9, 1] = np.nan
    with pytest.raises(DataError, match=r"predicted: 1 vectors hold NaN.*rows '9'"):
        identification(predicted, vectors, np.arange(12))


def test_a_gallery_of_ties_takes_no_pairs_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    exact = Scorer.exact

    def counted(self: Scorer, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        calls.append(len(rows))
        return exact(self, rows, columns)

    monkeypatch.setattr(Scorer, "exact", counted)
    gallery = np.tile(np.arange(1.0, 4.0), (300, 1))
    found = identification(gallery[:200], gallery, np.arange(200))
    assert found.rank.tolist() == [150.5] * 200
    assert sum(calls) == 200


def test_expected_top_k_is_the_mean_over_drawn_pools() -> None:
    rng = np.random.default_rng(5)
    gallery = rng.standard_normal((40, 5))
    predicted = gallery + 1.2 * rng.standard_normal((40, 5))
    found = identification(predicted, gallery, np.arange(40))
    expected = hypergeom.cdf(0, 39, found.rank - 1, 9).mean()
    assert found.expected_top_k(1, 10) == pytest.approx(expected)
    assert found.expected_top_k(1, 40) == pytest.approx(found.top_k(1))
    draws = []
    for _ in range(300):
        pool = rng.choice(40, 10, replace=False)
        draws.append(identification(predicted[pool], gallery[pool], np.arange(10)).top_k(1))
    error = np.std(draws) / np.sqrt(len(draws))
    assert abs(np.mean(draws) - found.expected_top_k(1, 10)) < 4 * error


def test_lists_and_small_integers_will_do() -> None:
    found = identification([[1, 0], [0, 2]], [[3, 1], [1, 3]], [0, 1])
    assert found.rank.tolist() == [1, 1]
    assert identification([[1, 0]], [[3, 1], [1, 3]], np.array([1], dtype=np.uint8)).top_k(1) == 0


@pytest.mark.parametrize(
    ("predicted", "gallery", "true", "words"),
    [
        (np.ones((2, 3)), np.ones((4, 2)), [0, 1], "3 dimensions and 'gallery' has 2"),
        (np.ones(3), np.ones((4, 3)), [0], "shape"),
        (np.ones((2, 3)), np.ones((4, 3)), [0, 4], "outside the gallery of 4"),
        (np.ones((2, 3)), np.ones((4, 3)), [0], "shape"),
        (np.ones((2, 3)), np.ones((4, 3)), [0.0, 1.0], "integers"),
        (np.ones((1, 3)), np.ones((1, 3)), [0], "at least 2"),
        (np.full((1, 3), np.nan), np.ones((2, 3)), [0], "NaN"),
        (np.ones((1, 3)), [[1, 1, 1], [np.inf, 1, 1]], [0], "infinite"),
        (np.zeros((1, 3)), np.ones((2, 3)), [0], "only zeros"),
    ],
)
def test_refusals(predicted: object, gallery: object, true: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        identification(predicted, gallery, true)
