"""The part of the page about the tests: null distributions, power, embedding dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from braindecode_clip.report import theme
from braindecode_clip.report.decoding import Topic
from braindecode_clip.report.figures import legend_above, look_of, panel_grid
from braindecode_clip.report.numbers import NOTHING, count, is_number, percent, plain
from braindecode_clip.report.results import (
    BRAIN_TO_IMAGE,
    DIRECTIONS,
    LABEL_NAMES,
    PAIRWISE,
    Order,
    matching,
    metric_name,
    score,
    series_names,
)
from braindecode_clip.report.sections import Block, Studio, panel_columns
from braindecode_clip.report.tables import Cell, Table

#: Labels of a decoder, whatever the gallery.
_DECODER = ("subject", "roi", "split", "encoder", "decoder")


def statistics_topics(
    found: Mapping[str, pd.DataFrame], order: Order, studio: Studio
) -> list[Topic]:
    """Return what the tests rest on.

    Parameters
    ----------
    found : mapping of str to DataFrame
        Tables "nulls", "power" and "dimensions" of `evaluate`; each may be absent or empty.
    order : Order
    studio : Studio
    """
    makers = {"nulls": _null_topic, "power": _power_topic, "dimensions": _dimension_topic}
    return [
        make(order.sort(found[name]), order, studio)
        for name, make in makers.items()
        if len(found.get(name, pd.DataFrame()))
    ]


def null_figure(
    panels: Mapping[str, list[Mapping[str, Any]]], series: list[str], *, columns: int
) -> Figure:
    """Draw scores with permuted labels, and the true score as a line with a marker.

    Parameters
    ----------
    panels : mapping of str to list of mapping
        Panel title to rows with decoder, value, null_mean, centres and counts (shares).
    series : list of str
        All decoders in the order of their colours.
    columns : int
        Panels beside each other.
    """
    with theme.style():
        figure, axes = panel_grid(len(panels), columns)
        for axis, (title, rows) in zip(axes, panels.items(), strict=True):
            for row in rows:
                look = look_of(series.index(row["decoder"]))
                centres, counts = 100 * np.array(row["centres"]), np.array(row["counts"])
                height = counts / counts.max()
                axis.fill_between(centres, height, step="mid", color=look["color"], alpha=0.3, lw=0)
                axis.plot([100 * row["value"]] * 2, [0, 0.9], color=look["color"], lw=2)
                axis.plot(100 * row["value"], 0.9, **look, ms=8, ls="none", label=row["decoder"])
            axis.set_title(title)
            axis.set_xlabel("pairwise identification (%)")
            axis.set_yticks([])
            axis.set_ylim(0, 1.08)
        entries: dict[str, Any] = {}
        for axis in axes:
            handles, labels = axis.get_legend_handles_labels()
            entries |= dict(zip(labels, handles, strict=True))
        legend_above(figure, list(entries.values()), list(entries))
    return figure


def _null_topic(table: pd.DataFrame, order: Order, studio: Studio) -> Topic:
    shown = matching(table, metric=PAIRWISE, direction=BRAIN_TO_IMAGE)
    series = list(series_names(table, order))
    blocks = []
    for setting in order.settings(shown):
        panels: dict[str, list[Mapping[str, Any]]] = {}
        for row in matching(shown, **setting).to_dict("records"):
            panels.setdefault(order.row_label(row), []).append(row)
        title = f"Permuted labels: {order.setting_title(setting)}"
        spoken = "; ".join(
            f"{name}, {row['decoder']} {percent(row['value'])} (permuted "
            f"{percent(row['null_mean'])})"
            for name, rows in panels.items()
            for row in rows
        )
        drawing = studio.draw(
            null_figure(panels, series, columns=panel_columns(panels, order)),
            alt=f"{title}. {spoken}",
            caption="Filled: scores with permuted labels, each to its highest point. Marked "
            "lines: the true score. Brain → image.",
        )
        blocks.append(Block(title, (drawing,), folded=bool(blocks)))
    rows = [
        (
            *_named(row, order),
            Cell(metric_name(row["metric"])),
            Cell(DIRECTIONS[row["direction"]]),
            Cell(score(row["metric"], row["value"]), number=True),
            Cell(score(row["metric"], row["null_mean"]), number=True),
            Cell(score(row["metric"], row["null_high"]), number=True),
            Cell(str(row["permuted"])),
        )
        for row in table.to_dict("records")
    ]
    columns = ("Score", "Direction", "Value", "Permuted, mean", "Permuted, 95th percentile")
    intro = (
        "What the same predictions reach when the labels are exchanged as the design allows. p is "
        "the share of these scores that are at least as good as the true one."
    )
    heads = _heads(order)
    return Topic(
        "Scores under permutation",
        intro,
        tuple(blocks),
        Table("Scores under permutation", (*heads, *columns, "Exchanged"), tuple(rows), len(heads)),
    )


def _power_topic(table: pd.DataFrame, order: Order, studio: Studio) -> Topic:
    rows = [
        (
            *_named(row, order),
            Cell(metric_name(row["metric"])),
            Cell(DIRECTIONS[row["direction"]]),
            Cell(count(row["n"]), number=True, detail=str(row["unit"])),
            Cell(score(row["metric"], row["effect"]), number=True),
            Cell(percent(row["effect_power"], digits=0), number=True),
            _enough(row["effect_n_sufficient"]),
            Cell(score(row["metric"], row["value"]), number=True),
            Cell(percent(row["power"], digits=0), number=True),
            _enough(row["n_sufficient"]),
        )
        for row in table.to_dict("records")
    ]
    first = table.iloc[0]
    wanted = percent(first["wanted"], digits=0)
    columns = (
        "Score",
        "Direction",
        "n",
        "Effect of interest",
        "Power for it",
        "n for it",
        "Value found",
        "Power for it",
        "n for it",
    )
    intro = (
        f"How many would have sufficed to tell a score from chance (α = {plain(first['alpha'])}, "
        f"one-sided, {wanted} power), by resampling these data: more of the same kind, the same "
        "decoder, a gallery of the same size. Read the effect of interest, which the config names: "
        "power for it says what this study could have found. Power for the value found says no "
        "more than its p, and a value that was found because it was large promises too much."
    )
    heads = _heads(order)
    return Topic(
        "What n would have sufficed",
        intro,
        (),
        Table("Power", (*heads, *columns), tuple(rows), len(heads)),
    )


def _enough(n: object) -> Cell:
    return Cell(count(n) if is_number(n) else "none", number=True)


def _dimension_topic(table: pd.DataFrame, order: Order, studio: Studio) -> Topic:
    table = table.drop_duplicates(list(_DECODER))
    rows = []
    for row in table.to_dict("records"):
        n, found = row["n_dims"], row["n_significant"]
        share = percent(found / n) if is_number(found) else NOTHING
        cells = (Cell(count(n), number=True), Cell(count(found), number=True, detail=share))
        rows.append((*_named(row, order, gallery=False), *cells))
    level = plain(table.iloc[0]["q_level"])
    intro = (
        "Correlation of the predicted with the true value, dimension by dimension, against "
        f"permuted labels (one-sided); significant at a false discovery rate q < {level} "
        "(Benjamini-Hochberg over all dimensions). The table of dimensions lies beside the metrics."
    )
    heads = _heads(order, gallery=False)
    columns = (*heads, "Dimensions", f"With q < {level}")
    return Topic(
        "Embedding dimensions", intro, (), Table("Dimensions", columns, tuple(rows), len(heads))
    )


def _labels(order: Order, *, gallery: bool) -> list[str]:
    """Return the labels that a row needs to be told from others."""
    names = [*_DECODER, "gallery"] if gallery else [*_DECODER]
    return [name for name in names if name in ("subject", "decoder") or order.varying([name])]


def _heads(order: Order, *, gallery: bool = True) -> tuple[str, ...]:
    return tuple(LABEL_NAMES[name] for name in _labels(order, gallery=gallery))


def _named(row: Mapping[str, Any], order: Order, *, gallery: bool = True) -> list[Cell]:
    return [Cell(str(row[name])) for name in _labels(order, gallery=gallery)]
