"""``braindecode-clip importance``: what identification loses without one part of an ROI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from braindecode_clip.cli.common import options_help, read_options
from braindecode_clip.cli.decode import band_labels, encoder_name, read_decoder_config
from braindecode_clip.config.decode_extras import ImportanceConfig


def importance(
    voxels: Annotated[Path, typer.Option(help="Voxels of the joint ROI, from `voxels`.")],
    part: Annotated[
        list[Path],
        typer.Option(help="Voxels of an ROI to leave out, from `voxels`; once for each."),
    ],
    embeddings: Annotated[Path, typer.Option(help="Targets, from `embed`.")],
    out: Annotated[Path, typer.Option(help="Table to write (TSV).")],
    decoder: Annotated[
        str | None, typer.Option(help="Options of the decoder, as `decode` takes them.")
    ] = None,
    band: Annotated[
        list[Path] | None, typer.Option(help="As for `decode`, for the kind banded.")
    ] = None,
    options: Annotated[
        str | None, typer.Option(help="Options as YAML or JSON text, or a file with them.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Master seed.")] = 2026,
) -> None:
    """Fit a decoder again without the voxels of each part, and compare with the whole ROI."""
    from braindecode_clip.artifacts import Embeddings, VoxelSet
    from braindecode_clip.decode.importance import leave_one_roi_out
    from braindecode_clip.io.hdf5 import load_artifact
    from braindecode_clip.io.tables import write_tsv
    from braindecode_clip.logs import get_logger, milestone

    logger = get_logger(__name__)
    config = read_options(options, ImportanceConfig)
    fitting = read_decoder_config(decoder, flag="--decoder")
    samples, targets = load_artifact(voxels, VoxelSet), load_artifact(embeddings, Embeddings)
    parts = {item.roi: item.space for item in (load_artifact(path, VoxelSet) for path in part)}
    with milestone(logger, f"importance in {samples.roi}") as note:
        table = leave_one_roi_out(
            samples,
            targets,
            parts,
            decoder=fitting,
            config=config,
            seed=seed,
            bands=band_labels(samples, band or [], config=fitting),
        )
        note(f"{len(parts)} parts")
    labels = {"subject": samples.subject, "roi": samples.roi, "split": samples.split}
    labels["encoder"] = encoder_name(embeddings, targets)
    write_tsv(out, table.assign(**labels, decoder=fitting.name))
    logger.info("wrote %s", out)


importance.__doc__ = f"{importance.__doc__}\n\n{options_help(ImportanceConfig)}"
