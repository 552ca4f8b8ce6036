"""p-values corrected for the number of tests, by the largest statistic of each permutation."""

from __future__ import annotations

import numpy as np


def corrected_p(values: np.ndarray, null: np.ndarray) -> np.ndarray:
    r"""Return single-step max-statistic p-values of a family of one-sided tests.

    Every score is standardised by mean and standard deviation of its own permutations (the
    identity among them), so that a score with a wide null does not decide for all:

    .. math:: \tilde p_j = \frac{1}{B + 1} \sum_{b=0}^{B} [\max_k z_{bk} \ge z_{0j}]

    with b = 0 the identity (Westfall & Young 1993, sec. 2.5, with z in place of p-values;
    Nichols & Holmes 2002). The chance of any false rejection among true null hypotheses is at
    most alpha, however the scores of one permutation depend on each other.

    Parameters
    ----------
    values : array (m,)
        More is better.
    null : array (n_permutations, m)
        The same permutation in a row for all scores.

    Returns
    -------
    ndarray (m,) float64
        1 for a score that no permutation changes.

    Raises
    ------
    ValueError
        Shapes that do not belong together.
    """
    values, null = np.asarray(values, dtype=np.float64), np.asarray(null, dtype=np.float64)
    if null.ndim != 2 or values.shape != null.shape[1:]:
        raise ValueError(f"got {values.shape} values and a null of shape {null.shape}")
    every = np.concatenate([values[None], null])
    mean, spread = every.mean(axis=0), every.std(axis=0)
    # Rounding of a mean of equal numbers is no spread.
    varies = spread > 1e-9 * np.maximum(np.abs(mean), 1e-300)
    if not varies.any():
        return np.ones(len(values))
    z = (every[:, varies] - mean[varies]) / spread[varies]
    highest = np.sort(z.max(axis=1))
    # Sums of the same numbers in another order differ in the last bits: those are equal.
    below = np.searchsorted(highest, z[0] - 1e-9, side="left")
    p = np.ones(len(values))
    p[varies] = (len(highest) - below) / len(highest)
    return p
