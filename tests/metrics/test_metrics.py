"""Every metric against a slow, literal restatement of its definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest, hypergeom, pearsonr, percentileofscore, rankdata
from sklearn.metrics import label_ranking_average_precision_score, r2_score, top_k_accuracy_score

from braindecode_clip import metrics
from braindecode_clip.errors import DataError


def tables() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "continuous": rng.standard_normal((23, 11)),
        "ties": rng.integers(0, 4, (23, 11)).astype(float),
        "all equal": np.ones((5, 7)),
        "two candidates": rng.standard_normal((9, 2)),
        "one query": rng.standard_normal((1, 6)),
        "infinite": np.where(rng.random((6, 8)) < 0.3, -np.inf, rng.standard_normal((6, 8))),
    }


def literal_rank(row: np.ndarray, true: int) -> float:
    rank = 1.0
    for column, value in enumerate(row):
        if column != true:
            rank += 1.0 if value > row[true] else 0.5 if value == row[true] else 0.0
    return rank


@pytest.mark.parametrize("name", tables())
def test_ranks_are_their_definition_and_scipys(name: str) -> None:
    table = tables()[name]
    true = np.random.default_rng(1).integers(0, table.shape[1], len(table))
    rank = metrics.ranks(*metrics.count_better(table, true))
    assert rank.tolist() == [literal_rank(row, t) for row, t in zip(table, true, strict=True)]
    everything = metrics.rank_matrix(table)
    assert np.array_equal(everything, rankdata(-table, method="average", axis=1))
    assert np.array_equal(everything[np.arange(len(table)), true], rank)


def test_ranks_do_not_depend_on_the_order_of_the_gallery_or_on_a_monotone_map() -> None:
    table = tables()["ties"]
    true = np.arange(len(table)) % table.shape[1]
    rank = metrics.ranks(*metrics.count_better(table, true))
    order = np.random.default_rng(2).permutation(table.shape[1])
    moved = metrics.count_better(table[:, order], np.argsort(order)[true])
    assert np.array_equal(metrics.ranks(*moved), rank)
    assert np.array_equal(metrics.ranks(*metrics.count_better(np.exp(table), true)), rank)


def test_only_the_chosen_distractors_count() -> None:
    table = tables()["ties"]
    true = np.arange(len(table)) % table.shape[1]
    chosen = np.random.default_rng(3).random(table.shape) < 0.5
    better, tied = metrics.count_better(table, true, distractors=chosen)
    for row in range(len(table)):
        kept = [c for c in range(table.shape[1]) if chosen[row, c] and c != true[row]]
        assert better[row] == sum(table[row, c] > table[row, true[row]] for c in kept)
        assert tied[row] == sum(table[row, c] == table[row, true[row]] for c in kept)


@pytest.mark.parametrize("name", tables())
def test_scores_of_ranks_are_their_definitions(name: str) -> None:
    table = tables()[name]
    true = np.random.default_rng(4).integers(0, table.shape[1], len(table))
    better, tied = metrics.count_better(table, true)
    rank = metrics.ranks(better, tied)
    wins = []
    for row, t in zip(table, true, strict=True):
        for column, value in enumerate(row):
            if column != t:
                wins.append(1.0 if row[t] > value else 0.5 if row[t] == value else 0.0)
    n_distractors = table.shape[1] - 1
    assert metrics.pairwise(rank, n_distractors) == pytest.approx(np.mean(wins), abs=1e-12)
    assert metrics.mean_reciprocal_rank(rank) == pytest.approx(sum(1 / r for r in rank) / len(rank))
    for k in (1, 2, 5):
        assert metrics.top_k(rank, k) == sum(r <= k for r in rank) / len(rank)
    if np.isfinite(table).all():
        shares = [
            percentileofscore(r, r[t], kind="mean") / 100 for r, t in zip(table, true, strict=True)
        ]
        found = metrics.percentile_rank(rank, table.shape[1])
        assert found == pytest.approx(np.mean(shares), abs=1e-12)


@pytest.mark.parametrize("name", tables())
def test_counts_of_every_column_are_those_of_each(name: str) -> None:
    table = tables()[name]
    better, tied = metrics.count_matrix(table, n_columns=2)
    assert better.shape == tied.shape == (len(table), 2)
    for column in range(2):
        expected = metrics.count_better(table, np.full(len(table), column))
        np.testing.assert_array_equal((better[:, column], tied[:, column]), expected)
    with pytest.raises(DataError, match="NaN has no rank"):
        metrics.count_matrix(np.where(table == table[0, 0], np.nan, table))


def test_against_scikit_learn_where_nothing_ties() -> None:
    table = tables()["continuous"]
    true = np.arange(len(table)) % table.shape[1]
    rank = metrics.ranks(*metrics.count_better(table, true))
    for k in (1, 3, 10):
        expected = top_k_accuracy_score(true, table, k=k, labels=np.arange(table.shape[1]))
        assert metrics.top_k(rank, k) == pytest.approx(expected)
    relevant = true[:, None] == np.arange(table.shape[1])
    expected = label_ranking_average_precision_score(relevant, table)
    assert metrics.mean_reciprocal_rank(rank) == pytest.approx(expected)


def test_chance_is_the_mean_over_all_ranks() -> None:
    for size in (2, 7, 60):
        every = np.arange(1, size + 1)
        for k in (1, 5, 100):
            assert metrics.chance_top_k(k, size) == pytest.approx(np.mean(every <= k))
        assert metrics.chance_rank(size) == pytest.approx(every.mean())
        assert metrics.chance_reciprocal_rank(size) == pytest.approx(np.mean(1 / every), rel=1e-12)
        assert metrics.pairwise(every, size - 1) == pytest.approx(0.5)
    assert metrics.chance_top_k(1, np.array([2, 4])) == pytest.approx(0.375)


def test_equal_similarities_score_chance_exactly() -> None:
    table = np.zeros((5, 60))
    rank = metrics.ranks(*metrics.count_better(table, np.arange(5)))
    assert set(rank) == {metrics.chance_rank(60)}
    assert metrics.pairwise(rank, 59) == 0.5
    assert metrics.top_k(rank, 10) == 0


@pytest.mark.parametrize(
    ("true", "words"),
    [
        (np.array([0, 5]), "outside the gallery of 3 for 1 queries, rows '1'"),
        (np.array([-1, 0]), "outside"),
        (np.array([0.0, 1.0]), "expected integers"),
        (np.array([0]), "shape"),
        (np.array([True, False]), "expected integers"),
    ],
)
def test_bad_indices_are_named(true: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        metrics.count_better(np.zeros((2, 3)), true)


def test_nan_is_never_ranked() -> None:
    table = np.zeros((4, 3))
    table[2, 1] = np.nan
    with pytest.raises(DataError, match="NaN for 1 queries, rows '2'"):
        metrics.count_better(table, np.zeros(4, dtype=int))


# -- pools -----------------------------------------------------------------------------------


def literal_expected_top_k(row: np.ndarray, true: int, *, k: int, pool: int) -> float:
    others = [c for c in range(len(row)) if c != true]
    hits = [
        literal_rank(row[[true, *chosen]], 0) <= k
        for chosen in itertools.combinations(others, pool - 1)
    ]
    return float(np.mean(hits))


@pytest.mark.parametrize("levels", [2, 3, 1000])
def test_expected_top_k_is_the_mean_over_every_pool(levels: int) -> None:
    rng = np.random.default_rng(levels)
    table = rng.integers(0, levels, (6, 9)).astype(float)
    true = rng.integers(0, 9, 6)
    better, tied = metrics.count_better(table, true)
    for k, pool in itertools.product((1, 2, 5), (2, 3, 5, 9)):
        result = metrics.expected_top_k(better, tied, 8, k=k, pool=pool)
        expected = [
            literal_expected_top_k(row, t, k=k, pool=pool)
            for row, t in zip(table, true, strict=True)
        ]
        np.testing.assert_allclose(result, expected, atol=1e-12)


def test_expected_top_k_is_scipys_hypergeometric_without_ties() -> None:
    better = np.array([0, 1, 5, 100, 900, 998, 999])
    for k, pool in itertools.product((1, 5, 10), (2, 50, 300, 1000)):
        result = metrics.expected_top_k(better, np.zeros(7, int), 999, k=k, pool=pool)
        expected = hypergeom.cdf(k - 1, 999, better, pool - 1)
        np.testing.assert_allclose(result, expected, atol=1e-10)


def test_the_whole_gallery_as_pool_is_plain_top_k() -> None:
    table = tables()["ties"]
    true = np.arange(len(table)) % table.shape[1]
    better, tied = metrics.count_better(table, true)
    for k in (1, 3, 5):
        result = metrics.expected_top_k(better, tied, 10, k=k, pool=11)
        np.testing.assert_allclose(result, metrics.ranks(better, tied) <= k, atol=1e-12)


def test_pools_of_two_are_pairwise_without_ties() -> None:
    better = np.arange(8)
    result = metrics.expected_top_k(better, 0 * better, 9, k=1, pool=2)
    np.testing.assert_allclose(result, 1 - better / 9, atol=1e-12)


@pytest.mark.parametrize(("k", "pool"), [(0, 3), (1, 1), (1, 11)])
def test_impossible_pools(k: int, pool: int) -> None:
    with pytest.raises(DataError, match="pools of 2 to 10"):
        metrics.expected_top_k(np.zeros(2, int), np.zeros(2, int), 9, k=k, pool=pool)


# -- dimensions --------------------------------------------------------------------------------


def pair(seed: int, n: int = 17, d: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.standard_normal((n, d)) + rng.standard_normal(d)
    return 0.3 * target + rng.standard_normal((n, d)), target


def test_correlation_is_scipys() -> None:
    predicted, target = pair(5)
    expected = [pearsonr(predicted[:, j], target[:, j])[0] for j in range(6)]
    np.testing.assert_allclose(metrics.correlation(predicted, target), expected, rtol=1e-12)
    moved = metrics.correlation(-3 * predicted.astype(np.float32) + 5, target)
    np.testing.assert_allclose(moved, -np.array(expected), atol=1e-5)


def test_r_squared_is_scikit_learns() -> None:
    predicted, target = pair(6)
    expected = r2_score(target, predicted, multioutput="raw_values")
    np.testing.assert_allclose(metrics.r_squared(predicted, target), expected, rtol=1e-12)


def test_r_squared_against_a_given_constant() -> None:
    predicted, target = pair(7)
    constant = np.linspace(-1, 1, 6)
    result = metrics.r_squared(predicted, target, baseline=constant)
    expected = [
        1 - sum((target[:, j] - predicted[:, j]) ** 2) / sum((target[:, j] - constant[j]) ** 2)
        for j in range(6)
    ]
    np.testing.assert_allclose(result, expected, rtol=1e-12)
    at_constant = metrics.r_squared(np.tile(constant, (17, 1)), target, baseline=constant)
    np.testing.assert_allclose(at_constant, 0, atol=1e-12)


def test_constant_dimensions() -> None:
    predicted, target = pair(8)
    predicted[:, 1] = 0.1
    target[:, 3] = 0.1
    r, r2 = metrics.correlation(predicted, target), metrics.r_squared(predicted, target)
    assert r[1] == 0
    assert np.isfinite(r2[1])
    assert np.isnan(r[3])
    assert np.isnan(r2[3])
    assert np.isfinite(np.delete(r, 3)).all()


@pytest.mark.parametrize("function", [metrics.correlation, metrics.r_squared])
def test_bad_pairs_are_refused(function: object) -> None:
    predicted, target = pair(9)
    for first, second, words in [
        (predicted[:-1], target, "shapes"),
        (predicted[:1], target[:1], "at least 2"),
        (np.where(predicted > 1, np.nan, predicted), target, "NaN"),
    ]:
        with pytest.raises(DataError, match=words):
            function(first, second)


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize(("hits", "n"), [(0, 7), (3, 12), (5, 9), (60, 60), (1, 1000), (1, 1)])
def test_wilson_is_scipys(hits: int, n: int, confidence: float) -> None:
    wanted = binomtest(hits, n).proportion_ci(confidence, method="wilson")
    np.testing.assert_allclose(
        metrics.wilson(hits / n, n, confidence=confidence), wanted, atol=1e-12
    )


@pytest.mark.parametrize("n", [7, 60, 84, 1000])
def test_wilson_reaches_zero_and_one_exactly(n: int) -> None:
    none, all_ = metrics.wilson(0.0, n), metrics.wilson(1.0, n)
    assert none[0] == 0.0 and 0 < none[1] < 0.5
    assert all_[1] == 1.0 and 0.5 < all_[0] < 1
    # A mean of shares may be rounded beyond its limits.
    assert metrics.wilson(-1e-17, n) == none and metrics.wilson(1 + 1e-15, n) == all_
