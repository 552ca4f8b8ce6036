"""Options of ``group``: statistics over subjects, ROIs and decoders."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from braindecode_clip.config.base import Section

Share = Annotated[float, Field(gt=0, lt=1)]


class GroupConfig(Section):
    """The study as a whole: means over subjects, corrected p-values, paired comparisons."""

    top_k: tuple[int, ...] = Field(
        default=(1, 5),
        min_length=1,
        description="The k of top-k accuracy, beside pairwise identification and the mean "
        "reciprocal rank; those not below the size of the gallery are left out. Default 1, 5.",
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1.0, description="Level of the intervals. Default 0.95."
    )
    alpha: float = Field(
        default=0.05,
        gt=0,
        lt=0.5,
        description="Level at which a subject counts as above chance, two decoders as different "
        "and as equivalent. Default 0.05.",
    )
    n_bootstrap: int = Field(
        default=5000,
        ge=200,
        description="Bootstrap resamples: of pictures or runs for paired differences, of subjects "
        "for means from ten subjects on. Default 5000.",
    )
    n_permutations: int = Field(
        default=10000,
        ge=99,
        description="Permutations of the true labels, the same for all subjects, ROIs and "
        "decoders, and exchanges of two decoders. Default 10000.",
    )
    exchange_unequal: bool = Field(
        default=False,
        description="Also exchange the labels of stimuli with different numbers of repeats. Right "
        "where these numbers have nothing to do with what is shown (trials lost at random). "
        "Default false.",
    )
    resample: Literal["subjects", "subjects_and_pictures"] = Field(
        default="subjects",
        description="What the interval of a mean over subjects lets vary: subjects (default, for "
        "these test pictures), or subjects_and_pictures (other pictures or runs too; wider).",
    )
    compare: Literal["all"] | list[str] = Field(
        default="all",
        description="Decoders to compare in pairs, by name; all (default) compares every pair. "
        "ROIs are compared in every pair within each of these decoders.",
    )
    equivalence_margins: dict[str, Share] = Field(
        default={"top_1": 0.05, "pairwise": 0.02, "mean_reciprocal_rank": 0.05},
        min_length=1,
        description="Scores to compare in pairs, each with the largest difference that still "
        "counts as none. Default top_1 0.05, pairwise 0.02, mean_reciprocal_rank 0.05.",
    )

    @field_validator("top_k")
    @classmethod
    def _k_ascend_from_one(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(k < 1 for k in value) or sorted(set(value)) != list(value):
            raise ValueError("needs whole numbers from 1 on, ascending, each once")
        return value

    @field_validator("compare")
    @classmethod
    def _names_differ(cls, value: str | list[str]) -> str | list[str]:
        if isinstance(value, list) and (len(value) < 2 or len(set(value)) < len(value)):
            raise ValueError("needs 'all' or at least two different names of decoders")
        return value
