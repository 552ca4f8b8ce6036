"""Checks of what a caller passes to the estimation of trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from braindecode_clip.checks import Problems
from braindecode_clip.config.base import parse_section
from braindecode_clip.config.betas import BetasConfig
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


def parse_options(options: Mapping[str, Any], *, tr_s: float, where: str) -> BetasConfig:
    """Return the options of a function typed.

    Raises
    ------
    ConfigError
        With all problems at once, the repetition time among them.
    """
    wrong_tr = "" if tr_s > 0 else f"tr_s is {tr_s}, expected seconds above 0."
    try:
        config = parse_section(BetasConfig, options, where=where)
    except ConfigError as error:
        raise ConfigError(f"{error}\n  {wrong_tr}" if wrong_tr else str(error)) from error
    if wrong_tr:
        raise ConfigError(f"{where}: {wrong_tr}")
    return config


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
