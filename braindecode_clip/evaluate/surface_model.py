r"""How accuracy grows with training data and repeats, and falls with candidates.

Two laws with few numbers, each fitted to what was measured.

1. The distance d' of a score (:mod:`.ceiling_dprime`) obeys, with N training trials and R repeats
   of a test stimulus,

   .. math:: d'^{-2} = \theta_0 + \theta_1 / R + \theta_2 N^{-c} + \theta_3 N^{-c} / R,
       \qquad \theta \ge 0

   The noise of a mean falls as 1 / R (the premise of Spearman and Brown). That of a linear fit
   falls about as 1 / N while its bias may fall more slowly; power laws describe most learning
   curves (Viering & Loog, IEEE TPAMI 45:7799, 2023). Here c is 1 or 1/2, with equal right.
2. The share of distractors that the true candidate beats is :math:`\Phi(x)`, with
   :math:`x \sim N(\mu, s^2)` over queries. In a pool of m it is first with probability
   :math:`\mathrm{E}\,\Phi(x)^{m-1}`, and among the best k with a binomial probability alike.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import least_squares, nnls
from scipy.special import bdtr, ndtr, ndtri

#: Exponents of the learning curve.
EXPONENTS = (1.0, 0.5)
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
_WEIGHTS = _WEIGHTS / np.sqrt(2 * np.pi)


def fit_growth(
    dprime: np.ndarray, n_train: np.ndarray, n_repeats: np.ndarray, *, exponent: float
) -> np.ndarray | None:
    """Fit the first law by least squares of d', to first order.

    Parameters
    ----------
    dprime, n_train, n_repeats : ndarray (n_points,)
        Points with d' of 0 or below are left out: they say that there is nothing yet, and their
        inverse square says nothing.
    exponent : float

    Returns
    -------
    ndarray (4,) or None
        theta; None for fewer than three points.
    """
    used = dprime > 0.05
    if used.sum() < 3:
        return None
    d = dprime[used]
    # An error e of d' is one of -2 e / d'^3 of its inverse square.
    weight = d**3 / 2
    terms = _terms(n_train[used], n_repeats[used], exponent)
    size = np.linalg.norm(weight[:, None] * terms, axis=0)
    theta, _ = nnls(weight[:, None] * terms / size, weight * d**-2.0)
    return theta / size


def predict_growth(
    theta: np.ndarray, n_train: np.ndarray, n_repeats: np.ndarray, *, exponent: float
) -> np.ndarray:
    """Return d' by the first law, (n_points,); infinite where nothing is left to limit it."""
    inverse = _terms(n_train, n_repeats, exponent) @ theta
    return np.where(inverse > 0, np.maximum(inverse, 1e-12), 1e-12) ** -0.5


def fit_pools(hits: np.ndarray, k: np.ndarray, pool: np.ndarray) -> tuple[float, float]:
    """Fit the second law to top-k in pools; return mean and spread of x.

    Parameters
    ----------
    hits, k, pool : ndarray (n_points,)

    Notes
    -----
    Least squares of the probits of the hits, each limited to what 10,000 queries could show.
    """
    limit = 1e-4
    wanted = ndtri(np.clip(hits, limit, 1 - limit))

    def residual(parameters: np.ndarray) -> np.ndarray:
        found = pool_hits(parameters[0], np.exp(parameters[1]), k, pool)
        return ndtri(np.clip(found, limit, 1 - limit)) - wanted

    start = np.array([float(ndtri(np.clip(hits.max(), 0.05, 0.99))) * 1.5, 0.0])
    found = least_squares(residual, start, bounds=([-4.0, np.log(0.2)], [12.0, np.log(5.0)]))
    return float(found.x[0]), float(np.exp(found.x[1]))


def pool_hits(mean: float, spread: float, k: np.ndarray, pool: np.ndarray) -> np.ndarray:
    """Return the probability of rank k or better by the second law, (n_points,)."""
    lost = ndtr(-(mean + spread * _NODES))
    k, pool = np.asarray(k, dtype=float)[:, None], np.asarray(pool, dtype=int)[:, None]
    return bdtr(k - 1, pool - 1, lost[None, :]) @ _WEIGHTS


def _terms(n_train: np.ndarray, n_repeats: np.ndarray, exponent: float) -> np.ndarray:
    few, noise = n_train.astype(float) ** -exponent, 1.0 / n_repeats
    return np.stack([np.ones_like(few), noise, few, few * noise], axis=1)
