"""Regression of confounds and drifts, and scaling, of one run."""

from __future__ import annotations

import numpy as np
import pandas as pd

from braindecode_clip.artifacts import Signals, VoxelSpace
from braindecode_clip.checks import Problems
from braindecode_clip.config.preprocess import PreprocessConfig
from braindecode_clip.errors import DataError
from braindecode_clip.logs import get_logger
from braindecode_clip.nuisance import (
    cosine_drifts,
    dvars,
    framewise_displacement,
    orthonormal_basis,
    polynomial_drifts,
)
from braindecode_clip.preprocess.confounds import MOTION_PARAMETERS, choose_confounds

logger = get_logger(__name__)

#: Voxels cleaned at a time, in float64.
BLOCK_VOXELS = 1024

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
    subject, session, run : str
        Labels.
    where, confounds_where : str
        How messages call the run and the confounds, e.g. the files.
    overwrite : bool
        Reuse the memory of ``data`` for the result.

    Returns
    -------
    Signals
        ``regressors`` is Q (n_volumes, rank) in float32.

    Raises
    ------
    DataError
        Missing or broken confounds, too few volumes for the regressors, constant voxels
        (unless ``constant_voxels: zero``), percent of voxels without a positive mean.

    References
    ----------
    Lindquist et al. (2019), Human Brain Mapping 40:2358-2376.
    """
    basis = _nuisance_basis(
        confounds, len(data), tr_s=tr_s, config=config, where=where, confounds_where=confounds_where
    )
    kept = data[config.dummy_scans :]
    volumes = _volume_table(kept, confounds, dummy_scans=config.dummy_scans)
    reuse = overwrite and kept.dtype == np.float32
    result = kept if reuse else np.empty_like(kept, dtype=np.float32)
    mean, sd_raw = np.empty(kept.shape[1]), np.empty(kept.shape[1])
    empty = np.empty(kept.shape[1], dtype=bool)
    for start in range(0, kept.shape[1], BLOCK_VOXELS):
        block = slice(start, start + BLOCK_VOXELS)
        signals = kept[:, block].astype(np.float64)
        mean[block] = signals.mean(axis=0)
        signals -= mean[block]
        sd_raw[block] = _sd_around_zero(signals)
        signals -= basis @ (basis.T @ signals)
        sd = _sd_around_zero(signals)
        size = np.abs(mean[block]) + sd_raw[block]
        empty[block] = sd <= ROUNDING * size
        result[:, block] = _scaled(signals, mean[block], sd, empty[block], config.standardize)
    _check_voxels(mean, empty, space=space, config=config, where=where)
    result[:, empty] = 0.0
    return Signals(
        data=result,
        mean=mean.astype(np.float32),
        regressors=basis.astype(np.float32),
        space=space,
        tr_s=float(tr_s),
        first_volume_s=config.dummy_scans * float(tr_s),
        subject=subject,
        session=session,
        run=run,
        unit=config.standardize,
        sd=sd_raw.astype(np.float32),
        volumes=volumes,
    )


def _volume_table(
    data: np.ndarray, confounds: pd.DataFrame | None, *, dummy_scans: int
) -> pd.DataFrame:
    """Return what is known of every volume kept: see :class:`Signals`."""
    displacement = np.full(len(data), np.nan)
    if confounds is not None and len(confounds) == len(data) + dummy_scans:
        displacement = _displacement(confounds)[dummy_scans:]
    return pd.DataFrame(
        {
            "framewise_displacement": displacement,
            "dvars": dvars(data),
            "censored": np.zeros(len(data), dtype=bool),
        }
    )


def _displacement(confounds: pd.DataFrame) -> np.ndarray:
    """Return the framewise displacement (mm) as given, or of the six motion parameters."""
    if "framewise_displacement" in confounds:
        column = pd.to_numeric(confounds["framewise_displacement"], errors="coerce")
        return column.to_numpy(np.float64)
    if set(MOTION_PARAMETERS) <= set(confounds.columns):
        table = confounds[list(MOTION_PARAMETERS)].apply(pd.to_numeric, errors="coerce")
        return framewise_displacement(table.to_numpy(np.float64))
    return np.full(len(confounds), np.nan)


def _nuisance_basis(
    confounds: pd.DataFrame | None,
    n_volumes: int,
    *,
    tr_s: float,
    config: PreprocessConfig,
    where: str,
    confounds_where: str,
) -> np.ndarray:
    """Return Q for the kept volumes, after all checks that need no voxel."""
    problems = Problems(where)
    n_kept = n_volumes - config.dummy_scans
    if n_kept < 3:
        problems.add(
            f"{n_volumes} volumes less {config.dummy_scans} dummy scans leave {max(n_kept, 0)}, "
            "expected a time series of at least 3. Is this a 4-D run?"
        )
    problems.raise_if_any(DataError)
    chosen = choose_confounds(confounds, config.confounds, where=confounds_where)
    if chosen.shape[1] and len(chosen) != n_volumes:
        raise DataError(
            f"{confounds_where}: has {len(chosen)} rows, but {where} has {n_volumes} volumes. "
            "Is it the file of another run?"
        )
    columns = [
        cosine_drifts(n_kept, tr_s=tr_s, high_pass_hz=config.high_pass_hz),
        polynomial_drifts(n_kept, order=config.polynomial_order),
    ]
    if chosen.shape[1]:
        columns.append(chosen.to_numpy()[config.dummy_scans :])
    basis = orthonormal_basis(np.column_stack(columns))
    if basis.shape[1] > n_kept - 2:
        raise DataError(
            f"{where}: {basis.shape[1]} independent confounds and drifts leave nothing of "
            f"{n_kept} volumes. Choose fewer confounds or a lower high_pass_hz."
        )
    return basis


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
