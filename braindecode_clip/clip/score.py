"""One figure with what a reader needs to trust it; intervals and paired differences of figures.

A :class:`Measure` is a group of figures of one model as a function of how often each cluster of
pictures is counted. That one form gives the figures, their bootstrap intervals, and, for two models
on the same pictures, the difference with its interval and an exchange test.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from braindecode_clip.resampling.bootstrap import (
    Resamples,
    Statistic,
    interval,
    resample,
    wilson_of_mean,
)
from braindecode_clip.resampling.exchanges import draw_exchanges, exchanged_means

#: Signs of exchanges held at a time: 2**27 int8 are 128 MiB.
_SIGNS_AT_ONCE = 2**27
#: BCa's acceleration falls with the root of the clusters: of more it is nothing, at their square
#: in cost.
_MOST_LEFT_OUT = 5000


@dataclass(frozen=True)
class Score:
    """A figure.

    Attributes
    ----------
    value : float
    ci_low, ci_high : float
        95 % interval; NaN where there is none.
    ci_method : str
        "bca", "t", "wilson" (:func:`braindecode_clip.resampling.bootstrap.interval`),
        "jackknife" or "none".
    chance : float
        What a model that knows nothing would reach; NaN where that means nothing.
    n : int
        What the figure is an average over: queries, pairs or vectors.
    n_resampled : int
        Clusters that the interval draws; 0 without an interval.
    """

    value: float
    ci_low: float = math.nan
    ci_high: float = math.nan
    ci_method: str = "none"
    chance: float = math.nan
    n: int = 0
    n_resampled: int = 0

    def record(self) -> dict[str, Any]:
        """Return the fields for JSON, which knows no NaN: None stands for it."""
        return without_nan(asdict(self))


@dataclass(frozen=True)
class Difference:
    """What one model scores more than another on the same pictures.

    Attributes
    ----------
    before, after, difference : float
        The figures, and after less before.
    ci_low, ci_high, ci_method, n, n_resampled
        As of :class:`Score`, of the difference: both models are resampled with the same clusters.
    p : float
        Two-sided, of exchanging the models within clusters; NaN for figures that are no means
        over pictures.
    chance_before, chance_after : float
        Equal but for figures whose chance depends on the model.
    """

    before: float
    after: float
    difference: float
    ci_low: float
    ci_high: float
    ci_method: str
    p: float
    chance_before: float
    chance_after: float
    n: int
    n_resampled: int

    def record(self) -> dict[str, Any]:
        """Return the fields for JSON; None stands for NaN."""
        return without_nan(asdict(self))


def without_nan(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a flat record with None in place of numbers that are not finite."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in record.items()
    }


def table_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table for JSON; None stands for NaN."""
    table = table.astype(object)
    return table.where(table.notna(), None).to_dict("records")


@dataclass(frozen=True)
class Measure:
    """Figures (m) of one model as a function of the weights of clusters.

    Attributes
    ----------
    names : tuple of str (m,)
    statistic : callable
        Weights (b, n_clusters) float64 to figures (b, m).
    n_clusters, n : int
        Clusters, and what is averaged.
    chance : tuple of float (m,)
    limits : (low, high), optional
        Of the figures, where they are means of bounded values: with Wilson's interval where no
        resample differs.
    terms : ndarray (n_clusters, m), optional
        What each cluster adds to the figure, for those that are sums over clusters.
    jackknife : bool
        Whether leaving out a cluster says anything (of a median it does not).
    """

    names: tuple[str, ...]
    statistic: Statistic
    n_clusters: int
    n: int
    chance: tuple[float, ...]
    limits: tuple[float, float] | None = None
    terms: np.ndarray | None = None
    jackknife: bool = True

    def values(self) -> np.ndarray:
        """Return the figures (m,) of the data as they are."""
        return self.statistic(np.ones((1, self.n_clusters)))[0]


def mean_measure(
    values: Mapping[str, np.ndarray],
    clusters: np.ndarray,
    *,
    chance: Mapping[str, float],
    limits: tuple[float, float] | None = (0.0, 1.0),
) -> Measure:
    """Return the means of values over queries.

    Parameters
    ----------
    values : mapping of str to ndarray (n,)
    clusters : ndarray (n,)
        Queries of one cluster are drawn together.
    chance : mapping of str to float
        By the same names; NaN where one is missing.
    limits : (low, high), optional
        Of the values.
    """
    table = np.stack([np.asarray(own, dtype=np.float64) for own in values.values()], axis=1)
    # Sums of clusters are weighted, not queries, so that the cost does not grow with them.
    sums, sizes = cluster_sums(table, clusters)

    def means(weights: np.ndarray) -> np.ndarray:
        return (weights @ sums) / (weights @ sizes)[:, None]

    return Measure(
        tuple(values),
        means,
        n_clusters=len(sums),
        n=len(table),
        chance=tuple(float(chance.get(name, math.nan)) for name in values),
        limits=limits,
        terms=sums / len(table),
    )


def cluster_sums(table: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return sums (n_clusters, m) and sizes (n_clusters,) of the rows of each cluster."""
    names, place = np.unique(clusters, return_inverse=True)
    sums = np.zeros((len(names), table.shape[1]))
    np.add.at(sums, place, table)
    return sums, np.bincount(place, minlength=len(names)).astype(np.float64)


def scored(
    measures: Iterable[Measure],
    *,
    rng: np.random.Generator | None = None,
    n_bootstrap: int = 1000,
) -> dict[str, Score]:
    """Return the figures of measures by name, with intervals where there is an ``rng``."""
    found = {}
    for measure in measures:
        resamples = None
        if rng is not None:
            resamples = _resampled(measure, measure.statistic, n_bootstrap, rng)
        for column, value in enumerate(measure.values().tolist()):
            own = {"chance": measure.chance[column], "n": measure.n}
            if resamples is not None:
                own |= _ends(value, resamples, column, measure.limits)
            found[measure.names[column]] = Score(value, **own)
    return found


def differences(
    before: Iterable[Measure],
    after: Iterable[Measure],
    *,
    rng: np.random.Generator,
    n_bootstrap: int = 1000,
    n_permutations: int = 9999,
) -> dict[str, Difference]:
    """Compare two models on the same pictures.

    Parameters
    ----------
    before, after : iterable of Measure
        The same measures, over the same clusters in the same order.
    rng : Generator
        Of the bootstrap and the exchanges.
    n_bootstrap, n_permutations : int

    Returns
    -------
    dict of str to Difference
        By name. p-values are of the sharp null hypothesis that the models answer alike, by
        exchanging them within random clusters; they are exact for it (Phipson & Smyth 2010).
    """
    found = {}
    for old, new in zip(before, after, strict=True):
        values, others = new.values(), old.values()
        resamples = _resampled(old, _difference(old, new), n_bootstrap, rng)
        p = np.full(len(values), math.nan)
        if old.terms is not None and new.terms is not None:
            p = _exchange_p(new.terms - old.terms, n_permutations, rng)
        for column, name in enumerate(old.names):
            gained = float(values[column] - others[column])
            ends = _ends(gained, resamples, column, None)
            found[name] = Difference(
                float(others[column]),
                float(values[column]),
                gained,
                p=float(p[column]),
                chance_before=old.chance[column],
                chance_after=new.chance[column],
                n=old.n,
                **ends,
            )
    return found


def _difference(old: Measure, new: Measure) -> Statistic:
    return lambda weights: new.statistic(weights) - old.statistic(weights)


def _resampled(
    measure: Measure, statistic: Statistic, n_bootstrap: int, rng: np.random.Generator
) -> Resamples:
    return resample(
        statistic,
        np.arange(measure.n_clusters),
        n_bootstrap=n_bootstrap,
        rng=rng,
        jackknife=measure.jackknife and measure.n_clusters <= _MOST_LEFT_OUT,
    )


def _ends(
    value: float, resamples: Resamples, column: int, limits: tuple[float, float] | None
) -> dict[str, Any]:
    fallback = None
    if limits is not None and math.isfinite(value):
        fallback = wilson_of_mean(value, limits, resamples.n_clusters)
    low, high, method = interval(value, resamples, column, fallback=fallback)
    return {
        "ci_low": low,
        "ci_high": high,
        "ci_method": method,
        "n_resampled": resamples.n_clusters,
    }


def _exchange_p(terms: np.ndarray, n_permutations: int, rng: np.random.Generator) -> np.ndarray:
    n_clusters = len(terms)
    step = max(1, _SIGNS_AT_ONCE // n_clusters)
    if step >= n_permutations or n_clusters < 63:
        step = n_permutations
    null = []
    for start in range(0, n_permutations, step):
        exchanges = draw_exchanges(n_clusters, min(step, n_permutations - start), rng)
        # exchanged_means divides by the number of rows; the terms are parts of a mean already.
        null.append(exchanged_means(terms, np.arange(n_clusters), exchanges) * n_clusters)
    return exchanges.p(terms.sum(axis=0), np.concatenate(null))
