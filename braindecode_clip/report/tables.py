"""Tables of the page: scores, counts, resources and versions, as text ready to print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from braindecode_clip.report.ceiling_text import (
    CEILING_HEADS,
    SHARE_HEAD,
    ceiling_texts,
    has_ceilings,
    share_text,
)
from braindecode_clip.report.numbers import (
    NOTHING,
    count,
    is_number,
    p_value,
)
from braindecode_clip.report.results import (
    DIRECTIONS,
    LABEL_NAMES,
    PAIRWISE,
    TOP_1,
    Order,
    interval,
    is_clear,
    metric_name,
    score,
)

_SUMMARY = (TOP_1, "top_5", PAIRWISE, "median_rank")
_CONDITION_IN_SETTING = ("subject", "roi", "decoder")


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes
    ----------
    text : str
    number : bool
        Stands to the right.
    clear : bool
        Bold.
    share : float or None
        0 to 100: length of a bar behind the text.
    title : str
        Shown on hovering.
    detail : str
        Smaller, after the text.
    """

    text: str
    number: bool = False
    clear: bool = False
    share: float | None = None
    title: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a caption; the first ``n_heads`` columns name the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    n_heads: int = 1

    def is_number(self, column: int) -> bool:
        """Tell whether a column holds numbers, which stand to the right."""
        return bool(self.rows) and all(row[column].number for row in self.rows)


def summary_table(metrics: pd.DataFrame, order: Order, caption: str) -> Table:
    """One row for each subject, ROI and decoder; the main scores beside each other.

    Parameters
    ----------
    metrics : DataFrame
        Rows of one setting and direction.
    order : Order
    caption : str
    """
    present = [name for name in _SUMMARY if (metrics["metric"] == name).any()]
    labels = [key for key in _CONDITION_IN_SETTING if key == "subject" or order.varying([key])]
    labels += ["decoder"] if "decoder" not in labels else []
    columns = [*(LABEL_NAMES[label] for label in labels), "n"]
    columns += [metric_name(name) for name in present] + ["Chance, Top-1", "p, Top-1"]
    ceiling = has_ceilings(metrics)
    columns += [SHARE_HEAD] if ceiling else []
    rows = [
        _summary_row(group, labels, present, ceiling=ceiling)
        for _, group in order.sort(metrics).groupby(list(_CONDITION_IN_SETTING), sort=False)
    ]
    return Table(caption, tuple(columns), tuple(rows), n_heads=len(labels))


def _summary_row(
    group: pd.DataFrame, labels: Sequence[str], present: Sequence[str], *, ceiling: bool
) -> tuple[Cell, ...]:
    by_metric = {str(row["metric"]): row for row in group.to_dict("records")}
    first = group.iloc[0]
    top = by_metric.get(TOP_1, {})
    cells = [Cell(str(first[label])) for label in labels]
    cells.append(Cell(count(top.get("n")), number=True))
    for name in present:
        row = by_metric.get(name)
        cells.append(value_cell(row) if row else Cell(NOTHING, number=True))
    cells.append(Cell(score(TOP_1, top.get("chance", float("nan"))), number=True))
    cells.append(Cell(p_text(top), number=True))
    cells += [Cell(share_text(top), number=True)] if ceiling else []
    return tuple(cells)


def value_cell(row: Mapping[str, Any]) -> Cell:
    """Return a score, bold where it is clear of chance, with its interval ``38.4–64.0``."""
    text, detail = score(row["metric"], row["value"]), ""
    if is_number(row.get("ci_low")) and is_number(row.get("ci_high")):
        detail = interval(row)
    return Cell(text, number=True, clear=is_clear(row), detail=detail)


def p_text(row: Mapping[str, Any]) -> str:
    """Return a p-value without its equals sign: ``0.012``, ``< 0.001``."""
    text = p_value(row.get("p"), n_permutations=row.get("n_permutations"))
    return text.removeprefix("=").lstrip("\u202f")


def metrics_table(metrics: pd.DataFrame, order: Order, caption: str) -> Table:
    """Every metric of one condition in both directions.

    Parameters
    ----------
    metrics : DataFrame
        Rows of one subject, ROI, split, encoder, decoder and gallery.
    order : Order
    caption : str
    """
    columns = (
        "Score",
        "Direction",
        "Value (interval)",
        "Chance",
        "Permuted",
        "p (permutations)",
        "n",
        "Drawn",
    )
    ceiling = has_ceilings(metrics)
    columns += CEILING_HEADS if ceiling else ()
    rows = []
    for row in order.sort(metrics).to_dict("records"):
        direction = str(row.get("direction") or "")
        rows.append(
            (
                Cell(metric_name(str(row["metric"])), title=str(row.get("definition") or "")),
                Cell(DIRECTIONS.get(direction, NOTHING)),
                value_cell(row),
                Cell(score(row["metric"], row.get("chance")), number=True),
                Cell(score(row["metric"], row.get("null_mean")), number=True),
                Cell(p_text(row), number=True, detail=f"({count(row.get('n_permutations'))})"),
                _counted(row, "n", "n_unit"),
                _counted(row, "n_resampled", "resampled"),
                *_ceiling_cells(row, ceiling),
            )
        )
    return Table(caption, columns, tuple(rows))


def _counted(row: Mapping[str, Any], number: str, unit: str) -> Cell:
    return Cell(count(row.get(number)), number=True, detail=text_or_dash(row.get(unit)))


def _ceiling_cells(row: Mapping[str, Any], wanted: bool) -> list[Cell]:
    if not wanted:
        return []
    return [
        Cell(text, number=True, detail=detail, title=title)
        for text, detail, title in ceiling_texts(row)
    ]


def definitions(metrics: pd.DataFrame) -> list[tuple[str, str]]:
    """Return every metric with its definition, each definition once."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in metrics.to_dict("records"):
        key = (metric_name(str(row["metric"])), str(row.get("definition") or ""))
        directions = found.setdefault(key, [])
        named = DIRECTIONS.get(str(row.get("direction")), "")
        if named and named not in directions:
            directions.append(named)
    both = len(DIRECTIONS)
    return [
        (name if len(said) in (0, both) else f"{name}, {', '.join(said)}", text)
        for (name, text), said in found.items()
        if text
    ]


def text_or_dash(value: object) -> str:
    """Return a value as text, and a dash for what is missing."""
    return NOTHING if value is None or value != value or value == "" else str(value)
