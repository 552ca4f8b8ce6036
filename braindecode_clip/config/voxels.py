"""Options of ``voxels``: labels, selection, scaling, averaging, and the split."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from braindecode_clip.config.base import Section


class ReliabilityConfig(Section):
    """Selection of voxels by split-half reliability over the training repeats."""

    min: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="Keep voxels of at least this reliability (Spearman-Brown corrected "
        "correlation, -1 to 1). Null (default) keeps all.",
    )
    top: int | None = Field(
        default=None,
        ge=1,
        description="Keep at most this number of voxels, the most reliable. Null (default) "
        "keeps all.",
    )


class VoxelsConfig(Section):
    """From the responses of all runs to the voxel matrix of an ROI."""

    label: Literal["stimulus_id", "trial_type"] = Field(
        default="stimulus_id",
        description="Column of the events that names what was shown: stimulus_id (default), or "
        "trial_type where only the category is known.",
    )
    rename: dict[str, str] = Field(
        default_factory=dict,
        description="New names for labels, to meet those of the embeddings, e.g. "
        "{face: human face}. Default none.",
    )
    exclude: tuple[str, ...] = Field(
        default=(),
        description="Labels or trial types whose trials are left out, by their names before "
        "`rename`. Default none.",
    )
    normalise: Literal["none", "run", "session"] = Field(
        default="none",
        description="Z-score each voxel over all trials of a run or session first. It uses no "
        "labels, but in runs that hold test trials it uses their values (transductive). "
        "Default none.",
    )
    reliability: ReliabilityConfig = Field(
        default_factory=ReliabilityConfig,
        description="Selection of voxels by the reliability of the training repeats. "
        "Default keeps all.",
    )
    scale: Literal["zscore", "none"] = Field(
        default="zscore",
        description="zscore (default): mean 0 and standard deviation 1 over the training rows; "
        "the test rows are scaled with the same numbers.",
    )
    average_train: bool = Field(
        default=False,
        description="Average the repeats of a training stimulus into one row. Default false.",
    )
    average_test: bool = Field(
        default=True,
        description="Average the repeats of a test stimulus into one row. Default true. Splits "
        "by run or category average within a run only.",
    )


class SplitConfig(Section):
    """A way to split trials into train and test."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$", description="Label in file names and tables."
    )
    scheme: Literal["stimulus", "leave_one_run_out", "leave_one_category_out"] = Field(
        default="stimulus",
        description="stimulus (default): by the column `split` of the stimulus table, so that no "
        "stimulus is in train and test; leave_one_run_out: a fold for each run, whose "
        "categories come again in training; leave_one_category_out: a fold for each label, "
        "which is never trained on.",
    )
