"""Rows of the table: paired differences of each subject, and over subjects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from braindecode_clip.audit.compare import KINDS, Compared
from braindecode_clip.audit.places import KEYS
from braindecode_clip.config.adaptations import AuditConfig
from braindecode_clip.config.group import GroupConfig
from braindecode_clip.evaluate.group_labels import Exchange
from braindecode_clip.evaluate.group_rows import EVERYBODY, mean_interval
from braindecode_clip.evaluate.paired import (
    Exchanges,
    draw_exchanges,
    exchanged_means,
    judge_equivalence,
    paired_intervals,
)
from braindecode_clip.seeds import make_rng

#: Column of a row for the value, and prefix of interval and p, of each kind of difference.
PREFIXES = {kind: f"{kind}_" if kind != "difference" else "" for kind in KINDS}


@dataclass(frozen=True)
class Columns:
    """One subject's differences of one subset, side by side.

    Attributes
    ----------
    keys : tuple of (int, int, str)
        Comparison, score and kind of each column.
    items : tuple of Compared
    values : ndarray (n_queries, n_columns) float64
    rows : ndarray (n_all_queries,) bool
        Queries of the subset.
    """

    keys: tuple[tuple[int, int, str], ...]
    items: tuple[Compared, ...]
    values: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, items: list[Compared], rows: np.ndarray) -> Columns:
        """Stack what was measured."""
        keys, values = [], []
        for i, item in enumerate(items):
            for j in range(len(item.scores)):
                for kind in KINDS:
                    if kind in item.differences:
                        keys.append((i, j, kind))
                        values.append(item.differences[kind][rows, j])
        return cls(tuple(keys), tuple(items), np.stack(values, axis=1), rows)

    def label(self, column: int) -> tuple[str, ...]:
        """Return what names a column in every subject: place without subject, score and kind."""
        i, j, kind = self.keys[column]
        item = self.items[i]
        place = [name for key, name in zip(KEYS, item.place, strict=True) if key != "subject"]
        return (*place, item.direction, item.scores[j].name, kind)


def subject_rows(
    columns: Mapping[str, Columns],
    exchange: Exchange,
    kept: Mapping[str, np.ndarray],
    *,
    options: AuditConfig,
    seed: int,
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Compare the encoders within each subject.

    p exchanges the two encoders in whole pictures (whole runs where runs are held out), which
    leaves the pictures and the decoder's strength on them as they are; two-sided. Intervals are
    BCa over the same.

    Returns
    -------
    list of dict
    dict of str to ndarray (n_exchanges, n_columns)
        Mean differences of each subject under the exchanges that all subjects share.
    """
    shared = shared_exchanges(exchange, options, seed)
    rows, nulls = [], {}
    for subject, own in columns.items():
        clusters = exchange.cluster_of[subject][kept[subject]]
        nulls[subject] = exchanged_means(own.values, clusters, shared)
        found = paired_intervals(
            own.values,
            clusters,
            n_bootstrap=options.n_bootstrap,
            confidence=options.confidence,
            rng=make_rng(seed, "audit", "pictures"),
        )
        names, place = np.unique(clusters, return_inverse=True)
        exchanges, null = shared, nulls[subject]
        if not shared.complete and 2 ** min(len(names), 62) <= options.n_permutations:
            exchanges = draw_exchanges(len(names), options.n_permutations, np.random.default_rng(0))
            null = exchanged_means(own.values, place, exchanges)
        p = exchanges.p(own.values.mean(axis=0), null)
        facts = {
            "level": "subject",
            "subject": subject,
            "n": len(own.values),
            "n_unit": "brain samples",
            "n_clusters": len(names),
            "resampled": "stimuli" if exchange.unit == "stimulus" else "runs",
            "n_exchanges": len(exchanges.signs),
            "all_exchanges": exchanges.complete,
        }
        values = {
            column: found[column] | {"p": float(p[column])} for column in range(len(own.keys))
        }
        for column, (i, j, kind) in enumerate(own.keys):
            if kind != "difference":
                continue
            item, score = own.items[i], own.items[i].scores[j]
            means = {
                f"{key}_value": float(item.outcomes[key][own.rows, j].mean())
                for key in item.outcomes
            }
            others = item.n_distractors[own.rows]
            row = _labels(item, score.name) | facts | means
            row |= {"chance": float(score.chance(others)), "sign": score.sign}
            row |= _measured(own, i, j, values)
            margin = options.equivalence_margins.get(score.name)
            row |= _equivalence(own.values[:, column], margin, clusters)
            row["correlation_original"], row["correlation_adapted"] = item.correlations
            rows.append(row)
    return rows, nulls


def group_rows(
    columns: Mapping[str, Columns],
    exchange: Exchange,
    nulls: Mapping[str, np.ndarray],
    *,
    options: AuditConfig,
    seed: int,
) -> list[dict[str, Any]]:
    """Compare the encoders over subjects: means, intervals over subjects, p of those measured."""
    subjects = list(columns)
    shared = shared_exchanges(exchange, options, seed)
    places = {
        subject: {own.label(column): column for column in range(len(own.keys))}
        for subject, own in columns.items()
    }
    first = columns[subjects[0]]
    values: dict[int, dict[str, Any]] = {}
    per_subject: dict[int, np.ndarray] = {}
    how = GroupConfig(
        confidence=options.confidence, n_bootstrap=options.n_bootstrap, resample="subjects"
    )
    for column in range(len(first.keys)):
        label = first.label(column)
        if any(label not in own for own in places.values()):
            continue
        at = {subject: own[label] for subject, own in places.items()}
        queries = [columns[subject].values[:, at[subject]] for subject in subjects]
        means = np.array([own.mean() for own in queries])
        null = np.mean([nulls[subject][:, at[subject]] for subject in subjects], axis=0)
        p = shared.p(np.array([means.mean()]), null[:, None])[0]
        # Of shares; what geometry gives may add to a difference as much again.
        limit = 2.0 if label[-1] == "beyond_geometry" else 1.0
        limit = np.inf if label[-2] == "mean_rank" else limit
        row = {"difference": float(means.mean())}
        row |= mean_interval(
            queries, exchange, subjects, options=how, limits=(-limit, limit), seed=seed
        )
        values[column], per_subject[column] = row | {"p": float(p)}, means
    rows = []
    for column, (i, j, kind) in enumerate(first.keys):
        if kind != "difference" or column not in values:
            continue
        item, score = first.items[i], first.items[i].scores[j]
        row = _labels(item, score.name) | {
            "level": "group",
            "subject": EVERYBODY,
            "n": len(subjects),
            "n_unit": "subjects",
            "n_clusters": len(subjects),
            "resampled": "subjects",
            "n_exchanges": len(shared.signs),
            "all_exchanges": shared.complete,
            "sign": score.sign,
        }
        row |= _mean_of_subjects(columns, first.label(column), places)
        row |= _measured(first, i, j, values)
        margin = options.equivalence_margins.get(score.name)
        row |= _equivalence(per_subject[column], margin, None)
        rows.append(row)
    return rows


def shared_exchanges(exchange: Exchange, options: AuditConfig, seed: int) -> Exchanges:
    """Return the exchanges that all subjects share, the same at every call."""
    rng = make_rng(seed, "audit", "exchanges")
    return draw_exchanges(exchange.n_clusters, options.n_permutations, rng)


def _labels(item: Compared, metric: str) -> dict[str, Any]:
    named = dict(zip(KEYS, item.place, strict=True))
    return {
        "original": item.original,
        "adapted": item.adapted,
        **named,
        "direction": item.direction,
        "metric": metric,
    }


def _measured(
    own: Columns, i: int, j: int, values: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return every kind of difference of one score with interval and p."""
    at = {kind: c for c, (a, b, kind) in enumerate(own.keys) if (a, b) == (i, j) and c in values}
    row: dict[str, Any] = {}
    for kind, prefix in PREFIXES.items():
        found = values[at[kind]] if kind in at else {}
        name = kind
        row[name] = found.get("difference")
        for key in ("ci_low", "ci_high", "p"):
            row[f"{prefix}{key}"] = found.get(key)
        if kind == "difference":
            row["ci_method"] = found.get("ci_method")
            row["confidence"] = found.get("confidence")
    beyond = row["beyond_geometry"]
    row["geometry"] = None if beyond is None else row["difference"] - beyond
    return row


def _mean_of_subjects(
    columns: Mapping[str, Columns],
    label: tuple[str, ...],
    places: Mapping[str, Mapping[tuple[str, ...], int]],
) -> dict[str, Any]:
    """Return what is averaged over subjects: scores, chance and correlations."""
    found: dict[str, list[float]] = {}
    for subject, own in columns.items():
        i, j, _ = own.keys[places[subject][label]]
        item = own.items[i]
        for key, values in item.outcomes.items():
            found.setdefault(f"{key}_value", []).append(float(values[own.rows, j].mean()))
        chance = float(item.scores[j].chance(item.n_distractors[own.rows]))
        found.setdefault("chance", []).append(chance)
        for key, value in zip(("original", "adapted"), item.correlations, strict=True):
            found.setdefault(f"correlation_{key}", []).append(value)
    return {key: float(np.mean(values)) for key, values in found.items()}


def _equivalence(
    differences: np.ndarray, margin: float | None, clusters: np.ndarray | None
) -> dict[str, Any]:
    if margin is None:
        keys = ("margin", "p_equivalence", "ci90_low", "ci90_high", "bayes_factor_none")
        return dict.fromkeys(keys)
    return judge_equivalence(differences, margin, clusters=clusters)
