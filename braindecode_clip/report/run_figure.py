"""The figure of one run: displacement, DVARS, trials and carpet over time."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from braindecode_clip.quality import RunQuality
from braindecode_clip.quality.carpet import CARPET_SD, STEPS
from braindecode_clip.quality.measures import FD_LIMIT_MM
from braindecode_clip.report import theme

_WIDTH_IN = 10.3
_HEIGHTS_IN = (1.15, 1.0, 0.4, 2.6)
#: Grey levels of the carpet: more cannot be told apart, and cost bytes.
_GREYS = 32
#: Pixels of a carpet at most: about 50 kB on the page.
_PIXELS = 60_000
#: Volumes of which each can be seen as a step; the corners of more cost bytes for nothing.
_STEPS = 400


def run_figure(quality: RunQuality) -> Figure:
    """Draw what happened in a run, volume by volume.

    Parameters
    ----------
    quality : RunQuality

    Returns
    -------
    Figure
        Four panels over time in seconds: framewise displacement with its limit, DVARS over its
        median, the trials, and the carpet (Power 2017, NeuroImage 154:150-158) from -2 sd
        (black) to +2 sd (white). Censored volumes are bands over the upper panels.
    """
    times_s = quality.volumes["time_s"].to_numpy()
    start_s, end_s = times_s[0], times_s[-1] + quality.tr_s
    with theme.style():
        figure = theme.new_figure(_WIDTH_IN, sum(_HEIGHTS_IN) + 0.9)
        axes = figure.subplots(4, 1, sharex=True, height_ratios=_HEIGHTS_IN)
        _draw_displacement(axes[0], quality, times_s)
        _draw_dvars(axes[1], quality, times_s)
        _draw_trials(axes[2], quality)
        _draw_carpet(axes[3], quality.carpet, start_s, end_s)
        bands = [_draw_censored(axis, quality, times_s) for axis in axes[:2]]
        axes[0].set_xlim(start_s, end_s)
        axes[3].set_xlabel("time in the run (s)")
        handles, labels = axes[0].get_legend_handles_labels()
        if bands[0] is not None:
            handles, labels = [*handles, bands[0]], [*labels, "censored volume"]
        if handles:
            figure.legend(handles, labels, loc="outside upper right", ncols=3)
        figure.align_ylabels(axes)
    return figure


def _draw_displacement(axis: Axes, quality: RunQuality, times_s: np.ndarray) -> None:
    values = quality.volumes["framewise_displacement"].to_numpy()
    axis.set_title("Head motion")
    axis.set_ylabel("displacement\n(mm)")
    known = values[np.isfinite(values)]
    if len(known) == 0:
        axis.set_yticks([])
        axis.text(
            0.5, 0.4, "not known: no motion parameters", transform=axis.transAxes, ha="center"
        )
        return
    _draw_steps(axis, values, times_s, quality.tr_s, theme.SERIES[0])
    axis.axhline(
        FD_LIMIT_MM, color=theme.SERIES[1], lw=1.4, ls="--", label=f"limit {FD_LIMIT_MM:g} mm"
    )
    axis.set_ylim(0, max(1.3 * FD_LIMIT_MM, 1.05 * known.max()))
    axis.yaxis.set_major_locator(MaxNLocator(4))


def _draw_dvars(axis: Axes, quality: RunQuality, times_s: np.ndarray) -> None:
    values = quality.volumes["dvars_standardised"].to_numpy()
    axis.set_title("Change of the signals from volume to volume")
    axis.set_ylabel("DVARS\n(of median)")
    _draw_steps(axis, values, times_s, quality.tr_s, theme.SERIES[2])
    known = values[np.isfinite(values)]
    if len(known):
        axis.set_ylim(0.95 * min(known.min(), 0.9), 1.05 * max(known.max(), 1.2))
    axis.yaxis.set_major_locator(MaxNLocator(4))


def _draw_steps(
    axis: Axes, values: np.ndarray, times_s: np.ndarray, tr_s: float, colour: str
) -> None:
    """Draw one step for each volume, the last as wide as the others; of many volumes a line."""
    if len(values) > _STEPS:
        axis.plot(times_s + tr_s / 2, values, color=colour, lw=1.0)
        return
    ends_s = np.append(times_s, times_s[-1] + tr_s)
    axis.plot(ends_s, np.append(values, values[-1]), color=colour, lw=1.2, drawstyle="steps-post")


def _draw_trials(axis: Axes, quality: RunQuality) -> None:
    axis.set_ylabel("trials", rotation=0, ha="right", va="center")
    onsets, durations = (quality.trials[name].to_numpy() for name in ("onset", "duration"))
    # A trial without duration still needs a width to be seen.
    widths = np.maximum(durations, 0.3 * quality.tr_s)
    axis.broken_barh(
        list(zip(onsets, widths, strict=True)), (0.1, 0.8), color=theme.SERIES[3], lw=0
    )
    axis.set_ylim(0, 1)
    axis.set_yticks([])
    axis.grid(False)
    axis.spines["left"].set_visible(False)


def _draw_carpet(axis: Axes, carpet: np.ndarray, start_s: float, end_s: float) -> None:
    axis.set_title("Carpet: all cleaned signals")
    axis.set_ylabel("voxels, by correlation\nwith their mean")
    axis.set_yticks([])
    axis.grid(False)
    if len(carpet) == 0:
        axis.text(0.5, 0.5, "no voxel varies", transform=axis.transAxes, ha="center")
        return
    axis.imshow(
        _fewer(carpet),
        extent=(start_s, end_s, 0, 1),
        aspect="auto",
        cmap="gray",
        vmin=0,
        vmax=_GREYS - 1,
        interpolation="none",
    )
    axis.set_ylim(0, 1)


def _fewer(carpet: np.ndarray) -> np.ndarray:
    """Return grey levels of at most :data:`_PIXELS` pixels: evenly spaced rows, all volumes."""
    n_shown = min(len(carpet), max(1, _PIXELS // carpet.shape[1]))
    rows = carpet[np.linspace(0, len(carpet) - 1, n_shown).round().astype(int)]
    share = (rows / STEPS + CARPET_SD) / (2 * CARPET_SD)
    return np.rint(share * (_GREYS - 1)).astype(np.uint8)


def _draw_censored(axis: Axes, quality: RunQuality, times_s: np.ndarray) -> object | None:
    """Lay one band over every stretch of censored volumes; return the last for the legend."""
    censored = quality.volumes["censored"].to_numpy().astype(np.int8)
    edges = np.flatnonzero(np.diff(censored, prepend=0, append=0)).reshape(-1, 2)
    band = None
    for first, after in edges:
        ends_s = times_s[first], times_s[after - 1] + quality.tr_s
        band = axis.axvspan(*ends_s, color=theme.SERIES[1], alpha=0.25, lw=0)
    return band
