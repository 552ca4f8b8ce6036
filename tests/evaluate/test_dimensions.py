"""Scores of dimensions from sums, against the plain formulas on repeated rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from braindecode_clip import metrics
from braindecode_clip.evaluate.dimensions import (
    DimensionScores,
    dimension_counts,
    dimension_table,
)
from braindecode_clip.evaluate.permutation import p_value, permuted_labels


def data(seed: int = 0, n: int = 14, n_stimuli: int = 6, d: int = 5) -> tuple:
    rng = np.random.default_rng(seed)
    targets = rng.standard_normal((n_stimuli, d)) + 20 * rng.standard_normal(d)
    labels = np.r_[np.arange(n_stimuli), rng.integers(0, n_stimuli, n - n_stimuli)]
    predicted = 0.5 * targets[labels] + rng.standard_normal((n, d))
    return predicted, targets, labels


def literal(predicted: np.ndarray, target: np.ndarray, baseline: np.ndarray) -> list[float]:
    r = metrics.correlation(predicted, target)
    r2 = metrics.r_squared(predicted, target, baseline=baseline)
    return [r.mean(), np.median(r), r2.mean(), np.median(r2)]


@pytest.mark.parametrize("given", [False, True])
def test_weights_are_repetitions(given: bool) -> None:
    predicted, targets, labels = data()
    baseline = targets.mean(0) + 0.3 if given else targets[labels].mean(0)
    scores = DimensionScores.of(predicted, targets, labels, baseline=baseline if given else None)
    weights = np.random.default_rng(1).integers(0, 3, (30, 14))
    for row, found in zip(weights, scores.weighted(weights.astype(float)), strict=True):
        drawn = np.repeat(np.arange(14), row)
        expected = literal(predicted[drawn], targets[labels][drawn], baseline)
        np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_every_sample_once_is_the_plain_score() -> None:
    predicted, targets, labels = data(2)
    found = DimensionScores.of(predicted, targets, labels).weighted(np.ones((1, 14)))[0]
    r = metrics.correlation(predicted, targets[labels])
    r2 = metrics.r_squared(predicted, targets[labels])
    expected = [r.mean(), np.median(r), r2.mean(), np.median(r2)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("unit", ["stimulus", "run"])
def test_permuted_scores_are_those_of_exchanged_targets(unit: str) -> None:
    predicted, targets, labels = data(3)
    groups = np.array(list("abcdeabcdeabcd"))
    scores = DimensionScores.of(predicted, targets, labels)
    found = scores.permuted(groups, unit=unit, n_permutations=90, rng=np.random.default_rng(4))
    rows = np.concatenate(
        list(
            permuted_labels(
                labels,
                groups,
                unit=unit,
                n_permutations=90,
                rng=np.random.default_rng(4),
                chunk=64,
            )
        )
    )
    baseline = targets[labels].mean(0)
    for row, values in zip(rows, found.scores, strict=True):
        expected = literal(predicted, targets[row], baseline)
        np.testing.assert_allclose(values, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("unit", ["stimulus", "run"])
def test_p_of_each_dimension_counts_literally(unit: str) -> None:
    predicted, targets, labels = data(8, n=12, n_stimuli=6)
    groups = np.array(list("abcabcabcabc"))
    options = {"unit": unit, "n_permutations": 80}
    scores = DimensionScores.of(predicted, targets, labels)
    null = scores.permuted(groups, rng=np.random.default_rng(1), **options)
    chunks = permuted_labels(labels, groups, rng=np.random.default_rng(1), chunk=64, **options)
    true = metrics.correlation(predicted, targets[labels])
    drawn = np.array(
        [metrics.correlation(predicted, targets[row]) for part in chunks for row in part]
    )
    np.testing.assert_allclose(null.mean, drawn.mean(axis=0), rtol=1e-8, atol=1e-12)
    at_least = (drawn >= true - 1e-9).sum(axis=0)
    assert null.p.tolist() == ((1 + at_least) / 81).tolist()
    assert len(set(null.p.tolist())) > 1


def test_few_arrangements_count_as_equal() -> None:
    # Two stimuli: half of the permutations are the identity, and rounding must not hide it.
    predicted, targets, _ = data(9, n=2, n_stimuli=2)
    scores = DimensionScores.of(predicted, targets, np.arange(2))
    null = scores.permuted(
        np.zeros(2), unit="stimulus", n_permutations=200, rng=np.random.default_rng(0)
    )
    assert (null.p > 0.35).all()


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    predicted, targets, labels = data(11, n=60, n_stimuli=40, d=7)
    scores = DimensionScores.of(predicted, targets, labels)
    found = []
    for n_threads in (1, 3):
        monkeypatch.setattr("braindecode_clip.threads.n_blas_threads", lambda n=n_threads: n)
        null = scores.permuted(
            labels, unit="stimulus", n_permutations=500, rng=np.random.default_rng(3)
        )
        found.append([null.scores.tolist(), null.mean.tolist(), null.p.tolist()])
    assert found[0] == found[1]


def test_table_of_dimensions() -> None:
    rng = np.random.default_rng(10)
    targets = rng.standard_normal((40, 30))
    targets[:, 4] = 0.5
    predicted = rng.standard_normal((40, 30))
    predicted[:, :15] += 2 * targets[:, :15]
    scores = DimensionScores.of(predicted, targets, np.arange(40))
    null = scores.permuted(np.zeros(40), unit="stimulus", n_permutations=999, rng=rng)
    table = dimension_table(scores, null, np.arange(30) * 2)
    kept = np.delete(np.arange(30), 4)
    assert table["dimension"].tolist() == (2 * kept).tolist()
    np.testing.assert_allclose(
        table["correlation"], metrics.correlation(predicted[:, kept], targets[:, kept])
    )
    np.testing.assert_allclose(table["r2"], metrics.r_squared(predicted[:, kept], targets[:, kept]))
    np.testing.assert_allclose(table["q"], stats.false_discovery_control(table["p"]))
    # The exact t-test holds here, as samples are independent and normal.
    exact = stats.pearsonr(predicted[:, kept], targets[:, kept], alternative="greater").pvalue
    np.testing.assert_allclose(table["p"], exact, atol=4 * np.sqrt(0.25 / 999) + 1e-3)
    counts = dimension_counts(table, n_permutations=999)
    assert counts == {"n_dims": 29, "n_significant": 14, "q_level": 0.05, "smallest_p": 0.001}
    blank = dimension_table(scores, None, np.arange(30))
    assert blank[["null_mean", "p", "q"]].isna().all(axis=None)
    assert dimension_counts(blank, n_permutations=999)["n_significant"] is None


def test_constant_dimensions() -> None:
    predicted, targets, labels = data(5)
    targets[:, 1] = 0.3
    predicted[:, 2] = -1.0
    scores = DimensionScores.of(predicted, targets, labels)
    assert (scores.n_dims, scores.n_constant) == (4, 1)
    found = scores.weighted(np.ones((1, 14)))[0]
    kept = [0, 2, 3, 4]
    r = metrics.correlation(predicted[:, kept], targets[labels][:, kept])
    assert r[1] == 0
    assert found[0] == pytest.approx(r.mean())


def test_a_resample_of_one_stimulus_is_undefined() -> None:
    predicted, targets, labels = data(6)
    one = (labels == 2).astype(float)[None]
    found = DimensionScores.of(predicted, targets, labels).weighted(one)
    assert np.isnan(found[:, :2]).all()


def test_without_information_p_of_the_correlation_is_uniform() -> None:
    rng = np.random.default_rng(7)
    p = []
    for _ in range(200):
        targets = rng.standard_normal((12, 4))
        scores = DimensionScores.of(rng.standard_normal((12, 4)), targets, np.arange(12))
        null = scores.permuted(np.zeros(12), unit="stimulus", n_permutations=99, rng=rng)
        p.append(p_value(scores.weighted(np.ones((1, 12)))[0, 0], null.scores[:, 0]))
    for level in (0.05, 0.2, 0.5):
        n_small = int((np.array(p) <= level).sum())
        assert stats.binomtest(n_small, 200, level).pvalue > 1e-4
