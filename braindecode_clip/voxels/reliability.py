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


def noise_ceiling_snr(data: np.ndarray, label: np.ndarray) -> np.ndarray:
    r"""Return NSD's signal-to-noise ratio of single-trial responses (ncsnr).

    With the noise variance of a single trial, :math:`\sigma_n^2` (the mean over repeated stimuli
    of the variance over their repeats, divisor n - 1), and the variance of all trials,

    .. math:: \mathrm{ncsnr} = \sigma_s / \sigma_n, \qquad
        \sigma_s^2 = \max(\sigma_\mathrm{total}^2 - \sigma_n^2, 0)

    (Allen et al., Nat. Neurosci. 25:116, 2022, Methods, "Noise ceiling estimation").

    Parameters
    ----------
    data : ndarray (n_trials, n_voxels)
    label : ndarray (n_trials,) str

    Returns
    -------
    ndarray (n_voxels,) float32
        0 or above; NaN where no stimulus repeats, and in voxels with signal but no noise.
    """
    repeats = [rows for rows in _rows_of(label) if len(rows) > 1]
    if not repeats:
        return np.full(data.shape[1], np.nan, dtype=np.float32)
    noise = np.mean([data[rows].var(axis=0, ddof=1, dtype=np.float64) for rows in repeats], axis=0)
    signal = np.maximum(data.var(axis=0, ddof=1, dtype=np.float64) - noise, 0)
    ratio = np.where(signal > 0, np.nan, 0.0)
    np.divide(signal, noise, out=ratio, where=noise > 0)
    return np.sqrt(ratio).astype(np.float32)


def noise_ceiling(ncsnr: np.ndarray, *, mean_inverse_n: float) -> np.ndarray:
    r"""Return the variance that a perfect model could explain, in percent (NSD's definition).

    .. math:: \mathrm{NC} = 100 \, \frac{\mathrm{ncsnr}^2}{\mathrm{ncsnr}^2 + 1/n}

    for responses averaged over n repeats (Allen et al., Nat. Neurosci. 25:116, 2022, Methods,
    "Noise ceiling estimation").

    Parameters
    ----------
    ncsnr : ndarray (n_voxels,)
        From :func:`noise_ceiling_snr`.
    mean_inverse_n : float
        Mean of 1/n over the averaged responses.

    Returns
    -------
    ndarray (n_voxels,) float32
        0 to 100; NaN where ncsnr is.
    """
    signal = np.square(ncsnr.astype(np.float64))
    return (100 * signal / (signal + mean_inverse_n)).astype(np.float32)


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
