"""``braindecode-clip mask``: a subject's runs to a brain mask, for data sets without one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def mask(
    bold: Annotated[
        list[Path], typer.Option(help="4-D NIfTI run; once for each run of the subject.")
    ],
    out: Annotated[Path, typer.Option(help="Mask to write (NIfTI).")],
) -> None:
    """Compute a brain mask from the mean of every run: the voxels in all of them."""
    import numpy as np

    from braindecode_clip.checks import Problems
    from braindecode_clip.constants import AFFINE_TOLERANCE_MM
    from braindecode_clip.io.bold import read_mean_volume
    from braindecode_clip.io.nifti import write_volume
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.preprocess.masks import epi_mask

    logger = get_logger(__name__)
    problems = Problems("runs")
    with milestone(logger, "mask") as note:
        found = [read_mean_volume(path) for path in bold]
        first, affine = found[0]
        for path, (mean, own) in zip(bold, found, strict=True):
            if mean.shape != first.shape or np.abs(own - affine).max() > AFFINE_TOLERANCE_MM:
                problems.add(
                    f"{path} lies on another grid than {bold[0]}. Resample it, or leave it out."
                )
        problems.raise_if_any()
        inside = epi_mask([mean for mean, _ in found], affine)
        note(f"{int(inside.sum())} of {inside.size} voxels, {len(bold)} runs")
    write_volume(out, inside.astype(np.uint8), affine)
    logger.info("wrote %s", out)
