"""The accuracy surface: measured points are exact, and the laws are undone by their own data."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from braindecode_clip.config.surface import SurfaceConfig
from braindecode_clip.evaluate.ceiling_dprime import hit_rate
from braindecode_clip.evaluate.surface import Cut, surface_table
from braindecode_clip.evaluate.surface_model import (
    fit_growth,
    fit_pools,
    pool_hits,
    predict_growth,
)

N_OTHERS = 99
THETA = np.array([0.05, 0.1, 12.0, 25.0])


def made_cuts(
    *, n_queries: int = 80, n_seeds: int = 2, shared: float = 0.0, seed: int = 0
) -> list[Cut]:
    """Draw ranks that obey the first law, all queries alike."""
    rng = np.random.default_rng(seed)
    cuts, easy = [], rng.standard_normal(n_queries)
    for fraction, repeats in itertools.product((0.125, 0.25, 0.5, 1.0), (1, 2, 3)):
        d = predict_growth(
            THETA, np.array([400 * fraction]), np.array([float(repeats)]), exponent=1.0
        )
        seeds = np.arange(n_seeds if fraction < 1 else 1)
        # A stimulus that is easy is so in every cut.
        fresh = np.sqrt(1 - shared**2) * rng.standard_normal((len(seeds), n_queries))
        own = d + shared * easy + fresh
        better = rng.binomial(N_OTHERS, norm.sf(own))
        cuts.append(Cut(fraction, 400 * fraction, repeats, better, np.zeros_like(better), seeds))
    return cuts


def table_of(cuts: list[Cut], **options: object) -> pd.DataFrame:
    config = SurfaceConfig(**{"pool_sizes": 4, "n_bootstrap": 100, "top_k": (1, 5), **options})
    n_queries = cuts[0].n_better.shape[1]
    return surface_table(
        cuts, np.arange(n_queries), n_others=N_OTHERS, config=config, rng=np.random.default_rng(1)
    )


def test_measured_points_are_the_mean_over_all_pools() -> None:
    cuts = made_cuts(n_queries=30)
    found = table_of(cuts)
    rng = np.random.default_rng(0)
    for cut in (cuts[0], cuts[-1]):
        rows = found[
            (found["kind"] == "measured")
            & (found["fraction"] == cut.fraction)
            & (found["n_repeats"] == cut.n_repeats)
        ].set_index(["k", "pool_size"])
        whole = rows.loc[(1, N_OTHERS + 1)]
        assert whole["value"] == pytest.approx((cut.n_better == 0).mean())
        assert whole["chance"] == 1 / (N_OTHERS + 1)
        assert rows.loc[(1, 2), "value"] == pytest.approx(1 - cut.n_better.mean() / N_OTHERS)
        # Drawn pools, literally.
        size = rows.index.get_level_values("pool_size").unique()[1]
        drawn = [
            (rng.permutation(N_OTHERS)[: size - 1] < better).sum() < 1
            for better in np.tile(cut.n_better.ravel(), 200)
        ]
        assert rows.loc[(1, size), "value"] == pytest.approx(np.mean(drawn), abs=0.02)
        assert rows["ci_low"].le(rows["value"]).all() and rows["value"].le(rows["ci_high"]).all()
    assert set(found.loc[found["kind"] == "measured", "n_seeds"]) == {1, 2}


def test_the_law_of_growth_is_found_again() -> None:
    n_train, n_repeats = (
        np.array(column, dtype=float)
        for column in zip(*itertools.product((50, 100, 200, 400), (1, 2, 3)), strict=True)
    )
    for exponent in (1.0, 0.5):
        d = predict_growth(THETA, n_train, n_repeats, exponent=exponent)
        found = fit_growth(d, n_train, n_repeats, exponent=exponent)
        np.testing.assert_allclose(found, THETA, rtol=1e-6)
    # Spearman and Brown: without errors of the decoder d'^2 grows with the repeats.
    only_noise = predict_growth(
        np.array([0, 0.5, 0, 0]), np.full(3, 10.0), np.array([1.0, 2.0, 4.0]), exponent=1.0
    )
    np.testing.assert_allclose(only_noise**2, [2, 4, 8])
    assert fit_growth(np.array([-0.1, 0.0, 1.0]), *np.ones((2, 3)), exponent=1.0) is None


def test_the_law_of_pools_is_found_again_and_is_an_expectation() -> None:
    k, pool = np.array([1, 1, 1, 5, 5]), np.array([2, 20, 300, 20, 300])
    hits = pool_hits(2.1, 1.4, k, pool)
    np.testing.assert_allclose(fit_pools(hits, k, pool), [2.1, 1.4], rtol=1e-3)
    rng = np.random.default_rng(0)
    lost = norm.sf(2.1 + 1.4 * rng.standard_normal(200_000))
    for each, size, expected in zip(k, pool, hits, strict=True):
        drawn = rng.binomial(size - 1, lost) < each
        assert expected == pytest.approx(drawn.mean(), abs=0.005)


def test_extrapolation_finds_what_obeys_its_law() -> None:
    inside, errors = [], []
    for seed in range(8):
        found = table_of(made_cuts(seed=seed), top_k=(1,), more_data=[2.0], more_repeats=[2.0])
        rows = found[(found["kind"] == "extrapolated") & (found["pool_size"] == N_OTHERS + 1)]
        for row in rows[rows["fraction"] == 2].to_dict("records"):
            d = predict_growth(THETA, np.array([800.0]), np.array([row["n_repeats"]]), exponent=1.0)
            truth = float(hit_rate(d, k=1, pool=N_OTHERS + 1)[0])
            inside.append(row["ci_low"] <= truth <= row["ci_high"])
            errors.append(row["value"] - truth)
    assert np.mean(inside) > 0.85
    assert abs(np.mean(errors)) < 0.05


def test_the_check_predicts_all_data_from_half_and_says_what_was_found() -> None:
    found = table_of(made_cuts(n_queries=200, shared=0.8))
    checks = found[found["kind"] == "check"]
    measured = found[(found["kind"] == "measured") & (found["fraction"] == 1)]
    keys = ["n_repeats", "k", "pool_size"]
    merged = checks.merge(measured, on=keys, suffixes=("", "_true"))
    assert len(merged) == len(checks) == len(measured)
    np.testing.assert_allclose(merged["measured"].astype(float), merged["value_true"])
    assert checks["inside"].mean() > 0.8
    # All data are not looked at: with other scores there the prediction stays.
    cuts = made_cuts(n_queries=200, shared=0.8)
    broken = [
        cut if cut.fraction < 1 else Cut(1.0, 400.0, cut.n_repeats, cut.n_better * 0 + 50,
                                         cut.n_tied, cut.seed)
        for cut in cuts
    ]  # fmt: skip
    again = table_of(broken)
    again = again[again["kind"] == "check"]
    np.testing.assert_array_equal(again["value"], checks["value"])
    assert not again["inside"].any()
    few = table_of([cut for cut in cuts if cut.fraction >= 0.5])
    assert not (few["kind"] == "check").any()


def test_a_perfect_score_leaves_doubt() -> None:
    cuts = [
        Cut(f, 400 * f, r, np.zeros((1, 20), int), np.zeros((1, 20), int), np.zeros(1, int))
        for f in (0.25, 0.5, 1.0)
        for r in (1, 2)
    ]
    found = table_of(cuts, top_k=(1,))
    ahead = found[(found["kind"] == "extrapolated") & (found["pool_size"] == N_OTHERS + 1)]
    assert ahead["value"].between(0.9, 1).all()
    # Twenty of twenty: Jeffreys' interval begins at 0.88.
    assert ahead["ci_low"].max() < 0.96


def test_more_candidates_are_harder_and_less_certain() -> None:
    found = table_of(made_cuts(), more_candidates=[3.0, 30.0])
    rows = found[(found["kind"] == "candidates") & (found["k"] == 1) & (found["n_repeats"] == 3)]
    assert rows["pool_size"].tolist() == [300, 3000]
    assert rows["value"].is_monotonic_decreasing
    assert (rows["ci_low"] < rows["value"]).all() and (rows["value"] < rows["ci_high"]).all()
    # Of queries that are alike d' stays: the truth is known.
    d = predict_growth(THETA, np.array([400.0]), np.array([3.0]), exponent=1.0)
    for row in rows.to_dict("records"):
        truth = float(hit_rate(d, k=1, pool=row["pool_size"])[0])
        assert row["ci_low"] <= truth <= row["ci_high"]
