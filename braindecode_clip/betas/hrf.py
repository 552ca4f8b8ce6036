"""Haemodynamic response functions and the regressors of single events.

The responses are differences of two gamma densities with the constants of SPM and of
Glover (1999), sampled and summed as nilearn does it, to which the tests compare.

References
----------
Friston et al. (1998), NeuroImage 7:30-40. Glover (1999), NeuroImage 9:416-429.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

HRF_LENGTH_S = 32.0


@dataclass(frozen=True)
class _GammaPair:
    """Constants of h(t) = g(t; peak, dispersion) - ratio g(t; undershoot, dispersion), in s."""

    peak_s: float
    undershoot_s: float
    dispersion_s: float
    ratio: float


_PAIRS = {
    "spm": _GammaPair(peak_s=6.0, undershoot_s=16.0, dispersion_s=1.0, ratio=0.167),
    "glover": _GammaPair(peak_s=6.0, undershoot_s=12.0, dispersion_s=0.9, ratio=0.48),
}


def hrf_kernel(hrf: Literal["spm", "glover"], *, step_s: float) -> np.ndarray:
    """Sample a canonical response over 32 s, with sum 1.

    Parameters
    ----------
    hrf : {"spm", "glover"}
    step_s : float
        Spacing of the samples in seconds.

    Returns
    -------
    ndarray (round(32 / step_s),) float64
    """
    pair = _PAIRS[hrf]
    time_s = np.linspace(0.0, HRF_LENGTH_S, int(np.rint(HRF_LENGTH_S / step_s)))
    # One step of delay: a sample stands for the interval that ends with it.
    time_s = time_s - step_s
    peak = _gamma_density(time_s, pair.peak_s / pair.dispersion_s, pair.dispersion_s)
    undershoot = _gamma_density(time_s, pair.undershoot_s / pair.dispersion_s, pair.dispersion_s)
    kernel = peak - pair.ratio * undershoot
    return kernel / kernel.sum()


def _gamma_density(time_s: np.ndarray, shape: float, scale_s: float) -> np.ndarray:
    """Density of the gamma distribution (shape above 1); 0 before time 0."""
    scaled = np.maximum(time_s, 0.0) / scale_s
    log_power = (shape - 1.0) * np.log(np.where(scaled > 0, scaled, 1.0))
    density = np.exp(log_power - scaled - math.lgamma(shape)) / scale_s
    return np.where(scaled > 0, density, 0.0)


@dataclass(frozen=True)
class FineGrid:
    """A fine, regular time grid around a run.

    Attributes
    ----------
    frame_times_s : ndarray (n_volumes,)
        When the volumes were taken, in seconds after ``first_volume_s``.
    times_s : ndarray (n_fine,)
        From ``min_onset_s`` before the first volume to one TR after the last, on the same
        clock.
    first_volume_s : float
        When the first volume began, on the clock of the events.
    step_s : float
        TR over oversampling.
    """

    frame_times_s: np.ndarray
    times_s: np.ndarray
    first_volume_s: float
    step_s: float


def fine_grid(
    n_volumes: int,
    *,
    tr_s: float,
    first_volume_s: float = 0.0,
    slice_time_ref: float = 0.0,
    oversampling: int = 50,
    min_onset_s: float = -24.0,
) -> FineGrid:
    """Return the grid on which onsets and offsets are placed.

    Its end follows nilearn: the last volume time t becomes t (1 + 1 / (n - 1)).

    Parameters
    ----------
    n_volumes : int
        At least 2.
    tr_s, first_volume_s, slice_time_ref, oversampling, min_onset_s
        As in :func:`braindecode_clip.betas.estimate_single_trials`.
    """
    frames = np.linspace(slice_time_ref * tr_s, (n_volumes - 1 + slice_time_ref) * tr_s, n_volumes)
    first, last = frames[0] + min_onset_s, frames[-1] * (1.0 + 1.0 / (n_volumes - 1))
    n_fine = int(np.rint((last - first) * oversampling / tr_s + 1))
    times = np.linspace(first, last, n_fine)
    return FineGrid(frames, times, first_volume_s, tr_s / oversampling)


def event_regressors(
    onsets_s: np.ndarray,
    durations_s: np.ndarray,
    *,
    grid: FineGrid,
    hrf: Literal["spm", "glover"],
) -> np.ndarray:
    """Return the expected response to every single event, at the volume times.

    A boxcar from onset to offset on the fine grid (one step long where the duration is
    shorter), convolved with the response and interpolated linearly at the volumes. The
    convolution of a boxcar from step a to step b is H(i - a) - H(i - b) with H the running
    sum of the kernel, so only the two fine steps around each volume are computed.

    Parameters
    ----------
    onsets_s, durations_s : ndarray (n_events,)
        Seconds on the clock of the events.
    grid : FineGrid
    hrf : {"spm", "glover"}

    Returns
    -------
    ndarray (n_volumes, n_events) float64
    """
    kernel = hrf_kernel(hrf, step_s=grid.step_s)
    # One zero in front: index 0 of the running sum stands for every time before the event.
    running = np.concatenate([[0.0], np.cumsum(kernel)])
    last = len(grid.times_s) - 1
    onsets_s = onsets_s - grid.first_volume_s
    begin = np.minimum(np.searchsorted(grid.times_s, onsets_s), last)
    end = np.minimum(np.searchsorted(grid.times_s, onsets_s + durations_s), last)
    end = np.where((end == begin) & (end < last), begin + 1, end)

    def response_at(steps: np.ndarray) -> np.ndarray:
        since_begin = np.clip(steps[:, None] - begin + 1, 0, len(kernel))
        since_end = np.clip(steps[:, None] - end + 1, 0, len(kernel))
        return running[since_begin] - running[since_end]

    above = np.clip(np.searchsorted(grid.times_s, grid.frame_times_s), 1, last)
    left, right = grid.times_s[above - 1], grid.times_s[above]
    weight = ((grid.frame_times_s - left) / (right - left))[:, None]
    return (1.0 - weight) * response_at(above - 1) + weight * response_at(above)
