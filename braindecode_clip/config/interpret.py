"""Options of ``interpret``: maps of the voxels, and a table of the embedding dimensions."""

from __future__ import annotations

from pydantic import Field

from braindecode_clip.config.base import Section


class InterpretConfig(Section):
    """What the maps and the table hold."""

    pattern_variance: float = Field(
        default=0.9,
        gt=0.0,
        le=1.0,
        description="The activation pattern is computed from the leading principal components of "
        "the predictions that hold this share of their variance; the small ones are noise that "
        "an inverse would blow up. Default 0.9.",
    )
    n_dims: int = Field(
        default=10,
        ge=1,
        description="Best-predicted embedding dimensions listed in the table. Default 10.",
    )
    n_pictures: int = Field(
        default=5,
        ge=1,
        description="Stimuli listed at either end of a dimension. Default 5.",
    )
