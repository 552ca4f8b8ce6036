"""Options of ``preprocess``: from a run's volumes to cleaned signals."""

from __future__ import annotations

from typing import Annotated, Literal

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

StrategyName = Literal[
    "motion6",
    "motion12",
    "motion24",
    "wm_csf",
    "global_signal",
    "acompcor",
    "tcompcor",
    "non_steady_state",
]


class StrategyConfig(Section):
    """Confounds by the names of their families, beside the columns of `confounds`."""

    names: tuple[StrategyName, ...] = Field(
        default=(),
        description="Families of fMRIPrep's confounds that are regressed out besides the columns "
        "of 'confounds'; a column that both name counts once. Default [] for none. motion6: the "
        "rigid-body parameters; motion12: with their derivatives; motion24: with the squares of "
        "both (Friston et al. 1996, Satterthwaite et al. 2013); wm_csf: mean signals of white "
        "matter and CSF; global_signal; acompcor and tcompcor: principal components of noise "
        "tissue or of noisy voxels (Behzadi et al. 2007), with the file's cosines, without which "
        "they were made; non_steady_state: one column for each such volume. Derivatives and "
        "squares that the file lacks are computed. CompCor needs fMRIPrep's JSON file beside the "
        "table.",
    )
    n_compcor: Annotated[int, Field(ge=1)] | Literal["all"] = Field(
        default=5,
        description="Leading CompCor components of each mask; 'all' takes every one of the file "
        "(by fMRIPrep's default those that explain half of the variance, which may be a hundred). "
        "Default 5.",
    )
    compcor_mask: Literal["combined", "separated"] = Field(
        default="combined",
        description="acompcor: components of white matter and CSF in one mask (combined, "
        "default), or of each of the two (separated).",
    )
    signals: Literal["basic", "derivatives", "power2", "full"] = Field(
        default="basic",
        description="wm_csf and global_signal: the signals alone (basic, default), with their "
        "derivatives, with their squares (power2), or with both and the derivatives' squares "
        "(full).",
    )


class CensorConfig(Section):
    """Volumes that cleaning and the GLM of the trials leave out ("scrubbing").

    A censored volume is a regressor of its own in both, so neither sees it.
    """

    fd_mm: float | None = Field(
        default=None,
        gt=0,
        description="Censor volumes whose framewise displacement (Power et al. 2012; column "
        "framewise_displacement, or computed from the six motion parameters) is above this many "
        "mm; null (default): none. Common: 0.5, fMRIPrep's and nilearn's threshold.",
    )
    dvars: float | None = Field(
        default=None,
        gt=0,
        description="Censor volumes whose standardised DVARS is above this; null (default): none. "
        "Common: 1.5. The measure is fMRIPrep's std_dvars where the confounds file has that "
        "column; otherwise the DVARS of the masked data over its median in the run.",
    )
    n_before: int = Field(
        default=0, ge=0, description="Volumes before each such volume to censor too. Default 0."
    )
    n_after: int = Field(
        default=0, ge=0, description="Volumes after each such volume to censor too. Default 0."
    )
    min_segment: int = Field(
        default=1,
        ge=1,
        description="Runs of fewer kept volumes than this between censored ones (or a censored one "
        "and an end of the run) are censored too (Power et al. 2014; nilearn's 'scrub', there 5). "
        "1 (default) keeps all.",
    )
    max_share: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="Largest share (0 to 1) of a run's volumes that may be censored; above it the "
        "run is an error. Default 0.5. Above 0.2 there is a warning.",
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
    strategy: StrategyConfig = Field(
        default=StrategyConfig(), description="Confounds by families, besides 'confounds'."
    )
    censor: CensorConfig = Field(
        default=CensorConfig(), description="Volumes left out of cleaning and GLM ('scrubbing')."
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
