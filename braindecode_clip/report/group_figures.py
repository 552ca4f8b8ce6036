"""Plots over subjects: forests of means, and of paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from braindecode_clip.report import theme
from braindecode_clip.report.figures import WIDTH_IN, legend_above, rows_without_axis
from braindecode_clip.report.numbers import decimal

_LINE_IN = 0.3
#: How a difference is marked by its verdict.
_LOOKS: dict[str, dict[str, Any]] = {
    "different": {"marker": "D", "color": theme.SERIES[1], "markersize": 7.0},
    "here": {"marker": "^", "color": theme.SERIES[4], "markersize": 7.5},
    "equivalent": {"marker": "s", "color": theme.SERIES[2], "markersize": 7.0},
    "undecided": {"marker": "o", "color": theme.SERIES[5], "markersize": 6.5},
}
_NAMES = {
    "different": "different",
    "here": "different in these subjects",
    "equivalent": "equivalent within the margin",
    "undecided": "undecided",
}
_SUBJECT: dict[str, Any] = {
    "marker": "o",
    "color": theme.INK,
    "markerfacecolor": "none",
    "markeredgewidth": 1.1,
    "markersize": 4.5,
    "ls": "none",
}


@dataclass(frozen=True)
class Line:
    """One row of a forest.

    Attributes
    ----------
    label : str
    value, low, high : float
        Shares or differences of shares; NaN where there is no interval.
    chance : float
        NaN in a forest of differences.
    subjects : tuple of float
        The value of each subject; empty where the row is one subject's.
    state : {"", "different", "here", "equivalent", "undecided"}
    """

    label: str
    value: float
    low: float
    high: float
    chance: float = np.nan
    subjects: tuple[float, ...] = ()
    state: str = ""


def means_figure(panels: Mapping[str, Sequence[Line]]) -> Figure:
    """Draw means over subjects with intervals, every subject as a ring, chance as a stroke.

    Parameters
    ----------
    panels : mapping of str to sequence of Line
        Panel title to its rows, the same in all panels.

    Returns
    -------
    Figure
        Percent to the right.
    """
    with theme.style():
        figure, axes = _panels(panels)
        look = {"marker": "D", "color": theme.SERIES[0], "markersize": 7.0}
        for axis, lines in zip(axes, panels.values(), strict=True):
            for row, line in enumerate(lines):
                axis.plot(
                    [100 * line.chance] * 2,
                    [row - 0.32, row + 0.32],
                    color=theme.CHANCE,
                    lw=2.2,
                )
                _draw(axis, row, line, look)
            axis.set_xlim(-3, 103)
        figure.supxlabel("mean over subjects (%)", fontsize=10.5, color=theme.MUTED)
        handles = [
            Line2D([], [], **look, lw=2.6),
            Line2D([], [], **_SUBJECT),
            Line2D([], [], color=theme.CHANCE, lw=0, marker="|", ms=11, mew=2.2),
        ]
        legend_above(figure, handles, ["mean with interval", "one subject", "chance"])
    return figure


def differences_figure(
    panels: Mapping[str, Sequence[Line]], margins: Mapping[str, float]
) -> Figure:
    """Draw paired differences with intervals, the margin of equivalence as a band.

    Parameters
    ----------
    panels : mapping of str to sequence of Line
        Panel title to its rows, the same in all panels.
    margins : mapping of str to float
        Panel title to its margin, as a share.

    Returns
    -------
    Figure
        Percentage points to the right; the line at 0 is no difference.
    """
    with theme.style():
        figure, axes = _panels(panels)
        for axis, (title, lines) in zip(axes, panels.items(), strict=True):
            ends = [-100 * margins[title], 100 * margins[title]]
            axis.axvspan(*ends, color=theme.SERIES[2], alpha=0.14, lw=0)
            axis.axvline(0, color=theme.CHANCE, ls="--", zorder=1)
            for row, line in enumerate(lines):
                _draw(axis, row, line, _LOOKS[line.state])
        figure.supxlabel("difference (percentage points)", fontsize=10.5, color=theme.MUTED)
        every = [line for lines in panels.values() for line in lines]
        states = {line.state for line in every}
        handles: list[Any] = [Line2D([], [], **_LOOKS[s], lw=2.6) for s in _LOOKS if s in states]
        labels = [_NAMES[s] for s in _LOOKS if s in states]
        if any(line.subjects for line in every):
            handles.append(Line2D([], [], **_SUBJECT))
            labels.append("one subject")
        handles += [
            Patch(facecolor=theme.SERIES[2], alpha=0.14, lw=0),
            Line2D([], [], color=theme.CHANCE, ls="--"),
        ]
        legend_above(figure, handles, [*labels, "margin", "no difference"])
    return figure


def _panels(panels: Mapping[str, Sequence[Line]]) -> tuple[Figure, Sequence[Axes]]:
    labels = [line.label for line in next(iter(panels.values()))]
    figure = theme.new_figure(WIDTH_IN, _LINE_IN * len(labels) + 1.35)
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, title in zip(axes, panels, strict=True):
        axis.set_title(title)
        rows_without_axis(axis, len(labels))
    axes[0].set_yticks(range(len(labels)), labels)
    axes[0].set_ylim(len(labels) - 0.5, -0.5)
    return figure, axes


def _draw(axis: Axes, row: int, line: Line, look: Mapping[str, Any]) -> None:
    ends = 100 * np.array([line.low, line.high])
    if np.isfinite(ends).all():
        axis.plot(ends, [row, row], color=look["color"], lw=2.6, alpha=0.5)
    edge = {"markeredgecolor": theme.PAPER, "markeredgewidth": 1.0}
    axis.plot(100 * line.value, row, **look, **edge, ls="none", zorder=4)
    if line.subjects:
        axis.plot(
            100 * np.array(line.subjects), np.full(len(line.subjects), row), **_SUBJECT, zorder=5
        )


def spoken_difference(line: Line) -> str:
    """Say a line of :func:`differences_figure` in words, for those who do not see it."""
    said = f"{line.label} {decimal(100 * line.value, digits=1)}"
    if np.isfinite([line.low, line.high]).all():
        said += f" ({decimal(100 * line.low, digits=1)} to {decimal(100 * line.high, digits=1)})"
    return f"{said}, {line.state}"
