"""``braindecode-clip decode-shared``: one decoder over several subjects."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from braindecode_clip.cli.common import options_help, read_options
from braindecode_clip.config.decode import AlphaGrid, SharedConfig
from braindecode_clip.errors import ConfigError


def decode_shared(
    voxels: Annotated[
        list[Path], typer.Argument(help="Voxels of each subject, of one ROI and split.")
    ],
    embeddings: Annotated[Path, typer.Option(help="Targets, from `embed`.")],
    out: Annotated[
        list[Path], typer.Option(help="Predictions to write (HDF5), one for each subject in order.")
    ],
    out_decoder: Annotated[
        list[Path] | None, typer.Option(help="Fitted decoders to write (HDF5), likewise.")
    ] = None,
    options: Annotated[
        str | None, typer.Option(help="Options as YAML or JSON text, or a file with them.")
    ] = None,
) -> None:
    """Fit a decoder on the training trials of all subjects and predict the test trials of each."""
    from braindecode_clip.artifacts import Embeddings, VoxelSet
    from braindecode_clip.decode.fit_shared import decode_shared as fit_and_predict
    from braindecode_clip.io.hdf5 import load_artifact, read_provenance, save_artifact
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.provenance import make_provenance

    logger = get_logger(__name__)
    for flag, paths in (("--out", out), ("--out-decoder", out_decoder or out)):
        if len(paths) != len(voxels):
            raise ConfigError(
                f"{flag}: got {len(paths)} files for the voxels of {len(voxels)} subjects. Give "
                "one for each, in the same order."
            )
    config = read_options(options, SharedConfig)
    sets = [load_artifact(path, VoxelSet) for path in voxels]
    targets = load_artifact(embeddings, Embeddings)
    made_with = read_provenance(embeddings)["options"]
    name = made_with.get("name") or targets.fingerprint.get("name") or embeddings.stem
    with milestone(logger, f"fitted {config.name} on {sets[0].roi}") as note:
        results = fit_and_predict(sets, targets, config=config, encoder=str(name))
        rows = sum(len(item.folds[0].train.data) for item in sets)
        note(f"{len(sets)} subjects, {rows} training rows in the first fold")
    record = make_provenance(
        "decode",
        options=config.model_dump(mode="json"),
        inputs=[*voxels, embeddings],
    )
    for position, (predictions, fitted) in enumerate(results):
        if out_decoder:
            save_artifact(out_decoder[position], fitted, record)
            logger.info("wrote %s", out_decoder[position])
        save_artifact(out[position], predictions, record)
        logger.info("wrote %s", out[position])


decode_shared.__doc__ = f"{decode_shared.__doc__}\n\n{options_help(SharedConfig, AlphaGrid)}"
