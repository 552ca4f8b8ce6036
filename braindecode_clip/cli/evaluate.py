"""``braindecode-clip evaluate``: ranks to scores with chance, interval and p-value."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from braindecode_clip.cli.common import options_help, read_options
from braindecode_clip.config.evaluate import EvaluateConfig
from braindecode_clip.errors import ConfigError

if TYPE_CHECKING:
    from braindecode_clip.evaluate.ceiling_signal import Repeats


def evaluate(
    retrieval: Annotated[Path, typer.Option(help="Ranks, brain to image, from `retrieve`.")],
    predictions: Annotated[Path, typer.Option(help="Predictions, written by `decode`.")],
    embeddings: Annotated[
        Path, typer.Option(help="The embeddings that the decoder was trained on.")
    ],
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap and the permutations.")],
    out: Annotated[Path, typer.Option(help="File to write (JSON).")],
    reverse: Annotated[
        Path | None, typer.Option(help="Ranks, image to brain, from `retrieve --out-reverse`.")
    ] = None,
    voxels: Annotated[
        Path | None,
        typer.Option(
            help="Voxels, from `voxels`, for noise ceilings where test repeats are averaged; "
            "together with --decoder."
        ),
    ] = None,
    decoder: Annotated[
        Path | None,
        typer.Option(help="The decoder that predicted, written by `decode --out-decoder`."),
    ] = None,
    out_table: Annotated[
        Path | None, typer.Option(help="The rows of the JSON as a table too (TSV).")
    ] = None,
    stimuli: Annotated[
        Path | None, typer.Option(help="Table of the stimuli, for their categories.")
    ] = None,
    out_items: Annotated[
        Path | None, typer.Option(help="Scores of every picture and category (TSV).")
    ] = None,
    out_dimensions: Annotated[
        Path | None,
        typer.Option(help="Correlation, p and q of every embedding dimension (TSV)."),
    ] = None,
    options: Annotated[
        str | None, typer.Option(help="Options as YAML or JSON text, or a file with them.")
    ] = None,
) -> None:
    """Score the ranks, with chance, interval and p-value."""
    from dataclasses import asdict

    import pandas as pd

    from braindecode_clip.artifacts import Embeddings, Predictions, Retrieval
    from braindecode_clip.constants import SCHEMA_VERSION
    from braindecode_clip.evaluate import evaluate as score
    from braindecode_clip.evaluate.ceiling_signal import Repeats
    from braindecode_clip.evaluate.dimensions import COLUMNS
    from braindecode_clip.evaluate.items import as_categories
    from braindecode_clip.io.atomic import write_json
    from braindecode_clip.io.hdf5 import load_artifact, open_vectors
    from braindecode_clip.io.tables import read_tsv, write_tsv
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.provenance import make_provenance
    from braindecode_clip.retrieve import average_repeats
    from braindecode_clip.seeds import make_rng

    logger = get_logger(__name__)
    if (voxels is None) != (decoder is None):
        raise ConfigError(
            "evaluate: single trials are decoded with --voxels and --decoder together; got only "
            f"--{'decoder' if voxels is None else 'voxels'}. Give both, or neither."
        )
    config = read_options(options, EvaluateConfig)
    ranked = [path for path in (retrieval, reverse) if path is not None]
    retrievals = [load_artifact(path, Retrieval) for path in ranked]
    categories = {}
    if stimuli is not None:
        column = config.category_column
        shown = read_tsv(stimuli, required=["stimulus_id"], text=["stimulus_id", column])
        if column in shown:
            categories = as_categories(shown["stimulus_id"], shown[column])
    with (
        open_vectors(predictions, Predictions) as predicted,
        open_vectors(embeddings, Embeddings) as targets,
        milestone(logger, f"scored {retrieval.name}") as note,
    ):
        repeats = None
        if retrievals[0].info.get("averaged_predictions"):
            if len(predicted.vectors.shape) == 2:
                repeats = Repeats(predicted.vectors, predicted.stimulus_id)
            predicted = average_repeats(predicted)
        elif voxels is not None and decoder is not None and len(predicted.vectors.shape) == 2:
            repeats = _decoded_trials(voxels, decoder)
        # One stream for all subjects and decoders: the same seed permutes them alike.
        rng = make_rng(seed, "evaluate")
        result = score(
            retrievals,
            predicted,
            targets,
            rng=rng,
            options=config,
            categories=categories,
            repeats=repeats,
            records_required=True,
        )
        top = next((row for row in result.rows if row["metric"] == "top_1"), None)
        if top is not None:
            note(f"top-1 {top['value']:.3f}, chance {top['chance']:.3f}, n {top['n']}")
    provenance = make_provenance(
        "evaluate",
        options=config.model_dump(mode="json"),
        inputs=[*ranked, predictions, embeddings, *(p for p in (stimuli, voxels, decoder) if p)],
        seed=seed,
    )
    if out_table is not None:
        write_tsv(out_table, pd.DataFrame([*result.rows, *result.protocols]))
    if out_items is not None:
        write_tsv(out_items, pd.DataFrame(result.items))
    if out_dimensions is not None:
        write_tsv(out_dimensions, pd.DataFrame(result.dimension_rows, columns=list(COLUMNS)))
    write_json(
        out,
        {
            "schema_version": SCHEMA_VERSION,
            "provenance": asdict(provenance),
            "rows": result.rows,
            "pool_curve": result.pool_curve,
            "dimensions": result.dimensions,
            "power": result.power,
            "nulls": result.nulls,
            "notes": result.notes,
            "protocols": result.protocols,
            "transductive": result.transductive,
            "fitted": result.fitted,
        },
    )
    logger.info("wrote %s", out)


def _decoded_trials(voxels: Path, decoder: Path) -> Repeats | None:
    """Decode the single trials that the test rows average; None where they average nothing."""
    from braindecode_clip.artifacts import VoxelSet
    from braindecode_clip.decode import FittedDecoder
    from braindecode_clip.decode.single_trials import decode_trials
    from braindecode_clip.evaluate.ceiling_signal import Repeats
    from braindecode_clip.io.hdf5 import load_artifact

    found = decode_trials(load_artifact(decoder, FittedDecoder), load_artifact(voxels, VoxelSet))
    return None if found is None else Repeats(*found)


evaluate.__doc__ = f"{evaluate.__doc__}\n\n{options_help(EvaluateConfig)}"
