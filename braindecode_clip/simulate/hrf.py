"""Haemodynamic responses that differ between voxels, around the canonical one."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtri
from scipy.stats import gamma

#: SPM's canonical response: gamma densities of shape 6 and 16 and scale 1 s.
CANONICAL_PEAK_S = 5.0
CANONICAL_WIDTH_S = math.sqrt(6.0)
_UNDERSHOOT_PEAK_S = 15.0
_UNDERSHOOT_WIDTH_S = 4.0
_UNDERSHOOT_RATIO = 1.0 / 6.0

_LENGTH_S = 32.0
_STEP_S = 0.05
_N_PEAKS, _N_WIDTHS = 5, 3


def hrf(peak_s: float, width_s: float, *, step_s: float = _STEP_S) -> np.ndarray:
    r"""Sample a double-gamma response of unit sum over 32 s.

    .. math:: h(t) = g(t; p, w) - \tfrac{1}{6} g(t; 15 p / 5, 4 w / \sqrt{6})

    where :math:`g` is the gamma density with mode :math:`p` and standard deviation
    :math:`w`: scale :math:`\theta = (\sqrt{p^2 + 4 w^2} - p) / 2` and shape
    :math:`w^2 / \theta^2`. With p = 5 s and w = 2.45 s it is SPM's canonical response
    (Friston et al. 1998, NeuroImage 7:30-40).

    Parameters
    ----------
    peak_s, width_s : float
        Mode and standard deviation of the positive lobe, seconds.
    step_s : float
        Sampling step, seconds.

    Returns
    -------
    ndarray, (round(32 / step_s),), float64
    """
    t = np.arange(0, _LENGTH_S, step_s)
    stretch, widen = peak_s / CANONICAL_PEAK_S, width_s / CANONICAL_WIDTH_S
    curve = _gamma_density(t, peak_s, width_s) - _UNDERSHOOT_RATIO * _gamma_density(
        t, _UNDERSHOOT_PEAK_S * stretch, _UNDERSHOOT_WIDTH_S * widen
    )
    return curve / curve.sum()


def _gamma_density(t: np.ndarray, mode: float, sd: float) -> np.ndarray:
    scale = (math.sqrt(mode**2 + 4 * sd**2) - mode) / 2
    return gamma.pdf(t, (sd / scale) ** 2, scale=scale)


def hrf_library(peak_sd_s: float, width_sd_s: float) -> np.ndarray:
    """Return peaks and widths of 15 equally likely responses.

    They sit at the quantiles of normal distributions around the canonical peak and width;
    a voxel has one of them.

    Parameters
    ----------
    peak_sd_s, width_sd_s : float
        Standard deviations over voxels, seconds.

    Returns
    -------
    ndarray, (15, 2), float64
        Column 0: peak, column 1: width, in seconds.
    """
    peaks = CANONICAL_PEAK_S + peak_sd_s * _normal_quantiles(_N_PEAKS)
    widths = CANONICAL_WIDTH_S + width_sd_s * _normal_quantiles(_N_WIDTHS)
    return np.array([(peak, width) for peak in peaks for width in widths])


def _normal_quantiles(n: int) -> np.ndarray:
    """Return n equally likely values of standard deviation 1."""
    values = ndtri((np.arange(n) + 0.5) / n)
    return values / values.std()


def trial_regressors(
    onsets_s: np.ndarray,
    duration_s: float,
    response: np.ndarray,
    *,
    n_volumes: int,
    tr_s: float,
    step_s: float = _STEP_S,
) -> np.ndarray:
    """Convolve one boxcar per trial with a response and sample it at the volumes.

    Parameters
    ----------
    onsets_s : ndarray, (n_trials,)
        Seconds after the first volume.
    duration_s : float
        Length of the boxcar.
    response : ndarray
        From :func:`hrf`, with the same ``step_s``.
    n_volumes : int
    tr_s : float
    step_s : float

    Returns
    -------
    ndarray, (n_volumes, n_trials), float64
    """
    # All trials have the same course; integrate the response over the boxcar once.
    n_on = max(1, round(duration_s / step_s))
    course = np.convolve(response, np.ones(n_on))
    since = np.arange(n_volumes)[:, None] * tr_s - np.asarray(onsets_s)[None, :]
    index = np.rint(since / step_s).astype(int)
    inside = (index >= 0) & (index < len(course))
    return np.where(inside, course[np.clip(index, 0, len(course) - 1)], 0.0)
