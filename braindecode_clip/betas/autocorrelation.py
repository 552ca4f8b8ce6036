"""Noise with an autoregression of order 1: its coefficient, and whitening by it.

The coefficient is nilearn's: the lag-1 over the lag-0 autocovariance of the residuals of
ordinary least squares, each over its number of products. Volumes censored by a regressor of
their own are free parameters of the whitened model too, so that it equals the model of the
volumes that are left.

References
----------
Worsley et al. (2002), NeuroImage 15:1-15, section 2.2.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from braindecode_clip.betas.operators import TrialOperator

#: Coefficients are rounded to multiples of this, so that voxels share an operator; more coarsely
#: where they also share one of the 20 responses of the library.
BIN, LIBRARY_BIN = 0.02, 0.05

#: Largest coefficient that is used: beyond it the whitened design loses its slow columns.
LARGEST = 0.95


def lag_one(residuals: np.ndarray, censored: np.ndarray | None = None) -> np.ndarray:
    """Return the lag-1 coefficient of residuals.

    Parameters
    ----------
    residuals : ndarray (n_volumes, n_voxels)
        0 in censored volumes.
    censored : ndarray (n_volumes,) bool, optional
        Volumes that do not count, nor do pairs with them.

    Returns
    -------
    ndarray (n_voxels,) float64
        0 for residuals without variance.
    """
    kept = np.ones(len(residuals), bool) if censored is None else ~censored
    n_pairs = max(int((kept[1:] & kept[:-1]).sum()), 1)
    size = np.einsum("ij,ij->j", residuals, residuals, dtype=np.float64) / max(kept.sum(), 1)
    lagged = np.einsum("ij,ij->j", residuals[1:], residuals[:-1], dtype=np.float64) / n_pairs
    return np.where(size > 0, lagged / np.where(size > 0, size, 1.0), 0.0)


def binned(rho: np.ndarray, width: float) -> np.ndarray:
    """Round coefficients to multiples of ``width``, within what can be whitened."""
    return np.round(np.clip(rho, -LARGEST, LARGEST) / width) * width


def whiten(columns: np.ndarray, rho: float) -> np.ndarray:
    """Return x_t - rho x_(t-1) along the first axis; the first row stays, as in nilearn."""
    whitened = columns.copy()
    whitened[1:] -= rho * columns[:-1]
    return whitened


def whitened_operator(operator: TrialOperator, rho: float) -> TrialOperator:
    """Return the operator for plain data of one for whitened data: its rows times the filter."""
    rows = operator.rows.copy()
    rows[:, :-1] -= rho * operator.rows[:, 1:]
    return replace(operator, rows=rows)
