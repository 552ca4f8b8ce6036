"""Options of ``preprocess``: from a run's volumes to cleaned signals."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from braindecode_clip.config.base import Section
from braindecode_clip.constants import HIGH_PASS_HZ

#: Six rigid-body parameters by their fMRIPrep names, and fMRIPrep's one-hot columns of volumes
#: before steady state, where a run has some.
DEFAULT_CONFOUNDS = (
    "trans_x",
    "trans_y",
    "trans_z",
    "rot_x",
    "rot_y",
    "rot_z",
    "non_steady_state_outlier*",
)


class PreprocessConfig(Section):
    """How a run is cleaned. Drifts and confounds leave in one regression."""

    confounds: tuple[str, ...] = Field(
        default=DEFAULT_CONFOUNDS,
        description="Columns of the confounds file to regress out: names, or patterns with * ? "
        "[ ]. The default suits fMRIPrep: six motion parameters and the non-steady-state "
        "volumes; often added: '*_derivative1' (12 motion parameters), 'a_comp_cor_0[0-5]', "
        "'motion_outlier*'. A name or pattern without a column is an error, apart from the "
        "patterns non_steady_state_outlier* and motion_outlier*, which many runs lack. n/a in "
        "the first row is filled: 0 in derivatives, the column's mean in others. [] for none.",
    )
    high_pass_hz: float | None = Field(
        default=HIGH_PASS_HZ,
        gt=0,
        description="Cut-off (Hz) of the cosine high-pass filter; null for none. Default 0.01. "
        "For block designs keep it well below 1 / (time between blocks of one category).",
    )
    polynomial_order: int = Field(
        default=0,
        ge=0,
        le=10,
        description="Degree of polynomial trends regressed out in the same step: 0 none "
        "(default), 1 linear.",
    )
    standardize: Literal["zscore", "percent", "raw"] = Field(
        default="zscore",
        description="Unit of the signals, per voxel and run: zscore (mean 0, sd 1 with n - 1; "
        "default), percent (percent change from the run's mean), raw (scanner's unit, mean "
        "kept).",
    )
    dummy_scans: int = Field(
        default=0,
        ge=0,
        description="Volumes dropped from the start of every run, with their rows of the "
        "confounds. Onsets keep counting from the first volume of the file. Default 0.",
    )
    fwhm_mm: float | None = Field(
        default=None,
        gt=0,
        description="Full width at half maximum (mm) of a Gaussian smoothing before masking; "
        "null (default) for none. Pattern decoding seldom gains from it.",
    )
    constant_voxels: Literal["error", "zero"] = Field(
        default="error",
        description="Voxels of the mask without any variation: error (default) names them; "
        "zero sets them to 0 in the run, so that all runs keep the same voxels.",
    )
