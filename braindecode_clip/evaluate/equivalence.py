"""Evidence for "no difference": equivalence within bounds, and a Bayes factor.

A large p says nothing about absence. Two one-sided tests (Schuirmann 1987) say that a mean lies
within bounds named beforehand; the Bayes factor of Rouder et al. (2009) weighs an effect of some
size against none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp, stdtr, stdtrit

from braindecode_clip.errors import DataError

#: Step of the integral over the logarithm of the prior variance; its error is below 1e-12.
LOG_STEP = 0.01


@dataclass(frozen=True)
class MeanOfClusters:
    """A mean with the standard error that its clusters allow.

    Attributes
    ----------
    mean, standard_error : float
    df : int
        Number of clusters less one.
    """

    mean: float
    standard_error: float
    df: int

    @property
    def t(self) -> float:
        """Mean over its standard error; infinite or NaN where the values do not vary."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.float64(self.mean) / self.standard_error)


def mean_of_clusters(values: np.ndarray, clusters: np.ndarray | None = None) -> MeanOfClusters:
    r"""Return the mean of all values and its standard error over clusters.

    With G clusters of sums :math:`S_g` over :math:`n_g` of n values the standard error is
    :math:`\sqrt{G / (G - 1) \sum_g (S_g - n_g \bar{x})^2} / n` (linearisation of the ratio
    :math:`\sum S_g / \sum n_g`; Cochran 1977, section 9A.1). Clusters of one give the ordinary one.

    Parameters
    ----------
    values : array (n,)
    clusters : array (n,), optional
        Label of what each value belongs to (a picture, a run, a subject); each its own by default.

    Returns
    -------
    MeanOfClusters

    Raises
    ------
    DataError
        Not one dimension, numbers that are not finite, labels of another length, or fewer than
        two clusters.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise DataError(
            f"values: got shape {values.shape} with {int((~np.isfinite(values)).sum())} numbers "
            "that are not finite; expected one dimension of finite numbers."
        )
    clusters = np.arange(len(values)) if clusters is None else np.asarray(clusters)
    if clusters.shape != values.shape:
        raise DataError(
            f"clusters: got {clusters.shape} labels for {len(values)} values; expected one each."
        )
    names, member = np.unique(clusters, return_inverse=True)
    if len(names) < 2:
        raise DataError(f"values: got {len(names)} clusters, expected at least 2 for a t-test.")
    n, g = len(values), len(names)
    mean = float(values.mean())
    away = np.bincount(member, values - mean)
    # Values that are all alike must not differ by the rounding of their mean.
    away[np.abs(away) <= 1e-14 * n * max(abs(mean), 1e-300)] = 0.0
    error = math.sqrt(g / (g - 1) * float((away**2).sum())) / n
    return MeanOfClusters(mean, error, g - 1)


def tost(
    differences: np.ndarray, low: float, high: float, *, clusters: np.ndarray | None = None
) -> dict[str, float | tuple[float, float]]:
    """Test that a mean difference lies between two bounds (two one-sided t-tests).

    Parameters
    ----------
    differences : array (n,)
        Paired differences, e.g. a score of decoder A less that of B for each picture.
    low, high : float
        The largest differences of no interest, in the units of ``differences``, named before
        the data are seen.
    clusters : array (n,), optional
        Label of what each difference belongs to (:func:`mean_of_clusters`).

    Returns
    -------
    dict
        "p": the larger of the two one-sided p-values; "mean"; "ci90": (low, high), the interval
        that lies within the bounds exactly when p < .05.

    Raises
    ------
    DataError
        As :func:`mean_of_clusters`, or bounds that are not ``low < high``.

    Notes
    -----
    Schuirmann (1987), Journal of Pharmacokinetics and Biopharmaceutics 15, 657-680.
    """
    if not low < high:
        raise DataError(f"bounds: got low {low} and high {high}; expected low < high.")
    found = mean_of_clusters(differences, clusters)
    if found.standard_error == 0:
        p = 0.0 if low < found.mean < high else 1.0
    else:
        below = (found.mean - low) / found.standard_error
        above = (high - found.mean) / found.standard_error
        p = float(max(stdtr(found.df, -below), stdtr(found.df, -above)))
    half = float(stdtrit(found.df, 0.95)) * found.standard_error
    return {"p": p, "mean": found.mean, "ci90": (found.mean - half, found.mean + half)}


def bayes_factor_t(t: float, n: int, *, scale: float = 0.707) -> float:
    r"""Return the Bayes factor of an effect against none, for a one-sample (or paired) t.

    The JZS Bayes factor: under the alternative the effect size has a Cauchy prior of width
    ``scale``, a normal one whose variance g has an inverse-gamma(1/2, scale²/2) distribution.
    Rouder et al. (2009), equation 1, is its inverse with ``scale`` 1:

    .. math::
       B_{10} = \frac{\int_0^\infty (1 + N g)^{-1/2}
       \left(1 + \frac{t^2}{(1 + N g) \nu}\right)^{-(\nu + 1)/2} p(g)\, dg}
       {(1 + t^2 / \nu)^{-(\nu + 1)/2}}

    Parameters
    ----------
    t : float
    n : int
        Number of independent values (clusters), at least 2; nu = n - 1.
    scale : float
        Width of the prior; .707 is "medium" in the R package BayesFactor.

    Returns
    -------
    float
        Above 1 for an effect, below 1 for none; 1/3 to 3 says little.

    Raises
    ------
    DataError
        t not finite, n below 2 or scale not above 0.

    Notes
    -----
    Rouder, Speckman, Sun, Morey & Iverson (2009), Psychonomic Bulletin & Review 16, 225-237.
    The integral is over log g, where the integrand falls off exponentially on both sides and the
    trapezoidal rule converges exponentially.
    """
    if not math.isfinite(t) or n < 2 or not scale > 0:
        raise DataError(
            f"Bayes factor: got t {t}, n {n}, scale {scale}; expected a finite t, n >= 2 and "
            "scale > 0."
        )
    nu = n - 1
    middle = math.log(scale**2)
    top = max(middle, math.log(max(t * t / n, 1e-300))) + 60
    log_g = np.arange(middle - 8, top, LOG_STEP)
    g = np.exp(log_g)
    log_prior = math.log(scale) - 0.5 * math.log(2 * math.pi) - 1.5 * log_g - scale**2 / (2 * g)
    shrunk = np.log1p(n * g)
    log_likelihood = -0.5 * shrunk - (nu + 1) / 2 * np.log1p(t * t / nu * np.exp(-shrunk))
    log_alternative = float(logsumexp(log_likelihood + log_prior + log_g)) + math.log(LOG_STEP)
    log_factor = log_alternative + (nu + 1) / 2 * math.log1p(t * t / nu)
    return math.exp(log_factor) if log_factor < 709 else math.inf
