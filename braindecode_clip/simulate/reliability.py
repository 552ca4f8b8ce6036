"""From a wanted reliability of single-trial betas to the size of the response.

How reliable a beta is depends on the noise of the time series, on the noise of the brain
from trial to trial, and on the estimator: with a trial every few seconds, an LSS beta
takes in part of its neighbours. All three have closed forms, so that the wanted
reliability is set exactly, and the true noise ceiling is known without a simulation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from braindecode_clip.errors import ConfigError

#: The betas whose reliability is meant are estimated after this high-pass (Hz).
HIGH_PASS_HZ = 0.01

# A mean reliability is at most this share of what a voxel can reach, and its spread at most
# this share of the widest distribution there is (all voxels at either end).
_NEAREST = 0.95
_WIDEST = 0.5


@dataclass(frozen=True)
class BetaStatistics:
    """Means over trials that decide what a single-trial LSS beta holds.

    With the responses :math:`b` of the trials, the beta of trial j is
    :math:`\\sum_k G_{jk} b_k` plus filtered noise.

    Attributes
    ----------
    own : ndarray, (n_hrfs,)
        Mean of :math:`G_{jj}^2`: what is left of the trial's own variance.
    total : ndarray, (n_hrfs,)
        Mean of :math:`\\sum_k G_{jk}^2`: own variance and that of the other trials.
    offset : ndarray, (n_hrfs,)
        Variance over trials of :math:`\\sum_k G_{jk}`: what a constant response leaves.
    noise : float
        Mean variance of the beta per unit variance of the noise in the time series.
    """

    own: np.ndarray
    total: np.ndarray
    offset: np.ndarray
    noise: float


def lss_operator(regressors: np.ndarray, nuisance: np.ndarray) -> np.ndarray:
    """Return the matrix that maps a time series to the LSS betas of its trials.

    Each trial has its own model: its regressor, the sum of all others, and the nuisance
    columns (Mumford et al. 2012, NeuroImage 59:2636-2643).

    Parameters
    ----------
    regressors : ndarray, (n_volumes, n_trials)
    nuisance : ndarray, (n_volumes, n_nuisance)
        Drifts and the constant, of full column rank.

    Returns
    -------
    ndarray, (n_trials, n_volumes), float64
    """
    basis, _ = np.linalg.qr(nuisance)
    own = regressors - basis @ (basis.T @ regressors)
    others = own.sum(axis=1, keepdims=True) - own
    own_own = (own * own).sum(axis=0)
    own_others = (own * others).sum(axis=0)
    others_others = (others * others).sum(axis=0)
    # The two-by-two normal equations, one for each trial.
    determinant = own_own * others_others - own_others**2
    return ((others_others * own - own_others * others) / determinant).T


def beta_statistics(
    operators: list[np.ndarray],
    regressors: list[list[np.ndarray]],
    noise_covariances: list[np.ndarray],
) -> BetaStatistics:
    """Average over runs what LSS makes of signal and noise.

    Parameters
    ----------
    operators : list of ndarray, (n_trials, n_volumes)
        One for each run, from :func:`lss_operator` with the canonical response.
    regressors : list of lists of ndarray, (n_volumes, n_trials)
        For each run and each true response, the true regressors.
    noise_covariances : list of ndarray, (n_volumes, n_volumes)
        One for each run, unit variance.

    Returns
    -------
    BetaStatistics
    """
    n_trials = np.array([len(operator) for operator in operators])
    share = n_trials / n_trials.sum()
    own, total, offset = (np.zeros(len(regressors[0])) for _ in range(3))
    noise = 0.0
    for weight, operator, true, covariance in zip(
        share, operators, regressors, noise_covariances, strict=True
    ):
        noise += weight * float(np.einsum("jt,ts,js->j", operator, covariance, operator).mean())
        for index, matrix in enumerate(true):
            mixing = operator @ matrix
            own[index] += weight * float((np.diag(mixing) ** 2).mean())
            total[index] += weight * float((mixing**2).sum(axis=1).mean())
            offset[index] += weight * float(mixing.sum(axis=1).var())
    return BetaStatistics(own, total, offset, noise)


@dataclass(frozen=True)
class Amplitudes:
    """Sizes of what a voxel responds with, in percent of the signal.

    Attributes
    ----------
    picture_sd : ndarray, (n_voxels,)
        Standard deviation of the noiseless response over pictures.
    trial_sd : ndarray, (n_voxels,)
        Standard deviation of the brain's noise from trial to trial.
    """

    picture_sd: np.ndarray
    trial_sd: np.ndarray


def solve_amplitudes(
    reliability: np.ndarray,
    hrf_index: np.ndarray,
    statistics: BetaStatistics,
    *,
    noise_variance: np.ndarray,
    trial_noise_share: float,
    mean_response: np.ndarray,
) -> Amplitudes:
    r"""Find the response size that gives every voxel its reliability.

    A beta's variance is :math:`s^2 (q - d) + N` beside the picture's own :math:`s^2 d`, with
    :math:`d` = ``own``, :math:`q` = ``total`` and the noise
    :math:`N = \tau^2 q + \sigma^2 g + m^2 o`; the reliability
    :math:`\rho = s^2 d / (s^2 q + N)` gives :math:`s^2 = \rho N / (d - \rho q)`.

    Parameters
    ----------
    reliability : ndarray, (n_voxels,)
        Wanted, 0 to below 1.
    hrf_index : ndarray of int, (n_voxels,)
        The true response of each voxel.
    statistics : BetaStatistics
    noise_variance : ndarray, (n_voxels,)
        Variance :math:`\sigma^2` of the time series, percent squared.
    trial_noise_share : float
        Share of the noise :math:`\tau^2 q` in :math:`\tau^2 q + \sigma^2 g`, 0 to below 1.
    mean_response : ndarray, (n_voxels,)
        m, percent.

    Returns
    -------
    Amplitudes

    Raises
    ------
    ConfigError
        If a voxel's reliability lies beyond what LSS can reach with this design.
    """
    own, total = statistics.own[hrf_index], statistics.total[hrf_index]
    best = own / total
    if (reliability >= best).any():
        raise ConfigError(
            f"simulate: a reliability of {reliability.max():.2f} is beyond this design: with "
            f"trials so close, single-trial betas reach at most {best.min():.2f} without any "
            "noise. Lower reliability or reliability_spread, or lengthen trial_s."
        )
    measured = noise_variance * statistics.noise
    trial_variance = trial_noise_share / (1 - trial_noise_share) * measured / total
    noise = trial_variance * total + measured + mean_response**2 * statistics.offset[hrf_index]
    picture_variance = reliability * noise / (own - reliability * total)
    return Amplitudes(np.sqrt(picture_variance), np.sqrt(trial_variance))


def noise_ceiling(reliability: np.ndarray, n_repeats: int) -> np.ndarray:
    r"""Return the explainable share of variance of a mean over repeats.

    .. math:: \frac{\rho}{\rho + (1 - \rho) / n}

    (Allen et al. 2022, Nat Neurosci 25:116-126, Methods: the noise ceiling, as a share.)

    Parameters
    ----------
    reliability : ndarray
        Single-trial reliability :math:`\rho`, 0 to 1.
    n_repeats : int
        Repeats n that are averaged.

    Returns
    -------
    ndarray
        0 to 1.
    """
    return reliability / (reliability + (1 - reliability) / n_repeats)


def draw_reliabilities(
    n_voxels: int,
    *,
    mean: float,
    spread: float,
    highest: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw a reliability for each responsive voxel.

    A beta distribution between 0 and ``highest`` with this mean and a standard deviation of
    ``spread * mean``, narrower where that does not fit in between.

    Parameters
    ----------
    n_voxels : int
    mean, spread : float
        0 to 1.
    highest : ndarray, (n_voxels,)
        The largest value that a voxel can get; a mean too near to it is lowered.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, (n_voxels,), float64
    """
    centre = np.minimum(mean / highest, _NEAREST)
    sd = np.minimum(spread * mean / highest, _WIDEST * np.sqrt(centre * (1 - centre)))
    if mean == 0 or spread == 0:
        return highest * centre
    concentration = centre * (1 - centre) / sd**2 - 1
    return highest * rng.beta(centre * concentration, (1 - centre) * concentration, n_voxels)
