"""The figure of a calibration curve: accuracy against minutes of training data."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from braindecode_clip.report.figures import finish, look_of, name_series
from braindecode_clip.report.theme import CHANCE, new_figure, style

_TITLES = {"top_1": "Top-1 identification", "pairwise": "Pairwise identification"}


def curve_figure(table: pd.DataFrame) -> Figure:
    """Draw one panel for each metric, one line with its interval for each decoder.

    Parameters
    ----------
    table : DataFrame
        decoder, metric, minutes, value, low, high, chance (shares); rows of differences
        between decoders (no chance), and of metrics other than top_1 and pairwise, are left out.
    """
    scores = table[table["chance"].notna() & table["metric"].isin(list(_TITLES))]
    decoders = list(dict.fromkeys(scores["decoder"]))
    titles = {m: title for m, title in _TITLES.items() if (scores["metric"] == m).any()}
    with style():
        figure = new_figure(1.0 + 4.2 * len(titles), 3.8)
        panels = figure.subplots(1, len(titles), squeeze=False, sharey=True)[0]
        for axes, (metric, title) in zip(panels, titles.items(), strict=True):
            part = scores[scores["metric"] == metric]
            for decoder, line in part.groupby("decoder", sort=False):
                points, look = line.sort_values("minutes"), look_of(decoders.index(decoder))
                low, high = 100 * points["low"], 100 * points["high"]
                axes.fill_between(
                    points["minutes"], low, high, color=look["color"], alpha=0.16, lw=0
                )
                axes.plot(
                    points["minutes"], 100 * points["value"], **look, markersize=5, label=decoder
                )
            axes.axhline(100 * part["chance"].iloc[0], color=CHANCE, ls="--", label="chance")
            axes.set_xlim(left=0)
            finish(axes, title, xlabel="training data (minutes)", ylabel="share correct (%)")
        name_series(figure, panels)
    return figure
