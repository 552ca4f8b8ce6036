"""Maps of data on surfaces: how their values are spread in each structure."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from braindecode_clip.report import theme
from braindecode_clip.report.brains import MapStyle
from braindecode_clip.report.numbers import count
from braindecode_clip.spaces import STRUCTURE_PREFIX, VoxelSpace

_WIDTH_IN = 6.4
_LINE_IN = 0.34
#: Percentiles drawn: the thin line, the thick line, and the dot.
_SPREAD, _HALF, _MIDDLE = (5, 95), (25, 75), 50


def structure_figure(values: np.ndarray, space: VoxelSpace, style: MapStyle) -> Figure:
    """Draw the spread of a map's values in each structure.

    A run carries no shape of its surface, so there is nothing to draw the values on.

    Parameters
    ----------
    values : ndarray (n_columns,)
        NaN outside the map.
    space : VoxelSpace
        With a structure for every column.
    style : MapStyle

    Returns
    -------
    Figure
        One line a structure, the number of its values beside its name: median, middle half and
        5 to 95 %.
    """
    finite = np.isfinite(values)
    names = dict.fromkeys(map(str, space.structure))
    parts = {name: values[finite & (space.structure == name)] for name in names}
    parts = {name: part for name, part in parts.items() if len(part)}
    with theme.style():
        figure = theme.new_figure(_WIDTH_IN, _LINE_IN * max(len(parts), 1) + 0.95)
        axis = figure.subplots()
        for line, part in enumerate(parts.values()):
            for ends, width in ((_SPREAD, 1.6), (_HALF, 5.0)):
                axis.plot(
                    np.percentile(part, ends),
                    [line, line],
                    color=theme.SERIES[0],
                    lw=width,
                    alpha=0.6,
                    solid_capstyle="butt",
                )
            axis.plot(
                np.percentile(part, _MIDDLE),
                line,
                theme.MARKERS[0],
                color=theme.SERIES[0],
                markeredgecolor=theme.PAPER,
                markersize=8,
            )
        axis.set_yticks(
            range(len(parts)),
            [f"{_readable(name)} ({count(len(part))})" for name, part in parts.items()],
        )
        axis.set_ylim(max(len(parts), 1) - 0.5, -0.5)
        if style.signed or any(np.percentile(part, _SPREAD[0]) < 0 for part in parts.values()):
            axis.axvline(0, color=theme.CHANCE, lw=1.2)
        else:
            axis.set_xlim(left=0)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.set_xlabel(style.label.replace("\n", " "))
        axis.grid(False, axis="y")
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
    return figure


def _readable(name: str) -> str:
    """Turn CIFTI_STRUCTURE_CORTEX_LEFT into ``cortex left``."""
    return name.removeprefix(STRUCTURE_PREFIX).replace("_", " ").lower()
