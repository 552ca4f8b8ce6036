"""The surface of accuracy: measured points, extrapolated ones, and how far that can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from braindecode_clip.config.surface import SurfaceConfig
from braindecode_clip.evaluate.ceiling_dprime import dprime_of_hits, hit_rate
from braindecode_clip.evaluate.pools import pool_sizes
from braindecode_clip.evaluate.surface_model import (
    EXPONENTS,
    fit_growth,
    fit_pools,
    pool_hits,
    predict_growth,
)
from braindecode_clip.metrics import expected_top_k, wilson
from braindecode_clip.resampling.bootstrap import interval, resample, weighted_mean

#: Bootstrap samples in which the law of pool sizes is fitted, which takes long.
POOL_DRAWS = 100
#: Intervals of what is extrapolated are so much wider than resampling says: the laws are not
#: exact. Without it 91 % held for twice the data, with it 97 % (benchmarks/surface_coverage.py).
WIDER = 1.2
COLUMNS = (
    *("kind", "fraction", "n_train", "n_repeats", "k", "pool_size", "value", "ci_low", "ci_high"),
    *("chance", "measured", "inside", "n", "n_resampled", "n_seeds"),
)


@dataclass(frozen=True)
class Cut:
    """Ranks with one amount of training data and one number of repeats.

    Attributes
    ----------
    fraction, n_train : float
        Share of the training data, and its trials.
    n_repeats : int
    n_better, n_tied : ndarray (n_draws, n_queries) int64
        Distractors above and level with the true candidate, for every random order and choice
        of repeats.
    seed : ndarray (n_draws,) int64
        Random order of the training data that each draw belongs to.
    """

    fraction: float
    n_train: float
    n_repeats: int
    n_better: np.ndarray
    n_tied: np.ndarray
    seed: np.ndarray


@dataclass(frozen=True)
class _Scored:
    """Cuts with their hits at every point of pool size and k.

    Attributes
    ----------
    cuts : sequence of Cut
    hits : list of ndarray (n_draws, n_queries, n_points)
        Of every cut.
    label : ndarray (n_queries,) int64
        Cluster of every query.
    points : list of (k, pool size)
    n_others : int
    config : SurfaceConfig
    """

    cuts: Sequence[Cut]
    hits: list[np.ndarray]
    label: np.ndarray
    points: list[tuple[int, int]]
    n_others: int
    config: SurfaceConfig


def surface_table(
    cuts: Sequence[Cut],
    clusters: np.ndarray,
    *,
    n_others: int,
    config: SurfaceConfig,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Score every cut in pools of all sizes, and extrapolate beyond them.

    Parameters
    ----------
    cuts : sequence of Cut
    clusters : ndarray (n_queries,)
        What the bootstrap draws: stimuli, or runs where runs are held out.
    n_others : int
        Distractors in the whole gallery.
    config : SurfaceConfig
    rng : Generator

    Returns
    -------
    DataFrame
        Columns :data:`COLUMNS`. ``kind`` is "measured" (interval over stimuli), "extrapolated"
        (more data or repeats, interval over stimuli, seeds and both exponents of the learning
        curve), "candidates" (more candidates than there are), or "check": predicted for all
        training data from at most half of them; then ``measured`` is what was found, and
        ``inside`` whether the interval holds it.
    """
    sizes = [int(size) for size in pool_sizes(n_others + 1, config.pool_sizes)]
    points = [(k, size) for k in config.top_k for size in sizes if size > k]
    hits = [
        np.stack(
            [expected_top_k(c.n_better, c.n_tied, n_others, k=k, pool=size) for k, size in points],
            axis=2,
        )
        for c in cuts
    ]
    names, label = np.unique(clusters, return_inverse=True)
    measure_rng, growth_rng, check_rng, pool_rng = rng.spawn(4)
    shared = {"n": len(clusters), "n_resampled": len(names)}
    scored = _Scored(cuts, hits, label, points, n_others, config)
    rows = _measured(scored, measure_rng)
    wanted = _targets(cuts, config)
    rows += [{"kind": "extrapolated", **row} for row in _grown(scored, wanted, growth_rng)]
    rows += _checked(scored, rows, check_rng)
    rows += _more_candidates(scored, pool_rng)
    return pd.DataFrame([{**shared, **row} for row in rows]).reindex(columns=list(COLUMNS))


def _measured(scored: _Scored, rng: np.random.Generator) -> list[dict[str, Any]]:
    config, rows = scored.config, []
    for cut, found in zip(scored.cuts, scored.hits, strict=True):
        each = found.mean(axis=0)
        drawn = resample(weighted_mean(each), scored.label, n_bootstrap=config.n_bootstrap, rng=rng)
        for place, (k, size) in enumerate(scored.points):
            value = float(each[:, place].mean())
            fallback = wilson(value, drawn.n_clusters, confidence=config.confidence)
            low, high, _ = interval(
                value, drawn, place, confidence=config.confidence, fallback=fallback
            )
            rows.append(
                {
                    "kind": "measured",
                    **_place(cut.fraction, cut.n_train, cut.n_repeats, k, size),
                    **{"value": value, "ci_low": low, "ci_high": high},
                    "n_seeds": len(np.unique(cut.seed)),
                }
            )
    return rows


def _place(fraction: float, n_train: float, n_repeats: float, k: int, pool: int) -> dict[str, Any]:
    where = {"fraction": fraction, "n_train": n_train, "n_repeats": n_repeats}
    return {**where, "k": k, "pool_size": pool, "chance": k / pool}


def _targets(cuts: Sequence[Cut], config: SurfaceConfig) -> list[tuple[float, float, float]]:
    """Return (fraction, n_train, n_repeats) beyond what was measured."""
    full = max(cuts, key=lambda cut: (cut.n_train, cut.n_repeats))
    repeats = sorted({float(cut.n_repeats) for cut in cuts})
    more = [full.n_repeats * times for times in config.more_repeats]
    ahead = [(full.fraction * times, full.n_train * times) for times in config.more_data]
    amounts = sorted({(cut.fraction, cut.n_train) for cut in cuts})
    return [(*amount, r) for amount in amounts for r in more] + [
        (*amount, r) for amount in ahead for r in (*repeats, *more)
    ]


def _grown(
    scored: _Scored, wanted: list[tuple[float, float, float]], rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Predict by the law of growth, with intervals over stimuli, seeds and exponents."""
    label, points, config = scored.label, scored.points, scored.config
    n_train = np.array([cut.n_train for cut in scored.cuts])
    n_repeats = np.array([float(cut.n_repeats) for cut in scored.cuts])
    at = np.array([where[1:] for where in wanted]).reshape(-1, 2)
    n_clusters, rows = int(label.max()) + 1, []
    weights = [np.ones(len(label))]
    for _ in range(config.n_bootstrap):
        counts = rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters))
        weights.append(counts[label].astype(float))
    guess = np.array([k / size for k, size in points])
    shared = {"chance": guess, "per_cluster": len(label) / n_clusters}
    drawn = np.stack(
        [
            _mean_hits(scored, own, rng=None if i == 0 else rng, **shared)
            for i, own in enumerate(weights)
        ]
    )
    exponents = rng.choice(EXPONENTS, size=len(weights))
    tail = (1 - config.confidence) / 2
    for place, (k, size) in enumerate(points):
        # A perfect score is no proof of an endless distance; small pools can show a larger one.
        most = 1 - (size - 1) / (4 * n_clusters * scored.n_others)
        distance = dprime_of_hits(np.minimum(drawn[:, :, place], most), k=k, pool=size)
        found = np.full((len(weights), len(wanted)), np.nan)
        for i, (d, exponent) in enumerate(zip(distance, exponents, strict=True)):
            curves = []
            for c in EXPONENTS if i == 0 else (exponent,):
                theta = fit_growth(d, n_train, n_repeats, exponent=c)
                if theta is not None:
                    grown = predict_growth(theta, at[:, 0], at[:, 1], exponent=c)
                    curves.append(hit_rate(grown, k=k, pool=size))
            if curves:
                found[i] = np.mean(curves, axis=0)
        known = np.isfinite(found[1:, 0]) if len(wanted) else np.zeros(0, bool)
        if not len(wanted) or not np.isfinite(found[0, 0]) or known.mean() < 0.9:
            continue
        ends = np.quantile(found[1:][known], [tail, 1 - tail], axis=0)
        low, high = _widened(found[0], ends, k=k, pool=size)
        for j, where in enumerate(wanted):
            value = float(found[0, j])
            ends = {"ci_low": min(low[j], value), "ci_high": max(high[j], value)}
            rows.append({**_place(*where, k, size), "value": value, **ends})
    return rows


def _widened(values: np.ndarray, ends: np.ndarray, *, k: int, pool: int) -> np.ndarray:
    """Move the ends of intervals away from the values by :data:`WIDER`, as distances d'."""
    middle, far = (dprime_of_hits(shares, k=k, pool=pool) for shares in (values, ends))
    return hit_rate(middle + WIDER * (far - middle), k=k, pool=pool)


def _mean_hits(
    scored: _Scored,
    weights: np.ndarray,
    *,
    chance: np.ndarray,
    per_cluster: float,
    rng: np.random.Generator | None,
) -> np.ndarray:
    """Return mean hits (n_cuts, n_points) of weighted queries.

    With ``rng``, as one sample of many: seeds are drawn with replacement, and half a hit and half
    a guess are added, with random weights. Otherwise few stimuli that are all found would be
    taken as a proof that every stimulus is (as in Jeffreys' interval of a proportion).
    """
    seeds = np.unique(np.concatenate([cut.seed for cut in scored.cuts]))
    chosen = seeds if rng is None else rng.choice(seeds, size=len(seeds))
    # A stimulus may have several queries.
    added, low = (0.0, 0.0) if rng is None else rng.gamma(0.5, size=2) * per_cluster
    means = []
    for cut, found in zip(scored.cuts, scored.hits, strict=True):
        # With all data there is one order, whatever seed was drawn.
        rows = [np.flatnonzero(cut.seed == seed) for seed in chosen]
        picked = np.concatenate(rows) if len(np.unique(cut.seed)) > 1 else np.arange(len(found))
        each = found[picked].mean(axis=0)
        total = weights.sum() + added + low
        means.append((weights @ each + added + low * chance) / total)
    return np.stack(means)


def _checked(
    scored: _Scored, rows: list[dict[str, Any]], rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Predict the scores with all training data from at most half of them."""
    cuts = scored.cuts
    full = max(cut.fraction for cut in cuts)
    used = [i for i, cut in enumerate(cuts) if cut.fraction <= full / 2 * (1 + 1e-9)]
    if len({cuts[i].fraction for i in used}) < 2:
        return []
    wanted = [(c.fraction, c.n_train, float(c.n_repeats)) for c in cuts if c.fraction == full]
    part = replace(scored, cuts=[cuts[i] for i in used], hits=[scored.hits[i] for i in used])
    true = {
        (row["n_repeats"], row["k"], row["pool_size"]): row["value"]
        for row in rows
        if row["kind"] == "measured" and row["fraction"] == full
    }
    found = []
    for row in _grown(part, wanted, rng):
        measured = true[row["n_repeats"], row["k"], row["pool_size"]]
        inside = bool(row["ci_low"] <= measured <= row["ci_high"])
        found.append({"kind": "check", **row, "measured": measured, "inside": inside})
    return found


def _more_candidates(scored: _Scored, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Extrapolate to larger pools, for every number of repeats and all training data."""
    config = scored.config
    k, pool = (np.array(column) for column in zip(*scored.points, strict=True))
    more = sorted({round((scored.n_others + 1) * times) for times in config.more_candidates})
    ahead = [(each, size) for each in config.top_k for size in more]
    full, rows = max(cut.fraction for cut in scored.cuts), []
    tail = (1 - config.confidence) / 2
    for cut, found in zip(scored.cuts, scored.hits, strict=True):
        if cut.fraction != full or not ahead:
            continue
        each = found.mean(axis=0)
        drawn = resample(
            weighted_mean(each), scored.label, n_bootstrap=POOL_DRAWS, rng=rng
        ).bootstrap
        at_k, at_pool = (np.array(column) for column in zip(*ahead, strict=True))
        curves = np.stack(
            [
                pool_hits(*fit_pools(values, k, pool), at_k, at_pool)
                for values in (each.mean(axis=0), *drawn)
            ]
        )
        low, high = np.quantile(curves[1:], [tail, 1 - tail], axis=0)
        for j, (top, size) in enumerate(ahead):
            value = float(curves[0, j])
            ends = {"ci_low": min(low[j], value), "ci_high": max(high[j], value)}
            where = _place(cut.fraction, cut.n_train, cut.n_repeats, top, size)
            rows.append({"kind": "candidates", **where, "value": value, **ends})
    return rows
