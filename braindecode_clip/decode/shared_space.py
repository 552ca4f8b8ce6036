"""What voxels of any subject are tuned to, learned on other subjects, as a prior for a new one.

Subjects see different pictures and have different voxels; what they share is the embedding of
the pictures. In leading coordinates z of the embedding a voxel v of a subject answers with

    x_v = w_vᵀ z + e_v ,    w_v ~ N(0, c · T) ,

where T is common to all subjects: which directions of the embedding brains answer to, and how
strongly. T is estimated on other subjects; the few trials of a new one then decide only what
is its own. Decoding inverts this model, as Naselaris et al. (2009, Neuron 63:902-915) and
Schoenmakers et al. (2013, NeuroImage 83:951-961) do for one subject.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from braindecode_clip.errors import DataError

#: Ridge of the tuning weights of other subjects, as a share of the mean eigenvalue of ZᵀZ.
MOMENT_RIDGE = 1e-3
#: Smallest eigenvalue of the prior, as a share of the largest.
SMALLEST_TUNING = 1e-6
#: Added to the variances of the coordinates, as a share of their mean, before inverting.
VARIANCE_FLOOR = 1e-2
#: Ratios of noise to signal among which the marginal likelihood chooses.
NOISE_RATIOS = np.geomspace(1e-3, 1e3, 40)


@dataclass(frozen=True)
class SharedSpace:
    """Leading coordinates of the embedding, and what voxels are tuned to in them.

    Attributes
    ----------
    mean : ndarray (n_dims,) float64
        Of the pooled training targets.
    basis : ndarray (n_dims, n_components) float64
        Orthonormal columns: principal directions of the pooled training targets.
    variance : ndarray (n_components,) float64
        Of the coordinates.
    tuning : ndarray (n_components, n_components) float64
        T, positive definite, of unit mean eigenvalue.
    """

    mean: np.ndarray
    basis: np.ndarray
    variance: np.ndarray
    tuning: np.ndarray

    def coordinates(self, targets: np.ndarray) -> np.ndarray:
        """Return ``(targets - mean) basis``; (n, n_components) float64."""
        return (np.asarray(targets, dtype=np.float64) - self.mean) @ self.basis


def principal_directions(
    targets: Sequence[np.ndarray], *, n_components: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, leading directions and variances of the targets of all subjects together.

    Parameters
    ----------
    targets : sequence of ndarray (n_samples, n_dims)
    n_components : int
        Fewer are returned where the targets do not vary in as many directions.

    Raises
    ------
    DataError
        If the targets do not vary.
    """
    pooled = np.concatenate([np.asarray(part, dtype=np.float64) for part in targets])
    mean = pooled.mean(axis=0)
    pooled -= mean
    values, vectors = np.linalg.eigh(pooled.T @ pooled / len(pooled))
    order = np.argsort(values)[::-1][:n_components]
    rounding = np.finfo(np.float64).eps * pooled.shape[1]
    order = order[values[order] > max(rounding * values[-1], np.finfo(np.float64).tiny)]
    if not len(order):
        raise DataError(
            f"the targets of all {len(pooled)} training rows are the same, so there is nothing "
            "to decode. Use a training part with more than one stimulus."
        )
    return mean, vectors[:, order], values[order]


def tuning_moment(X: np.ndarray, Z: np.ndarray) -> np.ndarray:
    """Estimate the mean over voxels of ``w_v w_vᵀ`` for one subject.

    With ridge weights ``W = P Zᵀ X`` and ``P = (ZᵀZ + λ)⁻¹``, the part of ``W Wᵀ`` that noise
    alone gives, ``Σ_v σ_v² · P ZᵀZ P``, is taken off. λ is so small that it matters only where
    there are hardly more rows than coordinates.

    Parameters
    ----------
    X : ndarray (n_samples, n_voxels)
    Z : ndarray (n_samples, n_components)

    Returns
    -------
    ndarray (n_components, n_components) float64
        Symmetric; not necessarily positive.
    """
    Z = Z - Z.mean(axis=0)
    X = np.asarray(X, dtype=np.float64) - X.mean(axis=0, dtype=np.float64)
    gram = Z.T @ Z
    inverse = np.linalg.inv(gram + MOMENT_RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram)))
    weights = inverse @ (Z.T @ X)
    free = max(1.0, len(X) - 1 - np.trace(inverse @ gram))
    noise = np.square(X - Z @ weights).sum() / free
    return (weights @ weights.T - noise * inverse @ gram @ inverse) / X.shape[1]


def tuning_prior(moments: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of moments as a positive definite matrix of unit mean eigenvalue.

    Isotropic where the moments hold no signal.
    """
    mean = np.mean(moments, axis=0)
    values, vectors = np.linalg.eigh((mean + mean.T) / 2)
    if values[-1] <= 0:
        return np.eye(len(mean))
    values = np.maximum(values, SMALLEST_TUNING * values[-1])
    return (vectors * (values / values.mean())) @ vectors.T


@dataclass(frozen=True)
class VoxelTuning:
    """The tuning of a subject's voxels, given its trials and the prior.

    Attributes
    ----------
    x_mean : ndarray (n_voxels,) float64
    weights : ndarray (n_components, n_voxels) float64
        Posterior mean.
    residual : ndarray (n_samples, n_voxels) float64
        Responses less what the model without that row predicts.
    """

    x_mean: np.ndarray
    weights: np.ndarray
    residual: np.ndarray


def fit_tuning(X: np.ndarray, Z: np.ndarray, tuning: np.ndarray) -> VoxelTuning:
    """Fit tuning weights under the prior; the noise ratio maximises the marginal likelihood.

    With ``K = Z T Zᵀ`` (centred), the columns of X are ``N(0, c (K + λ I))`` and the posterior
    mean of the weights is ``T Zᵀ (K + λ I)⁻¹ X``.

    Parameters
    ----------
    X : ndarray (n_samples, n_voxels)
    Z : ndarray (n_samples, n_components)
    tuning : ndarray (n_components, n_components)
        T.
    """
    x_mean = X.mean(axis=0, dtype=np.float64)
    X = np.asarray(X, dtype=np.float64) - x_mean
    Z = Z - Z.mean(axis=0)
    values, vectors = np.linalg.eigh(Z @ tuning @ Z.T)
    values = np.maximum(values, 0)
    rotated = vectors.T @ X
    noise = _noise_ratio(values, np.square(rotated).mean(axis=1)) * max(
        float(values.mean()), np.finfo(np.float64).tiny
    )
    shrunk = vectors / (values + noise)
    weights = tuning @ Z.T @ (shrunk @ rotated)
    # Row i of the hat matrix of a fit with intercept: its own share of its prediction.
    own = np.einsum("ij,ij->i", shrunk, vectors * values) + 1 / len(X)
    residual = (X - Z @ weights) / np.maximum(1 - own, 1e-3)[:, None]
    return VoxelTuning(x_mean, weights, residual)


def _noise_ratio(values: np.ndarray, power: np.ndarray) -> float:
    """Return the ratio of noise to the mean eigenvalue with the largest likelihood."""
    n_free = len(values) - 1
    best, chosen = -np.inf, 1.0
    for ratio in NOISE_RATIOS:
        total = values + ratio * max(values.mean(), np.finfo(np.float64).tiny)
        # The smallest belongs to the constant, which centring took.
        scale = max((power / total).sum() / n_free, np.finfo(np.float64).tiny)
        likelihood = -np.log(total[1:]).sum() - n_free * np.log(scale)
        if likelihood > best:
            best, chosen = likelihood, float(ratio)
    return chosen


def invert(
    tuning: VoxelTuning, variance: np.ndarray, *, residual_weight: float
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the linear map to the posterior mean of z given x, and its intercept.

    .. math:: M = (V^{-1} + W Ψ^{-1} W^T)^{-1} W Ψ^{-1}, \quad
              Ψ = a \, R^T R / n + (1 - a) \, t \, I

    with residuals R, their mean square t, and V the variances of the coordinates. Ψ is
    inverted in the space of the n residuals.

    Parameters
    ----------
    tuning : VoxelTuning
    variance : ndarray (n_components,)
    residual_weight : float
        a, from 0 (independent noise of equal size) to below 1.

    Returns
    -------
    coef : ndarray (n_voxels, n_components) float64
    intercept : ndarray (n_components,) float64
    """
    W, R = tuning.weights, tuning.residual
    a, n = residual_weight, len(tuning.residual)
    size = max(float(np.square(R).mean()), np.finfo(np.float64).tiny)
    white = (1 - a) * size
    scaled = W / white
    if a > 0:
        small = R @ R.T + n * white / a * np.eye(n)
        scaled = (W - np.linalg.solve(small, R @ W.T).T @ R) / white
    floor = VARIANCE_FLOOR * variance.mean()
    coef = np.linalg.solve(np.diag(1 / (variance + floor)) + scaled @ W.T, scaled).T
    return coef, -tuning.x_mean @ coef
