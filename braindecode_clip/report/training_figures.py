"""Figures of a training report: curves over the steps, and a similarity matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from braindecode_clip.report import theme
from braindecode_clip.report.figures import look_of
from braindecode_clip.report.numbers import count, plain

_WIDTH_IN, _HEIGHT_IN = 5.0, 2.9
#: Pixels of the matrix's colours: the middle blue, readable on both pages.
_BLUE = "#3b8ad0"
_LABEL_LETTERS = 42


@dataclass(frozen=True)
class Curve:
    """One panel over the steps.

    Attributes
    ----------
    title, unit : str
    lines : mapping of str to sequence of float or None
        By name; None where nothing was measured.
    reference : (float, str) or None
        A level, and what it stands for.
    percent : bool
        Values are shares, shown from 0 to 100.
    is_from_zero : bool
        Whether the scale begins at 0.
    """

    title: str
    unit: str
    lines: Mapping[str, Sequence[float | None]]
    reference: tuple[float, str] | None = None
    percent: bool = False
    is_from_zero: bool = False


def curve_figure(curve: Curve, steps: Sequence[int], *, best_step: int | None = None) -> Figure:
    """Draw lines over the steps; a stroke marks the step of the weights that were kept."""
    with theme.style():
        figure = theme.new_figure(_WIDTH_IN, _HEIGHT_IN)
        axis = figure.subplots()
        scale = 100 if curve.percent else 1
        for place, (name, values) in enumerate(curve.lines.items()):
            known = [(s, scale * v) for s, v in zip(steps, values, strict=True) if v is not None]
            look = look_of(place)
            is_sparse = len(known) <= 40
            axis.plot(
                *zip(*known, strict=True),
                color=look["color"],
                marker=look["marker"] if is_sparse else None,
                markersize=4.5,
                label=name,
            )
        if curve.reference is not None:
            level, name = curve.reference
            axis.axhline(scale * level, color=theme.CHANCE, ls="--", lw=1.5, label=name)
        if best_step is not None:
            axis.axvline(best_step, color=theme.MUTED, ls=":", lw=1.5, label="weights kept")
        axis.set_title(curve.title)
        axis.set_xlabel("step")
        axis.set_ylabel(curve.unit)
        axis.set_xlim(0, None)
        if curve.percent:
            axis.set_ylim(0, 103)
        else:
            if curve.is_from_zero:
                axis.set_ylim(bottom=0)
            axis.yaxis.set_major_locator(MaxNLocator(5))
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
        handles, labels = axis.get_legend_handles_labels()
        if len(labels) > 1:
            figure.legend(handles, labels, loc="outside lower left", ncols=2, columnspacing=1.2)
    return figure


def matrix_figure(similarity: np.ndarray, labels: Sequence[str] | None) -> Figure:
    """Draw cosines of pictures (columns) and captions (rows), the pairs on the diagonal.

    Parameters
    ----------
    similarity : ndarray (n, n)
        Row i: caption i with every picture.
    labels : sequence of str (n,), or None
        Captions, shortened; None numbers the rows.

    Returns
    -------
    Figure
        The highest cosine is solid, the lowest empty.
    """
    n = len(similarity)
    names = [str(k + 1) for k in range(n)] if labels is None else _numbered(labels)
    low, high = float(similarity.min()), float(similarity.max())
    shade = (similarity - low) / max(high - low, 1e-9)
    pixels = np.empty((n, n, 4))
    # Colour by opacity: the page's ground, light or dark, shows where the cosine is low.
    pixels[..., :3], pixels[..., 3] = to_rgb(_BLUE), shade
    side = float(np.clip(0.2 * n, 3.0, 6.4))
    longest = 0.068 * max(map(len, names))
    with theme.style():
        figure = theme.new_figure(side + longest + 1.2, side + 0.8)
        # The page's typeface may be wider than the one that the room is measured with.
        figure.get_layout_engine().set(rect=(0.04, 0, 0.96, 1))
        axis = figure.subplots()
        axis.imshow(pixels, interpolation="none", aspect="equal")
        size = 7.5 if n > 16 else 9.0
        axis.set_yticks(range(n), names, fontsize=size)
        ticks = [k for k in range(n) if n <= 16 or k % 4 == 3 or k == 0]
        axis.set_xticks(ticks, [str(k + 1) for k in ticks], fontsize=size)
        axis.set_xlabel("picture")
        axis.grid(False)
        axis.tick_params(length=0)
        for spine in axis.spines.values():
            spine.set_visible(True)
            spine.set_color(theme.MUTED)
        _colour_bar(figure, axis, low, high)
    return figure


def _colour_bar(figure: Figure, axis: object, low: float, high: float) -> None:
    bar = figure.colorbar(
        _shades(low, high), ax=axis, fraction=0.035, pad=0.02, ticks=MaxNLocator(5)
    )
    bar.outline.set_edgecolor(theme.MUTED)
    bar.ax.tick_params(length=0, labelsize=8.5)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(round(value, 3))))
    bar.set_label("cosine", fontsize=9)
    bar.ax.grid(False)


def _shades(low: float, high: float):
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    colours = [(*to_rgb(_BLUE), step / 63) for step in range(64)]
    return ScalarMappable(Normalize(low, high), ListedColormap(colours))


def _numbered(labels: Sequence[str]) -> list[str]:
    shown = [
        text if len(text) <= _LABEL_LETTERS else f"{text[: _LABEL_LETTERS - 1].rstrip()}…"
        for text in labels
    ]
    # matplotlib reads dollars as formulas.
    return [f"{text.replace('$', chr(92) + '$')}  {k + 1}" for k, text in enumerate(shown)]
