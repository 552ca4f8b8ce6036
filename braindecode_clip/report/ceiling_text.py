"""Noise ceilings in the tables of scores: what was attainable, and the share that was reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from braindecode_clip.report.numbers import MINUS, NOTHING, is_number, percent
from braindecode_clip.report.results import TOP_1, metric_name, score

#: Heading of each column, by the columns of the scores that it stands for.
CEILING_HEADS = ("Ceiling", "Share of ceiling", "Without noise")
SHARE_HEAD = f"Share of ceiling, {metric_name(TOP_1)}"


def has_ceilings(metrics: pd.DataFrame) -> bool:
    """Tell whether any score has a ceiling: without one the columns would be empty."""
    return "ceiling" in metrics and metrics["ceiling"].map(is_number).any()


def ceiling_texts(row: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return text, detail and title of the cells under :data:`CEILING_HEADS`."""
    method = str(row.get("ceiling_method") or "")
    why = method.removeprefix("none: ") if method.startswith("none") else ""
    return [
        _with_interval(row, "ceiling", f"By {method}" if method and not why else why),
        (share_text(row), "", why),
        _with_interval(row, "noise_free", "This decoder with infinitely many repeats"),
    ]


def share_text(row: Mapping[str, Any]) -> str:
    """Return the share of the way from chance to the ceiling."""
    return percent(row.get("ceiling_share"), digits=0)


def _with_interval(row: Mapping[str, Any], name: str, title: str) -> tuple[str, str, str]:
    value, low, high = (row.get(key) for key in (name, f"{name}_low", f"{name}_high"))
    metric, detail = str(row["metric"]), ""
    if is_number(low) and is_number(high):
        first, last = (score(metric, end, bare=True) for end in (low, high))
        detail = f"{first} to {last}" if MINUS in first else f"{first}{NOTHING}{last}"
    return score(metric, value), detail, title
