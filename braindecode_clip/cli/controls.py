"""``braindecode-clip controls``: could the identification be spurious?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from braindecode_clip.cli.common import options_help, read_options
from braindecode_clip.config.controls import ControlsConfig

TOKENS = (
    "The targets are tokens, several vectors a stimulus, for which these controls are not made. "
    "Run them on pooled targets of the same encoder."
)

CLUSTERED = "clusters of the held-out-cluster score are made of test pictures' embeddings too"


def controls(
    voxels: Annotated[Path, typer.Option(help="Voxels of a subject and ROI, from `voxels`.")],
    embeddings: Annotated[Path, typer.Option(help="Targets, from `embed`.")],
    predictions: Annotated[
        list[Path], typer.Option(help="Predictions, from `decode`; once for each decoder.")
    ],
    out: Annotated[Path, typer.Option(help="File to write (JSON).")],
    decoder: Annotated[
        list[Path] | None,
        typer.Option(
            help="Fitted decoders, from `decode`: for the rank of their out-of-fold predictions."
        ),
    ] = None,
    out_table: Annotated[
        Path | None, typer.Option(help="The rows of the JSON as a table too (TSV).")
    ] = None,
    options: Annotated[
        str | None, typer.Option(help="Options as YAML or JSON text, or a file with them.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Master seed.")] = 2026,
) -> None:
    """Hold identification against controls whose answer is known beforehand.

    Nearest training picture, overlap of test with train, a held-out cluster, shuffled pairs, a
    constant prediction, and the effective rank of the predictions; with a sentence about each,
    and those that a split rules out with the reason.
    """
    from dataclasses import asdict

    import pandas as pd

    from braindecode_clip.artifacts import Embeddings, Predictions, VoxelSet
    from braindecode_clip.cli.decode import encoder_name
    from braindecode_clip.constants import SCHEMA_VERSION
    from braindecode_clip.controls.stage import NAMES, Controls, control, not_applicable
    from braindecode_clip.decode import FittedDecoder
    from braindecode_clip.decode.held_out import held_out_predictions
    from braindecode_clip.io.atomic import write_json
    from braindecode_clip.io.hdf5 import holds_tokens, load_artifact, open_vectors
    from braindecode_clip.io.tables import write_tsv
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.provenance import make_provenance

    logger = get_logger(__name__)
    config = read_options(options, ControlsConfig)
    samples = load_artifact(voxels, VoxelSet)
    labels = {"subject": samples.subject, "roi": samples.roi, "split": samples.split}
    with milestone(logger, f"controls of {samples.roi}") as note:
        if holds_tokens(embeddings):
            with open_vectors(predictions[0], Predictions) as predicted:
                name = str(predicted.info.get("encoder", ""))
            found = Controls([], None, [], not_applicable(NAMES, TOKENS))
        else:
            targets = load_artifact(embeddings, Embeddings)
            name = encoder_name(embeddings, targets)
            fitted = (load_artifact(path, FittedDecoder) for path in decoder or [])
            found = control(
                samples,
                targets,
                [load_artifact(path, Predictions) for path in predictions],
                config=config,
                seed=seed,
                training=[
                    held_out_predictions(item, samples) for item in fitted if item.kind != "shared"
                ],
            )
        n_suspicious = sum(item.level == "suspicious" for item in found.verdicts)
        note(f"{len(found.verdicts)} verdicts, {n_suspicious} suspicious")
    labels["encoder"] = name
    provenance = make_provenance(
        "controls",
        options=config.model_dump(mode="json"),
        inputs=[voxels, embeddings, *predictions, *(decoder or [])],
        seed=seed,
    )
    rows = [{**labels, **row} for row in found.rows]
    measured = {row["control"] for row in found.rows}
    if out_table is not None:
        write_tsv(out_table, pd.DataFrame(rows, columns=None if rows else [*labels, "control"]))
    write_json(
        out,
        {
            "schema_version": SCHEMA_VERSION,
            "provenance": asdict(provenance),
            **labels,
            "unit": samples.unit,
            "transductive": [CLUSTERED] if "held_out_cluster" in measured else [],
            "rows": rows,
            "overlap": found.overlap,
            "spectra": found.spectra,
            "verdicts": [asdict(item) for item in found.verdicts],
        },
    )
    logger.info("wrote %s", out)


controls.__doc__ = f"{controls.__doc__}\n\n{options_help(ControlsConfig)}"
