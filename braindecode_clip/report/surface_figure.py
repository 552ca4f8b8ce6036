"""The figure of the accuracy surface: against training data, and against candidates."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from braindecode_clip.report.figures import finish, legend_above, look_of
from braindecode_clip.report.numbers import count, plain
from braindecode_clip.report.theme import CHANCE, new_figure, style


def surface_figure(table: pd.DataFrame) -> Figure:
    """Draw top-1 against training trials, and against the number of candidates.

    Parameters
    ----------
    table : DataFrame
        As :func:`braindecode_clip.evaluate.surface.surface_table` makes it, of one decoder. Of
        its k the smallest is drawn; the left panel has all candidates that there are, the right
        one all training data. What was extrapolated is dashed, with open markers.
    """
    rows = table[(table["k"] == table["k"].min()) & (table["kind"] != "check")]
    measured = rows[rows["kind"] == "measured"]
    full, largest = measured["fraction"].max(), measured["pool_size"].max()
    repeats = sorted(rows["n_repeats"].unique())
    with style():
        figure = new_figure(9.6, 4.2)
        left, right = figure.subplots(1, 2, sharey=True)
        for place, number in enumerate(repeats):
            line = rows[(rows["n_repeats"] == number)]
            look = look_of(place) | {"label": repeats_text(number)}
            _draw(left, line[line["pool_size"] == largest], "n_train", look)
            _draw(right, line[(line["fraction"] == full)], "pool_size", look)
        _chance(left, rows[rows["pool_size"] == largest], "n_train")
        _chance(right, rows[rows["fraction"] == full], "pool_size")
        _amounts(left, sorted(rows["n_train"].unique()))
        _sizes(right, int(rows["pool_size"].max()))
        title = f"Among {count(largest)} candidates"
        ylabel = (
            f"among the best {rows['k'].min()} (%)" if rows["k"].min() > 1 else "found first (%)"
        )
        finish(left, title, xlabel="training trials", ylabel=ylabel)
        n_train = measured.loc[measured["fraction"] == full, "n_train"].max()
        finish(right, f"{count(n_train)} training trials", xlabel="candidates", ylabel="")
        handles = {}
        for axis in (left, right):
            handles |= dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
        legend_above(figure, list(handles.values()), list(handles))
    return figure


def repeats_text(number: float) -> str:
    """Return ``1 repeat``, ``3 repeats``."""
    return f"{plain(number)} repeat" + ("" if number == 1 else "s")


def _draw(axis: Axes, rows: pd.DataFrame, x: str, look: dict[str, str]) -> None:
    """Draw what was measured as a line, and what follows of it dashed from its end."""
    rows = rows.sort_values(x)
    known = rows[rows["kind"] == "measured"]
    ahead = rows[rows["kind"] != "measured"]
    if len(known):
        _band(axis, known, x, look["color"])
        axis.plot(known[x], 100 * known["value"], **look, markersize=4.5)
    if not len(ahead):
        return
    joined = pd.concat([known.tail(1), ahead])
    _band(axis, joined, x, look["color"])
    style_ahead = look | {"ls": "--", "label": look["label"] if not len(known) else "_ahead"}
    axis.plot(joined[x], 100 * joined["value"], **style_ahead, markersize=5, mfc="none",
              markevery=slice(min(len(known), 1), None))  # fmt: skip


def _band(axis: Axes, rows: pd.DataFrame, x: str, colour: str) -> None:
    low, high = (100 * rows[end].astype(float) for end in ("ci_low", "ci_high"))
    axis.fill_between(rows[x], low, high, color=colour, alpha=0.13, lw=0)


def _chance(axis: Axes, rows: pd.DataFrame, x: str) -> None:
    line = rows.sort_values(x).drop_duplicates(x)
    axis.plot(line[x], 100 * line["chance"], color=CHANCE, ls=":", label="chance")


def _sizes(axis: Axes, largest: int) -> None:
    _amounts(axis, [2, *(10**power for power in range(1, 10) if 10**power <= 1.02 * largest)])


def _amounts(axis: Axes, amounts: list[float]) -> None:
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator(amounts))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
