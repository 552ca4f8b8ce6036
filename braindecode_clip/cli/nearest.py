"""``braindecode-clip nearest``: what is nearest to each prediction, among pictures or texts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from braindecode_clip.cli.common import options_help, read_options
from braindecode_clip.config.nearest import SearchConfig
from braindecode_clip.config.retrieve import CorrectionConfig, RetrieveConfig
from braindecode_clip.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np

    from braindecode_clip.artifacts import Gallery


def nearest(
    predictions: Annotated[Path, typer.Option(help="Predictions, written by `decode`.")],
    candidates: Annotated[Path, typer.Option(help="Candidates, written by `gallery` or `embed`.")],
    search: Annotated[
        str, typer.Option(help="The search (SearchConfig): YAML or JSON text, or a file.")
    ],
    out: Annotated[Path, typer.Option(help="Table to write (TSV): the nearest of each sample.")],
    out_samples: Annotated[
        Path | None,
        typer.Option(help="Table to write (TSV): one row a sample, with the true one's rank."),
    ] = None,
    out_facts: Annotated[
        Path | None,
        typer.Option(help="File to write (JSON): size, recall, correction, provenance."),
    ] = None,
    stimuli: Annotated[
        Path | None, typer.Option(help="Table of the stimuli (TSV), for `true_column`.")
    ] = None,
    decoder: Annotated[
        Path | None, typer.Option(help="The decoder, for a correction from training predictions.")
    ] = None,
    voxels: Annotated[
        Path | None, typer.Option(help="The voxels that the decoder was fitted on.")
    ] = None,
    options: Annotated[
        str | None, typer.Option(help="Options as YAML or JSON text, or a file with them.")
    ] = None,
    device: Annotated[
        str, typer.Option(help="Of an exact search: cpu, torch, cuda or cuda:N.")
    ] = "cpu",
) -> None:
    """Find the pictures or texts nearest to each prediction."""
    from braindecode_clip.artifacts import Predictions
    from braindecode_clip.cli.retrieve import own_options, training_predictions
    from braindecode_clip.constants import SCHEMA_VERSION
    from braindecode_clip.io.atomic import write_json
    from braindecode_clip.io.encoded import load_candidates
    from braindecode_clip.io.hdf5 import load_artifact
    from braindecode_clip.io.tables import write_tsv
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.provenance import make_provenance
    from braindecode_clip.retrieve import average_repeats
    from braindecode_clip.retrieve.open_search import open_search

    logger = get_logger(__name__)
    wanted = read_options(search, SearchConfig, flag="--search")
    config = own_options(wanted, read_options(options, RetrieveConfig))
    predicted = load_artifact(predictions, Predictions)
    pool = load_candidates(candidates)
    training, inputs = training_predictions(
        decoder, voxels, needed=config.needs_inductive_correction, config=config
    )
    if config.average_predictions:
        predicted = average_repeats(predicted)
    truth = None if wanted.true_column is None else _truth(stimuli, wanted.true_column)
    with milestone(logger, f"searched {wanted.name}") as note:
        found = open_search(
            predicted,
            pool,
            k=wanted.k,
            similarity=config.similarity,
            index=wanted.index,
            correction=config.correction,
            training=training,
            truth=truth,
            categories=_categories(pool, wanted.category_column),
            category_score=wanted.category_score,
            device=device,
        )
        note(f"{len(found.samples)} brain samples x {len(pool.ids)} {pool.modality}s")
    provenance = make_provenance(
        "nearest",
        options={
            "search": wanted.model_dump(mode="json"),
            "retrieve": config.model_dump(mode="json"),
        },
        inputs=[predictions, candidates, *inputs, *([stimuli] if truth is not None else [])],
    )
    if out_samples is not None:
        write_tsv(out_samples, found.samples)
    if out_facts is not None:
        write_json(
            out_facts,
            {
                "schema_version": SCHEMA_VERSION,
                "provenance": asdict(provenance),
                "search": wanted.name,
                **found.facts,
            },
        )
    write_tsv(out, found.nearest)
    logger.info("wrote %s", out)


nearest.__doc__ = (
    f"{nearest.__doc__}\n\n{options_help(SearchConfig, RetrieveConfig, CorrectionConfig)}"
)


def _truth(stimuli: Path | None, column: str) -> dict[str, str]:
    """Return the true candidate of every stimulus that has one."""
    from braindecode_clip.io.tables import read_tsv

    if stimuli is None:
        raise ConfigError("`true_column` is a column of the stimulus table: pass --stimuli.")
    names = dict.fromkeys(["stimulus_id", column])
    table = read_tsv(stimuli, required=names, text=names).dropna(subset=list(names))
    ids, true = table["stimulus_id"], table[column]
    if ids.duplicated().any():
        raise DataError(
            f"{stimuli}: stimulus_id must be unique; more than once: "
            f"{ids[ids.duplicated()].iloc[0]!r}."
        )
    return dict(zip(ids.astype(str), true.astype(str), strict=True))


def _categories(pool: Gallery, column: str | None) -> np.ndarray | None:
    if column is None:
        return None
    if column not in pool.metadata.columns:
        raise DataError(
            f"{pool.origin}: the candidates have no column '{column}'; theirs are "
            f"{', '.join(pool.metadata.columns) or 'none'}. Correct `category_column`."
        )
    return pool.metadata[column].fillna("").astype(str).to_numpy()
