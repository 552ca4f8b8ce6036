"""Options of ``betas``: from cleaned signals to one response for each trial."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from braindecode_clip.config.base import Section

HrfName = Literal[
    "spm",
    "spm + derivative",
    "spm + derivative + dispersion",
    "glover",
    "glover + derivative",
    "glover + derivative + dispersion",
    "fir",
    "library",
]

#: Largest number of noise regressors.
MAX_NOISE_REGRESSORS = 30


class WindowConfig(Section):
    """Which volumes the method ``average`` takes for a trial."""

    start_s: float = Field(
        default=4.0,
        description="The window opens this many seconds after the trial's onset (that volume "
        "counts in). Default 4.0.",
    )
    end_after_offset_s: float = Field(
        default=4.0,
        description="The window closes this many seconds after the trial's offset (a volume at "
        "that very time counts in). Default 4.0.",
    )


class FirConfig(Section):
    """The finite impulse response model: one weight for each TR after an onset."""

    length_s: float = Field(
        default=16.0,
        gt=0,
        description="Delays are modelled up to this many seconds after the onset, one a TR, "
        "whatever the duration of the event: for blocks take more than their length. Default 16.",
    )
    start_s: float = Field(
        default=4.0,
        ge=0,
        description="The response to a trial is the mean weight of the delays from here (s). "
        "Default 4.",
    )
    end_s: float = Field(
        default=8.0, ge=0, description="... to here (s; that delay counts in). Default 8."
    )


class TuneConfig(Section):
    """Choices for each voxel (or subject) by cross-validation over the runs of a subject."""

    trials: Literal["train", "all"] = Field(
        default="train",
        description="Trials that the choices may see: train (default), those of training "
        "stimuli by the stimulus table; trials of other stimuli are modelled as nuisance in every "
        "comparison. Without a table, and where a split holds out runs or categories, nothing "
        "tells training trials apart: all trials are seen, but no label is used, and the tuning "
        "says that it is transductive. all: all trials with their labels; where test trials are "
        "among them that is leakage, and `evaluate` refuses the scores.",
    )
    label: Literal["auto", "stimulus_id", "trial_type"] = Field(
        default="auto",
        description="Column of the events by which trials count as repeats: stimulus_id, "
        "trial_type, or auto (default), the first of these that the events have.",
    )
    max_noise_regressors: int = Field(
        default=8,
        ge=1,
        le=MAX_NOISE_REGRESSORS,
        description="noise_regressors auto: the largest number that is compared. Default 8.",
    )
    noise_pool_mean: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Voxels of the noise pool have at least this share (0 to 1) of the 99th "
        "percentile of the mean signal, so that air is not among them. Default 0.1.",
    )
    n_shrinkages: int = Field(
        default=15,
        ge=3,
        le=100,
        description="Ridge penalties compared, from 0.03 to 30 times the mean squared norm of "
        "a trial's regressor, and no penalty. Default 15.",
    )


class BetasConfig(Section):
    """How the response to every trial is estimated."""

    method: Literal["lss", "lsa", "average"] = Field(
        default="lss",
        description="lss: one model a trial, the others joined (default; for closely spaced "
        "trials); lsa: one model with a regressor for every trial; average: mean of the volumes "
        "in a window (for blocks).",
    )
    hrf: HrfName = Field(
        default="spm",
        description="Haemodynamic response of lss and lsa: spm (default) or glover, canonical, "
        "with derivatives that take up shifts in time and width (the beta is the weight of the "
        "response itself); fir, one weight a volume (see `fir`); library, the one of 20 that "
        "predicts a voxel's other runs best.",
    )
    fir: FirConfig = Field(default_factory=FirConfig, description="Delays of hrf: fir.")
    noise_model: Literal["ols", "ar1"] = Field(
        default="ols",
        description="ols (default): ordinary least squares; ar1: data and design prewhitened by "
        "an autoregression of order 1, its coefficient estimated in every voxel and run from "
        "the residuals and rounded to 0.02 (0.05 with the library).",
    )
    noise_regressors: int | Literal["auto"] = Field(
        default=0,
        description="Principal components of voxels that the task does not explain, regressed "
        "out of every run: their number (0 to 30), or auto, chosen by cross-validation over "
        "runs. Default 0.",
    )
    shrinkage: Literal["none", "ridge"] = Field(
        default="none",
        description="ridge: responses are shrunk towards the voxel's mean response, by a "
        "penalty that is chosen for each voxel so that a trial predicts the repeats of its "
        "stimulus in other runs; without repeats, by marginal likelihood. Not with fir or "
        "average. Default none.",
    )
    tune: TuneConfig = Field(
        default_factory=TuneConfig,
        description="How hrf: library, noise_regressors and shrinkage choose.",
    )
    others: Literal["all", "by_condition"] = Field(
        default="all",
        description="lss: the trials beside the one of interest form one regressor (all, "
        "default) or one for each trial_type (by_condition).",
    )
    trial_types: tuple[str, ...] | None = Field(
        default=None,
        description="Events of these trial_types are the trials; every other type becomes one "
        "nuisance regressor of lss and lsa. null (default): all events are trials.",
    )
    window: WindowConfig = Field(
        default_factory=WindowConfig, description="The window of the method average."
    )
    slice_time_ref: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="When in the TR a volume was taken, 0 (start, default) to 1 (end). Give 0.5 "
        "for data that fMRIPrep has slice-time corrected.",
    )
    oversampling: int = Field(
        default=50,
        ge=1,
        description="Points of the fine time grid in one TR, for onsets between volumes. "
        "Default 50.",
    )
    min_onset_s: float = Field(
        default=-24.0,
        le=0.0,
        description="The fine grid begins this many seconds relative to the first volume kept, "
        "for trials that began in the dummy scans. Default -24.",
    )

    @property
    def needs_tuning(self) -> bool:
        """Tell whether something is to be chosen from all runs of a subject."""
        return self.hrf == "library" or self.noise_regressors != 0 or self.shrinkage != "none"

    @model_validator(mode="after")
    def _options_fit(self) -> BetasConfig:
        number = self.noise_regressors
        if number != "auto" and not 0 <= number <= MAX_NOISE_REGRESSORS:
            raise ValueError(
                f"noise_regressors is {number}, expected 0 to {MAX_NOISE_REGRESSORS} or auto"
            )
        if self.method == "average" and (self.hrf == "library" or self.shrinkage != "none"):
            raise ValueError(
                "method average fits no response, so hrf library and shrinkage have no meaning: "
                "set 'hrf: spm' and 'shrinkage: none', or method lss or lsa"
            )
        if self.hrf == "fir" and self.shrinkage != "none":
            raise ValueError("shrinkage needs one response a trial: choose another hrf than fir")
        return self
