"""The part of the page that asks whether adapting the encoder helped decoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from braindecode_clip.config.adaptations import AuditConfig
from braindecode_clip.report.decoding import Topic
from braindecode_clip.report.group_figures import Line, differences_figure, spoken_difference
from braindecode_clip.report.numbers import (
    MINUS,
    NOTHING,
    count,
    decimal,
    is_number,
    number_or_nan,
    p_value,
    percent,
)
from braindecode_clip.report.results import (
    BRAIN_TO_IMAGE,
    LABEL_NAMES,
    PAIRWISE,
    TOP_1,
    Order,
    is_share,
    matching,
    metric_name,
    score,
)
from braindecode_clip.report.sections import Block, Studio
from braindecode_clip.report.tables import Cell, Table

#: What the figure shows; the table has every score and both directions.
SHOWN = (TOP_1, PAIRWISE)
SUBSETS = {
    "all": "all test pictures",
    "held_out": "held-out pictures",
    "not_held_out": "other test pictures",
}
_PLACE = ("split", "gallery", "roi", "decoder")


def audit_topics(
    audit: Mapping[str, Any], order: Order, studio: Studio, *, options: AuditConfig
) -> list[Topic]:
    """Return one topic for each adapted encoder: a figure, a table, what was looked for.

    Parameters
    ----------
    audit : mapping
        Content of ``audit.json``; empty without.
    order : Order
    studio : Studio
    options : AuditConfig
    """
    rows = pd.DataFrame(audit.get("rows") or [])
    if not len(rows):
        return []
    topics = []
    for found in audit["findings"]:
        own = matching(rows, original=found["original"], adapted=found["adapted"])
        level = "group" if (own["level"] == "group").any() else "subject"
        shown = matching(own, level=level)
        intro = f"{found['sentence']} {_looked_for(audit, found['adapted'])}"
        topics.append(
            Topic(
                f"{found['adapted']} against {found['original']}",
                intro,
                tuple(_blocks(shown, own, order, studio, options)),
                audit_table(shown, order),
            )
        )
    return topics


def _blocks(
    shown: pd.DataFrame, own: pd.DataFrame, order: Order, studio: Studio, options: AuditConfig
) -> list[Block]:
    """Draw the differences of each split and gallery."""
    part = matching(shown, direction=BRAIN_TO_IMAGE)
    settings = part[["split", "gallery"]].drop_duplicates().to_dict("records")
    blocks = []
    for setting in settings:
        rows = matching(part, **setting)
        panels, margins = {}, {}
        for metric in SHOWN:
            chosen = matching(rows, metric=metric)
            if not len(chosen):
                continue
            name = metric_name(metric)
            panels[name] = [line for row in chosen.to_dict("records") for line in _lines(row, own)]
            margins[name] = options.equivalence_margins.get(metric, 0.0)
        if not panels:
            continue
        varying = [key for key in ("split", "gallery") if len(order.names[key]) > 1]
        where = ", ".join(f"{key} {setting[key]}" for key in varying)
        title = f"Adapted less original{f': {where}' if where else ''}"
        first = rows.iloc[0]
        drawing = studio.draw(
            differences_figure(panels, margins),
            alt=f"{title}, in percentage points. "
            + "; ".join(
                f"{metric}: " + ", ".join(spoken_difference(line) for line in lines)
                for metric, lines in panels.items()
            ),
            caption=f"Brain → image. {percent(first['confidence'], digits=0)} intervals over "
            f"{first['resampled']}, n = {first['n_clusters']:.0f}; q over {first['n_family']:.0f} "
            f"comparisons at {options.alpha:g}. Beyond geometry: less what a synthetic decoder of "
            "equal correlation gains from the space alone.",
        )
        blocks.append(Block(title, (drawing,), folded=bool(blocks)))
    return blocks


def _lines(row: Mapping[str, Any], own: pd.DataFrame) -> list[Line]:
    """Return the line of a difference, and one of what is left beyond geometry."""
    label = f"{row['roi']} · {row['decoder']}"
    if row["level"] == "subject" and own["subject"].nunique() > 1:
        label += f" ({row['subject']})"
    if row["subset"] != "all":
        label += f", {SUBSETS[row['subset']]}"
    subjects: Sequence[float] = ()
    if row["level"] == "group":
        keys = ("split", "gallery", "roi", "decoder", "direction", "metric", "subset")
        same = matching(own, level="subject", **{key: row[key] for key in keys})
        subjects = same["difference"].tolist()
    lines = [
        Line(
            label,
            *(number_or_nan(row[key]) for key in ("difference", "ci_low", "ci_high")),
            subjects=tuple(subjects),
            state=_state(str(row["verdict"])),
        )
    ]
    if is_number(row["beyond_geometry"]):
        keys = ("beyond_geometry", "beyond_geometry_ci_low", "beyond_geometry_ci_high")
        values = [number_or_nan(row[key]) for key in keys]
        is_clear = values[1] * values[2] > 0
        state = "different" if is_clear else "undecided"
        lines.append(Line(f"{label}, beyond geometry", *values, state=state))
    return lines


def _state(verdict: str) -> str:
    """Return how the figure of pairs marks a verdict."""
    if verdict.startswith(("helped", "hurt")):
        return "here" if "in these subjects" in verdict else "different"
    return "equivalent" if verdict.startswith("equivalent") else "undecided"


def audit_table(rows: pd.DataFrame, order: Order) -> Table:
    """Every score in both directions, with the controls and the verdict in words."""
    labels = [key for key in _PLACE if len(order.names[key]) > 1]
    if rows["subject"].nunique() > 1:
        labels = ["subject", *labels]
    lines = tuple(
        (
            *(Cell(str(row[key])) for key in labels),
            Cell(row["direction"].replace("_to_", " → ")),
            Cell(SUBSETS[row["subset"]]),
            Cell(metric_name(row["metric"])),
            Cell(score(row["metric"], row["original"]), number=True),
            Cell(score(row["metric"], row["adapted"]), number=True),
            _points(row, "difference", "ci_low", "ci_high"),
            Cell(_bare(row["p"]), number=True),
            Cell(_bare(row["q"]), number=True, clear=row["verdict"].startswith(("he", "hu"))),
            Cell(row["verdict"]),
            _points(row, "geometry"),
            *(
                _points(row, kind, f"{kind}_ci_low", f"{kind}_ci_high")
                for kind in ("beyond_geometry", "original_space", "adapted_space")
            ),
        )
        for row in _numbers_named(rows).to_dict("records")
    )
    columns = [*(LABEL_NAMES[key] for key in labels), "Direction", "Pictures", "Score"]
    columns += ["Original", "Adapted", "Difference", "p", "q", "Adapting", "Geometry alone"]
    columns += ["Beyond geometry", "In the original space", "In the adapted space"]
    caption = "Adapted less original on the same test samples; differences in points or ranks"
    return Table(caption, tuple(columns), lines, n_heads=len(labels) + 3)


def _numbers_named(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the scores of both encoders under ``original`` and ``adapted``."""
    return rows.assign(original=rows["original_value"], adapted=rows["adapted_value"])


def _points(row: Mapping[str, Any], key: str, low: str = "", high: str = "") -> Cell:
    """Word a difference, in percentage points or in ranks, with its interval."""
    if not is_number(row.get(key)):
        return Cell(NOTHING, number=True)
    factor, digits = (100, 1) if is_share(row["metric"]) else (1, 2)
    text = decimal(factor * row[key], digits=digits)
    sign = "" if text.startswith(MINUS) or float(text.replace(MINUS, "-")) == 0 else "+"
    detail = ""
    if is_number(row.get(low)) and is_number(row.get(high)):
        ends = (decimal(factor * row[end], digits=digits) for end in (low, high))
        detail = " to ".join(ends)
    return Cell(sign + text, number=True, detail=detail)


def _looked_for(audit: Mapping[str, Any], adapted: str) -> str:
    """Say what was looked for among the training pairs."""
    record = (audit.get("leakage") or {}).get(adapted)
    if not record:
        return ""
    training = record["training"]
    text = (
        f"None of the {count(record['n_test_stimuli'])} test pictures is among its "
        f"{count(training['n_pairs'])} training pairs (same file, same pixels, near duplicate)"
    )
    n_captions = training.get("n_shared_captions")
    if n_captions:
        text += f"; {count(n_captions)} captions of test pictures are, word by word"
    return f"{text}."


def _bare(value: float | None) -> str:
    return p_value(value).removeprefix("=").lstrip("\u202f")
