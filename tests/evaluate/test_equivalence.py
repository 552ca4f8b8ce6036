"""Equivalence and Bayes factors against scipy, other integrals and published values."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, stats

from braindecode_clip.errors import DataError
from braindecode_clip.evaluate.equivalence import bayes_factor_t, mean_of_clusters, tost


def values_of(n: int, seed: int = 0) -> np.ndarray:
    return 0.2 + np.random.default_rng(seed).standard_normal(n)


@pytest.mark.parametrize("n", [2, 7, 40])
def test_two_one_sided_tests_are_scipys(n: int) -> None:
    values = values_of(n)
    found = tost(values, -0.4, 0.7)
    above = stats.ttest_1samp(values, -0.4, alternative="greater").pvalue
    below = stats.ttest_1samp(values, 0.7, alternative="less").pvalue
    assert found["p"] == pytest.approx(max(above, below), rel=1e-10)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert found["ci90"] == pytest.approx((expected.low, expected.high), rel=1e-10)
    assert found["mean"] == pytest.approx(values.mean())


def test_equivalent_exactly_when_the_90_percent_interval_is_within() -> None:
    rng = np.random.default_rng(1)
    seen = set()
    for _ in range(200):
        found = tost(rng.normal(0.1, 1, 30), -0.4, 0.5)
        low, high = found["ci90"]
        seen.add(found["p"] < 0.05)
        assert (found["p"] < 0.05) == (low > -0.4 and high < 0.5)
    assert seen == {True, False}


def test_clusters_of_equal_size_are_a_test_of_their_means() -> None:
    values = values_of(24, 2)
    clusters = np.tile(np.array(list("cabd")), 6)
    means = [values[clusters == name].mean() for name in "abcd"]
    found = mean_of_clusters(values, clusters)
    assert found.standard_error == pytest.approx(stats.sem(means))
    assert found.t == pytest.approx(stats.ttest_1samp(means, 0).statistic)
    assert found.df == 3


def test_standard_error_of_unequal_clusters_is_that_of_simulation() -> None:
    rng = np.random.default_rng(3)
    sizes = np.tile([1, 2, 7], 15)
    clusters = np.repeat(np.arange(45), sizes)
    means, errors = [], []
    for _ in range(2000):
        own = rng.standard_normal(45)
        found = mean_of_clusters(own[clusters] + 0.3 * rng.standard_normal(len(clusters)), clusters)
        means.append(found.mean)
        errors.append(found.standard_error**2)
    assert math.sqrt(np.mean(errors)) == pytest.approx(np.std(means), rel=0.06)


def test_values_that_do_not_vary() -> None:
    assert tost(np.full(7, 0.1), 0.0, 0.2) == {"p": 0.0, "mean": 0.1, "ci90": (0.1, 0.1)} | {
        "mean": pytest.approx(0.1),
        "ci90": pytest.approx((0.1, 0.1)),
    }
    assert tost(np.full(7, 0.3), 0.0, 0.2)["p"] == 1.0
    assert mean_of_clusters(np.full(7, 0.3)).t == math.inf


@pytest.mark.parametrize("scale", [0.5, 0.707, 1.0, 1.414])
@pytest.mark.parametrize(("t", "n"), [(0.0, 2), (1.3, 6), (-2.5, 20), (3.7, 100), (0.4, 150)])
def test_bayes_factor_is_the_integral_over_effect_sizes(t: float, n: int, scale: float) -> None:
    # The same model without g: a Cauchy prior on the effect, a noncentral t likelihood.
    def integrand(effect: float) -> float:
        return stats.nct.pdf(t, n - 1, effect * math.sqrt(n)) * stats.cauchy.pdf(
            effect, scale=scale
        )

    centre, width = t / math.sqrt(n), 12 / math.sqrt(n)
    edges = [-np.inf, centre - width, centre, centre + width, np.inf]
    parts = [
        integrate.quad(integrand, low, high, epsrel=1e-7, limit=200)[0]
        for low, high in pairwise(edges)
    ]
    expected = sum(parts) / stats.t.pdf(t, n - 1)
    assert bayes_factor_t(t, n, scale=scale) == pytest.approx(expected, rel=1e-5)


def test_published_bayes_factors() -> None:
    # Student's sleep data, paired: R package BayesFactor, manual ("ttestBF"), r = sqrt(2) / 2.
    differences = np.array([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
    t = mean_of_clusters(differences).t
    assert t == pytest.approx(4.0621, abs=1e-4)
    assert bayes_factor_t(t, 10, scale=math.sqrt(0.5)) == pytest.approx(17.25888, rel=1e-5)
    # Rouder et al. (2009), t(79) = 2.03 favours the null by 1.56.
    assert 1 / bayes_factor_t(2.03, 80, scale=1.0) == pytest.approx(1.56, abs=0.01)


def test_bayes_factor_of_overwhelming_evidence() -> None:
    assert bayes_factor_t(50.0, 200) > 1e80
    assert bayes_factor_t(1e4, 3000) == math.inf
    assert bayes_factor_t(0.0, 10**6) < 0.002


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tost([1.0, 2.0], 0.2, 0.2), "low < high"),
        (lambda: tost([1.0, 2.0], 0, 1, clusters=["a", "a"]), "got 1 clusters"),
        (lambda: tost([1.0, 2.0], 0, 1, clusters=["a"]), "expected one each"),
        (lambda: tost([1.0, np.nan], 0, 1), "1 numbers"),
        (lambda: bayes_factor_t(1.0, 1), "n 1"),
        (lambda: bayes_factor_t(math.nan, 9), "t nan"),
        (lambda: bayes_factor_t(1.0, 9, scale=0.0), "scale 0"),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        call()
