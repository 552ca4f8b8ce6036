"""How many test pictures would have sufficed to tell a score from chance.

Pictures (or runs, where these are drawn) are resampled from the data: with permuted labels for the
null, with the true ones for the effect that was seen. Assumed: more of the same kind of picture,
the same decoder, and a gallery of the same size.

Power at the effect that was seen is a function of p and n alone; it cannot excuse a large p, and
after a small p it is optimistic (Hoenig & Heisey 2001, The American Statistician 55, 19-24). So the
power for the smallest effect of interest, named beforehand, stands beside it: there a share of the
pictures is identified without fail and all others by guesses (where labels are exchanged within
runs, as with permuted labels, since such predictions lean towards the stimuli trained on).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from braindecode_clip.config.evaluate import EvaluateConfig
from braindecode_clip.evaluate.permutation import RankTable, permuted_labels
from braindecode_clip.evaluate.rows import Design
from braindecode_clip.evaluate.scores import Score

ALPHA, WANTED = 0.05, 0.8
#: Simulated studies, and the size up to which they are simulated; larger ones by normal theory.
N_STUDIES, N_SIMULATED = 2000, 1024
#: Permutations whose scores make the null that pictures are drawn from.
N_NULL = 200
METRICS = ("top_1", "pairwise")


@dataclass(frozen=True)
class Source:
    """What simulated studies draw from: sums of scores over the samples of a cluster.

    Attributes
    ----------
    sums : ndarray (n,) float64
        One or several versions of each cluster.
    sizes : ndarray (n,) float64
        Samples in it.
    """

    sums: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(
        cls, values: np.ndarray, clusters: np.ndarray, *, without: np.ndarray | None = None
    ) -> Source:
        """Sum scores (k, n_samples) over clusters (n_samples,), numbered from 0.

        Versions of a cluster that hold samples in ``without`` (k, n_samples) are left out.
        """
        order = np.argsort(clusters, kind="stable")
        starts = np.flatnonzero(np.diff(clusters[order], prepend=-1))
        sums = np.add.reduceat(values[:, order].astype(np.float64), starts, axis=1)
        sizes = np.broadcast_to(np.bincount(clusters).astype(np.float64), sums.shape)
        keep = np.ones(sums.shape, dtype=bool)
        if without is not None:
            keep = ~np.logical_or.reduceat(without[:, order], starts, axis=1)
        return cls(sums[keep], sizes[keep])

    @property
    def mean(self) -> float:
        """Mean score over all samples."""
        return float(self.sums.sum() / self.sizes.sum())

    @property
    def spread(self) -> float:
        """Standard error of the mean of one cluster; of n, smaller by the root of n."""
        away = self.sums - self.mean * self.sizes
        return float(np.sqrt((away**2).mean()) / self.sizes.mean())

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Return sums and sizes of drawn clusters."""
        which = rng.integers(0, len(self.sums), shape)
        return self.sums[which], self.sizes[which]

    def studies(
        self,
        sizes: np.ndarray,
        rng: np.random.Generator,
        *,
        kept: tuple[Source, float] | None = None,
    ) -> np.ndarray:
        """Return mean scores (len(sizes), N_STUDIES) of studies of ascending numbers of clusters.

        A larger study goes on from a smaller one. ``kept`` names another source and how many
        clusters of each study (Poisson mean) come from there instead.
        """
        found = np.empty((len(sizes), N_STUDIES))
        total, counted = np.zeros(N_STUDIES), np.zeros(N_STUDIES)
        for place, new in enumerate(np.diff(sizes, prepend=0)):
            sums, counts = self.draw((int(new), N_STUDIES), rng)
            total += sums.sum(axis=0)
            counted += counts.sum(axis=0)
            found[place] = total / counted
            if kept is None:
                continue
            number = np.minimum(rng.poisson(kept[1], N_STUDIES), sizes[place])
            for _ in range(int(number.max())):
                away, here = self.draw((N_STUDIES,), rng), kept[0].draw((N_STUDIES,), rng)
                change = here[0] / here[1] - away[0] / away[1]
                found[place] += np.where(number > 0, change, 0.0) / sizes[place]
                number -= 1
        return found


def mixed(
    null: np.ndarray,
    effect: float,
    units: np.ndarray,
    *,
    null_mean: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return null scores in which so many units are perfect that the mean is ``effect``.

    Parameters
    ----------
    null : array (k, n_samples)
        With 1 for perfect.
    effect : float
        From ``null_mean`` to 1.
    units : int array (n_samples,)
        Samples that are perfect together, numbered from 0.
    null_mean : float
        Of the null scores that are used.
    rng : Generator
    """
    share = (effect - null_mean) / max(1 - null_mean, 1e-12)
    n_units = len(null) * (int(units.max()) + 1)
    perfect = (rng.permutation(n_units) < share * n_units).reshape(len(null), -1)
    return np.where(perfect[:, units], 1.0, null)


def study_sizes(n: int) -> np.ndarray:
    """Return the sizes that are simulated: all up to 50, then in steps of 3 %, and ``n``."""
    steps = np.geomspace(50, N_SIMULATED, 103).round().astype(int)
    sizes = np.r_[np.arange(1, 51), steps, n]
    return np.unique(sizes[sizes <= N_SIMULATED])


def critical_scores(
    null: Source,
    sizes: np.ndarray,
    *,
    rng: np.random.Generator,
    kept: tuple[Source, float] | None = None,
) -> np.ndarray:
    """Return the scores (len(sizes),) that at most :data:`ALPHA` of the null studies exceed.

    A random permutation leaves one label in place on average, in each stratum; in small studies
    these true scores among the permuted ones (``kept``) cost power.
    """
    place = N_STUDIES - 1 - int(ALPHA * N_STUDIES)
    return np.partition(null.studies(sizes, rng, kept=kept), place, axis=1)[:, place]


def power_curve(
    effect: Source, sizes: np.ndarray, critical: np.ndarray, *, rng: np.random.Generator
) -> np.ndarray:
    """Return the share of studies of each size whose score exceeds the critical one."""
    # Sums of the same numbers in another order differ in the last bits: those are equal.
    return (effect.studies(sizes, rng) > critical[:, None] + 1e-9).mean(axis=1)


def normal_power(null: Source, effect: Source, n: int) -> float:
    """Return the power with ``n`` clusters by normal theory."""
    gain = (effect.mean - null.mean) * np.sqrt(n) + ndtri(ALPHA) * null.spread
    return float(ndtr(gain / effect.spread)) if effect.spread > 0 else float(gain > 0)


def sufficient(null: Source, effect: Source, sizes: np.ndarray, curve: np.ndarray) -> int | None:
    """Return the fewest clusters from which on power is :data:`WANTED`; None when none are."""
    below = np.flatnonzero(curve < WANTED)
    enough = int(below[-1]) + 1 if len(below) else 0
    if enough < len(curve):
        return int(sizes[enough])
    gain = effect.mean - null.mean
    if gain <= 0:
        return None
    root = (ndtri(1 - ALPHA) * null.spread + ndtri(WANTED) * effect.spread) / gain
    return max(N_SIMULATED + 1, int(np.ceil(root**2)))


def power_rows(
    table: RankTable,
    scores: Sequence[Score],
    *,
    design: Design,
    options: EvaluateConfig,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Return the power of the tests of top-1 and pairwise identification.

    Parameters
    ----------
    table : RankTable
    scores : sequence of Score
        Others than :data:`METRICS` are left out.
    design : Design
    options : EvaluateConfig
        ``effect_top_1`` and ``effect_pairwise``.
    rng : Generator

    Returns
    -------
    list of dict
        metric, alpha, wanted (power), unit and n (of what is drawn), null_mean; value, power
        and n_sufficient at the effect seen; effect, effect_power and effect_n_sufficient at
        the smallest effect of interest.
    """
    how = design.exchange
    clusters = np.unique(design.clusters, return_inverse=True)[1]
    pairs = np.stack([clusters, design.labels])
    units = np.unique(pairs, axis=1, return_inverse=True)[1].ravel()
    chunks = permuted_labels(
        design.labels,
        how.groups,
        unit=how.unit,
        n_permutations=N_NULL,
        rng=rng,
        chunk=N_NULL,
        strata=how.strata,
    )
    moved = np.concatenate(list(chunks))
    drawn, seen = table.under(moved), table.under(design.labels[None])
    # Within runs the share of labels that stay is the same however many runs there are.
    whole = how.unit == "stimulus" and design.drawn == "stimuli"
    stay = (moved == design.labels) & whole
    n_strata = len(np.unique(how.strata)) if whole else 0
    others = np.broadcast_to(seen[1], (1, moved.shape[1]))[0]
    # Repeats of a picture guess alike, which asks for more pictures, not fewer.
    # Every place of the gallery comes equally often: chance must be exact where it is small.
    places = rng.permutation(N_NULL * len(how.strata)) + 0.5
    share = (places / len(places)).reshape(N_NULL, -1)[:, design.labels]
    guessed = np.floor(share * (others + 1)) + 1
    n = int(clusters.max()) + 1
    sizes = study_sizes(n)
    rows = []
    for score in scores:
        if score.name not in METRICS:
            continue
        values = score.per_query(*drawn).astype(np.float64)
        null = Source.of(values, clusters, without=stay)
        true = Source.of(score.per_query(*seen), clusters)
        # Permuted labels of a good decoder score worse than guesses; a weak one's are guesses.
        guess = score.per_query(guessed, others).astype(np.float64) if whole else values
        weak = Source.of(guess, clusters)
        chance = score.chance(others) if whole else weak.mean
        wanted = effect_of_interest(score.name, chance, options)
        perfect = mixed(guess, wanted, units, null_mean=weak.mean, rng=rng)
        row: dict[str, Any] = {
            "metric": score.name,
            "alpha": ALPHA,
            "wanted": WANTED,
            "unit": design.drawn,
            "n": n,
            "null_mean": null.mean,
            "value": true.mean,
        }
        for prefix, guesses, source in (
            ("", null, true),
            ("effect_", weak, Source.of(perfect, clusters)),
        ):
            critical = critical_scores(guesses, sizes, rng=rng, kept=(source, n_strata))
            curve = power_curve(source, sizes, critical, rng=rng)
            simulated = curve[sizes == n]
            at_n = simulated[0] if len(simulated) else normal_power(guesses, source, n)
            row[f"{prefix}power"] = float(at_n)
            row[f"{prefix}n_sufficient"] = sufficient(guesses, source, sizes, curve)
        rows.append({**row, "effect": wanted})
    return rows


def effect_of_interest(metric: str, chance: float, options: EvaluateConfig) -> float:
    """Return the smallest score of interest, at most 1."""
    if metric == "top_1":
        return min(1.0, options.effect_top_1 * chance)
    return min(1.0, chance + options.effect_pairwise)
