"""The confounds file of a realigned run, with fMRIPrep's names and units."""

from __future__ import annotations

import numpy as np
import pandas as pd

from braindecode_clip.nuisance import dvars, expand_confound, framewise_displacement
from braindecode_clip.preprocess.confounds import MOTION_PARAMETERS

#: Signals are scaled to this median before DVARS, as in nipype and FSL.
DVARS_MEDIAN = 1000.0

#: The interquartile range of a normal distribution, in standard deviations.
_NORMAL_IQR = 1.349


def confounds_of(signals: np.ndarray, parameters: np.ndarray | None) -> pd.DataFrame:
    """Return the confounds of one realigned run.

    Parameters
    ----------
    signals : ndarray (n_volumes, n_voxels)
        The brain's voxels, corrected.
    parameters : ndarray (n_volumes, 6) or None
        Translations in mm, rotations in radians.

    Returns
    -------
    DataFrame
        One row a volume: global_signal and the six motion parameters, each with derivative1,
        power2 and derivative1_power2; dvars, std_dvars, framewise_displacement (mm). What needs
        the volume before is NaN in the first row.
    """
    raw, standardized = standardized_dvars(signals)
    columns = expand_confound("global_signal", signals.mean(axis=1, dtype=np.float64))
    columns.update({"std_dvars": standardized, "dvars": raw})
    if parameters is not None:
        columns["framewise_displacement"] = framewise_displacement(parameters)
        for name, values in zip(MOTION_PARAMETERS, parameters.T, strict=True):
            columns.update(expand_confound(name, values))
    return pd.DataFrame(columns)


def standardized_dvars(signals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return DVARS at a median of 1000, and relative to what noise alone would give.

    Noise with standard deviation s and lag-1 correlation r changes by sqrt(2 (1 - r)) s from
    volume to volume; s is taken from the interquartile range. As nipype's ``ComputeDVARS``,
    which fMRIPrep uses. Constant voxels are left out.

    Parameters
    ----------
    signals : ndarray (n_volumes, n_voxels)

    Returns
    -------
    dvars, std_dvars : ndarray (n_volumes,) float64
        NaN for the first volume.

    References
    ----------
    Nichols (2013), Notes on creating a standardized version of DVARS, arXiv:1704.01469.
    """
    low, high = np.percentile(signals, [25, 75], axis=0, method="lower")
    varying = signals[:, high > low]
    if varying.shape[1] == 0:
        return np.full((2, len(signals)), np.nan)[0], np.full(len(signals), np.nan)
    scale = DVARS_MEDIAN / float(np.median(signals))
    spread = scale * (high - low)[high > low].astype(np.float64) / _NORMAL_IQR
    centred = varying - varying.mean(axis=0, dtype=np.float64)
    lag_1 = np.einsum("ij,ij->j", centred[1:], centred[:-1])
    correlation = lag_1 / np.einsum("ij,ij->j", centred, centred)
    raw = dvars(varying) * scale
    return raw, raw / float((np.sqrt(2 * (1 - correlation)) * spread).mean())


def describe_confounds(table: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Return the JSON that stands beside the table: every column's meaning and unit."""
    meanings = {
        "global_signal": ("Mean over the automatic brain mask", "arbitrary"),
        "dvars": (
            "Root mean square change from the volume before in the brain mask, signals scaled "
            "to a median of 1000",
            "arbitrary",
        ),
        "std_dvars": ("DVARS divided by that expected of noise (Nichols 2013)", "1"),
        "framewise_displacement": ("Power et al. (2012), rotations on a sphere of 50 mm", "mm"),
    }
    for name in MOTION_PARAMETERS:
        axis = {"x": "to the right", "y": "to the front", "z": "up"}[name[-1]]
        if name.startswith("trans"):
            meanings[name] = (f"Translation of the head along scanner axis {axis}", "mm")
        else:
            meanings[name] = (
                f"Rotation of the head around scanner axis {axis} through the centre of the "
                "grid, right-hand rule",
                "rad",
            )
    endings = {
        "_derivative1_power2": "; squared change from the volume before",
        "_derivative1": "; change from the volume before",
        "_power2": "; squared",
    }
    described = {}
    for column in map(str, table.columns):
        ending = next((e for e in endings if column.endswith(e)), "")
        text, unit = meanings[column.removesuffix(ending)]
        squared = f"{unit}^2" if ending.endswith("power2") else unit
        described[column] = {"Description": text + endings.get(ending, ""), "Units": squared}
    return described
