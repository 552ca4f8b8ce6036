"""Options of ``betas``: from cleaned signals to one response for each trial."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from braindecode_clip.config.base import Section


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


class BetasConfig(Section):
    """How the response to every trial is estimated."""

    method: Literal["lss", "lsa", "average"] = Field(
        default="lss",
        description="lss: one model a trial, the others joined (default; for closely spaced "
        "trials); lsa: one model with a regressor for every trial; average: mean of the volumes "
        "in a window (for blocks).",
    )
    hrf: Literal["spm", "glover"] = Field(
        default="spm",
        description="Haemodynamic response of lss and lsa: spm (default) or glover, canonical.",
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
