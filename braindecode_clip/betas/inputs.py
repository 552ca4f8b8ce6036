"""Checks of what a caller passes to the estimation of trials."""

from __future__ import annotations

import numpy as np
import pandas as pd

from braindecode_clip.checks import Problems, some
from braindecode_clip.errors import ConfigError, DataError
from braindecode_clip.nuisance import (
    censoring_regressors,
    check_finite_columns,
    cosine_drifts,
    orthonormal_basis,
)


def as_signals(signals: np.ndarray) -> np.ndarray:
    """Return the signals as a float matrix; other numbers than float32 become float64.

    Raises
    ------
    DataError
        When they are no matrix of numbers with at least two volumes.
    """
    signals = np.asarray(signals)
    problems = Problems("signals")
    if signals.ndim != 2 or len(signals) < 2 or signals.dtype.kind not in "fiu":
        problems.add(
            f"shape {signals.shape}, dtype {signals.dtype}; expected numbers of shape "
            "(n_volumes, n_voxels) with at least 2 volumes."
        )
        problems.raise_if_any(DataError)
    if signals.dtype not in (np.float32, np.float64):
        signals = signals.astype(np.float64)
    return signals


def check_options(
    method: str, hrf: str, others: str, *, tr_s: float, slice_time_ref: float, min_onset_s: float
) -> None:
    """Check the options of :func:`estimate_single_trials`.

    Raises
    ------
    ConfigError
        With all problems at once.
    """
    problems = Problems("estimate_single_trials")
    choices = {
        "method": (method, ("lss", "lsa", "average")),
        "hrf": (hrf, ("spm", "glover")),
        "others": (others, ("all", "by_condition")),
    }
    for name, (got, allowed) in choices.items():
        if got not in allowed:
            problems.add(f"{name} is {got!r}, expected one of {some(allowed)}.")
    if not tr_s > 0:
        problems.add(f"tr_s is {tr_s}, expected seconds above 0.")
    if not 0.0 <= slice_time_ref <= 1.0:
        problems.add(f"slice_time_ref is {slice_time_ref}, expected 0 to 1.")
    if min_onset_s > 0:
        problems.add(f"min_onset_s is {min_onset_s}, expected 0 or a negative number.")
    problems.raise_if_any(ConfigError)


def nuisance_columns(
    confounds: np.ndarray | pd.DataFrame | None,
    n_volumes: int,
    *,
    tr_s: float,
    high_pass_hz: float | None,
    censored: np.ndarray | None = None,
) -> np.ndarray:
    """Return confounds, cosine drifts and a column for each censored volume, without the constant.

    Parameters
    ----------
    confounds : ndarray (n_volumes, n_confounds) or DataFrame, optional
    n_volumes : int
    tr_s : float
    high_pass_hz : float or None
    censored : ndarray (n_volumes,) bool, optional

    Returns
    -------
    ndarray (n_volumes, n_columns) float64

    Raises
    ------
    DataError
        For another number of rows, NaN or infinity, or ``censored`` that is no bool a volume.
    """
    if censored is None:
        censored = np.zeros(n_volumes, dtype=bool)
    elif np.shape(censored) != (n_volumes,) or np.asarray(censored).dtype != bool:
        raise DataError(
            f"censored: shape {np.shape(censored)}, dtype {np.asarray(censored).dtype}; expected "
            f"one bool for each of the {n_volumes} volumes."
        )
    drifts = cosine_drifts(n_volumes, tr_s=tr_s, high_pass_hz=high_pass_hz)
    kept = ~np.asarray(censored)
    if confounds is None:
        return censoring_regressors(drifts[kept], ~kept)
    values = np.asarray(confounds)
    if values.dtype.kind not in "fiub":
        raise DataError(f"confounds: dtype {values.dtype}, expected numbers.")
    values = values.reshape(len(values), -1)
    if isinstance(confounds, pd.DataFrame):
        names = [str(name) for name in confounds.columns]
    else:
        names = [str(i) for i in range(values.shape[1])]
    check_finite_columns(values, names=names, n_volumes=n_volumes, where="confounds")
    # Columns of censored volumes that the confounds hold already are 0 here, and nothing is left.
    columns = np.column_stack([orthonormal_basis(values[kept]), drifts[kept]])
    return censoring_regressors(columns, ~kept)
