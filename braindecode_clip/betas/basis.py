"""Regressors of single events: a fine time grid, and what each response model makes of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from braindecode_clip.betas.hrf import hrf_kernels, library_kernels
from braindecode_clip.config.betas import FirConfig
from braindecode_clip.errors import ConfigError


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
    oversampling : int
    """

    frame_times_s: np.ndarray
    times_s: np.ndarray
    first_volume_s: float
    step_s: float
    oversampling: int


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
    return FineGrid(frames, times, first_volume_s, tr_s / oversampling, oversampling)


@dataclass(frozen=True)
class EventBasis:
    """What a response model expects of every event.

    Attributes
    ----------
    columns : ndarray (n_hrfs, n_volumes, n_events, n_functions) float64
        ``n_hrfs`` is 1, or the size of the library.
    contrast : ndarray (n_events, n_functions) float64
        The response to an event is this combination of its functions' weights: 1 for the first
        function, or the mean over a window of delays of an FIR model. Derivatives have the part
        of them that the response itself could explain, since nilearn makes derivatives
        orthogonal to the response, and the response then has the weight of both.
    """

    columns: np.ndarray
    contrast: np.ndarray


def event_basis(
    onsets_s: np.ndarray, durations_s: np.ndarray, *, grid: FineGrid, hrf: str, fir: FirConfig
) -> EventBasis:
    """Return the expected responses to single events, at the volume times.

    Parameters
    ----------
    onsets_s, durations_s : ndarray (n_events,)
        Seconds on the clock of the events.
    grid : FineGrid
    hrf : str
        A name of :data:`braindecode_clip.config.betas.HrfName`.
    fir : FirConfig
        Delays of the model "fir".
    """
    if hrf == "fir":
        return _fir_basis(onsets_s, grid, fir)
    if hrf == "library":
        kernels = library_kernels(step_s=grid.step_s)
        columns = [event_regressors(onsets_s, durations_s, grid=grid, kernel=k) for k in kernels]
        return EventBasis(np.array(columns)[..., None], np.ones((len(onsets_s), 1)))
    functions = np.stack(
        [
            event_regressors(onsets_s, durations_s, grid=grid, kernel=kernel)
            for kernel in hrf_kernels(hrf, step_s=grid.step_s)
        ],
        axis=-1,
    )
    shared = np.einsum("tj,tjk->jk", functions[..., 0], functions)
    contrast = shared / np.where(shared[:, :1] > 0, shared[:, :1], 1.0)
    contrast[:, 0] = 1.0
    return EventBasis(functions[None], contrast)


def _fir_basis(onsets_s: np.ndarray, grid: FineGrid, fir: FirConfig) -> EventBasis:
    n_steps = grid.oversampling
    tr_s = grid.step_s * n_steps
    # Weights are responses at delays from the onset, however long an event lasts; an event of one
    # TR makes regressors of height 1, tents where the onset lies between volumes.
    durations_s = np.full(len(onsets_s), tr_s)
    delays = np.arange(int(np.ceil(fir.length_s / tr_s - 1e-9)))
    inside = (delays * tr_s >= fir.start_s - 1e-9) & (delays * tr_s <= fir.end_s + 1e-9)
    if not inside.any():
        raise ConfigError(
            f"fir: no delay lies between start_s = {fir.start_s:g} s and end_s = {fir.end_s:g} s; "
            f"with a TR of {tr_s:g} s and length_s = {fir.length_s:g} s the delays are 0 to "
            f"{(len(delays) - 1) * tr_s:g} s in steps of a TR. Widen the window."
        )
    columns = [
        event_regressors(
            onsets_s,
            durations_s,
            grid=grid,
            kernel=np.concatenate([np.zeros(delay * n_steps), np.full(n_steps, 1.0 / n_steps)]),
            # An impulse counts from the volume that begins with it, as nilearn's.
            ahead=n_steps - 1,
        )
        for delay in delays
    ]
    contrast = np.tile(inside / inside.sum(), (len(onsets_s), 1))
    return EventBasis(np.stack(columns, axis=-1)[None], contrast)


def event_regressors(
    onsets_s: np.ndarray,
    durations_s: np.ndarray,
    *,
    grid: FineGrid,
    kernel: np.ndarray,
    ahead: int = 0,
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
    kernel : ndarray
        The response, sampled at the steps of the grid.
    ahead : int
        Fine steps after a volume's time at which it is looked up.

    Returns
    -------
    ndarray (n_volumes, n_events) float64
    """
    # One zero in front: index 0 of the running sum stands for every time before the event.
    running = np.concatenate([[0.0], np.cumsum(kernel)])
    last = len(grid.times_s) - 1
    onsets_s = onsets_s - grid.first_volume_s
    begin = np.minimum(np.searchsorted(grid.times_s, onsets_s), last)
    end = np.minimum(np.searchsorted(grid.times_s, onsets_s + durations_s), last)
    end = np.where((end == begin) & (end < last), begin + 1, end)

    def response_at(steps: np.ndarray) -> np.ndarray:
        since_begin = np.clip(steps[:, None] + ahead - begin + 1, 0, len(kernel))
        since_end = np.clip(steps[:, None] + ahead - end + 1, 0, len(kernel))
        return running[since_begin] - running[since_end]

    above = np.clip(np.searchsorted(grid.times_s, grid.frame_times_s), 1, last)
    left, right = grid.times_s[above - 1], grid.times_s[above]
    weight = ((grid.frame_times_s - left) / (right - left))[:, None]
    return (1.0 - weight) * response_at(above - 1) + weight * response_at(above)
