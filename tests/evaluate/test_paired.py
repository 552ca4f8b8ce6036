"""Paired comparisons: exact against scipy, intervals and errors on data of known truth."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from braindecode_clip.evaluate.paired import judge_equivalence, paired_intervals, verdict
from braindecode_clip.resampling.exchanges import draw_exchanges, exchanged_means

N_STUDIES = 300


def test_few_clusters_are_all_arranged() -> None:
    exchanges = draw_exchanges(4, 99, np.random.default_rng(0))
    assert exchanges.complete
    assert {tuple(row) for row in exchanges.signs} == set(product((-1, 1), repeat=4))
    drawn = draw_exchanges(7, 99, np.random.default_rng(0))
    assert not drawn.complete and drawn.signs.shape == (99, 7)
    assert set(np.unique(drawn.signs)) == {-1, 1}
    assert abs(drawn.signs.mean()) < 0.15
    assert draw_exchanges(5000, 99, np.random.default_rng(0)).signs.shape == (99, 5000)


def test_means_change_sign_by_whole_clusters() -> None:
    rng = np.random.default_rng(1)
    differences, clusters = rng.standard_normal((11, 3)), rng.integers(0, 4, 11)
    exchanges = draw_exchanges(4, 99, rng)
    expected = [
        (signs[clusters].astype(float)[:, None] * differences).mean(axis=0)
        for signs in exchanges.signs
    ]
    np.testing.assert_allclose(
        exchanged_means(differences, clusters, exchanges), expected, atol=1e-15
    )


def test_p_is_that_of_scipy_where_all_arrangements_are_listed() -> None:
    rng = np.random.default_rng(2)
    first = rng.integers(0, 3, 10) + 0.9
    second = rng.integers(0, 2, 10) + 0.1
    differences = np.stack([first - second, second - first, np.zeros(10)], axis=1)
    exchanges = draw_exchanges(10, 2000, rng)
    null = exchanged_means(differences, np.arange(10), exchanges)
    p = exchanges.p(differences.mean(axis=0), null)
    reference = stats.permutation_test(
        (first, second),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
    )
    assert p.tolist() == pytest.approx([reference.pvalue, reference.pvalue, 1.0])
    assert 0.001 < reference.pvalue < 0.5


def test_random_exchanges_count_the_identity() -> None:
    rng = np.random.default_rng(3)
    differences = 1 + 0.1 * rng.standard_normal((30, 1))
    exchanges = draw_exchanges(30, 99, rng)
    null = exchanged_means(differences, np.arange(30), exchanges)
    assert exchanges.p(differences.mean(axis=0), null).tolist() == [1 / 100]


def test_intervals_are_normal_ones_for_many_pictures() -> None:
    rng = np.random.default_rng(4)
    differences = rng.standard_normal((800, 2)) * [1.0, 3.0] + [0.2, 0.0]
    found = paired_intervals(differences, np.arange(800), n_bootstrap=4000, confidence=0.9, rng=rng)
    for row, column in zip(found, differences.T, strict=True):
        expected = stats.norm.interval(0.9, column.mean(), column.std() / np.sqrt(800))
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(expected, abs=0.01 * column.std())
        assert row["n_resampled"] == 800 and row["ci_method"] == "bca"
    whole = paired_intervals(
        differences, np.arange(800) // 100, n_bootstrap=500, confidence=0.9, rng=rng
    )
    assert whole[0]["n_resampled"] == 8


def correlated_hits(rng: np.random.Generator, n: int, shares: tuple[float, float]) -> np.ndarray:
    """Hits of two decoders on the same pictures, some of which are easy for both."""
    easy = rng.standard_normal((n, 1))
    level = 0.7 * easy + np.sqrt(1 - 0.49) * rng.standard_normal((n, 2))
    return (level < stats.norm.ppf(shares)).astype(float)


def test_type_one_error_and_coverage_on_simulated_decoders() -> None:
    rng = np.random.default_rng(5)
    n, false, covered, found = 60, 0, {0.0: 0, 0.15: 0}, 0
    for _ in range(N_STUDIES):
        for gap in covered:
            hits = correlated_hits(rng, n, (0.4 + gap, 0.4))
            differences = hits[:, :1] - hits[:, 1:]
            exchanges = draw_exchanges(n, 199, rng)
            null = exchanged_means(differences, np.arange(n), exchanges)
            p = exchanges.p(differences.mean(axis=0), null)[0]
            row = paired_intervals(
                differences, np.arange(n), n_bootstrap=400, confidence=0.9, rng=rng
            )[0]
            covered[gap] += row["ci_low"] <= gap <= row["ci_high"]
            if gap:
                found += p <= 0.05
            else:
                false += p <= 0.05
    # Discrete differences: the exchange test may stay below its level, never above it.
    assert stats.binom.sf(false - 1, N_STUDIES, 0.05) > 1e-3
    assert false > 0.01 * N_STUDIES
    assert found > 0.3 * N_STUDIES
    for n_covered in covered.values():
        assert 0.86 < n_covered / N_STUDIES < 0.95


def test_equivalence_by_one_sided_t_tests() -> None:
    rng = np.random.default_rng(6)
    differences = 0.1 * rng.standard_normal(200)
    found = judge_equivalence(differences, 0.03)
    two = (
        stats.ttest_1samp(differences, -0.03, alternative="greater").pvalue,
        stats.ttest_1samp(differences, 0.03, alternative="less").pvalue,
    )
    assert found["p_equivalence"] == pytest.approx(max(two))
    assert found["bayes_factor_none"] > 3
    assert judge_equivalence(differences + 0.1, 0.03)["bayes_factor_none"] < 1e-6
    clustered = judge_equivalence(differences, 0.03, clusters=np.repeat(np.arange(4), 50))
    assert clustered["p_equivalence"] != pytest.approx(found["p_equivalence"], rel=0.1)


@pytest.mark.parametrize("differences", [np.zeros(9), np.full(5, 0.02), np.array([0.1])])
def test_without_spread_nothing_is_said_of_equivalence(differences: np.ndarray) -> None:
    found = judge_equivalence(differences, 0.05)
    assert found["margin"] == 0.05
    assert found["p_equivalence"] is None and found["bayes_factor_none"] is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "undecided"),
        ({"p_equivalence": 0.01}, "equivalent"),
        ({"p_equivalence": None}, "undecided"),
        ({"q": 0.04}, "better"),
        ({"q": 0.04, "difference": -0.1}, "worse"),
        ({"q": 0.04, "p_equivalence": 0.02}, "better, within the margin"),
        ({"q": 0.04, "level": "group"}, "better in these subjects"),
        ({"q": 0.04, "level": "group", "ci_low": 0.05}, "better"),
        ({"q": 0.04, "level": "group", "ci_low": np.nan}, "better in these subjects"),
    ],
)
def test_verdicts(change: dict, words: str) -> None:
    row = {"difference": 0.1, "q": 0.2, "p_equivalence": 0.4, "level": "subject"}
    assert verdict(row | {"ci_low": -0.1, "ci_high": 0.3} | change, 0.05) == words
