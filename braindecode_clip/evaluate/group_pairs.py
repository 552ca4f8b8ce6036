"""Every pair of decoders within an ROI, and of ROIs within a decoder, compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import false_discovery_control

from braindecode_clip.checks import Problems, some
from braindecode_clip.config.group import GroupConfig
from braindecode_clip.evaluate.group_conditions import Conditions
from braindecode_clip.evaluate.group_labels import Exchange
from braindecode_clip.evaluate.group_rows import EVERYBODY, mean_interval
from braindecode_clip.evaluate.paired import judge_equivalence, paired_intervals, verdict
from braindecode_clip.resampling.exchanges import Exchanges, draw_exchanges, exchanged_means
from braindecode_clip.seeds import make_rng


@dataclass(frozen=True)
class Pair:
    """Two decoders in one ROI, or two ROIs by one decoder.

    Attributes
    ----------
    compared : {"decoders", "rois"}
    within : str
        The ROI, or the decoder.
    first, second : str
    """

    compared: str
    within: str
    first: str
    second: str

    def places(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Return ROI and decoder of both."""
        if self.compared == "decoders":
            return (self.within, self.first), (self.within, self.second)
        return (self.first, self.within), (self.second, self.within)


def pairs_of(conditions: Conditions, compare: str | list[str]) -> list[Pair]:
    """Return every pair that is to be compared.

    Raises
    ------
    DataError
        ``compare`` names decoders that are not there.
    """
    rois, known = conditions.names["roi"], conditions.names["decoder"]
    decoders = known if isinstance(compare, str) else compare
    unknown = [name for name in decoders if name not in known]
    if unknown:
        problems = Problems("group")
        problems.add(f"compare: no results of {some(unknown)}; there are some of {some(known)}.")
        problems.raise_if_any()
    found = [Pair("decoders", roi, *two) for roi in rois for two in combinations(decoders, 2)]
    return found + [Pair("rois", name, *two) for name in decoders for two in combinations(rois, 2)]


def pair_rows(
    conditions: Conditions,
    exchange: Exchange,
    *,
    options: GroupConfig,
    labels: Mapping[str, Any],
    seed: int,
) -> list[dict[str, Any]]:
    """Compare every pair in every subject, and over subjects.

    p exchanges the two in whole pictures (or runs): two-sided, all arrangements where there
    are few, otherwise random ones, which subjects share for pictures that they share. q is
    that of Benjamini & Hochberg (1995) over all pairs of a subject (or of the group),
    direction and score.

    Parameters
    ----------
    conditions : Conditions
    exchange : Exchange
    options : GroupConfig
    labels : mapping
        Split, encoder and gallery.
    seed : int
    """
    pairs = pairs_of(conditions, options.compare)
    if not pairs:
        return []
    shared = draw_exchanges(
        exchange.n_clusters, options.n_permutations, make_rng(seed, "group", "exchanges")
    )
    rows = []
    for direction in conditions.names["direction"]:
        for metric in conditions.metrics(direction):
            if metric in options.equivalence_margins:
                rows += _compare(
                    conditions, exchange, pairs, shared, direction, metric, options, seed
                )
    return [{**labels, **row} for row in rows]


def _compare(
    conditions: Conditions,
    exchange: Exchange,
    pairs: list[Pair],
    shared: Exchanges,
    direction: str,
    metric: str,
    options: GroupConfig,
    seed: int,
) -> list[dict[str, Any]]:
    """Compare all pairs by one score in one direction."""
    subjects = conditions.names["subject"]
    margin = options.equivalence_margins[metric]
    total, differences, rows = np.zeros((len(shared.signs), len(pairs))), [], []
    for subject in subjects:
        own = _differences(conditions, pairs, subject, direction, metric)
        differences.append(own)
        clusters = exchange.cluster_of[subject]
        null = exchanged_means(own, clusters, shared)
        total += null
        found = paired_intervals(
            own,
            clusters,
            n_bootstrap=options.n_bootstrap,
            confidence=options.confidence,
            rng=make_rng(seed, "group", "pictures"),
        )
        exchanges = shared
        names, place = np.unique(clusters, return_inverse=True)
        if not shared.complete and 2 ** min(len(names), 62) <= options.n_permutations:
            exchanges = draw_exchanges(len(names), options.n_permutations, np.random.default_rng(0))
            null = exchanged_means(own, place, exchanges)
        p = exchanges.p(own.mean(axis=0), null)
        drawn = "stimuli" if exchange.unit == "stimulus" else "runs"
        for column, row in enumerate(found):
            row |= judge_equivalence(own[:, column], margin, clusters=clusters)
            row |= {"resampled": drawn, "n": len(own), "n_unit": "brain samples"}
        rows += _finish(found, p, exchanges, pairs, subject, options.alpha)
    if len(subjects) > 1:
        means = np.array([own.mean(axis=0) for own in differences])
        found = []
        for column in range(len(pairs)):
            columns = [own[:, column] for own in differences]
            row = {"difference": float(means[:, column].mean())}
            row |= mean_interval(
                columns, exchange, subjects, options=options, limits=(-1, 1), seed=seed
            )
            row |= judge_equivalence(means[:, column], margin)
            found.append(row | {"n": len(subjects), "n_unit": "subjects"})
        p = shared.p(means.mean(axis=0), total / len(subjects))
        rows += _finish(found, p, shared, pairs, EVERYBODY, options.alpha)
    return [row | {"direction": direction, "metric": metric} for row in rows]


def _differences(
    conditions: Conditions, pairs: list[Pair], subject: str, direction: str, metric: str
) -> np.ndarray:
    """Return the first less the second of each pair (n_queries, n_pairs) float64."""
    columns = []
    for pair in pairs:
        first, second = (
            conditions[subject, roi, decoder, direction].values(metric)
            for roi, decoder in pair.places()
        )
        columns.append(first - second)
    return np.stack(columns, axis=1)


def _finish(
    found: list[dict[str, Any]],
    p: np.ndarray,
    exchanges: Exchanges,
    pairs: list[Pair],
    subject: str,
    alpha: float,
) -> list[dict[str, Any]]:
    q = false_discovery_control(p, method="bh")
    rows = []
    for row, pair, own_p, own_q in zip(found, pairs, p, q, strict=True):
        row |= {
            "p": float(own_p),
            "q": float(own_q),
            "n_pairs": len(pairs),
            "n_exchanges": len(exchanges.signs),
            "all_exchanges": exchanges.complete,
        }
        labels = {
            "level": "group" if subject == EVERYBODY else "subject",
            "subject": subject,
            "compared": pair.compared,
            "within": pair.within,
            "first": pair.first,
            "second": pair.second,
        }
        rows.append(labels | row | {"verdict": verdict(labels | row, alpha)})
    return rows
