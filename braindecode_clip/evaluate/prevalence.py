"""How widespread an effect is among subjects: Bayesian prevalence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import betainc, betaincinv


@dataclass(frozen=True)
class Prevalence:
    """Posterior of the share of the population in which the test finds the effect.

    Attributes
    ----------
    mode : float
        Maximum a posteriori.
    low, high : float
        Ends of the highest posterior density interval.
    level : float
        Its probability.
    """

    mode: float
    low: float
    high: float
    level: float


def prevalence(k: int, n: int, *, alpha: float, level: float = 0.96) -> Prevalence:
    r"""Return the posterior of the prevalence when k of n subjects are significant.

    A subject is significant with probability :math:`\theta = \alpha + (1 - \alpha) \gamma`,
    where :math:`\gamma` is the prevalence and every subject with the effect is found (with a
    weaker test :math:`\gamma` is the prevalence of effects that it finds, a lower bound). With
    a uniform prior of :math:`\gamma` the posterior of :math:`\theta` is a Beta(k + 1, n - k + 1)
    cut off below alpha (Ince, Paton, Kay & Schyns 2021, eLife 10:e62461).

    Parameters
    ----------
    k, n : int
        Significant subjects, all subjects.
    alpha : float
        Level of the test in each subject.
    level : float
        Probability of the interval.

    Raises
    ------
    ValueError
        k outside 0..n, no subject, or shares outside 0..1.
    """
    if not (n > 0 and 0 <= k <= n and 0 < alpha < 1 and 0 < level < 1):
        raise ValueError(f"got k = {k} of n = {n}, alpha {alpha}, level {level}")
    a, b = k + 1.0, n - k + 1.0
    mode = max(alpha, k / n)
    floor = float(betainc(a, b, alpha))
    inside = level * (1 - floor)

    def end(low: float) -> float:
        """Return where an interval from ``low`` that holds the level ends."""
        return float(betaincinv(a, b, min(1.0, float(betainc(a, b, low)) + inside)))

    def steepness(low: float) -> float:
        """Log density at the lower end less that at the upper end: it grows with ``low``."""
        high = end(low)
        with np.errstate(divide="ignore"):
            up = k * np.log(low) + (n - k) * np.log1p(-low)
            down = k * np.log(high) + (n - k) * np.log1p(-high) if n > k else k * np.log(high)
        return float(max(up - down, -1e300)) if np.isfinite(down) else 1e300

    last = float(betaincinv(a, b, floor + (1 - level) * (1 - floor)))
    if k == n:
        low, high = last, 1.0
    elif steepness(alpha) >= 0:
        low, high = alpha, end(alpha)
    else:
        low = float(brentq(steepness, alpha, min(mode, last), xtol=1e-12))
        high = end(low)
    scale = 1 - alpha
    return Prevalence((mode - alpha) / scale, (low - alpha) / scale, (high - alpha) / scale, level)
