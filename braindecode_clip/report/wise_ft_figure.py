"""The figure of a WiSE-FT sweep: what each mixture of two models can do."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from braindecode_clip.report.figures import finish, look_of, name_series
from braindecode_clip.report.theme import CHANCE, MUTED, SERIES, new_figure, style

_TASKS = {
    "image_to_text": "Image to text, R@1",
    "text_to_image": "Text to image, R@1",
    "zero_shot": "Zero-shot accuracy",
}
_REPORTED = ("domain", "general")


def wise_ft_figure(table: pd.DataFrame, *, chosen: float | None = None) -> Figure:
    """Draw every score against alpha, and the path between the domain and the general set.

    Parameters
    ----------
    table : DataFrame
        alpha, set, task, value, low, high, chance (shares); NaN where there is no interval. Sets
        other than "domain" and "general", which chose alpha, are left out.
    chosen : float, optional
        Marked.
    """
    table = table[table["set"].isin(_REPORTED)]
    tasks = [task for task in _TASKS if (table["task"] == task).any()]
    sets = [name for name in _REPORTED if (table["set"] == name).any()]
    shared = [t for t in tasks if table.loc[table["task"] == t, "set"].nunique() == len(_REPORTED)]
    n_panels = len(tasks) + bool(shared)
    with style():
        figure = new_figure(1.0 + 3.9 * n_panels, 3.8)
        panels = figure.subplots(1, n_panels, squeeze=False)[0]
        for axes, task in zip(panels, tasks, strict=False):
            part = table[table["task"] == task]
            for name, line in part.groupby("set", sort=False):
                points, look = line.sort_values("alpha"), look_of(sets.index(name))
                if points["low"].notna().all():
                    axes.fill_between(
                        points["alpha"],
                        100 * points["low"],
                        100 * points["high"],
                        color=look["color"],
                        alpha=0.16,
                        lw=0,
                    )
                axes.plot(points["alpha"], 100 * points["value"], **look, markersize=5, label=name)
                axes.axhline(100 * points["chance"].iloc[0], color=CHANCE, ls="--", label="chance")
            if chosen is not None:
                axes.axvline(chosen, color=MUTED, ls=":", label="chosen")
            finish(axes, _TASKS[task], xlabel="alpha (0: before, 1: after)", ylabel="share (%)")
        if shared:
            _draw_path(panels[-1], table[table["task"] == shared[0]], chosen)
        name_series(figure, panels[: len(tasks)])
    return figure


def _draw_path(axes: Axes, part: pd.DataFrame, chosen: float | None) -> None:
    """Draw the domain against the general set, one point for each alpha."""
    path = 100 * part.pivot(index="alpha", columns="set", values="value").sort_index()
    axes.plot(path["general"], path["domain"], color=SERIES[2], marker="o", markersize=5)
    for alpha in (path.index[0], path.index[-1]):
        place = (path.loc[alpha, "general"], path.loc[alpha, "domain"])
        axes.annotate(f"{alpha:g}", place, xytext=(6, 6), textcoords="offset points")
    if chosen is not None and chosen in path.index:
        place = path.loc[[chosen]]
        axes.plot(
            place["general"], place["domain"], "o", ms=11, mfc="none", mec=MUTED, label="chosen"
        )
    axes.margins(0.12)
    axes.set_title(f"Both by alpha: {_TASKS[part['task'].iloc[0]]}")
    axes.set_xlabel("general set (%)")
    axes.set_ylabel("domain (%)")
