"""Where the volumes, events and masks of a study lie."""

from __future__ import annotations

from pydantic import Field

from braindecode_clip.config.base import Section

LABEL = r"^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$"
#: Instead of a path: compute the mask from the runs.
EPI_MASK = "epi"
#: Where a mask is looked for when none lies beside the run.
DEFAULT_MASK = "derivatives/masks/sub-{subject}/sub-{subject}_desc-brain_mask.nii.gz"


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
        None,
        description="Output space of fMRIPrep, e.g. T1w, MNI152NLin2009cAsym, fsnative, fsaverage5 "
        "(GIFTI, both hemispheres make one run) or fsLR (CIFTI); null for files without 'space-'.",
    )
    res: str | None = Field(
        None, description="Resolution (the res- entity, e.g. '2'); null takes the only one."
    )
    den: str | None = Field(
        None,
        description="Density of a surface (the den- entity, e.g. 91k); null takes the only one.",
    )
    desc: str | None = Field(
        None,
        description="'preproc' for fMRIPrep output (its surfaces, which carry no 'desc-', are "
        "found too); null for files without 'desc-'.",
    )
    mask: str | None = Field(
        None,
        description="Path pattern of the brain mask below `root`, with {subject}, {session}, "
        "{run}, {task}, {space}, {res}, {den}, and {hemi} for one file a hemisphere (GIFTI); the "
        "masks of a subject's runs are intersected. A part '{session}/' or '_ses-{session}' is "
        "left out where a subject has no sessions. 'epi' computes one mask for each subject from "
        "the means of all runs (volumes). Null (default) takes the run's own "
        f"desc-brain_mask beside it, as fMRIPrep writes it, else {DEFAULT_MASK}; data on surfaces "
        "then keep all vertices but those that are NaN or zero throughout (the medial wall).",
    )
    background: str | None = Field(
        None,
        description="Path pattern of an image on the same grid to show maps on, below `root`; "
        "null draws them without one. Not for data on surfaces.",
    )


class RoiConfig(Section):
    """A region of interest: one mask for each subject."""

    name: str = Field(pattern=LABEL, description="Label used in file names and tables.")
    mask: str = Field(
        description="Path pattern of the mask, with {subject}: below `bids.root`, or below the "
        "folder of the table `runs`. NIfTI on the grid of the runs; for CIFTI .dscalar.nii or "
        ".dlabel.nii; for GIFTI .shape.gii, .label.gii or .func.gii, with {hemi} for L and R. "
        "What is not zero belongs to it."
    )
