"""Plots of accuracies, of pool sizes and of ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from braindecode_clip.report import theme
from braindecode_clip.report.numbers import count

WIDTH_IN = 10.3
_LINE_IN = 0.27
#: Points that a legend's entry takes beside its text, and those of a letter.
_ENTRY_PT, _LETTER_PT = 42.0, 5.2
#: Lines of one colour are told apart by these.
_DASHES = ("-", (0, (6, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)


@dataclass(frozen=True)
class Dot:
    """One score with its interval.

    Attributes
    ----------
    row : str
        Label of the line it stands on.
    series : str
        Decides colour and marker.
    value, low, high, chance : float
        Shares (0 to 1); NaN where unknown.
    null : float
        Mean with permuted labels, where that is not chance; NaN elsewhere.
    """

    row: str
    series: str
    value: float
    low: float
    high: float
    chance: float
    null: float = np.nan


def accuracy_figure(
    panels: Mapping[str, Sequence[Dot]],
    series: Sequence[str],
    *,
    limits: tuple[float, float] = (0, 100),
    xlabel: str = "share correct (%)",
    reference: str = "chance",
) -> Figure:
    """Draw scores with intervals against chance, one panel for each score.

    Parameters
    ----------
    panels : mapping of str to sequence of Dot
        Panel title to its scores; all panels share the rows.
    series : sequence of str
        All series in the order of their colours.
    limits : (float, float)
        Ends of the scale in percent, the same in all panels.
    xlabel : str
    reference : str
        What ``chance`` of the scores stands for, in the legend.

    Returns
    -------
    Figure
        Rows from top to bottom, percent to the right; chance as a stroke in each row.
    """
    rows = list(dict.fromkeys(dot.row for dots in panels.values() for dot in dots))
    height = _LINE_IN * len(rows) * (len(series) + 0.6) + 1.25
    with theme.style():
        figure = theme.new_figure(WIDTH_IN, height)
        axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axis, (title, dots) in zip(axes, panels.items(), strict=True):
            _draw_dots(axis, dots, rows, series)
            _percent_scale(axis, limits)
            axis.set_title(title)
        axes[0].set_yticks(range(len(rows)), rows)
        axes[0].set_ylim(len(rows) - 0.5, -0.5)
        figure.supxlabel(xlabel, fontsize=10.5, color=theme.MUTED)
        permuted = any(np.isfinite(dot.null) for dots in panels.values() for dot in dots)
        handles, labels = _legend_entries(axes[0], [*series, reference], permuted=permuted)
        legend_above(figure, handles, labels)
    return figure


def _draw_dots(axis: Axes, dots: Sequence[Dot], rows: list[str], series: Sequence[str]) -> None:
    step = 1.0 / (len(series) + 0.6)
    for dot in dots:
        place = series.index(dot.series)
        y = rows.index(dot.row) + (place + 0.8) * step - 0.5
        look = look_of(place)
        if np.isfinite([dot.low, dot.high]).all():
            axis.plot(
                [100 * dot.low, 100 * dot.high], [y, y], color=look["color"], lw=2.6, alpha=0.5
            )
        half = 0.42 * step
        for guess, dashes in ((dot.chance, "-"), (dot.null, (0, (1, 1)))):
            if np.isfinite(guess):
                ends = [y - half, y + half]
                axis.plot([100 * guess] * 2, ends, color=theme.CHANCE, lw=2.2, ls=dashes)
        axis.plot(
            100 * dot.value,
            y,
            **look,
            markersize=7.5,
            markeredgecolor=theme.PAPER,
            markeredgewidth=1.0,
            linestyle="none",
        )
    rows_without_axis(axis, len(rows))


def _percent_scale(axis: Axes, limits: tuple[float, float]) -> None:
    low, high = limits
    margin = 0.03 * (high - low)
    axis.set_xlim(low - margin, high + margin)
    if limits == (0, 100):
        axis.xaxis.set_major_locator(FixedLocator([0, 25, 50, 75, 100]))
    else:
        axis.xaxis.set_major_locator(MaxNLocator(nbins=6))


def rows_without_axis(axis: Axes, n_rows: int) -> None:
    """Part named rows by thin lines, without an axis on their left."""
    axis.grid(False, axis="y")
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    for edge in range(1, n_rows):
        axis.axhline(edge - 0.5, color=theme.GRID, lw=0.8)


def look_of(place: int) -> dict[str, str]:
    """Return colour and marker of a series; they repeat together only after 64 of them."""
    n_colours, n_markers = len(theme.SERIES), len(theme.MARKERS)
    return {
        "color": theme.SERIES[place % n_colours],
        "marker": theme.MARKERS[(place + place // n_colours) % n_markers],
    }


def _legend_entries(
    axis: Axes, names: Sequence[str], *, permuted: bool
) -> tuple[list[object], list[str]]:
    """Return the entries of all series and, by the last name, of the reference."""
    handles = [
        axis.plot([], [], **look_of(place), markersize=7.5, lw=2.6)[0]
        for place in range(len(names) - 1)
    ]
    labels = list(names)
    handles += axis.plot([], [], color=theme.CHANCE, lw=0, marker="|", ms=11, mew=2.2)
    if permuted:
        handles += axis.plot([], [], color=theme.CHANCE, lw=2.2, ls=(0, (1, 1)))
        labels.append("permuted labels")
    return handles, labels


def pool_figure(
    panels: Mapping[str, Mapping[str, pd.DataFrame]], series: Sequence[str], *, columns: int
) -> Figure:
    """Draw expected top-1 accuracy against the number of candidates.

    Parameters
    ----------
    panels : mapping of str to mapping of str to DataFrame
        Panel title to series to a table with pool_size, value, chance, ci_low and ci_high
        (shares).
    series : sequence of str
        All series in the order of their colours.
    columns : int
        Panels beside each other.
    """
    with theme.style():
        figure, axes = panel_grid(len(panels), columns)
        for axis, (title, curves) in zip(axes, panels.items(), strict=True):
            for name, table in curves.items():
                look, sizes = look_of(series.index(name)), table["pool_size"]
                axis.fill_between(
                    sizes,
                    100 * table["ci_low"].astype(float),
                    100 * table["ci_high"].astype(float),
                    color=look["color"],
                    alpha=0.14,
                    lw=0,
                )
                axis.plot(sizes, 100 * table["value"], **look, markersize=4.5, label=name)
            longest = max(curves.values(), key=len)
            axis.plot(
                longest["pool_size"],
                100 * longest["chance"],
                color=theme.CHANCE,
                ls="--",
                label="chance",
            )
            log_sizes(axis, longest["pool_size"].min(), longest["pool_size"].max())
            finish(axis, title, xlabel="candidates in the pool", ylabel="found first (%)")
        name_series(figure, axes)
    return figure


def rank_figure(
    panels: Mapping[str, Mapping[str, np.ndarray]],
    series: Sequence[str],
    *,
    n_gallery: int,
    columns: int,
) -> Figure:
    """Draw the share of queries whose true candidate is among the first k, for every k.

    Parameters
    ----------
    panels : mapping of str to mapping of str to ndarray (n_queries,)
        Panel title to series to ranks.
    series : sequence of str
        All series in the order of their colours.
    n_gallery : int
        Number of candidates.
    columns : int
        Panels beside each other.
    """
    steps = np.unique(np.geomspace(1, n_gallery, 120).round().astype(int))
    with theme.style():
        figure, axes = panel_grid(len(panels), columns)
        for axis, (title, groups) in zip(axes, panels.items(), strict=True):
            for name, ranks in groups.items():
                share = (ranks[:, None] <= steps).mean(axis=0)
                place = series.index(name)
                look = {
                    "color": look_of(place)["color"],
                    "ls": _DASHES[place // len(theme.SERIES) % 4],
                }
                axis.plot(steps, 100 * share, **look, drawstyle="steps-post", label=name)
            axis.plot(steps, 100 * steps / n_gallery, color=theme.CHANCE, ls="--", label="chance")
            log_sizes(axis, 1, n_gallery)
            finish(
                axis,
                title,
                xlabel=f"first k of {count(n_gallery)} candidates",
                ylabel="true one among them (%)",
            )
        name_series(figure, axes)
    return figure


def panel_grid(n_panels: int, columns: int) -> tuple[Figure, list[Axes]]:
    """Return that many panels a row; places without a panel stay empty."""
    rows = -(-n_panels // columns)
    width = min(WIDTH_IN, 1.0 + 4.4 * columns)
    figure = theme.new_figure(width, 2.7 * rows + 0.4)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axis in axes[n_panels:]:
        axis.set_axis_off()
    return figure, list(axes[:n_panels])


def name_series(figure: Figure, axes: Sequence[Axes]) -> None:
    """Name every series once, whichever panels it stands in; chance comes last."""
    entries: dict[str, object] = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    entries["chance"] = entries.pop("chance")
    legend_above(figure, list(entries.values()), list(entries))


def legend_above(figure: Figure, handles: Sequence[object], labels: Sequence[str]) -> None:
    """Put a legend above all panels, in as many columns as the figure has room for."""
    longest_pt = _ENTRY_PT + _LETTER_PT * max(map(len, labels))
    room = int(72 * figure.get_figwidth() // longest_pt)
    figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=min(6, len(labels), max(1, room)),
        handletextpad=0.4,
        columnspacing=1.6,
    )


def finish(axis: Axes, title: str, *, xlabel: str, ylabel: str, lowest: float = 0) -> None:
    """Set title, names of the axes and a scale from ``lowest`` to 100 percent."""
    axis.set_title(title)
    axis.set_ylim(lowest, 103)
    axis.set_xlabel(xlabel)
    if axis.get_subplotspec().is_first_col():
        axis.set_ylabel(ylabel)


def log_sizes(axis: Axes, low: int, high: int, *, linear_up_to: int = 20) -> None:
    """Set a logarithmic scale of whole numbers; a linear one where there are few."""
    if high <= linear_up_to:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        return
    axis.set_xscale("log")
    ticks = [size for size in _TICKS if low <= size <= high]
    wide = len(ticks) > 7
    kept = [size for size in ticks if not wide or str(size)[0] != "5"]
    axis.xaxis.set_major_locator(FixedLocator(kept))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda size, _: count(size)))
    axis.xaxis.set_minor_locator(NullLocator())
