"""One simulated subject with an HRF of its own in every voxel and structured noise.

Needs only numpy, scipy and pandas, and shares no code with what is measured on it. All onsets lie
on the grid of the volumes, because GLMsingle takes no others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import gamma

HrfFamily = Literal["gamma", "inverse_logit", "glmsingle"]

#: Multiples of the noise at which single-trial betas of LSS with the canonical HRF correlate
#: with the truth by about 0.6, 0.35 and 0.2 (median over responsive voxels, default options).
NOISE_LEVELS = {"low": 0.5, "medium": 1.3, "high": 2.5}

_STEP_S, _LENGTH_S = 0.1, 40.0
_FIRST_ONSET_S, _LAST_BUFFER_S = 8.0, 16.0
_N_FEATURES = 20


@dataclass(frozen=True)
class SimulatedRuns:
    """What was measured, and the truth behind it."""

    signals: list[np.ndarray]
    """For each run (n_volumes, n_voxels) float32, scanner units around 1000."""
    events: list[pd.DataFrame]
    """For each run onset and duration in seconds, trial_type, stimulus_id, in order of onset."""
    true_betas: list[np.ndarray]
    """For each run (n_trials, n_voxels) float32: peak of each response, percent of the mean."""
    responsive: np.ndarray
    """(n_voxels,) bool; in all other voxels the true betas are 0."""
    hrf_peak_s: np.ndarray
    """(n_voxels,) time to peak of the response to an impulse."""
    hrf_width_s: np.ndarray
    """(n_voxels,) full width at half maximum of the response to an impulse."""
    tr_s: float
    stimulus_s: float

    @property
    def stimulus_ids(self) -> np.ndarray:
        """Stimulus of every trial of all runs, (n_trials,)."""
        return np.concatenate([run["stimulus_id"].to_numpy() for run in self.events])


def simulate_runs(
    n_voxels: int = 2000,
    n_runs: int = 6,
    *,
    n_volumes: int = 220,
    tr_s: float = 2.0,
    trial_s: float = 4.0,
    stimulus_s: float = 3.0,
    repeats: int = 3,
    once_share: float = 0.2,
    blank_share: float = 0.1,
    responsive_share: float = 0.5,
    trial_sd: float = 0.3,
    noise_level: float | str = "medium",
    hrf_family: HrfFamily = "gamma",
    seed: int = 0,
) -> SimulatedRuns:
    """Simulate the runs of one subject, cut like a session of NSD (Allen et al. 2022).

    A response is a voxel's mean response plus a pattern over stimuli (partly shared by the
    voxels, the same at every repeat) plus variability of the single trial (``trial_sd``, as a
    share of the pattern's spread). The noise, in every voxel, is a mixture of five time courses
    that all voxels share (with loadings that have nothing to do with the responses), AR(1) noise
    with a coefficient of its own between 0 and 0.6, white noise, a slow drift and a few spikes.

    Parameters
    ----------
    n_voxels, n_runs, n_volumes : int
    tr_s, trial_s, stimulus_s : float
        ``trial_s`` is the distance of the onsets, a multiple of ``tr_s``.
    repeats : int
        How often a stimulus comes, each time in another run where the runs suffice.
    once_share : float
        Share of the trials whose stimulus comes only once.
    blank_share, responsive_share, trial_sd : float
    noise_level : float or one of NOISE_LEVELS
    hrf_family : {"gamma", "inverse_logit", "glmsingle"}
        ``glmsingle`` interpolates in GLMsingle's own library, which must be importable.
    seed : int
    """
    level = NOISE_LEVELS[noise_level] if isinstance(noise_level, str) else noise_level
    every = round(trial_s / tr_s)
    if not np.isclose(every * tr_s, trial_s):
        raise ValueError(f"trial_s = {trial_s} is no multiple of tr_s = {tr_s}")
    rng_design, rng_truth, rng_noise = np.random.default_rng(seed).spawn(3)

    first = int(np.ceil(_FIRST_ONSET_S / tr_s))
    last = n_volumes - int(np.ceil(_LAST_BUFFER_S / tr_s))
    slots = np.arange(first, last, every)
    n_trials = len(slots) - round(blank_share * len(slots))
    onsets = [np.sort(rng_design.permutation(slots)[:n_trials]) for _ in range(n_runs)]
    stimuli = _deal(n_runs, n_trials, repeats=repeats, once_share=once_share, rng=rng_design)

    responsive = np.zeros(n_voxels, dtype=bool)
    responsive[rng_truth.permutation(n_voxels)[: round(responsive_share * n_voxels)]] = True
    kernels = _KERNELS[hrf_family](n_voxels, rng_truth)
    responses = _sampled_responses(kernels, stimulus_s=stimulus_s, tr_s=tr_s)
    true_betas = _true_betas(stimuli, responsive, trial_sd=trial_sd, rng=rng_truth)

    level_image = 1000 * np.exp(rng_truth.normal(0, 0.2, n_voxels))
    noise = _Noise(n_voxels, rng_noise)
    signals = []
    for run_onsets, betas in zip(onsets, true_betas, strict=True):
        percent = level * noise.of_run(n_volumes, tr_s, rng_noise)
        for lag, weights in enumerate(responses):
            inside = run_onsets + lag < n_volumes
            percent[run_onsets[inside] + lag] += betas[inside] * weights
        signals.append((level_image * (1 + percent / 100)).astype(np.float32))

    peak_s, width_s = _peak_and_width(kernels)
    return SimulatedRuns(
        signals=signals,
        events=[
            pd.DataFrame(
                {
                    "onset": run_onsets * tr_s,
                    "duration": stimulus_s,
                    "trial_type": "picture",
                    "stimulus_id": [f"stim-{index:04d}" for index in run_stimuli],
                }
            )
            for run_onsets, run_stimuli in zip(onsets, stimuli, strict=True)
        ],
        true_betas=[betas.astype(np.float32) for betas in true_betas],
        responsive=responsive,
        hrf_peak_s=peak_s,
        hrf_width_s=width_s,
        tr_s=tr_s,
        stimulus_s=stimulus_s,
    )


def _deal(
    n_runs: int, n_trials: int, *, repeats: int, once_share: float, rng: np.random.Generator
) -> list[np.ndarray]:
    """Deal stimuli to runs: the repeats of one go to those runs that have most room."""
    total = n_runs * n_trials
    n_repeated = int((1 - once_share) * total) // repeats
    room = np.full(n_runs, n_trials)
    runs: list[list[int]] = [[] for _ in range(n_runs)]
    for stimulus in range(n_repeated + total - n_repeated * repeats):
        for _ in range(repeats if stimulus < n_repeated else 1):
            taken = np.array([stimulus in run for run in runs])
            run = int(np.lexsort((rng.random(n_runs), -room, taken | (room == 0), room == 0))[0])
            runs[run].append(stimulus)
            room[run] -= 1
    return [rng.permutation(run) for run in runs]


def _true_betas(
    stimuli: list[np.ndarray],
    responsive: np.ndarray,
    *,
    trial_sd: float,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    n_voxels, n_stimuli = len(responsive), 1 + max(run.max() for run in stimuli)
    features = rng.normal(size=(n_stimuli, _N_FEATURES))
    loadings = rng.normal(size=(_N_FEATURES, n_voxels)) / np.sqrt(_N_FEATURES)
    pattern = np.sqrt(0.5) * (features @ loadings + rng.normal(size=(n_stimuli, n_voxels)))
    # Voxels differ in how strongly they respond, so that each wants a ridge of its own.
    spread = np.where(responsive, 0.5 * np.exp(rng.normal(0, 0.4, n_voxels)), 0.0)
    mean = np.where(responsive, rng.normal(1.0, 0.5, n_voxels), 0.0)
    return [
        mean + spread * (pattern[run] + trial_sd * rng.normal(size=(len(run), n_voxels)))
        for run in stimuli
    ]


def _gamma_kernels(n_voxels: int, rng: np.random.Generator) -> np.ndarray:
    """Difference of two gamma densities with free peaks, widths and ratio."""
    peak_s = 3.5 + 4.5 * rng.beta(2, 3, n_voxels)
    spread_s = rng.uniform(1.6, 3.0, n_voxels)
    dip_s = peak_s + rng.uniform(6, 12, n_voxels)
    dip_spread_s = rng.uniform(2.5, 5, n_voxels)
    ratio = rng.uniform(0, 0.35, n_voxels)
    return _gamma_density(peak_s, spread_s) - ratio * _gamma_density(dip_s, dip_spread_s)


def _gamma_density(mode_s: np.ndarray, sd_s: np.ndarray) -> np.ndarray:
    scale = (np.sqrt(mode_s**2 + 4 * sd_s**2) - mode_s) / 2
    return gamma.pdf(_times()[:, None], (sd_s / scale) ** 2, scale=scale)


def _inverse_logit_kernels(n_voxels: int, rng: np.random.Generator) -> np.ndarray:
    """Sum of three inverse logits: rise, fall, return (Lindquist & Wager 2007, eq. 3)."""
    rise_s = rng.uniform(2.2, 4.2, n_voxels)
    fall_s = rise_s + rng.uniform(3.0, 5.5, n_voxels)
    return_s = fall_s + rng.uniform(5.0, 9.0, n_voxels)
    dip = rng.uniform(0, 0.4, n_voxels)
    slopes_s = [rise_s / rng.uniform(4, 6, n_voxels), rng.uniform(0.8, 1.6, n_voxels)]
    slopes_s.append(rng.uniform(1.5, 2.5, n_voxels))
    times = _times()[:, None]
    return (
        expit((times - rise_s) / slopes_s[0])
        - (1 + dip) * expit((times - fall_s) / slopes_s[1])
        + dip * expit((times - return_s) / slopes_s[2])
    )


def _glmsingle_kernels(n_voxels: int, rng: np.random.Generator) -> np.ndarray:
    """Mixture of two neighbours in GLMsingle's library of 20 responses."""
    from glmsingle.hrf.gethrf import getcanonicalhrflibrary

    library = np.asarray(getcanonicalhrflibrary(_STEP_S, _STEP_S), dtype=np.float64)
    library = library[:, : len(_times())] / library.max(axis=1, keepdims=True)
    place = rng.uniform(0, len(library) - 1, n_voxels)
    lower = place.astype(int)
    upper = np.minimum(lower + 1, len(library) - 1)
    return (library[lower].T * (lower + 1 - place)) + library[upper].T * (place - lower)


_KERNELS = {
    "gamma": _gamma_kernels,
    "inverse_logit": _inverse_logit_kernels,
    "glmsingle": _glmsingle_kernels,
}


def _times() -> np.ndarray:
    return np.arange(0, _LENGTH_S, _STEP_S)


def _sampled_responses(kernels: np.ndarray, *, stimulus_s: float, tr_s: float) -> np.ndarray:
    """Response to one stimulus at 0, 1, 2, ... volumes after its onset, of peak 1."""
    summed = np.vstack([np.zeros((1, kernels.shape[1])), np.cumsum(kernels, axis=0)])
    held = round(stimulus_s / _STEP_S)
    response = summed.copy()
    response[held:] -= summed[:-held]
    lags = np.arange(0, _LENGTH_S, tr_s)
    sampled = response[np.round(lags / _STEP_S).astype(int)]
    return sampled / response.max(axis=0)


def _peak_and_width(kernels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    above = kernels >= kernels.max(axis=0) / 2
    return kernels.argmax(axis=0) * _STEP_S, above.sum(axis=0) * _STEP_S


class _Noise:
    """Noise in percent of the mean, with the same maps of loadings in every run."""

    def __init__(self, n_voxels: int, rng: np.random.Generator) -> None:
        self.white = 0.6 * np.exp(rng.normal(0, 0.25, n_voxels))
        self.rho = rng.uniform(0, 0.6, n_voxels)
        self.autoregressive = 0.5 * np.exp(rng.normal(0, 0.25, n_voxels))
        self.drift = 0.6 * np.exp(rng.normal(0, 0.4, n_voxels))
        # The first course is global: of one sign everywhere. The others come and go over voxels.
        self.loadings = rng.normal(size=(5, n_voxels)) * rng.gamma(1.0, 1.0, size=(5, n_voxels))
        self.loadings[0] = rng.gamma(4.0, 0.25, n_voxels)
        self.loadings *= np.array([0.35, 0.25, 0.25, 0.25, 0.25])[:, None]
        self.spike = 2.0 * rng.normal(size=n_voxels)

    def of_run(self, n_volumes: int, tr_s: float, rng: np.random.Generator) -> np.ndarray:
        n_voxels = len(self.rho)
        noise = self.white * rng.normal(size=(n_volumes, n_voxels))
        noise += self.autoregressive * _autoregressive(n_volumes, self.rho, rng)
        noise += _shared_courses(n_volumes, tr_s, rng) @ self.loadings
        noise += self.drift * _drifts(n_volumes, tr_s, n_voxels, rng)
        for volume in rng.integers(0, n_volumes, size=max(1, n_volumes // 100)):
            noise[volume] += rng.normal() * self.spike
        return noise


def _autoregressive(n_volumes: int, rho: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """AR(1) noise of unit variance, stationary from the first volume on."""
    noise = rng.normal(size=(n_volumes, len(rho)))
    innovation = np.sqrt(1 - rho**2)
    for volume in range(1, n_volumes):
        noise[volume] = rho * noise[volume - 1] + innovation * noise[volume]
    return noise


def _shared_courses(n_volumes: int, tr_s: float, rng: np.random.Generator) -> np.ndarray:
    """Five courses of unit variance: global, two bands of physiology, two of motion."""
    courses = np.empty((n_volumes, 5))
    courses[:, 0] = _autoregressive(n_volumes, np.array([0.8]), rng)[:, 0]
    courses[:, 1] = _band(n_volumes, tr_s, low_hz=0.02, high_hz=0.06, rng=rng)
    courses[:, 2] = _band(n_volumes, tr_s, low_hz=0.12, high_hz=0.2, rng=rng)
    jumps = rng.normal(size=(n_volumes, 2)) * (rng.random((n_volumes, 2)) < 0.05)
    walk = np.cumsum(jumps + 0.05 * rng.normal(size=(n_volumes, 2)), axis=0)
    courses[:, 3] = walk[:, 0]
    courses[:, 4] = np.diff(walk[:, 1], prepend=0) + 0.2 * rng.normal(size=n_volumes)
    return (courses - courses.mean(axis=0)) / courses.std(axis=0)


def _band(
    n_volumes: int, tr_s: float, *, low_hz: float, high_hz: float, rng: np.random.Generator
) -> np.ndarray:
    frequency = np.fft.rfftfreq(n_volumes, tr_s)
    spectrum = rng.normal(size=len(frequency)) + 1j * rng.normal(size=len(frequency))
    return np.fft.irfft(spectrum * ((frequency >= low_hz) & (frequency <= high_hz)), n_volumes)


def _drifts(n_volumes: int, tr_s: float, n_voxels: int, rng: np.random.Generator) -> np.ndarray:
    """A trend and cosines up to 0.008 Hz, the slow ones the largest, of unit variance.

    The amplitude falls with the frequency, as in real runs. With cosines of one size much would
    be left by GLMsingle's polynomials, which are fewer than the cosines of a 0.01 Hz high-pass.
    """
    place = (np.arange(n_volumes) + 0.5) / n_volumes
    orders = np.arange(1, max(1, int(2 * n_volumes * tr_s * 0.008)) + 1)
    cosines = np.cos(np.pi * orders * place[:, None]) / orders
    basis = np.column_stack([place - 0.5, cosines])
    drifts = basis @ rng.normal(size=(basis.shape[1], n_voxels))
    return drifts / drifts.std(axis=0)
