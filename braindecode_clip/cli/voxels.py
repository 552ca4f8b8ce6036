"""``braindecode-clip voxels``: the responses of all runs to train and test rows of an ROI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from braindecode_clip.cli.common import options_help, read_options
from braindecode_clip.config.voxels import ReliabilityConfig, SplitConfig, VoxelsConfig

if TYPE_CHECKING:
    import pandas as pd


def voxels(
    betas: Annotated[
        list[Path], typer.Argument(help="Responses of every run of one subject, from `betas`.")
    ],
    roi: Annotated[str, typer.Option(help="Name of the region.")],
    roi_mask: Annotated[
        list[Path],
        typer.Option(
            help="Mask of the region on the functional grid or surfaces (NIfTI, CIFTI, GIFTI); "
            "what is not zero is in. Of several, the voxels in all; hemispheres are joined."
        ),
    ],
    split: Annotated[
        str, typer.Option(help="Train and test (SplitConfig): YAML or JSON text, or a file.")
    ],
    out: Annotated[Path, typer.Option(help="File to write (HDF5).")],
    stimuli: Annotated[
        Path | None,
        typer.Option(help="Table of the stimuli: stimulus_id, split, and image where there is."),
    ] = None,
    options: Annotated[
        str | None, typer.Option(help="Options as YAML or JSON text, or a file with them.")
    ] = None,
) -> None:
    """Select and scale the voxels of an ROI, split into train and test."""
    from braindecode_clip.artifacts import Betas
    from braindecode_clip.io.hdf5 import load_artifact, save_artifact
    from braindecode_clip.io.runs import read_any_mask
    from braindecode_clip.io.tables import read_tsv
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.preprocess import intersect_masks
    from braindecode_clip.provenance import make_provenance
    from braindecode_clip.voxels import build_voxel_set

    logger = get_logger(__name__)
    config = read_options(options, VoxelsConfig)
    chosen = read_options(split, SplitConfig, flag="--split")
    mask = intersect_masks(
        [read_any_mask(path) for path in roi_mask], [str(path) for path in roi_mask]
    )
    table = pictures = None
    if stimuli is not None:
        table = read_tsv(stimuli, required=["stimulus_id"], text=["stimulus_id", "image", "split"])
        pictures = _picture_digests(stimuli, table) if chosen.scheme == "stimulus" else None
    responses = [load_artifact(path, Betas) for path in betas]
    with milestone(logger, f"voxels of {roi}, split {chosen.name}") as note:
        result = build_voxel_set(
            responses,
            mask,
            roi=roi,
            config=config,
            split=chosen,
            stimuli=table,
            pictures=pictures,
        )
        first = result.folds[0]
        note(
            f"{len(result.folds)} folds; the first {len(first.train.data)} train and "
            f"{len(first.test.data)} test rows x {len(first.voxel_index)} of {mask.n_voxels} voxels"
        )
    outside = int(result.table["dropped_outside_brain"].iloc[0])
    if outside:
        logger.warning("%d of %d voxels of %s lie outside the brain", outside, mask.n_voxels, roi)
    provenance = make_provenance(
        "voxels",
        options={
            "roi": roi,
            "split": chosen.model_dump(mode="json"),
            "voxels": config.model_dump(mode="json"),
        },
        inputs=[*betas, *roi_mask, *([] if stimuli is None else [stimuli])],
    )
    save_artifact(out, result, provenance)
    logger.info("wrote %s", out)


def _picture_digests(path: Path, table: pd.DataFrame) -> dict[str, str]:
    """Hash the picture files beside the table, those that are there."""
    from braindecode_clip.provenance import file_sha256

    if "image" not in table:
        return {}
    named = table[table["image"].notna()]
    files = {
        str(name): path.parent / str(image)
        for name, image in zip(named["stimulus_id"], named["image"], strict=True)
    }
    return {name: file_sha256(file) for name, file in files.items() if file.is_file()}


voxels.__doc__ = f"{voxels.__doc__}\n\n{options_help(SplitConfig, VoxelsConfig, ReliabilityConfig)}"
