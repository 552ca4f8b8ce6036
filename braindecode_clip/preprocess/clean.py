"""Regression of confounds and drifts, and scaling, of one run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from braindecode_clip.artifacts import Signals, VoxelSpace
from braindecode_clip.checks import Problems
from braindecode_clip.config.preprocess import PreprocessConfig
from braindecode_clip.errors import ConfigError, DataError
from braindecode_clip.logs import get_logger
from braindecode_clip.nuisance import (
    censoring_regressors,
    cosine_drifts,
    orthonormal_basis,
    polynomial_drifts,
)
from braindecode_clip.preprocess.censor import choose_censored, describe_volumes
from braindecode_clip.preprocess.confounds import choose_confounds

logger = get_logger(__name__)

#: Numbers cleaned at a time, in float64, and the part of a run that they may be at most, so that
#: copies stay below a fifth of the result.
BLOCK_NUMBERS, BLOCK_PART = 1 << 17, 1 / 32

#: A voxel whose standard deviation after cleaning is at most this part of its size holds
#: nothing but rounding: that of float32 input has a standard deviation of 0.3 eps.
ROUNDING = float(np.finfo(np.float32).eps)


def clean_run(
    data: np.ndarray,
    *,
    space: VoxelSpace,
    tr_s: float,
    config: PreprocessConfig,
    confounds: pd.DataFrame | None = None,
    strategy_columns: Sequence[str] | None = None,
    subject: str = "",
    session: str = "",
    run: str = "",
    where: str = "run",
    confounds_where: str = "confounds",
    overwrite: bool = False,
) -> Signals:
    """Clean the signals of one run.

    Dummy scans are dropped; confounds, cosines and polynomials leave in one regression (never
    one after the other, which would bring drifts back: Lindquist et al. 2019); then every
    voxel is scaled,

        y = (I - Q Q') x,    zscore: (y - mean) / sd,    percent: 100 (y - mean) / mean,

    with Q an orthonormal basis of the regressors, all of mean 0. Equal to
    ``nilearn.signal.clean`` with ``filter="cosine"`` and ``standardize`` "zscore_sample",
    "psc" or None.

    With ``config.censor`` all of this, mean and sd included, is that of the volumes kept, which
    is what a regressor for each censored volume comes to; nilearn's ``sample_mask`` gives the
    same. Censored volumes hold 0, or the mean where the unit is raw.

    Parameters
    ----------
    data : ndarray (n_volumes, n_voxels) float32
        As read, in the scanner's unit, finite.
    space : VoxelSpace
        Where the columns lie.
    tr_s : float
        Repetition time in seconds.
    config : PreprocessConfig
        ``fwhm_mm`` is for the reader of the volumes and not looked at here.
    confounds : DataFrame, optional
        One row for every volume, dummy scans included.
    strategy_columns : sequence of str, optional
        Columns of ``confounds`` that ``config.strategy`` stands for, from
        :func:`braindecode_clip.io.fmriprep.strategy_columns`.
    subject, session, run : str
        Labels.
    where, confounds_where : str
        How messages call the run and the confounds, e.g. the files.
    overwrite : bool
        Reuse the memory of ``data`` for the result.

    Returns
    -------
    Signals
        ``regressors`` is Q in float32, 0 in censored volumes, and one column for each of these;
        (n_volumes, rank + n_censored).

    Raises
    ------
    DataError
        Missing or broken confounds, too few volumes for the regressors, constant voxels
        (unless ``constant_voxels: zero``), percent of voxels without a positive mean, too many
        censored volumes.
    ConfigError
        When ``config.strategy`` names families whose columns are not given.

    References
    ----------
    Lindquist et al. (2019), Human Brain Mapping 40:2358-2376.
    """
    chosen = _chosen_confounds(
        confounds,
        len(data),
        config=config,
        strategy_columns=strategy_columns,
        where=where,
        confounds_where=confounds_where,
    )
    series = data[config.dummy_scans :]
    volumes = describe_volumes(series, confounds, dummy_scans=config.dummy_scans)
    censored = choose_censored(volumes, config.censor, where=where)
    basis = _nuisance_basis(chosen, censored, tr_s=tr_s, config=config, where=where)
    reuse = overwrite and series.dtype == np.float32
    result = series if reuse else np.empty_like(series, dtype=np.float32)
    mean, sd, empty = _clean_blocks(
        series, result, basis=basis, censored=censored, unit=config.standardize
    )
    _check_voxels(mean, empty, space=space, config=config, where=where)
    result[:, empty] = 0.0
    return Signals(
        data=result,
        mean=mean.astype(np.float32),
        # As ones and zeros the columns of censored volumes are exact in float32 too.
        regressors=censoring_regressors(basis, censored).astype(np.float32),
        space=space,
        tr_s=float(tr_s),
        first_volume_s=config.dummy_scans * float(tr_s),
        subject=subject,
        session=session,
        run=run,
        unit=config.standardize,
        sd=sd.astype(np.float32),
        volumes=volumes.assign(censored=censored),
    )


def _chosen_confounds(
    confounds: pd.DataFrame | None,
    n_volumes: int,
    *,
    config: PreprocessConfig,
    strategy_columns: Sequence[str] | None,
    where: str,
    confounds_where: str,
) -> np.ndarray:
    """Return the confounds of all volumes but the dummy scans, after all checks of the table."""
    n_left = n_volumes - config.dummy_scans
    if n_left < 3:
        raise DataError(
            f"{where}: {n_volumes} volumes less {config.dummy_scans} dummy scans leave "
            f"{max(n_left, 0)}, expected a time series of at least 3. Is this a 4-D run?"
        )
    if config.strategy.names and strategy_columns is None:
        raise ConfigError(
            f"{where}: strategy.names is {list(config.strategy.names)}, but nothing says which "
            "columns these are. Pass strategy_columns."
        )
    if confounds is not None and len(confounds) != n_volumes:
        raise DataError(
            f"{confounds_where}: has {len(confounds)} rows, but {where} has {n_volumes} volumes. "
            "Is it the file of another run?"
        )
    patterns = (*config.confounds, *(strategy_columns or ()))
    chosen = choose_confounds(confounds, patterns, where=confounds_where)
    values = chosen.to_numpy() if chosen.shape[1] else np.zeros((n_volumes, 0))
    return values[config.dummy_scans :]


def _nuisance_basis(
    confounds: np.ndarray,
    censored: np.ndarray,
    *,
    tr_s: float,
    config: PreprocessConfig,
    where: str,
) -> np.ndarray:
    """Return Q (n_kept, rank) for the volumes that are not censored."""
    n_volumes, n_kept = len(censored), int((~censored).sum())
    # The drifts are those of the whole run: censoring makes holes in time and does not close them.
    columns = [
        cosine_drifts(n_volumes, tr_s=tr_s, high_pass_hz=config.high_pass_hz),
        polynomial_drifts(n_volumes, order=config.polynomial_order),
        confounds,
    ]
    basis = orthonormal_basis(np.column_stack(columns)[~censored])
    if basis.shape[1] > n_kept - 2:
        raise DataError(
            f"{where}: {basis.shape[1]} independent confounds and drifts leave nothing of "
            f"{n_kept} volumes. Choose fewer confounds or a lower high_pass_hz."
        )
    return basis


def _clean_blocks(
    series: np.ndarray, result: np.ndarray, *, basis: np.ndarray, censored: np.ndarray, unit: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clean into ``result``; return mean, sd (both of before), and which voxels are empty."""
    n_voxels = series.shape[1]
    mean, sd_before = np.empty(n_voxels), np.empty(n_voxels)
    empty = np.empty(n_voxels, dtype=bool)
    rows = np.flatnonzero(~censored) if censored.any() else slice(None)
    step = max(1, min(BLOCK_NUMBERS // len(series), int(n_voxels * BLOCK_PART)))
    for start in range(0, n_voxels, step):
        block = slice(start, start + step)
        signals = series[rows, block].astype(np.float64)
        mean[block] = signals.mean(axis=0)
        signals -= mean[block]
        sd_before[block] = _sd_around_zero(signals)
        signals -= basis @ (basis.T @ signals)
        sd = _sd_around_zero(signals)
        size = np.abs(mean[block]) + sd_before[block]
        empty[block] = sd <= ROUNDING * size
        result[rows, block] = _scaled(signals, mean[block], sd, empty[block], unit)
        result[censored, block] = mean[block] if unit == "raw" else 0.0
    return mean, sd_before, empty


def _sd_around_zero(signals: np.ndarray) -> np.ndarray:
    """Return the standard deviation (n - 1) of columns whose mean is 0."""
    return np.sqrt(np.einsum("ij,ij->j", signals, signals) / (len(signals) - 1))


def _scaled(
    residual: np.ndarray, mean: np.ndarray, sd: np.ndarray, empty: np.ndarray, unit: str
) -> np.ndarray:
    """Return the residual in its unit; it is changed in place."""
    if unit == "raw":
        residual += mean
        return residual
    # Voxels that cannot be scaled are refused or set to 0 by the caller, all at once.
    divisor = sd if unit == "zscore" else mean / 100.0
    residual *= 1.0 / np.where(empty | (divisor == 0), 1.0, divisor)
    return residual


def _check_voxels(
    mean: np.ndarray, empty: np.ndarray, *, space: VoxelSpace, config: PreprocessConfig, where: str
) -> None:
    problems = Problems(where)
    n_voxels = len(mean)
    if empty.all():
        problems.add(f"all {n_voxels} voxels are constant. Is this the right file?")
    elif empty.any() and config.constant_voxels == "error":
        problems.add(
            f"{empty.sum()} of {n_voxels} voxels are constant, or nothing is left of them after "
            f"cleaning (first: {_first(space, empty)}). Take them out of the mask, or set "
            "'constant_voxels: zero' to give them the value 0 in such runs."
        )
    elif empty.any():
        logger.warning("%s: %d of %d constant voxels set to 0", where, empty.sum(), n_voxels)
    negative = (mean <= 0) & ~empty
    if config.standardize == "percent" and negative.any():
        problems.add(
            f"{negative.sum()} of {n_voxels} voxels have a mean of 0 or below (first: "
            f"{_first(space, negative)}), of which there is no percent. Set 'standardize: zscore', "
            "or give data that still have their mean."
        )
    problems.raise_if_any(DataError)


def _first(space: VoxelSpace, chosen: np.ndarray) -> str:
    return space.place(int(np.flatnonzero(chosen)[0]))
