"""Plots of decoders against each other, and of identification against their rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from braindecode_clip.report import theme
from braindecode_clip.report.figures import (
    WIDTH_IN,
    finish,
    legend_above,
    log_sizes,
    name_series,
    panel_grid,
    rows_without_axis,
)

_LINE_IN = 0.3
#: How a decoder is marked by what became of it.
_LOOKS: dict[str, dict[str, Any]] = {
    "": {"marker": "o", "color": theme.SERIES[0], "markersize": 7.0},
    "chosen in its ROI": {"marker": "D", "color": theme.SERIES[1], "markersize": 8.0},
    "chosen": {"marker": "*", "color": theme.SERIES[1], "markersize": 14.0},
    "transductive": {"marker": "X", "color": theme.SERIES[5], "markersize": 7.5},
}
_NAMES = {
    "": "test score with interval",
    "chosen in its ROI": "chosen on validation in this region",
    "chosen": "chosen on validation",
    "transductive": "uses the test set, never chosen",
}


@dataclass(frozen=True)
class Contender:
    """One decoder among others.

    Attributes
    ----------
    decoder : str
    value, low, high : float
        Test score with its interval, as shares; NaN where unknown.
    validation : float
        Out-of-fold score of the training part, NaN where there is none.
    state : {"", "chosen", "chosen in its ROI", "transductive"}
    """

    decoder: str
    value: float
    low: float
    high: float
    validation: float
    state: str = ""


def forest_figure(
    panels: Mapping[str, Sequence[Contender]], decoders: Sequence[str], *, columns: int
) -> Figure:
    """Draw the test scores of all decoders below each other, and which one was chosen.

    Parameters
    ----------
    panels : mapping of str to sequence of Contender
        Panel title to its decoders.
    decoders : sequence of str
        Rows from top to bottom, the same in all panels.
    columns : int
        Panels beside each other.

    Returns
    -------
    Figure
        Pairwise identification in percent to the right; dashed: chance.
    """
    n_rows = -(-len(panels) // columns)
    known = [
        number
        for contenders in panels.values()
        for c in contenders
        for number in (c.value, c.low, c.validation)
        if np.isfinite(number)
    ]
    lowest = min(0.5, *known) if known else 0.5
    with theme.style():
        height = n_rows * (_LINE_IN * len(decoders) + 0.75) + 0.95
        figure = theme.new_figure(min(WIDTH_IN, 2.4 + 3.4 * columns), height)
        axes = figure.subplots(n_rows, columns, squeeze=False, sharey=True, sharex=True).ravel()
        for axis, (title, contenders) in zip(axes, panels.items(), strict=False):
            for contender in contenders:
                _draw_contender(axis, contender, decoders.index(contender.decoder))
            axis.axvline(50, color=theme.CHANCE, ls="--", zorder=1)
            rows_without_axis(axis, len(decoders))
            axis.set_title(title)
            axis.tick_params(axis="x", labelbottom=True)
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        axes[0].set_yticks(range(len(decoders)), decoders)
        axes[0].set_ylim(len(decoders) - 0.5, -0.5)
        axes[0].set_xlim(100 * lowest - 3, 103)
        figure.supxlabel("pairwise identification (%)", fontsize=10.5, color=theme.MUTED)
        states = {c.state for contenders in panels.values() for c in contenders}
        legend_above(figure, *_forest_legend(states))
    return figure


def _draw_contender(axis: Axes, contender: Contender, row: int) -> None:
    look = _LOOKS[contender.state]
    ends = np.array([contender.low, contender.high])
    if np.isfinite(ends).all():
        axis.plot(100 * ends, [row, row], color=look["color"], lw=2.6, alpha=0.5)
    if np.isfinite(contender.validation):
        axis.plot(100 * contender.validation, row, **_VALIDATION)
    edge = {"markeredgecolor": theme.PAPER, "markeredgewidth": 1.0}
    axis.plot(100 * contender.value, row, **look, **edge, ls="none", zorder=4)


#: The score that the choice rests on: a hollow ring, drawn over the interval.
_VALIDATION: dict[str, Any] = {
    "marker": "o",
    "color": theme.INK,
    "markerfacecolor": "none",
    "markeredgewidth": 1.3,
    "markersize": 5.5,
    "ls": "none",
    "zorder": 5,
}


def _forest_legend(states: set[str]) -> tuple[list[Line2D], list[str]]:
    handles = [Line2D([], [], **_LOOKS[state], lw=2.6) for state in _LOOKS if state in states]
    labels = [_NAMES[state] for state in _LOOKS if state in states]
    if "chosen in its ROI" in states and "chosen" in states:
        labels[labels.index(_NAMES["chosen"])] = "chosen on validation, of all regions"
    handles += [Line2D([], [], **_VALIDATION), Line2D([], [], color=theme.CHANCE, ls="--")]
    return handles, [*labels, "validation (out of fold)", "chance"]


def bottleneck_figure(panels: Mapping[str, pd.DataFrame], *, columns: int) -> Figure:
    """Draw identification against the rank of the map from voxels to embedding.

    Parameters
    ----------
    panels : mapping of str to DataFrame
        Panel title to map ("learned", "random", "prior"), rank, pairwise, ci_low and ci_high
        (shares).
    columns : int
        Panels beside each other.

    Returns
    -------
    Figure
        One line with its band for learned and random maps over a logarithmic axis; the prior, which
        sees no voxel, as a horizontal line with its band; dashed: chance.
    """
    everything = pd.concat(list(panels.values()))
    ranks = everything.loc[everything["rank"] > 0, "rank"]
    lowest = 100 * min(0.45, float(everything["ci_low"].min())) - 2
    with theme.style():
        figure, axes = panel_grid(len(panels), columns)
        for axis, (title, table) in zip(axes, panels.items(), strict=True):
            for i, name in enumerate(("learned", "random")):
                line = table[table["map"] == name].sort_values("rank")
                colour = theme.SERIES[i]
                low, high = 100 * line["ci_low"], 100 * line["ci_high"]
                axis.fill_between(line["rank"], low, high, color=colour, alpha=0.16, lw=0)
                axis.plot(
                    line["rank"],
                    100 * line["pairwise"],
                    color=colour,
                    marker=theme.MARKERS[i],
                    markersize=4.5,
                    label=f"{name} map",
                )
            for row in table[table["map"] == "prior"].to_dict("records"):
                axis.axhspan(
                    100 * row["ci_low"],
                    100 * row["ci_high"],
                    color=theme.SERIES[2],
                    alpha=0.16,
                    lw=0,
                )
                axis.axhline(
                    100 * row["pairwise"],
                    color=theme.SERIES[2],
                    ls=(0, (1, 1)),
                    label="random prior, no voxel",
                )
            axis.axhline(50, color=theme.CHANCE, ls="--", label="chance")
            log_sizes(axis, int(ranks.min()), int(ranks.max()), linear_up_to=0)
            # A map of the only rank stands in the middle, not on an edge.
            axis.set_xlim(0.85 * ranks.min(), 1.18 * ranks.max())
            finish(
                axis,
                title,
                xlabel="rank of the map",
                ylabel="pairwise (%)",
                lowest=lowest,
            )
        name_series(figure, axes)
    return figure
