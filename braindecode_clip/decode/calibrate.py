"""Giving predictions back the spread that shrinkage took, learned without test samples.

Regularised predictions lie closer to the mean than the targets do. Before a ranking by
cosine that matters: the shorter the predicted deviation against the mean vector, the more the
ranking prefers candidates near the mean. Gains are therefore fitted on predictions of
training rows by models that had not seen them.
"""

from __future__ import annotations

import numpy as np

from braindecode_clip.errors import DataError

METHODS = ("none", "spread", "spread_per_dimension", "least_squares", "transductive")


def fit_calibration(
    predicted: np.ndarray, target: np.ndarray, *, method: str = "spread"
) -> tuple[np.ndarray, np.ndarray]:
    """Fit gain and offset of ``calibrated = gain · predicted + offset`` for each dimension.

    With p the out-of-fold predictions and y the targets of the same rows,

    - ``spread``: ``gain = sqrt(Σ_d var(y_d) / Σ_d var(p_d))``, the same for all dimensions d,
      so that the poorly predicted ones are not blown up;
    - ``spread_per_dimension``: ``gain_d = sd(y_d) / sd(p_d)``;
    - ``least_squares``: ``gain_d = cov(y_d, p_d) / var(p_d)``, at least 0;
    - ``none``: 1, with offset 0;

    and ``offset = mean(y) - gain · mean(p)``. With ``transductive`` the gain is ``sd(y_d)`` and
    the offset ``mean(y_d)``, for predictions that :func:`standardise` has been applied to: that
    uses the predictions of the test set, as Brain-Diffuser does (Ozcelik & VanRullen,
    Scientific Reports 2023, https://doi.org/10.1038/s41598-023-42891-8).

    Parameters
    ----------
    predicted : ndarray (n_samples, n_dims)
        Out-of-fold predictions; rows with NaN (never held out) are left out.
    target : ndarray (n_samples, n_dims)
    method : {"none", "spread", "spread_per_dimension", "least_squares", "transductive"}

    Returns
    -------
    gain, offset : ndarray (n_dims,) float32
        Gain 1 for a dimension whose predictions do not vary.

    Raises
    ------
    ValueError
        Unknown method, shapes that differ, or fewer than two rows.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, expected one of {', '.join(METHODS)}.")
    if predicted.shape != target.shape:
        raise ValueError(f"predictions {predicted.shape} and targets {target.shape} differ.")
    n_dims = predicted.shape[1]
    if method == "none":
        return np.ones(n_dims, np.float32), np.zeros(n_dims, np.float32)
    if method == "transductive":
        y = target.astype(np.float64)
        return y.std(axis=0).astype(np.float32), y.mean(axis=0).astype(np.float32)
    known = ~np.isnan(predicted).any(axis=1)
    if known.sum() < 2:
        raise ValueError(f"{known.sum()} rows have an out-of-fold prediction, expected 2 or more.")
    p, y = predicted[known].astype(np.float64), target[known].astype(np.float64)
    p_mean, y_mean = p.mean(axis=0), y.mean(axis=0)
    p_var, y_var = p.var(axis=0), y.var(axis=0)
    if method == "least_squares":
        gain = _ratio(np.maximum(((p - p_mean) * (y - y_mean)).mean(axis=0), 0), p_var)
    elif method == "spread_per_dimension":
        gain = np.sqrt(_ratio(y_var, p_var))
    else:
        gain = np.sqrt(_ratio(np.full(n_dims, y_var.sum()), np.full(n_dims, p_var.sum())))
    return gain.astype(np.float32), (y_mean - gain * p_mean).astype(np.float32)


def apply_calibration(predicted: np.ndarray, gain: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Return ``gain · predicted + offset``; (n_samples, n_dims) float32."""
    return (predicted * gain + offset).astype(np.float32)


def standardise(predicted: np.ndarray) -> np.ndarray:
    """Take off the mean of all rows and divide by their standard deviation, for each dimension.

    Rows with NaN stay so and do not count; a dimension that does not vary becomes 0.

    Parameters
    ----------
    predicted : ndarray (n_samples, n_dims)
        Predictions of a whole test set.

    Returns
    -------
    ndarray (n_samples, n_dims) float64

    Raises
    ------
    DataError
        Fewer than two rows.
    """
    known = ~np.isnan(predicted).any(axis=1)
    if known.sum() < 2:
        raise DataError(
            f"calibration transductive: got predictions of {known.sum()} test rows, it needs 2 or "
            "more. Choose another calibration, such as 'spread'."
        )
    p = predicted.astype(np.float64)
    varies = p[known].var(axis=0) > np.finfo(np.float64).tiny
    sd = np.where(varies, p[known].std(axis=0), 1)
    return (p - p[known].mean(axis=0)) / sd


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Divide, with 1 where the predictions do not vary."""
    varies = below > np.finfo(np.float64).tiny
    return np.where(varies, above / np.where(varies, below, 1), 1.0)
