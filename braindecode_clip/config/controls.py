"""Options of ``controls``: whether identification could be spurious."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from braindecode_clip.config.base import Section
from braindecode_clip.config.decode import RidgeConfig


class ControlsConfig(Section):
    """Controls that tell identification from what only looks like it."""

    enabled: bool = Field(default=True, description="Whether to measure them. Default true.")
    decoder: RidgeConfig = Field(
        default_factory=lambda: RidgeConfig(name="reference"),
        description="The ridge decoder that is fitted again on other training data. Default: ridge "
        "with its defaults, called reference.",
    )
    n_clusters: int = Field(
        default=8,
        ge=2,
        description="Clusters of pictures for the held-out-cluster score (k-means on centred "
        "embeddings); fewer where a cluster would have fewer than 10 training pictures on average. "
        "Default 8.",
    )
    n_matched: int = Field(
        default=3,
        ge=1,
        description="Draws of as many random training pictures as the held-out cluster has, left "
        "out instead of it. Default 3.",
    )
    n_shuffles: int = Field(
        default=5, ge=2, description="Decoders fitted on shuffled pairs. Default 5."
    )
    near_duplicate: float = Field(
        default=0.99,
        gt=0,
        le=1,
        description="Cosine of two pictures' embeddings from which they count as near duplicates; "
        "what is near depends on the encoder. Default 0.99.",
    )
    similarity: Literal["cosine", "correlation"] = Field(
        default="cosine", description="What candidates are ranked by. Default cosine."
    )
    n_bootstrap: int = Field(
        default=2000,
        ge=200,
        description="Bootstrap resamples of whole pictures (or whole runs, where runs are held "
        "out). Default 2000.",
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="Level of the intervals. Default 0.95."
    )
