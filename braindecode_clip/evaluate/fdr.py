"""The false discovery rate over many tests."""

from __future__ import annotations

import numpy as np

from braindecode_clip.errors import DataError

#: Level below which a q-value counts as a discovery.
Q_LEVEL = 0.05


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    r"""Return q-values: the smallest false discovery rate at which each test is a discovery.

    :math:`q_{(i)} = \min_{j \ge i} \min(1, m\, p_{(j)} / j)` for m sorted p-values (Benjamini &
    Hochberg 1995, Journal of the Royal Statistical Society B 57, 289-300). It holds for
    independent tests and for those that depend positively (Benjamini & Yekutieli 2001).

    Parameters
    ----------
    p : array (m,)

    Returns
    -------
    ndarray (m,) float64

    Raises
    ------
    DataError
        Not one dimension, or numbers outside 0 to 1.
    """
    p = np.asarray(p, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise DataError(
            f"p-values: got shape {p.shape}, expected one dimension of numbers from 0 to 1, no NaN."
        )
    order = np.argsort(p)[::-1]
    steps = len(p) / np.arange(len(p), 0, -1)
    q = np.empty(len(p))
    q[order] = np.minimum(1.0, np.minimum.accumulate(p[order] * steps))
    return q
