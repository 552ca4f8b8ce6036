"""Plot of published protocols: narrow enough for a telephone, labels above their lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from braindecode_clip.report import theme
from braindecode_clip.report.figures import Dot, legend_above, look_of

_WIDTH_IN = 4.8
#: Height of a line, of the label above the lines of a row, of all that is around, and of the blank
#: below a row, in inches.
_LINE_IN, _LABEL_IN, _AROUND_IN = 0.17, 0.34, 1.3
_BELOW_IN = 0.08
#: Looks of the first direction and of the second one.
_FILLED = (True, False)


def protocol_figure(panels: Mapping[str, Sequence[Dot]], series: Sequence[str]) -> Figure:
    """Draw scores of protocols with intervals, both directions below one label.

    Parameters
    ----------
    panels : mapping of str to sequence of Dot
        Direction to its scores: filled markers for the first one, hollow for the second.
    series : sequence of str
        Decoders in the order of their colours.

    Returns
    -------
    Figure
        Percent to the right; in every line a stroke at its chance.
    """
    panels = {title: dots for title, dots in panels.items() if dots}
    rows = list(dict.fromkeys(dot.row for dots in panels.values() for dot in dots))
    n_lines = len(panels) * len(series)
    row_in = _LABEL_IN + _LINE_IN * n_lines + _BELOW_IN
    with theme.style():
        figure = theme.new_figure(_WIDTH_IN, _AROUND_IN + row_in * len(rows))
        axis = figure.subplots()
        for place, dots in enumerate(panels.values()):
            for dot in dots:
                line = place * len(series) + series.index(dot.series)
                y = rows.index(dot.row) * row_in + _LABEL_IN + (line + 0.5) * _LINE_IN
                _draw(axis, dot, y, series.index(dot.series), filled=_FILLED[place])
        for place, row in enumerate(rows):
            axis.text(-2, place * row_in + 0.62 * _LABEL_IN, row, va="center", fontsize=11)
            if place:
                axis.axhline(place * row_in, color=theme.GRID, lw=0.8)
        axis.set_ylim(row_in * len(rows), 0)
        axis.set_xlim(-3, 103)
        axis.xaxis.set_major_locator(FixedLocator([0, 25, 50, 75, 100]))
        axis.set_yticks([])
        axis.grid(False, axis="y")
        axis.spines["left"].set_visible(False)
        axis.set_xlabel("share correct (%)")
        legend_above(figure, *_entries(axis, panels, series))
    return figure


def _draw(axis: Axes, dot: Dot, y: float, place: int, *, filled: bool) -> None:
    look = look_of(place)
    half = 0.46 * _LINE_IN
    for guess, dashes in ((dot.chance, "-"), (dot.null, (0, (1, 1)))):
        if np.isfinite(guess):
            axis.plot([100 * guess] * 2, [y - half, y + half], color=theme.CHANCE, lw=2, ls=dashes)
    if np.isfinite([dot.low, dot.high]).all():
        ends = [100 * dot.low, 100 * dot.high]
        axis.plot(ends, [y, y], color=look["color"], lw=2.6, alpha=0.5)
    axis.plot(100 * dot.value, y, **look, **_marker(look["color"], filled=filled))


def _marker(colour: str, *, filled: bool) -> dict[str, object]:
    return {
        "markersize": 6.5,
        "markeredgecolor": theme.PAPER if filled else colour,
        "markerfacecolor": colour if filled else theme.PAPER,
        "markeredgewidth": 0.8 if filled else 1.6,
        "linestyle": "none",
    }


def _entries(
    axis: Axes, panels: Mapping[str, Sequence[Dot]], series: Sequence[str]
) -> tuple[list[object], list[str]]:
    handles, labels = [], []
    for place, name in enumerate(series):
        handles += axis.plot([], [], **look_of(place), markersize=6.5, lw=2.6)
        labels.append(name)
    for title, filled in zip(panels, _FILLED, strict=False):
        ring = _marker(theme.MUTED, filled=filled)
        handles += axis.plot([], [], color=theme.MUTED, marker="o", **ring)
        labels.append(title)
    handles += axis.plot([], [], color=theme.CHANCE, lw=0, marker="|", ms=10, mew=2)
    labels.append("chance")
    if any(np.isfinite(dot.null) for dots in panels.values() for dot in dots):
        handles += axis.plot([], [], color=theme.CHANCE, lw=2, ls=(0, (1, 1)))
        labels.append("permuted labels")
    return handles, labels
