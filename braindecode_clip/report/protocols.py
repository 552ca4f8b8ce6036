"""The part of the page with published protocols: one figure and one table for each condition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from braindecode_clip.report.figures import Dot
from braindecode_clip.report.numbers import NOTHING, THIN, count, decimal, is_number, percent
from braindecode_clip.report.protocol_figure import protocol_figure
from braindecode_clip.report.results import (
    DIRECTIONS,
    Order,
    interval_level,
    matching,
    metric_name,
    null_apart,
    score,
)
from braindecode_clip.report.sections import Block, Studio
from braindecode_clip.report.tables import Cell, Table, p_text, value_cell

#: Protocols as headings; what follows the comma is their pool.
NAMES = {
    "mindeye-300": "MindEye",
    "full-pool": "Full pool",
    "lite-mind-300": "Lite-Mind",
    "kamitani-pairwise": "Kamitani",
    "god-category": "GOD categories",
    "brainflora-kway": "BrainFLORA",
    "haxby-nway": "Haxby",
}


def protocol_blocks(rows: pd.DataFrame, order: Order, studio: Studio) -> list[Block]:
    """One block for each setting, subject and ROI: both directions, all decoders.

    Parameters
    ----------
    rows : DataFrame
        Rows of protocols; may be empty.
    order : Order
    studio : Studio
    """
    if not len(rows):
        return []
    blocks = []
    rows = order.sort(rows)
    for setting in order.settings(rows):
        part = matching(rows, **setting)
        for (subject, roi), own in part.groupby(["subject", "roi"], sort=False):
            where = order.row_label({"subject": subject, "roi": roi})
            title = f"{where}: {order.setting_title(setting)}"
            panels = _panels(own)
            names = [n for n in order.names["decoder"] if (own["decoder"].astype(str) == n).any()]
            drawing = studio.draw(
                protocol_figure(panels, names),
                alt=f"{title}. {_spoken(panels)}",
                caption="Top-1 and pairwise of each protocol with "
                f"{interval_level(own)} intervals; a stroke marks the chance of its line.",
                small=True,
            )
            table = _table(own, f"{title}: protocols")
            blocks.append(Block(title, (drawing,), folded=bool(blocks), tables=(table,)))
    return blocks


def score_label(row: Mapping[str, Any]) -> str:
    """Return a score with the number of its candidates: ``Top-1 of 300``."""
    name = metric_name(str(row["metric"]))
    if name.startswith("Pairwise"):
        name = f"Pairwise by {row['similarity']}"
    return f"{name} of {count(row['n_gallery'])}"


def _panels(rows: pd.DataFrame) -> dict[str, list[Dot]]:
    """Return the dots of each direction, in the order of :data:`DIRECTIONS`."""
    panels: dict[str, list[Dot]] = {title: [] for title in DIRECTIONS.values()}
    for direction, title in DIRECTIONS.items():
        for row in matching(rows, direction=direction).to_dict("records"):
            if (
                not str(row["metric"]).startswith(("top_1", "pairwise"))
                or row["metric"] == "top_10"
            ):
                continue
            numbers = (
                float(row[key]) if is_number(row.get(key)) else np.nan
                for key in ("value", "ci_low", "ci_high", "chance")
            )
            null = null_apart(row)
            label = f"{_name(row)}: {score_label(row)}"
            dot = Dot(label, str(row["decoder"]), *numbers, np.nan if null is None else null)
            panels[title].append(dot)
    return panels


def _name(row: Mapping[str, Any]) -> str:
    return NAMES.get(str(row["protocol"]), str(row["protocol"]))


def _spoken(panels: Mapping[str, list[Dot]]) -> str:
    return "; ".join(
        f"{title}: "
        + ", ".join(
            f"{d.row}, {d.series} {percent(d.value)} ({percent(d.low)} to {percent(d.high)}, "
            f"chance {percent(d.chance)})"
            for d in dots
        )
        for title, dots in panels.items()
        if dots
    )


def _table(rows: pd.DataFrame, caption: str) -> Table:
    """Return all scores, grouped by protocol, then direction and score; decoders in order."""
    columns = (
        "Protocol",
        "Direction",
        "Score",
        "Decoder",
        "Value (interval)",
        "Chance",
        "p",
        "n",
        "Draws",
        "Sd of one",
    )
    groups = ["protocol", "direction", "metric", "n_gallery"]
    cells = []
    for _, group in rows.groupby(groups, sort=False):
        for row in group.to_dict("records"):
            drawn = is_number(row.get("value_of_draws"))
            cells.append(
                (
                    Cell(_name(row)),
                    Cell(DIRECTIONS.get(str(row["direction"]), NOTHING)),
                    Cell(score_label(row), title=str(row["definition"])),
                    Cell(str(row["decoder"])),
                    value_cell(row),
                    Cell(score(row["metric"], row["chance"]), number=True),
                    Cell(p_text(row), number=True),
                    Cell(count(row["n"]), number=True, title=str(row["n_unit"])),
                    Cell(
                        percent(row["value_of_draws"]) if drawn else NOTHING,
                        number=True,
                        detail=f"({count(row['n_draws'])})" if drawn else "",
                    ),
                    Cell(_points(row["sd_of_a_draw"]) if drawn else NOTHING, number=True),
                )
            )
    return Table(caption, columns, tuple(cells), n_heads=3)


def _points(share: float) -> str:
    return f"{decimal(100 * share, digits=2)}{THIN}%"
