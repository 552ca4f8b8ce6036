"""What else is in the signal: drift, autocorrelated and thermal noise, motion, spikes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.signal import lfilter

from braindecode_clip.config.simulate import SimulateConfig
from braindecode_clip.constants import HEAD_RADIUS_MM
from braindecode_clip.simulate.anatomy import CSF, GREY, WHITE, Anatomy

MOTION_NAMES: tuple[str, ...] = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")

_N_PHYSIOLOGY = 3
_N_DRIFTS = 3
# Physiological noise in each tissue, relative to that in CSF.
_PHYSIOLOGY_LEVEL = {GREY: 0.25, WHITE: 0.35, CSF: 1.0}


@dataclass(frozen=True)
class Motion:
    """Head movement of one run.

    Attributes
    ----------
    parameters : ndarray, (n_volumes, 6), float64
        Translations in mm and rotations in radians, in the order of ``MOTION_NAMES``.
    spikes : ndarray of int, (n_spikes,)
        Volumes hit by a sudden artefact.
    """

    parameters: np.ndarray
    spikes: np.ndarray


def simulate_motion(n_volumes: int, config: SimulateConfig, *, rng: np.random.Generator) -> Motion:
    """Draw a slow wandering of the head with a jump at each spike.

    Parameters
    ----------
    n_volumes : int
    config : SimulateConfig
        ``motion_mm`` and ``spikes_per_run``.
    rng : numpy.random.Generator

    Returns
    -------
    Motion
    """
    walk = np.cumsum(rng.standard_normal((n_volumes, 6)), axis=0)
    walk = ndimage.gaussian_filter1d(walk, 2.0, axis=0, mode="nearest")
    walk -= walk.mean(axis=0)
    sd = walk.std(axis=0)
    unit = np.array([config.motion_mm] * 3 + [config.motion_mm / HEAD_RADIUS_MM] * 3)
    parameters = walk / np.where(sd > 0, sd, 1) * unit * rng.uniform(0.5, 1.5, 6)
    n_spikes = min(int(rng.poisson(config.spikes_per_run)), n_volumes // 10)
    spikes = np.sort(rng.choice(np.arange(4, n_volumes), n_spikes, replace=False))
    for volume in spikes:
        parameters[volume] += 2.5 * unit * rng.standard_normal(6)
    return Motion(parameters, spikes)


def motion_effect(motion: Motion, anatomy: Anatomy, config: SimulateConfig) -> np.ndarray:
    """Return what motion leaves in the brain's voxels after realignment.

    First order: the picture's gradient times the displacement of each voxel, of which
    realignment takes out all but ``motion_residual``.

    Returns
    -------
    ndarray, (n_volumes, n_brain_voxels), float32
        In the units of ``anatomy.epi_mean``.
    """
    gradient = np.stack(np.gradient(anatomy.epi_mean.astype(np.float64)), axis=-1)
    # From per voxel to per mm, in scanner axes.
    per_mm = gradient[anatomy.brain] @ np.linalg.inv(anatomy.affine[:3, :3])
    points = anatomy.points_mm(anatomy.brain)
    # A small rotation r moves a point p by r x p.
    turning = np.cross(points, per_mm)
    maps = np.concatenate([per_mm, turning], axis=1)
    return (config.motion_residual * motion.parameters @ maps.T).astype(np.float32)


def drift(
    n_volumes: int, points_mm: np.ndarray, config: SimulateConfig, *, rng: np.random.Generator
) -> np.ndarray:
    """Return slow drifts (n_volumes, n_voxels) in percent: lines and periods beyond 150 s."""
    time_s = np.arange(n_volumes) * config.tr_s
    courses = np.linspace(-1, 1, n_volumes)[:, None] * rng.standard_normal(_N_DRIFTS)
    for k in range(_N_DRIFTS):
        period, phase = rng.uniform(150.0, 400.0), rng.uniform(0, 2 * np.pi)
        courses[:, k] += np.sin(2 * np.pi * time_s / period + phase)
    courses -= courses.mean(axis=0)
    courses /= courses.std(axis=0)
    loading = rng.standard_normal((_N_DRIFTS, len(points_mm))) * 0.3
    loading += _smooth_maps(points_mm, _N_DRIFTS, rng)
    size = config.drift_percent / np.sqrt(_N_DRIFTS)
    return (size * courses @ loading).astype(np.float32)


def physiology(
    n_volumes: int, anatomy: Anatomy, config: SimulateConfig, *, rng: np.random.Generator
) -> np.ndarray:
    """Return breathing and pulse (n_volumes, n_brain_voxels) in percent.

    A few courses shared by all tissues, strongest in CSF: what the mean signals and the
    CompCor components of the confounds can take out.
    """
    time_s = np.arange(n_volumes) * config.tr_s
    courses = np.empty((n_volumes, _N_PHYSIOLOGY))
    for k, band in enumerate(((0.02, 0.06), (0.10, 0.18), (0.06, 0.22))):
        frequency = rng.uniform(*band)
        # The rhythm wanders: a random walk in phase.
        phase = np.cumsum(rng.normal(0, 0.25, n_volumes)) + rng.uniform(0, 2 * np.pi)
        courses[:, k] = np.sin(2 * np.pi * frequency * time_s + phase)
    courses = (courses - courses.mean(axis=0)) / courses.std(axis=0)
    tissue = anatomy.tissue[anatomy.brain]
    level = np.zeros(len(tissue))
    for code, value in _PHYSIOLOGY_LEVEL.items():
        level[tissue == code] = value
    loading = rng.normal(0.6, 0.5, (_N_PHYSIOLOGY, len(tissue))) * level
    size = config.physiology_percent / np.sqrt(_N_PHYSIOLOGY)
    return (size * courses @ loading).astype(np.float32)


def spike_artefacts(
    motion: Motion,
    points_mm: np.ndarray,
    n_volumes: int,
    config: SimulateConfig,
    *,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the artefacts (n_volumes, n_voxels) in percent: one smooth map a spike."""
    out = np.zeros((n_volumes, len(points_mm)), dtype=np.float32)
    if len(motion.spikes):
        maps = _smooth_maps(points_mm, len(motion.spikes), rng)
        out[motion.spikes] = config.spike_percent * maps
    return out


def noise_covariance(n_volumes: int, config: SimulateConfig) -> np.ndarray:
    """Return the correlation (n_volumes, n_volumes) of autocorrelated plus thermal noise."""
    lag = np.abs(np.subtract.outer(np.arange(n_volumes), np.arange(n_volumes)))
    ar1, thermal = config.ar1_noise_percent**2, config.thermal_noise_percent**2
    return (ar1 * config.ar1_coefficient**lag + thermal * (lag == 0)) / (ar1 + thermal)


def time_series_noise(
    n_volumes: int,
    brain: np.ndarray,
    level: np.ndarray,
    config: SimulateConfig,
    *,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return autocorrelated noise, smooth in space, plus white noise.

    Parameters
    ----------
    n_volumes : int
    brain : ndarray of bool, (nx, ny, nz)
    level : ndarray, (n_brain_voxels,)
        Factor on the noise of each voxel.
    config : SimulateConfig
        Sizes in percent, lag-1 coefficient and smoothness.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, (n_volumes, n_brain_voxels), float32
        Percent of the signal.
    """
    white = rng.standard_normal((n_volumes, *brain.shape), dtype=np.float32)
    if config.noise_fwhm_voxels > 0:
        sigma = config.noise_fwhm_voxels / np.sqrt(8 * np.log(2))
        # Periodic edges keep the variance the same everywhere, so one number restores it.
        white = ndimage.gaussian_filter(white, (0, sigma, sigma, sigma), mode="wrap")
        kernels = (_periodic_kernel(sigma, size) for size in brain.shape)
        white /= np.sqrt(np.prod([(kernel**2).sum() for kernel in kernels]))
    smooth = white[:, brain]
    rho = config.ar1_coefficient
    # The first volume is drawn from the stationary distribution.
    smooth[1:] *= np.sqrt(1 - rho**2)
    ar1 = lfilter([1.0], [1.0, -rho], smooth, axis=0).astype(np.float32)
    thermal = rng.standard_normal(ar1.shape, dtype=np.float32)
    return level * (config.ar1_noise_percent * ar1 + config.thermal_noise_percent * thermal)


def _periodic_kernel(sigma: float, size: int) -> np.ndarray:
    impulse = np.zeros(size)
    impulse[0] = 1.0
    return ndimage.gaussian_filter1d(impulse, sigma, mode="wrap")


def _smooth_maps(points_mm: np.ndarray, n_maps: int, rng: np.random.Generator) -> np.ndarray:
    """Return maps (n_maps, n_voxels) of about unit variance that vary over centimetres."""
    n_waves = 8
    reach = np.abs(points_mm).max()
    waves = rng.normal(0, 2.0 / reach, (n_maps, n_waves, 3))
    phases = rng.uniform(0, 2 * np.pi, (n_maps, n_waves, 1))
    return np.sqrt(2 / n_waves) * np.cos(waves @ points_mm.T + phases).sum(axis=1)
