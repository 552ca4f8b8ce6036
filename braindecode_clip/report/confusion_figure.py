"""What was taken for what, as a figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from braindecode_clip.report import theme

#: More classes than this cannot be read off a page.
MOST_CLASSES = 60
#: Up to here the percentages stand in the cells.
_MOST_WRITTEN = 20
#: The darkest cell lets the ink of its number be read.
_DARKEST = 0.78


def confusion_figure(counts: np.ndarray, names: Sequence[str]) -> Figure:
    """Draw a table of confusions in percent of its rows.

    Parameters
    ----------
    counts : ndarray (n_classes, n_classes) int64
        Rows are true classes, columns the chosen ones.
    names : sequence of str (n_classes,)
        At most :data:`MOST_CLASSES`.

    Returns
    -------
    Figure
        Square; the diagonal, outlined, is right; rows without a picture are empty.
    """
    n = len(names)
    sizes = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, sizes, out=np.zeros(counts.shape), where=sizes > 0)
    side = float(np.clip(0.42 * n, 2.6, 8.4))
    longest = 0.085 * max(len(name) for name in names)
    with theme.style():
        figure = theme.new_figure(side + longest + 0.7, side + longest + 0.7)
        axis = figure.subplots()
        _draw_cells(axis, share)
        size = 10.0 if n <= _MOST_WRITTEN else 7.5
        axis.set_xticks(
            range(n), names, rotation=90 if n > 6 or longest > 0.6 else 0, fontsize=size
        )
        axis.set_yticks(range(n), names, fontsize=size)
        axis.set_xlim(-0.5, n - 0.5)
        axis.set_ylim(n - 0.5, -0.5)
        axis.set_aspect("equal")
        axis.grid(False)
        axis.tick_params(length=0)
        axis.set_xlabel("nearest class")
        axis.set_ylabel("true class")
        for spine in axis.spines.values():
            spine.set_visible(False)
    return figure


def _draw_cells(axis: Axes, share: np.ndarray) -> None:
    n = len(share)
    for row, column in zip(*np.nonzero(share), strict=True):
        value = share[row, column]
        place = (column - 0.5, row - 0.5)
        axis.add_patch(Rectangle(place, 1, 1, facecolor=theme.SERIES[0], alpha=_DARKEST * value))
        if n <= _MOST_WRITTEN:
            text = f"{100 * value:.0f}"
            axis.text(column, row, text, ha="center", va="center", fontsize=9.5, color=theme.INK)
    for edge in range(n + 1):
        axis.axhline(edge - 0.5, color=theme.GRID, lw=0.6)
        axis.axvline(edge - 0.5, color=theme.GRID, lw=0.6)
    for place in range(n):
        box = Rectangle((place - 0.5, place - 0.5), 1, 1, fill=False, edgecolor=theme.MUTED, lw=1.2)
        axis.add_patch(box)
