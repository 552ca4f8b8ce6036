"""``braindecode-clip bottleneck``: identification against the rank of the decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from braindecode_clip.cli.common import options_help, read_options
from braindecode_clip.cli.decode import encoder_name
from braindecode_clip.config.decode_extras import BottleneckConfig


def bottleneck(
    voxels: Annotated[Path, typer.Option(help="Voxels of a subject and ROI, from `voxels`.")],
    embeddings: Annotated[Path, typer.Option(help="Targets, from `embed`.")],
    out: Annotated[Path, typer.Option(help="Table to write (TSV).")],
    options: Annotated[
        str | None, typer.Option(help="Options as YAML or JSON text, or a file with them.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Master seed.")] = 2026,
) -> None:
    """Score maps of every rank, random maps, and a random prior that sees no voxel."""
    from braindecode_clip.artifacts import Embeddings, VoxelSet
    from braindecode_clip.decode.bottleneck import bottleneck_curve
    from braindecode_clip.io.hdf5 import load_artifact
    from braindecode_clip.io.tables import write_tsv
    from braindecode_clip.logs import get_logger, milestone

    logger = get_logger(__name__)
    config = read_options(options, BottleneckConfig)
    samples, targets = load_artifact(voxels, VoxelSet), load_artifact(embeddings, Embeddings)
    with milestone(logger, f"bottleneck of {samples.roi}") as note:
        table = bottleneck_curve(samples, targets, config=config, seed=seed)
        note(f"{len(table)} maps")
    labels = {"subject": samples.subject, "roi": samples.roi, "split": samples.split}
    labels["encoder"] = encoder_name(embeddings, targets)
    write_tsv(out, table.assign(**labels))
    logger.info("wrote %s", out)


bottleneck.__doc__ = f"{bottleneck.__doc__}\n\n{options_help(BottleneckConfig)}"
