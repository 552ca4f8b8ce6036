"""Options of ``evaluate``: which scores, and how their uncertainty is found."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, field_validator

from braindecode_clip.config.base import Section

Protocol = Literal[
    "mindeye-300",
    "full-pool",
    "lite-mind-300",
    "kamitani-pairwise",
    "god-category",
    "brainflora-kway",
    "haxby-nway",
]


class EvaluateConfig(Section):
    """Scores, bootstrap and permutation test."""

    top_k: tuple[int, ...] = Field(
        default=(1, 5, 10),
        min_length=1,
        description="The k of top-k accuracy; those not below the size of the gallery are left "
        "out. Default 1, 5, 10.",
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1.0, description="Level of the intervals. Default 0.95."
    )
    n_bootstrap: int = Field(
        default=5000,
        ge=200,
        description="Bootstrap resamples of whole pictures, runs or sessions (`resample`). "
        "Default 5000.",
    )
    resample: Literal["auto", "stimulus", "run", "session"] = Field(
        default="auto",
        description="What the bootstrap draws with all its samples: auto (default), stimulus "
        "where stimuli are held out and run where runs are; or stimulus, run or session by name.",
    )
    exchange: Literal["auto", "stimulus", "run", "session"] = Field(
        default="auto",
        description="How a permutation moves the true labels: auto (default), stimulus where "
        "stimuli are held out and run where runs are. stimulus: whole stimuli with all repeats, "
        "among those shown equally often. run, session: where runs are held out, labels within "
        "each of them; where stimuli are held out, whole stimuli among those shown equally often "
        "in the same runs or sessions, for studies whose runs show different kinds of pictures.",
    )
    exchange_unequal: bool = Field(
        default=False,
        description="Also exchange whole stimuli with different numbers of repeats. Right where "
        "these numbers have nothing to do with what is shown (trials lost at random); else p may "
        "be too small, as stimuli shown often weigh more. Default false.",
    )
    n_permutations: int = Field(
        default=10000,
        ge=99,
        description="Permutations of the true labels for the scores of identification; the "
        "smallest p is 1 / (n + 1). Default 10000.",
    )
    n_permutations_dims: int = Field(
        default=1000,
        ge=99,
        description="Permutations for the scores per embedding dimension, which cost more. "
        "Default 1000.",
    )
    effect_top_1: float = Field(
        default=1.5,
        gt=1.0,
        description="Smallest top-1 accuracy of interest, as a multiple of chance (of what "
        "permuted labels reach, where runs are held out); power and the sufficient number "
        "of pictures are told for it. Default 1.5.",
    )
    effect_pairwise: float = Field(
        default=0.05,
        gt=0.0,
        le=0.5,
        description="Smallest pairwise identification of interest, above chance (above what "
        "permuted labels reach, where runs are held out). Default 0.05.",
    )
    r2_baseline: Literal["test_mean", "train_mean"] = Field(
        default="test_mean",
        description="The constant that R² compares with: test_mean, the mean of the test "
        "targets (default, as scikit-learn), or train_mean, the mean of the training stimuli's "
        "embeddings.",
    )
    pool_sizes: int = Field(
        default=24,
        ge=2,
        description="Points of the curve of accuracy against pool size, from 2 to the whole "
        "gallery in equal ratios. Default 24.",
    )

    protocols: tuple[Protocol, ...] = Field(
        default=get_args(Protocol),
        description="Published protocols to replay: mindeye-300 (one pool of 300), full-pool (all "
        "test pictures), lite-mind-300 (a pool of 300 for each query), kamitani-pairwise, "
        "god-category, brainflora-kway, haxby-nway. What the data can't support is left out, and "
        "a note says why. Default: all; [] replays none.",
    )
    category_column: str = Field(
        default="category",
        min_length=1,
        description="Column of the stimuli's table with their categories, for god-category, "
        "haxby-nway and the scores of each category. Default category.",
    )

    @field_validator("protocols")
    @classmethod
    def _protocols_differ(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        twice = sorted({name for name in value if value.count(name) > 1})
        if twice:
            raise ValueError(f"names each protocol once; more than once: {', '.join(twice)}")
        return value

    @field_validator("top_k")
    @classmethod
    def _k_ascend_from_one(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(k < 1 for k in value) or sorted(set(value)) != list(value):
            raise ValueError("needs whole numbers from 1 on, ascending, each once")
        return value
