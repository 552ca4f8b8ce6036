"""Along how many directions predictions vary."""

from __future__ import annotations

from typing import Any

import numpy as np


def variance_shares(vectors: np.ndarray) -> np.ndarray:
    """Return the eigenvalues of the covariance of rows (n_samples, n_dims), summing to 1.

    Empty when the rows do not vary.
    """
    centred = np.asarray(vectors, dtype=np.float64)
    scale = np.abs(centred).max(initial=0.0)
    centred = centred - centred.mean(axis=0)
    # What is left of equal rows after centring is rounding.
    if np.abs(centred).max(initial=0.0) <= 8 * np.finfo(np.float32).eps * scale:
        return np.empty(0)
    values = np.square(np.linalg.svd(centred, compute_uv=False))
    return values / values.sum()


def effective_rank(vectors: np.ndarray) -> float:
    r"""Return :math:`\exp(-\sum_i p_i \ln p_i)` with p the shares of variance.

    The exponential of the entropy of a spectrum (Roy & Vetterli, "The effective rank", EUSIPCO
    2007, definition 1), here of the eigenvalues of the covariance, where they take the singular
    values of the matrix itself. It is d for variance spread evenly over d directions, and 0 when
    nothing varies.

    Parameters
    ----------
    vectors : ndarray (n_samples, n_dims)
    """
    shares = variance_shares(vectors)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0


def participation_ratio(vectors: np.ndarray) -> float:
    r"""Return :math:`(\sum_i \lambda_i)^2 / \sum_i \lambda_i^2`; 0 when nothing varies."""
    shares = variance_shares(vectors)
    return float(1 / np.square(shares).sum()) if len(shares) else 0.0


def spectrum(what: str, vectors: np.ndarray, *, decoder: str | None = None) -> dict[str, Any]:
    """Return both numbers of a set of vectors, with n: neither exceeds n - 1."""
    return {
        "what": what,
        "decoder": decoder,
        "effective_rank": effective_rank(vectors),
        "participation_ratio": participation_ratio(vectors),
        "n": len(vectors),
    }
