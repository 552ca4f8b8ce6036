"""Haemodynamic response functions.

The canonical responses are differences of two gamma densities with the constants of SPM and of
Glover (1999), sampled and summed as nilearn does it, to which the tests compare; so are their
derivatives and the impulses of a finite impulse response (FIR) model. The library holds 20
responses that differ in the time and the width of their peak.

References
----------
Friston et al. (1998), NeuroImage 7:30-40. Glover (1999), NeuroImage 9:416-429.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

HRF_LENGTH_S = 32.0

#: Steps of the finite differences that are taken for derivatives, as in SPM and nilearn.
ONSET_STEP_S = 0.1
DISPERSION_STEP_S = 0.01


@dataclass(frozen=True)
class _GammaPair:
    """Constants of h(t) = g(t; delay, scale) - ratio g(t; undershoot, its scale), in s."""

    peak_s: float
    undershoot_s: float
    peak_scale_s: float
    undershoot_scale_s: float
    ratio: float


_PAIRS = {
    "spm": _GammaPair(6.0, 16.0, 1.0, 1.0, ratio=0.167),
    "glover": _GammaPair(6.0, 12.0, 0.9, 0.9, ratio=0.48),
}

#: Peaks (s) and widths (standard deviation of the positive lobe over its peak time) of the
#: library. Measured times to peak lie between about 3 and 8 s (Handwerker et al. 2004,
#: NeuroImage 21:1639-1651); SPM's response is 5.0 s with 0.49.
LIBRARY_PEAKS_S = tuple(float(peak) for peak in np.geomspace(3.6, 7.8, 5))
LIBRARY_WIDTHS = (0.36, 0.45, 0.56, 0.68)
LIBRARY_SIZE = len(LIBRARY_PEAKS_S) * len(LIBRARY_WIDTHS)

#: The response of the library that is nearest to SPM's canonical one.
LIBRARY_REFERENCE = 9

_UNDERSHOOT = {"time": 3.0, "width": 1.6, "ratio": 1.0 / 6.0}


def hrf_kernels(hrf: str, *, step_s: float) -> list[np.ndarray]:
    """Sample the functions of a response model over 32 s.

    Parameters
    ----------
    hrf : str
        A name of :data:`braindecode_clip.config.betas.HrfName` other than "fir" and "library".
    step_s : float
        Spacing of the samples in seconds.

    Returns
    -------
    list of ndarray (round(32 / step_s),) float64
        The response, with sum 1; then its derivatives to the onset and to the dispersion, as
        far as the name has them.
    """
    name, *derivatives = hrf.split(" + ")
    pair = _PAIRS[name]
    response = _gamma_difference(pair, step_s=step_s)
    kernels = [response]
    if "derivative" in derivatives:
        later = _gamma_difference(pair, step_s=step_s, onset_s=ONSET_STEP_S)
        kernels.append((response - later) / ONSET_STEP_S)
    if "dispersion" in derivatives:
        # nilearn's derivative has an undershoot of scale 1 s for Glover's response too.
        usual = replace(pair, undershoot_scale_s=1.0)
        wider = replace(usual, peak_scale_s=pair.peak_scale_s + DISPERSION_STEP_S)
        change = _gamma_difference(usual, step_s=step_s) - _gamma_difference(wider, step_s=step_s)
        kernels.append(change / DISPERSION_STEP_S)
    return kernels


def library_kernels(*, step_s: float) -> list[np.ndarray]:
    r"""Sample the 20 responses of the library over 32 s, each with sum 1.

    .. math:: h(t) = g(t; p, w) - \tfrac{1}{6} g(t; 3 p, 1.6 w)

    where :math:`g` is the gamma density with mode :math:`p` and standard deviation :math:`w`:
    scale :math:`\theta = (\sqrt{p^2 + 4 w^2} - p) / 2`, shape :math:`w^2 / \theta^2`. The
    peaks p are :data:`LIBRARY_PEAKS_S`, the widths w = p times :data:`LIBRARY_WIDTHS`; the
    width changes fastest. As with the canonical responses, a beta is the height that the
    response to a long block would reach.
    """
    time_s = np.arange(int(np.rint(HRF_LENGTH_S / step_s))) * step_s
    kernels = []
    for peak_s in LIBRARY_PEAKS_S:
        for relative in LIBRARY_WIDTHS:
            width_s = peak_s * relative
            response = _moded_gamma(time_s, peak_s, width_s)
            response = response - _UNDERSHOOT["ratio"] * _moded_gamma(
                time_s, _UNDERSHOOT["time"] * peak_s, _UNDERSHOOT["width"] * width_s
            )
            kernels.append(response / response.sum())
    return kernels


def library_peak_s(index: np.ndarray) -> np.ndarray:
    """Return the time to peak (s) of responses of the library, by their index."""
    return np.array(LIBRARY_PEAKS_S)[np.asarray(index) // len(LIBRARY_WIDTHS)]


def _gamma_difference(pair: _GammaPair, *, step_s: float, onset_s: float = 0.0) -> np.ndarray:
    time_s = np.linspace(0.0, HRF_LENGTH_S, int(np.rint(HRF_LENGTH_S / step_s)))
    # One step of delay: a sample stands for the interval that ends with it.
    time_s = time_s - step_s - onset_s
    peak = _gamma_density(time_s, pair.peak_s / pair.peak_scale_s, pair.peak_scale_s)
    undershoot = _gamma_density(
        time_s, pair.undershoot_s / pair.undershoot_scale_s, pair.undershoot_scale_s
    )
    kernel = peak - pair.ratio * undershoot
    return kernel / kernel.sum()


def _moded_gamma(time_s: np.ndarray, mode_s: float, sd_s: float) -> np.ndarray:
    scale_s = (math.sqrt(mode_s**2 + 4 * sd_s**2) - mode_s) / 2
    return _gamma_density(time_s, (sd_s / scale_s) ** 2, scale_s)


def _gamma_density(time_s: np.ndarray, shape: float, scale_s: float) -> np.ndarray:
    """Density of the gamma distribution (shape above 1); 0 before time 0."""
    scaled = np.maximum(time_s, 0.0) / scale_s
    log_power = (shape - 1.0) * np.log(np.where(scaled > 0, scaled, 1.0))
    density = np.exp(log_power - scaled - math.lgamma(shape)) / scale_s
    return np.where(scaled > 0, density, 0.0)
