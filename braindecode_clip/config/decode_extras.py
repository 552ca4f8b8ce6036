"""Options of what is measured beside the decoders: bottleneck curve and ROI importance."""

from __future__ import annotations

from pydantic import Field, PositiveInt, model_validator

from braindecode_clip.config.base import Section
from braindecode_clip.config.decode import AlphaGrid


class BottleneckConfig(Section):
    """Identification against the rank of the map from voxels to embedding (BrainBits)."""

    enabled: bool = Field(default=False, description="Whether to measure it. Default false.")
    ranks: list[PositiveInt] = Field(
        default=[1, 2, 5, 10, 20, 50, 100, 200, 500],
        min_length=1,
        description="Ranks of the map; more than the data allow are measured once, as no limit.",
    )
    alphas: AlphaGrid = Field(
        default=AlphaGrid(low=1, high=1e7, count=10),
        description="Penalties to choose from at every rank.",
    )
    cv: int = Field(default=5, ge=2, description="Folds that choose the penalty. Default 5.")
    n_random: int = Field(
        default=5, ge=1, description="Random maps, and random priors, that are averaged. Default 5."
    )
    n_bootstrap: int = Field(
        default=1000, ge=100, description="Bootstrap samples of stimuli or runs. Default 1000."
    )
    confidence: float = Field(default=0.95, gt=0, lt=1, description="Level of the intervals.")


class ImportanceConfig(Section):
    """What identification loses without one part of a region."""

    enabled: bool = Field(default=False, description="Whether to measure it. Default false.")
    roi: str = Field(default="", description="The joint ROI, by its name in 'rois'.")
    parts: list[str] = Field(
        default=[], description="ROIs whose voxels are left out of it, one after another."
    )
    n_bootstrap: int = Field(
        default=1000, ge=100, description="Bootstrap samples of stimuli or runs. Default 1000."
    )
    confidence: float = Field(default=0.95, gt=0, lt=1, description="Level of the intervals.")

    @model_validator(mode="after")
    def _named(self) -> ImportanceConfig:
        if self.enabled and not (self.roi and self.parts):
            raise ValueError("needs the joint ROI as 'roi' and at least one ROI in 'parts'")
        return self
