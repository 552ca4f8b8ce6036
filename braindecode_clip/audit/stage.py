"""All comparisons of a study put into one table, with intervals, tests and verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import false_discovery_control

from braindecode_clip.audit.compare import KINDS, Compared
from braindecode_clip.audit.places import said
from braindecode_clip.audit.rows import Columns, group_rows, subject_rows
from braindecode_clip.audit.verdicts import finding, verdict_of
from braindecode_clip.config.adaptations import AuditConfig
from braindecode_clip.errors import DataError
from braindecode_clip.evaluate.group_labels import exchange_of
from braindecode_clip.evaluate.rows import without_nan

#: Pictures that are compared: all, those of held-out categories or compositions, and the rest.
SUBSETS = ("all", "held_out", "not_held_out")
#: Pairwise identification of the synthetic decoder may differ by this from that of the real one.
UNLIKE = 0.1


@dataclass(frozen=True)
class Audit:
    """What ``audit`` found.

    Attributes
    ----------
    rows : list of dict
        One a score, place, direction, subset and subject (``level`` "subject"), and over subjects
        (``level`` "group", subject "all"): original, adapted, difference (adapted less original)
        with interval, p, q, equivalence and verdict; what geometry gives, and the difference
        beyond it and in each space, with interval and p.
    findings : list of dict
        One an adapted encoder: counts of verdicts, and a sentence.
    notes : list of str
        What a reader must know.
    """

    rows: list[dict[str, Any]]
    findings: list[dict[str, Any]]
    notes: list[str]


def audit(
    compared: Iterable[Compared],
    *,
    held_out: frozenset[str] = frozenset(),
    options: AuditConfig | None = None,
    seed: int,
) -> Audit:
    """Put all comparisons together.

    Parameters
    ----------
    compared : iterable of Compared
        Of every place and pair of encoders.
    held_out : set of str
        Stimuli of held-out categories or compositions.
    options : AuditConfig, optional
    seed : int
        The study's.

    Returns
    -------
    Audit

    Raises
    ------
    DataError
        A subject has other test samples in one place than in another of the same split.
    """
    options = options or AuditConfig()
    parts: dict[tuple[str, str, str], list[Compared]] = {}
    for item in compared:
        parts.setdefault((item.original, item.adapted, item.place[0]), []).append(item)
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for own in parts.values():
        notes += [note for item in own for note in item.notes]
        rows += _rows_of(own, held_out, options=options, seed=seed)
    rows = _judged(rows, options.alpha)
    notes = list(dict.fromkeys([*notes, *_notes(rows)]))
    encoders = dict.fromkeys((row["original"], row["adapted"]) for row in rows)
    found = [finding(rows, *pair) for pair in encoders]
    return Audit(without_nan(rows), found, notes)


def _rows_of(
    items: list[Compared], held_out: frozenset[str], *, options: AuditConfig, seed: int
) -> list[dict[str, Any]]:
    """Return the rows of one pair of encoders in one split."""
    by_subject: dict[str, list[Compared]] = {}
    for item in items:
        by_subject.setdefault(item.place[2], []).append(item)
    samples = {}
    for subject, own in by_subject.items():
        samples[subject] = (own[0].stimuli, own[0].groups)
        for item in own[1:]:
            if not np.array_equal(item.stimuli, own[0].stimuli):
                raise DataError(
                    f"audit: {said(item.place)}: other test samples than in {said(own[0].place)}. "
                    "Re-run `decode` and `retrieve` for all ROIs and decoders of the split."
                )
    exchange = exchange_of(samples, items[0].unit)
    rows = []
    for subset in SUBSETS:
        chosen = {
            subject: _chosen(stimuli, held_out, subset) for subject, (stimuli, _) in samples.items()
        }
        kept = {subject: own for subject, own in chosen.items() if own.any()}
        if not kept or (subset != "all" and not _divides(samples, held_out)):
            continue
        columns = {
            subject: Columns.of(by_subject[subject], rows_kept)
            for subject, rows_kept in kept.items()
        }
        own_rows, nulls = subject_rows(columns, exchange, kept, options=options, seed=seed)
        labels = {"subset": subset}
        rows += [labels | row for row in own_rows]
        if len(kept) > 1:
            more = group_rows(columns, exchange, nulls, options=options, seed=seed)
            rows += [labels | row for row in more]
    return rows


def _chosen(stimuli: np.ndarray, held_out: frozenset[str], subset: str) -> np.ndarray:
    flagged = np.isin(stimuli, sorted(held_out)) if held_out else np.zeros(len(stimuli), bool)
    return {"all": np.ones(len(stimuli), bool), "held_out": flagged, "not_held_out": ~flagged}[
        subset
    ]


def _divides(
    samples: Mapping[str, tuple[np.ndarray, np.ndarray]], held_out: frozenset[str]
) -> bool:
    """Tell whether some test pictures are held out and some are not."""
    shown = {name for stimuli, _ in samples.values() for name in stimuli.tolist()}
    return bool(shown & held_out) and bool(shown - held_out)


def _judged(rows: list[dict[str, Any]], alpha: float) -> list[dict[str, Any]]:
    """Add q over the table of an adapted encoder (subjects and group apart), and verdicts."""
    families: dict[tuple[str, ...], list[int]] = {}
    for place, row in enumerate(rows):
        families.setdefault((row["original"], row["adapted"], row["level"]), []).append(place)
    found = [dict(row) for row in rows]
    for members in families.values():
        q = false_discovery_control([rows[place]["p"] for place in members], method="bh")
        for place, value in zip(members, q, strict=True):
            found[place] |= {"q": float(value), "n_family": len(members)}
            found[place]["verdict"] = verdict_of(found[place], alpha)
    return found


def _notes(rows: list[dict[str, Any]]) -> list[str]:
    notes = []
    if rows and all(row["level"] == "subject" for row in rows):
        notes.append("audit: one subject, so nothing is said about other people.")
    for key, name in (("original", "original"), ("adapted", "adapted")):
        weak = [
            row
            for row in rows
            if row.get(f"correlation_{key}") is not None and row[f"correlation_{key}"] <= 0
        ]
        if weak:
            places = {(row["subject"], row["roi"], row["decoder"]) for row in weak}
            notes.append(
                f"audit: predictions of the {name} encoder do not correlate with the truth in "
                f"{len(places)} places, where the synthetic decoder is at chance."
            )
    unlike = [
        row
        for row in rows
        if row["level"] == "subject"
        and row["metric"] == "pairwise"
        and row["subset"] == "all"
        and row.get("synthetic_original_value") is not None
        and abs(row["synthetic_original_value"] - row["original_value"]) > UNLIKE
    ]
    if unlike:
        gap = max(abs(row["synthetic_original_value"] - row["original_value"]) for row in unlike)
        notes.append(
            f"audit: in {len(unlike)} places the synthetic decoder's pairwise identification is "
            f"not that of the real one (up to {100 * gap:.0f} points apart), so what it says of "
            "geometry is rough there; look at both judged in one space."
        )
    few = sorted({row["n_clusters"] for row in rows if row["level"] == "subject"})
    if few and few[0] < 5:
        notes.append(
            f"audit: some comparisons rest on {few[0]} pictures or runs; the smallest p that an "
            f"exchange can give there is {2.0 ** (1 - few[0]):.3g}."
        )
    return notes


__all__ = ["KINDS", "SUBSETS", "Audit", "audit"]
