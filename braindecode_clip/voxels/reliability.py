"""How reliably voxels respond to a repeated stimulus."""

from __future__ import annotations

import numpy as np

#: A correlation over fewer stimuli says nothing.
MIN_STIMULI = 3


def split_half_reliability(data: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Correlate odd with even repeats over stimuli, corrected to the full number of repeats.

    For every voxel, r is the correlation over repeated stimuli between the mean of the first,
    third, ... and the mean of the second, fourth, ... repeat, and the result is the
    Spearman-Brown estimate ``2 r / (1 + r)`` for both halves together, limited to [-1, 1].
    (Spearman, Br. J. Psychol. 3:271, 1910; Brown, ibid. 3:296.)

    Parameters
    ----------
    data : ndarray (n_trials, n_voxels)
        In the order of presentation.
    label : ndarray (n_trials,) str
        Stimulus of each trial.

    Returns
    -------
    ndarray (n_voxels,) float32
        NaN where fewer than three stimuli repeat, or a half is constant.
    """
    repeats = [rows for rows in _rows_of(label) if len(rows) > 1]
    if len(repeats) < MIN_STIMULI:
        return np.full(data.shape[1], np.nan, dtype=np.float32)
    halves = [
        np.array([data[rows[start::2]].mean(axis=0, dtype=np.float64) for rows in repeats])
        for start in (0, 1)
    ]
    odd, even = (half - half.mean(axis=0) for half in halves)
    scale = np.sqrt((odd**2).sum(axis=0) * (even**2).sum(axis=0))
    # Rounding leaves a constant voxel with a spread of about eps times its size.
    size = np.abs(halves[0]).max(axis=0) * np.abs(halves[1]).max(axis=0)
    valid = scale > 1e-10 * size
    r = np.where(valid, (odd * even).sum(axis=0) / np.where(valid, scale, 1), np.nan)
    corrected = np.where(r > -1 / 3, 2 * r / (1 + np.maximum(r, -1 / 3)), -1)
    return np.where(valid, corrected, np.nan).astype(np.float32)


def noise_ceiling(data: np.ndarray, label: np.ndarray, *, mean_inverse_n: float) -> np.ndarray:
    """Return the variance that a perfect model could explain, in percent (NSD's definition).

    With the noise variance of a single trial, σ_n² (the mean over repeated stimuli of the
    variance over repeats), and the signal variance σ_s² = max(σ_total² - σ_n², 0),

        ncsnr = σ_s / σ_n ,   NC = 100 · ncsnr² / (ncsnr² + 1/n)

    for responses averaged over n repeats (Allen et al., Nat. Neurosci. 25:116, 2022, Methods,
    "Noise ceiling estimation").

    Parameters
    ----------
    data : ndarray (n_trials, n_voxels)
    label : ndarray (n_trials,) str
    mean_inverse_n : float
        Mean of 1/n over the averaged responses.

    Returns
    -------
    ndarray (n_voxels,) float32
        0 to 100; NaN where no stimulus repeats.
    """
    repeats = [rows for rows in _rows_of(label) if len(rows) > 1]
    if not repeats:
        return np.full(data.shape[1], np.nan, dtype=np.float32)
    noise = np.mean([data[rows].var(axis=0, ddof=1, dtype=np.float64) for rows in repeats], axis=0)
    signal = np.maximum(data.var(axis=0, ddof=1, dtype=np.float64) - noise, 0)
    total = signal + noise * mean_inverse_n
    return (100 * signal / np.where(total > 0, total, 1)).astype(np.float32)


def select_reliable(
    reliability: np.ndarray, *, minimum: float | None, top: int | None
) -> np.ndarray:
    """Return which voxels pass; NaN never does. (n_voxels,) bool."""
    known = ~np.isnan(reliability)
    keep = known if minimum is None else known & (reliability >= minimum)
    if top is not None and keep.sum() > top:
        order = np.argsort(-np.where(keep, reliability, -np.inf), kind="stable")
        keep = np.zeros_like(keep)
        keep[order[:top]] = True
    return keep


def _rows_of(label: np.ndarray) -> list[np.ndarray]:
    """Return the rows of every label, in order of presentation."""
    _, index = np.unique(label, return_inverse=True)
    order = np.argsort(index, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(index[order])) + 1)
