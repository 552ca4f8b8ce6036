"""Options of ``realign``: motion and slice-timing correction of raw runs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from braindecode_clip.config.base import Section


class RealignConfig(Section):
    """Correction of raw runs, for data without fMRIPrep, which is the better way."""

    enabled: bool = Field(
        default=False,
        description="The workflow realigns every run before `preprocess`, to one reference "
        "image a subject, made from the subject's first run; confounds files of the data set "
        "are replaced. Masks must lie on that image's grid and fit its brain. Off by default: "
        "fMRIPrep's output needs no realigning.",
    )
    motion: bool = Field(
        default=True,
        description="Estimate and undo the rigid motion of the head (needs the extra `motion`). "
        "Without it the confounds file has no motion parameters.",
    )
    slice_timing: bool = Field(
        default=True,
        description="Shift every slice to one time of the TR, by SliceTiming of the run's JSON "
        "file.",
    )
    slice_time_ref: float = Field(
        default=0.5,
        ge=0.0,
        le=1.0,
        description="That time as a part of the TR, 0.5 (default) its middle; "
        "betas.slice_time_ref must be the same. Where slices fill only a part of the TR "
        "(sparse sampling), give the middle of that part.",
    )
    reference: Literal["mean", "first", "middle"] = Field(
        default="mean",
        description="The image that volumes are aligned to, where none is given: mean (default; "
        "of up to 20 volumes over the run, aligned to its middle volume), or the run's first or "
        "middle volume.",
    )

    @model_validator(mode="after")
    def _does_something(self) -> RealignConfig:
        if not (self.motion or self.slice_timing):
            raise ValueError("'motion' and 'slice_timing' are both false. Set one to true")
        return self
