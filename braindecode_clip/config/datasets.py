"""Where the volumes, events and masks of a study lie."""

from __future__ import annotations

from pydantic import Field

from braindecode_clip.config.base import Section

LABEL = r"^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$"


class BidsConfig(Section):
    """A BIDS data set, or an fMRIPrep derivative beside its raw BIDS data set."""

    root: str = Field(
        "data/my-study",
        description="Folder that holds sub-*/; for fMRIPrep output its derivative folder.",
    )
    events_root: str | None = Field(
        None,
        description="Raw BIDS folder that holds the events files, when `root` is a derivative.",
    )
    subjects: list[str] | None = Field(
        None, description="Subject labels without 'sub-'; null takes all that are found."
    )
    task: str | None = Field(None, description="Task label; null takes every task.")
    space: str | None = Field(
        None, description="Output space of fMRIPrep, e.g. T1w; null for files without 'space-'."
    )
    desc: str | None = Field(
        None, description="'preproc' for fMRIPrep output; null for files without 'desc-'."
    )
    mask: str = Field(
        "derivatives/masks/sub-{subject}/sub-{subject}_desc-brain_mask.nii.gz",
        description="Path pattern of the brain mask below `root`, with {subject}, {session}, "
        "{run}, {task}, {space}; the masks of a subject's runs are intersected. A part "
        "'{session}/' or '_ses-{session}' is left out where a subject has no sessions.",
    )
    background: str | None = Field(
        None,
        description="Path pattern of an image on the same grid to show maps on, below `root`; "
        "null draws them without one.",
    )


class RoiConfig(Section):
    """A region of interest: one mask for each subject."""

    name: str = Field(pattern=LABEL, description="Label used in file names and tables.")
    mask: str = Field(description="Path pattern of the mask below the data set, with {subject}.")
