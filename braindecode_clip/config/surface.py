"""Options of ``surface``: accuracy against training data, repeats and candidates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from braindecode_clip.config.base import Section


class SurfaceConfig(Section):
    """Accuracy against the amount of training data, the repeats of a test stimulus and the pool."""

    enabled: bool = Field(default=False, description="Whether to measure it. Default false.")
    decoders: list[str] = Field(
        default=["ridge"],
        min_length=1,
        description="Decoders that are fitted again, by their names in 'decoders'; of one "
        "subject each, no ensembles. Default ridge.",
    )
    rois: list[str] = Field(
        default=[], description="ROIs, by their names in 'rois'. Default empty: all."
    )
    fractions: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        default=[0.125, 0.25, 0.5, 1.0],
        min_length=2,
        description="Shares of the training stimuli (or runs, where runs are held out) that are "
        "trained on, ascending; smaller ones lie within larger ones. Default 1/8, 1/4, 1/2, 1.",
    )
    seeds: int = Field(
        default=3, ge=1, description="Random orders of the training stimuli. Default 3."
    )
    max_repeats: int | None = Field(
        default=None,
        ge=1,
        description="Most repeats of a test stimulus that are averaged. Null (default): as many as "
        "every test stimulus has.",
    )
    repeat_draws: int = Field(
        default=3,
        ge=1,
        description="Choices of the repeats that are averaged, where there are so many. Default 3.",
    )
    candidates: Literal["test", "all"] = Field(
        default="all",
        description="Candidates: the test stimuli, or all embedded stimuli (default).",
    )
    pool_sizes: int = Field(
        default=10,
        ge=2,
        description="Sizes of the pool, from 2 (which is the pairwise score) to all candidates in "
        "equal ratios. Default 10.",
    )
    top_k: tuple[PositiveInt, ...] = Field(
        default=(1, 5), min_length=1, description="The k of top-k accuracy. Default 1, 5."
    )
    more_data: list[Annotated[float, Field(gt=1)]] = Field(
        default=[2.0, 4.0],
        description="Multiples of the training data to extrapolate to. Default 2, 4.",
    )
    more_repeats: list[Annotated[float, Field(gt=1)]] = Field(
        default=[2.0], description="Multiples of the repeats to extrapolate to. Default 2."
    )
    more_candidates: list[Annotated[float, Field(gt=1)]] = Field(
        default=[3.0, 10.0],
        description="Multiples of the number of candidates to extrapolate to. Default 3, 10.",
    )
    n_bootstrap: int = Field(
        default=300,
        ge=100,
        description="Bootstrap samples of test stimuli and of seeds. Default 300.",
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="Level of the intervals. Default 0.95."
    )

    @field_validator("fractions")
    @classmethod
    def _fractions_ascend(cls, value: list[float]) -> list[float]:
        if sorted(set(value)) != value:
            raise ValueError("needs shares above 0 and up to 1, ascending, each once")
        return value
