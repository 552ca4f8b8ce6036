r"""How much signal the repeats of a stimulus carry through a decoder, for one unit of noise.

Decoded single trials :math:`p_{ir} = m_i + e_{ir}` of stimulus i have a part that repeats, with
covariance :math:`\Sigma_b` over stimuli, and one that does not, with covariance
:math:`\Sigma_w`. The eigenvalues :math:`\lambda_k` of :math:`\Sigma_w^{-1}\Sigma_b` do not change
when a later step mixes or scales the decoder's outputs, and they alone say how well the stimuli
can be told apart. Of 60 stimuli shown three times single eigenvalues cannot be estimated, but
their sum and the sum of their squares can, without bias from the number of dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

#: Principal components hold this share of the variance of the decoded trials.
VARIANCE_SHARE = 0.99
#: Degrees of freedom of the noise for each component.
DOF_PER_COMPONENT = 4
#: Fewer stimuli say nothing about the spread of signals.
MIN_STIMULI = 4
#: Groups of stimuli that the jackknife leaves out, at most.
MAX_GROUPS = 100


@dataclass(frozen=True)
class Repeats:
    """Decoded single trials of test stimuli.

    Attributes
    ----------
    vectors : ndarray (n_trials, n_dims)
    stimulus_id : ndarray (n_trials,) str
    """

    vectors: np.ndarray
    stimulus_id: np.ndarray


@dataclass(frozen=True)
class Signal:
    """What repeats say about signal and noise.

    Attributes
    ----------
    total : float
        :math:`\\sum_k \\lambda_k`, for the noise of a single trial; 0 where nothing repeats.
    width : float
        :math:`(\\sum_k \\lambda_k)^2 / \\sum_k \\lambda_k^2`: over how many dimensions it is
        spread.
    n_components : int
        Principal components of the decoded trials that were looked at.
    reliability : ndarray (n_dims,) float64
        Share of the variance of averaged trials that would repeat, 0 to 1, by dimension.
    noise : ndarray (n_dims,) float64
        Variance of the noise of a single trial.
    residuals : ndarray (n_trials, n_dims) float64
        Single trials less the mean of their stimulus, scaled so that the sum of their squares is
        the noise's variance.
    covariance : ndarray (2, 2) float64
        Of (total, width), by the jackknife over stimuli.
    reliability_left_out : ndarray (n_groups, n_dims) float64
        Reliability without one group of stimuli at a time.
    n_stimuli : int
    """

    total: float
    width: float
    n_components: int
    reliability: np.ndarray
    noise: np.ndarray
    residuals: np.ndarray
    covariance: np.ndarray
    reliability_left_out: np.ndarray
    n_stimuli: int


def measure_signal(repeats: Repeats, *, inverse_n: float) -> Signal | None:
    r"""Estimate signal and noise of decoded trials.

    With S_m the covariance of the stimuli's means (n - 1 degrees of freedom), S_w the pooled
    covariance of the trials about them (:math:`\nu`), both of q principal components,
    :math:`\Lambda = \Sigma_w^{-1}\Sigma_m` and h the mean of 1 / repeats,

    .. math:: \mathrm{E}\,\mathrm{tr}(S_w^{-1} S_m) = \frac{\nu}{\nu-q-1}\,\mathrm{tr}\Lambda,
        \qquad \textstyle\sum_k \lambda_k = \mathrm{tr}\Lambda - q h

    and likewise for the squares, with the second moments of Wishart and inverse Wishart
    matrices (Haff, J. Multivariate Analysis 9:531, 1979; von Rosen, Scand. J. Statistics 15:97,
    1988). Reliability of a dimension is that of the analysis of variance,
    (MS_between - MS_within) / MS_between for equal repeats (Shrout & Fleiss, Psychol. Bull.
    86:420, 1979), taken to the number of repeats that the scored rows average, as
    Spearman-Brown does.

    Parameters
    ----------
    repeats : Repeats
    inverse_n : float
        Mean of 1 / repeats over the rows that are scored.

    Returns
    -------
    Signal or None
        None for fewer than four repeated stimuli, or decoded trials that do not vary.
    """
    _, label, counts = np.unique(
        repeats.stimulus_id.astype(str), return_inverse=True, return_counts=True
    )
    kept = counts[label] > 1
    if (counts > 1).sum() < MIN_STIMULI:
        return None
    vectors = repeats.vectors[kept].astype(np.float64)
    _, label, counts = np.unique(label[kept], return_inverse=True, return_counts=True)
    means = np.zeros((len(counts), vectors.shape[1]))
    np.add.at(means, label, vectors)
    means /= counts[:, None]
    residuals = vectors - means[label]
    nu = len(label) - len(counts)
    basis = _components(vectors, limit=min(nu // DOF_PER_COMPONENT, len(counts) - 1))
    noise = (residuals**2).sum(axis=0) / nu
    if basis is None or not (residuals @ basis).any(axis=0).all():
        return None
    parts = (means @ basis, residuals @ basis, label, counts)
    total, width = _moments(*parts)
    left, reliability = [], []
    groups = np.arange(len(counts)) % min(len(counts), MAX_GROUPS)
    for out in np.unique(groups):
        rows = groups != out
        trials = rows[label]
        if trials.sum() - rows.sum() - basis.shape[1] <= 3:
            # The moments of so few trials are infinite.
            return None
        renamed = (np.cumsum(rows) - 1)[label[trials]]
        left.append(_moments(means[rows] @ basis, parts[1][trials], renamed, counts[rows]))
        reliability.append(
            _reliability(means[rows], residuals[trials], counts[rows], inverse_n=inverse_n)
        )
    spread = np.array(left) - np.mean(left, axis=0)
    return Signal(
        total=max(total, 0.0),
        width=width,
        n_components=basis.shape[1],
        reliability=_reliability(means, residuals, counts, inverse_n=inverse_n),
        noise=noise,
        residuals=residuals / np.sqrt(nu),
        covariance=spread.T @ spread * (len(left) - 1) / len(left),
        reliability_left_out=np.array(reliability),
        n_stimuli=len(counts),
    )


def eigenvalues(total: float, width: float, n_components: int) -> np.ndarray:
    """Return falling eigenvalues, in equal ratios, of this sum and width; (n_components,)."""
    place = np.arange(n_components)

    def too_narrow(ratio: float) -> float:
        steps = ratio**place
        return steps.sum() ** 2 / (steps**2).sum() - width

    if width >= n_components * (1 - 1e-9):
        ratio = 1.0
    elif width <= 1 + 1e-9:
        ratio = 0.0
    else:
        ratio = float(brentq(too_narrow, 0.0, 1.0))
    steps = ratio**place
    return total * steps / steps.sum()


def _components(vectors: np.ndarray, *, limit: int) -> np.ndarray | None:
    """Return the leading principal components of the decoded trials, (n_dims, q)."""
    centred = vectors - vectors.mean(axis=0)
    _, size, right = np.linalg.svd(centred, full_matrices=False)
    share = np.cumsum(size**2)
    if limit < 1 or share[-1] <= 1e-20 * (vectors**2).sum():
        return None
    n_kept = int(np.searchsorted(share, VARIANCE_SHARE * share[-1])) + 1
    return right[: min(n_kept, limit)].T


def _moments(
    means: np.ndarray, residuals: np.ndarray, label: np.ndarray, counts: np.ndarray
) -> tuple[float, float]:
    """Return the sum of the eigenvalues and their width."""
    n_stimuli, q = means.shape
    nu, nu_b, h = len(label) - n_stimuli, n_stimuli - 1, float(np.mean(1 / counts))
    within = residuals.T @ residuals / nu
    product = np.linalg.solve(within, np.atleast_2d(np.cov(means.T)))
    x = np.trace(product) * (nu - q - 1) / nu
    c2 = 1 / ((nu - q) * (nu - q - 1) * (nu - q - 3))
    c1 = (nu - q - 2) * c2
    of_x = (1 + 1 / nu_b) * c2 + c1 / nu_b
    of_y = (1 + 1 / nu_b) * (c1 + c2) + 2 * c2 / nu_b
    y = (np.einsum("ij,ji->", product, product) / nu**2 - x**2 * of_x) / of_y
    total = x - q * h
    squares = y - 2 * total * h - q * h**2
    width = total**2 / squares if squares > 0 and total > 0 else float(q)
    return float(total), float(np.clip(width, 1.0, q))


def _reliability(
    means: np.ndarray, residuals: np.ndarray, counts: np.ndarray, *, inverse_n: float
) -> np.ndarray:
    noise = (residuals**2).sum(axis=0) / (counts.sum() - len(counts))
    signal = np.maximum(means.var(axis=0, ddof=1) - noise * np.mean(1 / counts), 0.0)
    total = signal + noise * inverse_n
    return np.divide(signal, total, out=np.zeros_like(total), where=total > 0)
