"""Whether two cards' numbers may be compared, and how far they lie apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from braindecode_clip.artifacts import Retrieval
from braindecode_clip.cards.card import OWN_GALLERY, Card, Score
from braindecode_clip.cards.fields import Field, compare_fields
from braindecode_clip.cards.markdown import number
from braindecode_clip.errors import DataError
from braindecode_clip.resampling.bootstrap import interval, resample, weighted_mean, wilson_of_mean

#: Where the level of an interval is known from neither card.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """First minus second.

    Attributes
    ----------
    value, low, high : float
        low and high None where a card gives no interval.
    how : {"paired by sample", "paired by picture", "two samples", "values alone"}
    n : int or None
        Pictures or runs drawn, of a paired difference.
    confidence : float or None
    """

    value: float
    low: float | None
    high: float | None
    how: str
    n: int | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class Comparison:
    """What came of comparing two cards.

    Attributes
    ----------
    first, second : Score
        The scores that were chosen.
    fields : list of Field
    comparable : bool
        Nothing that must agree differs or is unknown.
    paired : bool
        The test pictures are the same, so that a paired comparison is possible.
    difference : Difference or None
        None where the numbers are not comparable.
    advice : list of str
    """

    first: Score
    second: Score
    fields: list[Field]
    comparable: bool
    paired: bool
    difference: Difference | None
    advice: list[str]


def compare_cards(
    first: Card,
    second: Card,
    *,
    metric: str = "top_1",
    direction: str | None = None,
    retrievals: tuple[Retrieval | None, Retrieval | None] = (None, None),
    rng: np.random.Generator,
    n_bootstrap: int = 5000,
) -> Comparison:
    """Compare one score of two cards.

    Parameters
    ----------
    first, second : Card
    metric : str
    direction : str, optional
        Default: one that both cards have, from brain to image where there is a choice.
    retrievals : pair of Retrieval or None
        Of that direction, where their files are there: for a paired difference.
    rng : Generator
    n_bootstrap : int

    Raises
    ------
    DataError
        A card without such a score.
    """
    one, two = choose_scores(first, second, metric=metric, direction=direction)
    fields = compare_fields((first, one), (second, two))
    comparable = not any(field.effect == "blocks" for field in fields)
    same = next(field for field in fields if field.name == "test pictures").verdict == "same"
    difference = None
    if comparable:
        if same and all(retrievals):
            difference = paired_difference(
                *retrievals,  # type: ignore[arg-type]
                metric=metric,
                unit=str(first.split.unit),
                confidence=one.confidence or CONFIDENCE,
                n_bootstrap=n_bootstrap,
                rng=rng,
            )
        difference = difference or unpaired_difference(one, two)
    advice = _advice((first, one), (second, two), fields, same)
    return Comparison(one, two, fields, comparable, comparable and same, difference, advice)


def choose_scores(
    first: Card, second: Card, *, metric: str, direction: str | None = None
) -> tuple[Score, Score]:
    """Return the scores of a metric that agree best: in direction, then protocol, candidates."""

    def of(card: Card) -> list[Score]:
        return [
            score
            for score in card.scores
            if score.metric == metric and direction in (None, score.direction)
        ]

    lacking = [card for card in (first, second) if not of(card)]
    if lacking:
        wanted = metric if direction is None else f"{metric}, {direction}"
        known = "; ".join(
            f"'{card.title}' has "
            + ", ".join(
                sorted({f"{s.metric} ({s.direction or 'direction unknown'})" for s in card.scores})
            )
            for card in lacking
        )
        raise DataError(
            f"no score {wanted} in {len(lacking)} of the cards: {known}. Name another with "
            "--metric or --direction."
        )

    def likeness(pair: tuple[Score, Score]) -> tuple[bool, ...]:
        a, b = pair
        return (
            a.direction == b.direction,
            a.direction == "brain_to_image",
            a.protocol == b.protocol,
            a.n_gallery == b.n_gallery,
            a.correction == b.correction,
            a.protocol == OWN_GALLERY,
        )

    # The first of equals, so the order of the cards' scores decides.
    return max(((a, b) for a in of(first) for b in of(second)), key=likeness)


def unpaired_difference(first: Score, second: Score) -> Difference:
    r"""Return the difference of two independent scores from their own intervals.

    With values v and limits l, u the interval is :math:`d - \sqrt{(v_1 - l_1)^2 + (u_2 - v_2)^2}`
    to :math:`d + \sqrt{(u_1 - v_1)^2 + (v_2 - l_2)^2}` (Zou & Donner, Statistics in Medicine 2008,
    27:1693-1702, https://doi.org/10.1002/sim.3095, equation 6).
    """
    value = first.value - second.value
    ends = (first.ci_low, first.ci_high, second.ci_low, second.ci_high)
    if any(end is None for end in ends) or first.confidence != second.confidence:
        return Difference(value, None, None, "values alone")
    low_1, high_1, low_2, high_2 = (float(end) for end in ends if end is not None)
    below = math.hypot(first.value - low_1, high_2 - second.value)
    above = math.hypot(high_1 - first.value, second.value - low_2)
    return Difference(
        value, value - below, value + above, "two samples", confidence=first.confidence
    )


def paired_difference(
    first: Retrieval,
    second: Retrieval,
    *,
    metric: str,
    unit: str,
    confidence: float,
    n_bootstrap: int,
    rng: np.random.Generator,
) -> Difference | None:
    """Return the difference over the same queries, or over the same pictures.

    Queries are matched by stimulus and run. Where these differ or are not unique, the means of
    each picture are, if stimuli are held out.

    Returns
    -------
    Difference or None
        None for a metric that is no mean over queries, and where nothing can be matched.
    """
    scores = [per_query(item, metric) for item in (first, second)]
    if any(score is None for score in scores):
        return None
    keys = [
        list(zip(q["stimulus_id"].astype(str), q["group"].astype(str), strict=True))
        for q in (first.queries, second.queries)
    ]
    how = "paired by sample"
    if set(keys[0]) != set(keys[1]) or any(len(set(key)) < len(key) for key in keys):
        if unit != "stimulus":
            return None
        keys = [[(name, "") for name, _ in key] for key in keys]
        how = "paired by picture"
    means = [_means(key, score) for key, score in zip(keys, scores, strict=True)]
    if means[0].keys() != means[1].keys():
        return None
    names = sorted(means[0])
    apart = np.array([means[0][name] - means[1][name] for name in names])
    clusters = np.array([name[0] if unit == "stimulus" else name[1] for name in names])
    drawn = resample(weighted_mean(apart[:, None]), clusters, n_bootstrap=n_bootstrap, rng=rng)
    value, reach = float(apart.mean()), float(np.abs(apart).max(initial=0.0)) or 1.0
    fallback = wilson_of_mean(value, (-reach, reach), drawn.n_clusters, confidence=confidence)
    low, high, _ = interval(value, drawn, 0, confidence=confidence, fallback=fallback)
    return Difference(value, low, high, how, drawn.n_clusters, confidence)


def per_query(retrieval: Retrieval, metric: str) -> np.ndarray | None:
    """Return a score for each query, (n_queries,) float64; None where it is no mean of such."""
    rank = retrieval.queries["rank"].to_numpy(dtype=np.float64)
    if metric.startswith("top_") and metric[4:].isdigit():
        return (rank <= int(metric[4:])).astype(np.float64)
    if metric == "pairwise":
        return 1 - (rank - 1) / retrieval.queries["n_distractors"].to_numpy(dtype=np.float64)
    if metric == "mean_rank":
        return rank
    return 1 / rank if metric == "mean_reciprocal_rank" else None


def _means(
    keys: Sequence[tuple[str, str]], values: np.ndarray | None
) -> dict[tuple[str, str], float]:
    grouped: dict[tuple[str, str], list[float]] = {}
    for key, value in zip(keys, values if values is not None else (), strict=True):
        grouped.setdefault(key, []).append(float(value))
    return {key: float(np.mean(own)) for key, own in grouped.items()}


def _advice(
    first: tuple[Card, Score], second: tuple[Card, Score], fields: Sequence[Field], same: bool
) -> list[str]:
    by = {field.name: field for field in fields}
    found = []
    if by["candidates"].verdict == "differs and matters":
        found += _pool_advice(first, second)
    unknown = [
        field.name for field in fields if field.effect == "blocks" and field.verdict == "unknown"
    ]
    if unknown:
        found.append(f"Not known, and must be the same: {', '.join(unknown)}.")
    wrong = [
        field
        for field in fields
        if field.effect == "blocks" and field.verdict != "unknown" and field.name != "candidates"
    ]
    found += [
        f"Must be the same: {field.name} ({field.first} against {field.second})." for field in wrong
    ]
    choices = [f.name for f in fields if f.effect == "choice" and f.verdict != "unknown"]
    if choices:
        found.append(f"The difference is also one of: {', '.join(choices)}.")
    if same:
        found.append("The test pictures are the same: a paired comparison is possible.")
    return found


def _pool_advice(first: tuple[Card, Score], second: tuple[Card, Score]) -> list[str]:
    """Say what each guess scores, and at which pool size both numbers can be had."""
    chances = " against ".join(number(score.metric, score.chance) for _, score in (first, second))
    found = [f"{first[1].n_gallery} against {second[1].n_gallery} candidates: chance is {chances}."]
    sizes = [score.n_gallery for _, score in (first, second)]
    if None in sizes or not first[1].metric.startswith("top_"):
        return found
    size = min(int(n) for n in sizes if n is not None)
    card, score = first if sizes[0] != size else second
    curve = sorted(
        (point.pool_size, point.value)
        for point in card.pool_curve
        if (point.direction, f"top_{point.k}") == (score.direction, score.metric)
    )
    below = [point for point in curve if point[0] <= size]
    above = [point for point in curve if point[0] >= size]
    if not (below and above):
        return [*found, f"A pool curve of '{card.title}' would tell its score at {size}."]
    ends = dict.fromkeys((above[0], below[-1]))
    values = " to ".join(f"{number(score.metric, value)} (pool {n})" for n, value in ends)
    return [
        *found,
        f"At {size} candidates drawn from its own gallery '{card.title}' scores {values}.",
    ]
