"""Power against binomial and normal theory, and against simulated studies with a known truth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from braindecode_clip.config.evaluate import EvaluateConfig
from braindecode_clip.evaluate import evaluate, power
from braindecode_clip.evaluate.permutation import null_scores, p_value, rank_table
from braindecode_clip.evaluate.power import (
    Source,
    critical_scores,
    effect_of_interest,
    mixed,
    normal_power,
    power_curve,
    power_rows,
    sufficient,
)
from braindecode_clip.evaluate.rows import Design
from braindecode_clip.evaluate.scores import identification_scores

#: Every size up to the largest that is simulated.
SIZES = np.arange(1, power.N_SIMULATED + 1)


def rng_of(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def curve_of(null: Source, effect: Source, rng: np.random.Generator) -> np.ndarray:
    return power_curve(effect, SIZES, critical_scores(null, SIZES, rng=rng), rng=rng)


def of_shares(null: float, effect: float) -> tuple[Source, Source]:
    """Hits of 1,000 pictures with these shares."""
    hits = [np.arange(1000) < round(1000 * share) for share in (null, effect)]
    return tuple(Source.of(row[None].astype(float), np.arange(1000)) for row in hits)


def test_power_of_hits_is_the_binomial_tests() -> None:
    null, effect = of_shares(0.1, 0.3)
    curve = curve_of(null, effect, rng_of())
    for n in (1, 5, 12, 20, 40, 100):
        critical = stats.binom.isf(0.05, n, 0.1)
        expected = stats.binom.sf(critical, n, 0.3)
        # Where alpha falls on a step of the null, the simulated critical value may be one off.
        beside = stats.binom.sf([critical - 1, critical + 1], n, 0.3)
        near = abs(stats.binom.sf(critical, n, 0.1) - 0.05) < 0.012
        near |= abs(stats.binom.sf(critical - 1, n, 0.1) - 0.05) < 0.012
        chosen = [expected, *beside] if near else [expected]
        assert min(abs(curve[n - 1] - x) for x in chosen) < 4 * np.sqrt(0.25 / 2000), n


def test_power_of_means_is_the_normal_tests() -> None:
    values = rng_of(1).standard_normal(4000)
    values = (values - values.mean()) / values.std()
    null = Source.of(values[None], np.arange(4000))
    effect = Source.of(values[None] + 0.2, np.arange(4000))
    curve = curve_of(null, effect, rng_of(2))
    n = np.array([10, 50, 155, 300])
    expected = stats.norm.sf(stats.norm.isf(0.05) - 0.2 * np.sqrt(n))
    np.testing.assert_allclose(curve[n - 1], expected, atol=0.05)
    np.testing.assert_allclose([normal_power(null, effect, k) for k in n], expected, rtol=1e-6)
    # (1.645 + 0.842)² / 0.2² = 154.6
    assert sufficient(null, effect, SIZES, curve) == pytest.approx(155, rel=0.12)
    weak = Source.of(values[None] + 0.02, np.arange(4000))
    assert sufficient(null, weak, SIZES, curve_of(null, weak, rng_of(3))) == 15457
    assert sufficient(null, null, SIZES, curve_of(null, null, rng_of(4))) is None


def test_clusters_are_drawn_whole() -> None:
    clusters = np.array([0, 1, 0, 2, 2, 2])
    source = Source.of(np.array([[1.0, 2, 3, 4, 5, 6], [0, 0, 0, 0, 0, 6.0]]), clusters)
    assert source.sums.tolist() == [4, 2, 15, 0, 0, 6]
    assert source.sizes.tolist() == [2, 1, 3, 2, 1, 3]
    without = np.zeros((2, 6), dtype=bool)
    without[0, 2] = without[1, 3] = True
    values = np.array([[1.0, 2, 3, 4, 5, 6], [0, 0, 0, 0, 0, 6.0]])
    assert Source.of(values, clusters, without=without).sums.tolist() == [2, 15, 0, 0]
    assert source.mean == pytest.approx(27 / 12)
    one, two = source.studies(np.array([1, 2]), rng_of())
    assert set(one.round(9)) == {2, 5, 0}
    assert {6 / 3, 19 / 5, 17 / 4} <= set(two.round(9))


def test_spread_is_that_of_simulated_studies() -> None:
    rng = rng_of(5)
    clusters = np.repeat(np.arange(60), rng.integers(1, 5, 60))
    values = rng.random((20, len(clusters))) + rng.random(60)[clusters]
    source = Source.of(values, clusters)
    found = source.studies(np.array([3, 200]), rng)[1]
    assert found.std() == pytest.approx(source.spread / np.sqrt(200), rel=0.08)


def test_perfect_units_make_up_the_effect() -> None:
    rng = rng_of(6)
    null = rng.random((300, 50)) / 2
    units = np.repeat(np.arange(10), 5)
    found = mixed(null, 0.4, units, null_mean=null.mean(), rng=rng)
    assert found.mean() == pytest.approx(0.4, abs=0.02)
    perfect = (found == 1).reshape(300, 10, 5)
    assert (perfect.all(axis=2) == perfect.any(axis=2)).all()
    assert effect_of_interest("top_1", 0.1, EvaluateConfig()) == pytest.approx(0.15)
    assert effect_of_interest("top_1", 0.8, EvaluateConfig()) == 1.0
    assert effect_of_interest("pairwise", 0.48, EvaluateConfig()) == pytest.approx(0.53)


def test_sizes_hold_the_present_one() -> None:
    assert {1, 2, 50, 77, power.N_SIMULATED} <= set(power.study_sizes(77).tolist())
    assert power.study_sizes(5000).max() == power.N_SIMULATED
    assert (np.diff(power.study_sizes(300)) > 0).all()


def test_rows_tell_unit_and_n(make_case: Callable) -> None:
    for design, unit, n in (({"runs": 6}, "runs", 6), ({}, "stimuli", 12)):
        case = make_case(12, signal=1.5, **design)
        options = EvaluateConfig(n_bootstrap=200, n_permutations=99, n_permutations_dims=99)
        rows = evaluate(
            case.both, case.predictions, case.embeddings, rng=rng_of(), options=options
        ).power
        assert [row["metric"] for row in rows] == ["top_1", "pairwise"] * 2
        for row in rows:
            assert (row["unit"], row["n"]) == (unit, n)
            assert row["power"] > 0.8
            assert row["n_sufficient"] <= n
            assert 0 <= row["effect_power"] < row["power"]
            assert row["effect_n_sufficient"] > row["n_sufficient"]


def test_effect_of_interest_does_not_depend_on_how_good_the_decoder_is(
    make_case: Callable,
) -> None:
    found = []
    for signal in (0.2, 3.0):
        case = make_case(40, signal=signal)
        table = rank_table(case.forth, "stimulus")
        scores = identification_scores((1,), np.full(40, 39.0))
        design = Design.of(case.predictions)
        found.append(
            power_rows(table, scores, design=design, options=EvaluateConfig(), rng=rng_of())
        )
    for weak, strong in zip(*found, strict=True):
        assert strong["value"] > weak["value"] + 0.1
        assert strong["effect"] == pytest.approx(weak["effect"], rel=0.02)
        assert strong["effect_n_sufficient"] == pytest.approx(weak["effect_n_sufficient"], rel=0.2)
    # (1.645 sqrt(p) + .842 sqrt(1.5 p))² / (p / 2)² pictures for shares p = 1 / 40 and 1.5 p.
    top, pairwise = found[0]
    share = 1 / 40
    root = 1.645 * (share * (1 - share)) ** 0.5 + 0.842 * (1.5 * share * (1 - 1.5 * share)) ** 0.5
    assert top["effect_n_sufficient"] == pytest.approx((root / (share / 2)) ** 2, rel=0.2)
    assert pairwise["effect_n_sufficient"] == pytest.approx(2.487**2 / 12 / 0.05**2, rel=0.3)


def test_labels_that_stay_in_place_cost_power() -> None:
    # All of n - 1 permuted labels and one true one: with perfect scores the null moves by 1 / n.
    null, true = of_shares(0.0, 1.0)
    sizes = np.array([1, 4, 20])
    found = null.studies(sizes, rng_of(7), kept=(true, 1.0))
    number = np.minimum(rng_of(8).poisson(1.0, 10**5)[:, None], sizes)
    np.testing.assert_allclose(found.mean(axis=1), (number / sizes).mean(axis=0), rtol=0.08)
    assert critical_scores(null, sizes, rng=rng_of(9), kept=(true, 1.0))[1] >= 0.5
    assert (critical_scores(null, sizes, rng=rng_of(9)) == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize(("metric", "signal"), [("top_1", 0.7), ("pairwise", 0.25)])
def test_studies_of_the_sufficient_size_reject_as_often_as_wanted(
    make_case: Callable, metric: str, signal: float
) -> None:
    # The size is estimated from 600 pictures, four times; then studies of that size are made.
    options, column, k = EvaluateConfig(), power.METRICS.index(metric), 600

    def ranked(n: int, seed: int) -> tuple:
        case = make_case(n, n_embedded=k, candidates="all", signal=signal, n_dims=8, seed=seed)
        return case, rank_table(case.forth, "stimulus"), np.full(n, k - 1.0)

    sizes = []
    for seed in range(4):
        case, table, others = ranked(k, seed)
        rows = power_rows(
            table,
            identification_scores((1,), others),
            design=Design.of(case.predictions),
            options=options,
            rng=rng_of(seed),
        )
        sizes.append(rows[column]["n_sufficient"])
    rejected = []
    for seed in range(300):
        case, table, others = ranked(int(np.mean(sizes)), 1000 + seed)
        scores = [s for s in identification_scores((1,), others) if s.name == metric]
        null = null_scores(
            table,
            scores,
            case.predictions.group,
            unit="stimulus",
            n_permutations=199,
            rng=rng_of(seed),
        )
        rank, _ = (part[0] for part in table.under(table.labels[None]))
        rejected.append(p_value(float(scores[0].value(rank, others)), null[:, 0]) <= 0.05)
    # The standard error over 300 studies is .023, and the size is known to about 10 %.
    assert np.mean(rejected) == pytest.approx(0.8, abs=0.08)
