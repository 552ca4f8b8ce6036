"""What was found, in one sentence for each subject, decoder and setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from braindecode_clip.config.study import StudyConfig
from braindecode_clip.report.content import CONDITION
from braindecode_clip.report.numbers import THIN, count, decimal, is_number, p_value, percent
from braindecode_clip.report.results import (
    BRAIN_TO_IMAGE,
    SETTING,
    TOP_1,
    Order,
    interval_text,
    label_text,
    matching,
    null_apart,
)

_SAMPLES = "brain samples"
_SCHEMES = {
    "stimulus": "no test stimulus was shown in training",
    "leave_one_run_out": "each run held out in turn; the same stimuli are trained on",
    "leave_one_category_out": "each category held out in turn, never trained on",
}


@dataclass(frozen=True)
class Statement:
    """One result in plain words, with its interval as percent for drawing."""

    decoder: str
    value: str
    sentence: str
    percent: float
    low: float | None
    high: float | None
    chance: float | None
    null: float | None


@dataclass(frozen=True)
class Group:
    """The statements of one subject in one setting."""

    title: str
    note: str
    statements: tuple[Statement, ...]


def headlines(
    study: StudyConfig,
    metrics: pd.DataFrame,
    order: Order,
    *,
    things: Mapping[tuple[str, ...], str],
) -> dict[str, list[Group]]:
    """Say top-1 identification, brain to image, of every subject.

    Parameters
    ----------
    study : StudyConfig
    metrics : DataFrame
        One row a metric, condition and direction.
    order : Order
    things : mapping
        Condition (names in the order of :data:`CONDITION`) to what its samples are, in the
        plural: "pictures", "stimuli"; "brain samples" for conditions that are absent.

    Returns
    -------
    dict of str to list of Group
        Subject to its groups. Subjects, settings and decoders stand in the order of the config,
        and the region is its first, so that nothing is chosen by its result.
    """
    schemes = {split.name: _SCHEMES[split.scheme] for split in study.splits}
    rows = matching(metrics, metric=TOP_1, direction=BRAIN_TO_IMAGE)
    rows = order.sort(matching(rows, roi=order.names["roi"][0]))
    found: dict[str, list[Group]] = {}
    for subject in order.names["subject"]:
        own = matching(rows, subject=subject)
        for setting in order.settings(own):
            part = matching(own, **setting).to_dict("records")
            sizes = {row.get("n_gallery") for row in part}
            notes = [schemes.get(setting["split"], "")]
            notes += [f"{count(size)} candidates" for size in sizes if is_number(size)]
            title = order.setting_title(setting)
            group = Group(
                title[:1].upper() + title[1:],
                "; ".join(note for note in notes if note),
                tuple(_state(row, order, things) for row in part),
            )
            found.setdefault(subject, []).append(group)
    return found


def _state(
    row: Mapping[str, Any], order: Order, things: Mapping[tuple[str, ...], str]
) -> Statement:
    thing = things.get(tuple(str(row[label]) for label in CONDITION), _SAMPLES)
    named = [str(row["decoder"])]
    named += [label_text(label, row[label]) for label in order.varying(SETTING)]
    n_correct = row["value"] * row["n"]
    whole = abs(n_correct - round(n_correct)) < 1e-6
    number = count(n_correct) if whole else decimal(n_correct, digits=1)
    null = null_apart(row)
    permuted = "" if null is None else f", permuted labels {percent(null)}"
    sentence = (
        f"Subject {row['subject']}, {', '.join(named)}: {number} of {count(row['n'])} "
        f"{thing} found ({percent(row['value'])}, {interval_text(row)}chance "
        f"{percent(row['chance'])}{permuted}; {_p_text(row)})."
    )
    low, high, chance = (
        100 * float(row[key]) if is_number(row.get(key)) else None
        for key in ("ci_low", "ci_high", "chance")
    )
    return Statement(
        decoder=str(row["decoder"]),
        value=percent(row["value"]),
        sentence=sentence,
        percent=100 * float(row["value"]),
        low=low,
        high=high,
        chance=chance,
        null=None if null is None else 100 * null,
    )


def _p_text(row: Mapping[str, Any]) -> str:
    if not is_number(row.get("p")):
        return "no permutation test"
    return f"p{THIN}{p_value(row['p'], n_permutations=row.get('n_permutations'))}"
