"""Slice-timing correction: every slice shifted in time to one moment of the TR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.interpolate import make_interp_spline

from braindecode_clip.checks import Problems
from braindecode_clip.errors import DataError

_AXES = {"i": 0, "j": 1, "k": 2}


def find_slice_times(
    metadata: Mapping[str, Any], shape: tuple[int, ...], *, tr_s: float, where: str
) -> tuple[np.ndarray, int]:
    """Return when each slice was taken, by the BIDS metadata of a run.

    Parameters
    ----------
    metadata : mapping
        ``SliceTiming`` (seconds, one for each slice) and ``SliceEncodingDirection`` (i, j, k,
        with "-" when the times count from the last slice; k where it is left out).
    shape : tuple
        The run's grid (nx, ny, nz).
    tr_s : float
        Repetition time in seconds.
    where : str
        The file, for messages.

    Returns
    -------
    times_s : ndarray (n_slices,) float64
        Seconds after the start of the TR, in the order of the array's slices.
    axis : int
        The slice axis of the grid, 0 to 2.

    Raises
    ------
    DataError
        No slice times, or not one in 0 to TR for each slice.
    """
    problems = Problems(where)
    direction = metadata.get("SliceEncodingDirection", "k")
    axis = _AXES.get(str(direction).rstrip("-"))
    if axis is None:
        problems.add(
            f"SliceEncodingDirection is {direction!r}, expected i, j or k, or one of them with '-'."
        )
    given = metadata.get("SliceTiming")
    times_s = np.zeros(0)
    if given is None:
        problems.add(
            "there is no SliceTiming in the run's JSON file. Add it (seconds, one number for each "
            "slice), or set 'slice_timing: false'."
        )
    else:
        try:
            times_s = np.array(given, dtype=np.float64).ravel()
        except (TypeError, ValueError):
            problems.add(f"SliceTiming is {given!r}, expected a list of seconds.")
        else:
            _check_times(times_s, shape, axis, tr_s=tr_s, problems=problems)
    problems.raise_if_any(DataError)
    return (times_s[::-1].copy() if str(direction).endswith("-") else times_s), int(axis or 0)


def _check_times(
    times_s: np.ndarray,
    shape: tuple[int, ...],
    axis: int | None,
    *,
    tr_s: float,
    problems: Problems,
) -> None:
    """Note what is wrong with slice times."""
    if axis is not None and len(times_s) != shape[axis]:
        problems.add(
            f"SliceTiming has {len(times_s)} numbers, but the run has {shape[axis]} slices on "
            f"axis {'ijk'[axis]}. Correct it or SliceEncodingDirection."
        )
    if not (np.isfinite(times_s).all() and (times_s >= 0).all() and (times_s <= tr_s).all()):
        problems.add(
            f"SliceTiming lies in {times_s.min():g} to {times_s.max():g}, expected seconds from 0 "
            f"to the TR of {tr_s:g} s. Are they milliseconds?"
        )


def shift_slices(
    volumes: np.ndarray, times_s: np.ndarray, *, axis: int, tr_s: float, reference_s: float
) -> np.ndarray:
    """Return the run as if every slice had been taken at one time of the TR.

    Every voxel's series is interpolated by a cubic spline through its samples at
    i TR + times_s[slice], read at i TR + reference_s. Outside the first and the last sample
    (by less than one TR) the series holds its end. Unlike a shift by Fourier transform, a spline
    does not join the end of the run to its beginning, and a spike stays with its neighbours.

    Parameters
    ----------
    volumes : ndarray (n_volumes, nx, ny, nz) float32
    times_s : ndarray (n_slices,)
        Seconds after the start of the TR.
    axis : int
        The slice axis of the grid, 0 to 2.
    tr_s, reference_s : float
        Seconds.

    Returns
    -------
    ndarray (n_volumes, nx, ny, nz) float32
    """
    n_volumes = len(volumes)
    shifted = np.empty_like(volumes, dtype=np.float32)
    source, target = np.moveaxis(volumes, axis + 1, 0), np.moveaxis(shifted, axis + 1, 0)
    index = np.arange(n_volumes, dtype=np.float64)
    for k, time_s in enumerate(times_s):
        position = np.clip(index + (reference_s - time_s) / tr_s, 0, n_volumes - 1)
        degree = min(3, n_volumes - 1)
        spline = make_interp_spline(index, source[k].astype(np.float64), k=degree, axis=0)
        target[k] = spline(position)
    return shifted
