"""Confounds of a run, computed from the finished data as fMRIPrep does."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import ndimage

from braindecode_clip.nuisance import cosine_drifts, expand_confound, framewise_displacement
from braindecode_clip.simulate.anatomy import CSF, WHITE, Anatomy
from braindecode_clip.simulate.noise import MOTION_NAMES, Motion

N_COMPCOR = 6

#: Volumes beyond either get a column ``motion_outlierXX`` (fMRIPrep's defaults).
FD_OUTLIER_MM = 0.5
STD_DVARS_OUTLIER = 1.5

#: Cut-off period (s) of the columns ``cosineXX``.
COSINE_PERIOD_S = 128.0


def confounds_table(
    data: np.ndarray, motion: Motion, anatomy: Anatomy, *, tr_s: float
) -> pd.DataFrame:
    """Make the table ``desc-confounds_timeseries.tsv`` of one run.

    Parameters
    ----------
    data : ndarray, (n_volumes, n_brain_voxels), float32
        The run, in the order of ``np.argwhere(anatomy.brain)``.
    motion : Motion
    anatomy : Anatomy
    tr_s : float
        Repetition time, seconds.

    Returns
    -------
    DataFrame
        One row a volume: global_signal, csf, white_matter and the six motion parameters,
        each with derivative1, power2 and derivative1_power2; dvars, std_dvars,
        framewise_displacement; a_comp_cor_00 to _05; cosine columns; one motion_outlier
        column per outlying volume. What needs the volume before is NaN in the first row.
    """
    tissue = anatomy.tissue[anatomy.brain]
    deep = _eroded(anatomy, WHITE)
    columns: dict[str, np.ndarray] = {}
    means = {
        "global_signal": data.mean(axis=1, dtype=np.float64),
        "csf": data[:, tissue == CSF].mean(axis=1, dtype=np.float64),
        "white_matter": data[:, deep].mean(axis=1, dtype=np.float64),
    }
    for name, values in means.items():
        columns.update(expand_confound(name, values))
    dvars = _dvars(data)
    fd = framewise_displacement(motion.parameters)
    std_dvars = dvars / np.nanmedian(dvars)
    columns.update({"dvars": dvars, "std_dvars": std_dvars, "framewise_displacement": fd})
    cosines = cosine_drifts(len(data), tr_s=tr_s, high_pass_hz=1 / COSINE_PERIOD_S)
    components = _compcor(data[:, deep | (tissue == CSF)], cosines)
    for k in range(components.shape[1]):
        columns[f"a_comp_cor_{k:02d}"] = components[:, k]
    for k in range(cosines.shape[1]):
        columns[f"cosine{k:02d}"] = cosines[:, k]
    for k, name in enumerate(MOTION_NAMES):
        columns.update(expand_confound(name, motion.parameters[:, k]))
    outlying = (np.nan_to_num(fd) > FD_OUTLIER_MM) | (np.nan_to_num(std_dvars) > STD_DVARS_OUTLIER)
    for k, volume in enumerate(np.flatnonzero(outlying)):
        columns[f"motion_outlier{k:02d}"] = (np.arange(len(data)) == volume).astype(np.float64)
    return pd.DataFrame(columns).round(8)


def compcor_meta(table: pd.DataFrame) -> dict[str, dict[str, object]]:
    """Return what fMRIPrep's JSON file says of every CompCor column of a confounds table."""
    meta = {"Method": "aCompCor", "Mask": "combined", "Retained": True}
    return {str(name): dict(meta) for name in table.columns if str(name).startswith("a_comp_cor_")}


def _eroded(anatomy: Anatomy, code: int) -> np.ndarray:
    """Return brain voxels of a tissue that touch no other, or all where none is left."""
    inner = ndimage.binary_erosion(anatomy.tissue == code)
    chosen = inner if inner.any() else anatomy.tissue == code
    return chosen[anatomy.brain]


def _dvars(data: np.ndarray) -> np.ndarray:
    """Return the root mean square change from volume to volume; NaN first."""
    change = np.diff(data, axis=0)
    return np.concatenate([[np.nan], np.sqrt((change**2).mean(axis=1, dtype=np.float64))])


def _compcor(data: np.ndarray, cosines: np.ndarray) -> np.ndarray:
    """Return the leading components (n_volumes, up to 6) of noise tissue, after high-pass.

    aCompCor (Behzadi et al. 2007, NeuroImage 37:90-101).
    """
    series = data.astype(np.float64)
    series -= series.mean(axis=0)
    series -= cosines @ (cosines.T @ series)
    sd = series.std(axis=0)
    series = series[:, sd > 0] / sd[sd > 0]
    vectors, _, _ = np.linalg.svd(series @ series.T)
    n = min(N_COMPCOR, series.shape[1], len(series))
    # The sign of a singular vector is arbitrary: the largest entry is made positive.
    chosen = vectors[:, :n]
    top = chosen[np.abs(chosen).argmax(axis=0), np.arange(n)]
    return chosen * np.sign(top)
