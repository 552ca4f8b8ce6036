"""The figure of a calibration curve: accuracy against minutes of training data."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from braindecode_clip.report.theme import CHANCE, MARKERS, SERIES, new_figure, style

_TITLES = {"top_1": "Top-1 identification", "pairwise": "Pairwise identification"}


def curve_figure(table: pd.DataFrame) -> Figure:
    """Draw one panel for each metric, one line with its interval for each decoder.

    Parameters
    ----------
    table : DataFrame
        decoder, metric, minutes, value, low, high, chance; rows of differences between
        decoders (no chance) are left out.
    """
    scores = table[table["chance"].notna()]
    with style():
        figure = new_figure(9.0, 3.8)
        panels = figure.subplots(1, len(_TITLES))
        for axes, (metric, title) in zip(panels, _TITLES.items(), strict=True):
            part = scores[scores["metric"] == metric]
            for i, (decoder, line) in enumerate(part.groupby("decoder", sort=True)):
                axes.plot(
                    line["minutes"],
                    line["value"],
                    color=SERIES[i],
                    marker=MARKERS[i],
                    label=decoder,
                )
                axes.fill_between(
                    line["minutes"], line["low"], line["high"], color=SERIES[i], alpha=0.2
                )
            axes.axhline(part["chance"].iloc[0], color=CHANCE, linestyle="--", label="chance")
            axes.set(title=title, xlabel="Training data (minutes)", ylim=(0, 1.02))
            axes.set_xlim(left=0)
        panels[0].legend(frameon=False)
    return figure
