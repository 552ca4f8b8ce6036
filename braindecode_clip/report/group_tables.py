"""Tables over subjects and of pairs, as text ready to print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from braindecode_clip.report.numbers import (
    MINUS,
    NOTHING,
    count,
    decimal,
    is_number,
    p_value,
    percent,
    quantity,
)
from braindecode_clip.report.results import (
    DIRECTIONS,
    LABEL_NAMES,
    SETTING,
    Order,
    metric_name,
)
from braindecode_clip.report.tables import Cell, Table, text_or_dash

_PLACE = ("split", "encoder", "gallery", "roi", "decoder")


def group_table(means: pd.DataFrame, order: Order) -> Table:
    """Means over subjects, who is above chance, and how widespread that is."""
    labels = order.varying(_PLACE)
    rows = [
        (
            *(Cell(str(row[key])) for key in labels),
            Cell(DIRECTIONS[row["direction"]]),
            Cell(metric_name(row["metric"])),
            _with_interval(row, "value", "ci_low", "ci_high"),
            Cell(percent(row["chance"]), number=True),
            _p(row, "p", "n_permutations"),
            _p(row, "p_corrected", "n_permutations"),
            _above(row, "above"),
            _above(row, "above_corrected"),
            _with_interval(row, "prevalence", "prevalence_low", "prevalence_high"),
        )
        for row in means.to_dict("records")
    ]
    columns = [*(LABEL_NAMES[key] for key in labels), "Direction", "Score", "Mean", "Chance", "p"]
    columns += ["p corrected", "Above chance", "Above, corrected", "Prevalence"]
    n = count(means["n"].iloc[0])
    caption = f"Means over {n} subjects, with intervals; subjects above chance, and prevalence"
    return Table(caption, tuple(columns), tuple(rows), n_heads=len(labels) + 2)


def subject_table(subjects: pd.DataFrame, order: Order) -> Table:
    """Scores of every subject with p before and after correction."""
    labels = ["subject", *order.varying(_PLACE)]
    rows = [
        (
            *(Cell(str(row[key])) for key in labels),
            Cell(DIRECTIONS[row["direction"]]),
            Cell(metric_name(row["metric"])),
            Cell(percent(row["value"]), number=True),
            Cell(percent(row["chance"]), number=True),
            _p(row, "p", "n_permutations"),
            _p(row, "p_corrected", "n_permutations"),
            Cell(count(row["n_family"]), number=True),
        )
        for row in subjects.to_dict("records")
    ]
    columns = [*(LABEL_NAMES[key] for key in labels), "Direction", "Score", "Value", "Chance", "p"]
    caption = "Every subject, before and after correction for the ROIs, decoders and directions"
    return Table(caption, (*columns, "p corrected", "Tests"), tuple(rows), n_heads=len(labels) + 2)


def pair_table(pairs: pd.DataFrame, order: Order) -> Table:
    """Paired differences with intervals, q, equivalence and the verdict in words."""
    labels = order.varying(SETTING)
    if pairs["subject"].nunique() > 1:
        labels = ["subject", *labels]
    rows = [
        (
            *(Cell(str(row[key])) for key in labels),
            Cell(str(row["within"])),
            Cell(str(row["first"])),
            Cell(str(row["second"])),
            Cell(metric_name(row["metric"])),
            _points(row),
            _p(row, "p", "n_exchanges"),
            Cell(_bare(row["q"]), number=True, clear=row["verdict"][:2] in ("be", "wo")),
            Cell(_bare(row["p_equivalence"]), number=True, detail=f"±{100 * row['margin']:g}"),
            Cell(quantity(row["bayes_factor_none"]), number=True),
            Cell(row["verdict"]),
        )
        for row in pairs.to_dict("records")
    ]
    columns = [*(LABEL_NAMES[key] for key in labels), "Within", "First", "Second", "Score"]
    columns += ["Difference, points", "p", "q", "p of equivalence", "Bayes factor for none"]
    caption = "Pairs on the same test samples, brain → image: the first less the second"
    return Table(caption, (*columns, "The first is"), tuple(rows), n_heads=len(labels) + 4)


def _with_interval(row: Mapping[str, Any], value: str, low: str, high: str) -> Cell:
    detail = ""
    if is_number(row.get(low)) and is_number(row.get(high)):
        detail = f"{percent(row[low])} to {percent(row[high])}"
    return Cell(percent(row.get(value)), number=True, detail=detail)


def _points(row: Mapping[str, Any]) -> Cell:
    detail = ""
    if is_number(row["ci_low"]) and is_number(row["ci_high"]):
        detail = " to ".join(decimal(100 * row[key], digits=1) for key in ("ci_low", "ci_high"))
    text = decimal(100 * row["difference"], digits=1)
    sign = "" if text.startswith(MINUS) or text == "0.0" else "+"
    return Cell(sign + text, number=True, detail=detail)


def _above(row: Mapping[str, Any], key: str) -> Cell:
    if not is_number(row.get(f"n_{key}")):
        return Cell(NOTHING, number=True)
    named = text_or_dash(row[f"subjects_{key}"])
    return Cell(
        f"{count(row[f'n_{key}'])} of {count(row['n'])}", number=True, title=f"Subjects: {named}"
    )


def _p(row: Mapping[str, Any], key: str, n: str) -> Cell:
    text = p_value(row.get(key), n_permutations=row.get(n))
    return Cell(text.removeprefix("=").lstrip("\u202f"), number=True)


def _bare(value: float | None) -> str:
    return p_value(value).removeprefix("=").lstrip("\u202f")
