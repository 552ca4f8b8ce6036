"""Exact spread of drawn pools against drawing them, and what the rows rest on."""

from __future__ import annotations

import numpy as np
import pytest

from braindecode_clip.evaluate.protocols.cells import Cells
from braindecode_clip.evaluate.protocols.pools import (
    draw_joint,
    draw_own,
    joint_pool_sd,
    keeps_from_first,
    own_pools_sd,
)
from braindecode_clip.metrics import count_better, count_matrix, expected_top_k


def similarities(n: int, signal: float, *, levels: int = 0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((n, n)) + signal * np.eye(n)
    # Few levels make many ties; hubs make the hits of queries depend on one another.
    table += rng.standard_normal(n)
    return np.round(table * levels) / levels if levels else table


@pytest.mark.parametrize(("signal", "levels"), [(0.0, 0), (3.0, 0), (3.0, 1), (30.0, 0)])
@pytest.mark.parametrize("pool", [2, 20, 59, 60])
def test_the_exact_spread_is_that_of_many_draws(signal: float, levels: int, pool: int) -> None:
    keeps = keeps_from_first(similarities(60, signal, levels=levels))
    exact = joint_pool_sd(keeps, pool)
    n_draws = 20_000
    (draws,) = draw_joint((keeps,), pool, n_draws=n_draws, rng=np.random.default_rng(1))
    shares = expected_top_k(keeps.sum(axis=1), np.zeros(60, int), 59, k=1, pool=pool)
    assert abs(draws.mean() - shares.mean()) <= 5 * exact / np.sqrt(n_draws) + 1e-12
    kurtosis = ((draws - draws.mean()) ** 4).mean() / max(draws.var() ** 2, 1e-300)
    error = np.sqrt(max(kurtosis - 1, 0) / (4 * n_draws))
    np.testing.assert_allclose(draws.std(), exact, rtol=5 * error + 1e-9, atol=1e-9)


def test_hits_of_one_pool_depend_on_one_another() -> None:
    """Without the covariance the spread would be another one: here 1.5 times too small."""
    keeps = keeps_from_first(similarities(60, 3.0))
    hits = expected_top_k(keeps.sum(axis=1), np.zeros(60, int), 59, k=1, pool=20)
    joint = joint_pool_sd(keeps, 20)
    as_if_independent = np.sqrt((hits * (1 - hits)).mean() / 20)
    assert abs(joint / as_if_independent - 1) > 0.05


def test_blocks_of_rows_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    keeps = keeps_from_first(similarities(50, 2.0))
    whole = joint_pool_sd(keeps, 12)
    monkeypatch.setattr("braindecode_clip.evaluate.protocols.pools.ROW_STEP", 7)
    np.testing.assert_allclose(joint_pool_sd(keeps, 12), whole, rtol=1e-12)


def test_draws_of_two_tables_share_their_pools() -> None:
    keeps = keeps_from_first(similarities(40, 2.0))
    one, two = draw_joint((keeps, keeps), 10, n_draws=25, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(one, two)
    assert len(set(one)) > 1


@pytest.mark.parametrize(("k", "pool"), [(1, 2), (1, 12), (5, 12), (3, 40)])
def test_draws_of_own_pools_have_the_exact_mean_and_spread(k: int, pool: int) -> None:
    table = similarities(40, 2.0, levels=2)
    better, tied = count_better(table, np.arange(40))
    assert tied.any()
    hits = expected_top_k(better, tied, 39, k=k, pool=pool)
    n_draws = 20_000
    draws = draw_own(
        better, tied, 39, k=k, pool=pool, n_draws=n_draws, rng=np.random.default_rng(2)
    )
    spread = own_pools_sd(hits)
    assert abs(draws.mean() - hits.mean()) <= 5 * spread / np.sqrt(n_draws) + 1e-12
    np.testing.assert_allclose(draws.std(), spread, rtol=0.04, atol=1e-6)


@pytest.mark.parametrize("levels", [0, 1])
def test_cells_hold_the_counts_of_every_label(levels: int) -> None:
    table = similarities(13, 1.0, levels=levels)[:, :11]
    cells = Cells.of(table, n_labels=7)
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels = rng.integers(0, 7, 13)
        better, tied = count_better(table, labels)
        codes = cells.true_codes(labels)
        np.testing.assert_array_equal(cells.better[codes], better)
        np.testing.assert_array_equal(cells.tied[codes], tied)
    assert cells.n_distractors == 10
    better, tied = count_matrix(table)
    assert better.shape == tied.shape == (13, 11)
