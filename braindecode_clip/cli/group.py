"""``braindecode-clip group``: statistics over the subjects, ROIs and decoders of a study."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from braindecode_clip.cli.common import options_help, read_options
from braindecode_clip.config.group import GroupConfig

if TYPE_CHECKING:
    from braindecode_clip.artifacts import Retrieval
    from braindecode_clip.evaluate.group_labels import Exchange


def group(
    retrieval: Annotated[
        list[Path],
        typer.Option(
            help="Ranks, brain to image, from `retrieve`; once for each subject, ROI and decoder."
        ),
    ],
    predictions: Annotated[
        list[Path], typer.Option(help="Predictions, from `decode`; once for each of them.")
    ],
    seed: Annotated[int, typer.Option(help="Seed of all permutations and resamples.")],
    out: Annotated[Path, typer.Option(help="File to write (JSON).")],
    reverse: Annotated[
        list[Path] | None,
        typer.Option(help="Ranks, image to brain, from `retrieve --out-reverse`; once for each."),
    ] = None,
    out_table: Annotated[
        Path | None, typer.Option(help="The rows of the JSON as a table too (TSV).")
    ] = None,
    out_pairs: Annotated[
        Path | None, typer.Option(help="The paired comparisons as a table too (TSV).")
    ] = None,
    options: Annotated[
        str | None, typer.Option(help="Options as YAML or JSON text, or a file with them.")
    ] = None,
) -> None:
    """Compare subjects, ROIs and decoders of one split, encoder and gallery.

    Scores of each subject get p-values corrected over ROIs, decoders and directions. With
    several subjects: means with intervals, p, how many subjects are above chance, prevalence.
    Decoders (and ROIs) are compared in pairs on the same test samples.
    """
    from dataclasses import asdict

    import pandas as pd

    from braindecode_clip.constants import SCHEMA_VERSION
    from braindecode_clip.evaluate.group import group as compare_all
    from braindecode_clip.io.atomic import write_json
    from braindecode_clip.io.tables import write_tsv
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.provenance import make_provenance

    logger = get_logger(__name__)
    config = read_options(options, GroupConfig)
    ranked = [*retrieval, *(reverse or [])]
    with milestone(logger, "compared subjects, ROIs and decoders") as note:
        exchange = _read_exchange(ranked, predictions, unequal=config.exchange_unequal)
        result = compare_all(_one_by_one(ranked), exchange, options=config, seed=seed)
        note(
            f"{len(exchange.item_of)} subjects, {len(ranked)} rankings, {len(result.rows)} scores, "
            f"{len(result.pairs)} paired comparisons"
        )
    provenance = make_provenance(
        "group",
        options=config.model_dump(mode="json"),
        inputs=[*ranked, *predictions],
        seed=seed,
    )
    if out_table is not None:
        write_tsv(out_table, pd.DataFrame(result.rows))
    if out_pairs is not None:
        write_tsv(out_pairs, pd.DataFrame(result.pairs))
    write_json(
        out,
        {
            "schema_version": SCHEMA_VERSION,
            "provenance": asdict(provenance),
            "rows": result.rows,
            "pairs": result.pairs,
            "notes": result.notes,
            "transductive": result.transductive,
        },
    )
    logger.info("wrote %s", out)


def _read_exchange(ranked: list[Path], predictions: list[Path], *, unequal: bool) -> Exchange:
    """Read from the first file of every subject which labels may change places."""
    from braindecode_clip.artifacts import Predictions, Retrieval
    from braindecode_clip.checks import Problems, some
    from braindecode_clip.evaluate.group_labels import exchange_of
    from braindecode_clip.io.hdf5 import open_artifact, open_vectors

    units: dict[str, set[str]] = {}
    for path in predictions:
        with open_vectors(path, Predictions) as predicted:
            units.setdefault(str(predicted.info.get("subject", "")), set()).add(predicted.unit)
    samples = {}
    for path in ranked:
        with open_artifact(path, Retrieval, lazy=("similarity",)) as found:
            subject = str(found.info.get("subject", ""))
            queries = found.queries
            if subject not in samples:
                samples[subject] = (
                    queries["stimulus_id"].to_numpy().astype(str),
                    queries["group"].to_numpy().astype(str),
                )
    problems = Problems("group")
    lacking = sorted(set(samples) - set(units))
    if lacking:
        problems.add(
            f"no predictions of subjects {some(lacking)}, which say how the split holds out. Pass "
            "those that the retrievals were made from."
        )
    unit = set().union(*units.values())
    if len(unit) > 1:
        problems.add(f"expected predictions of one split, got some that hold out {some(unit)}.")
    problems.raise_if_any()
    return exchange_of(samples, unit.pop(), unequal=unequal)


def _one_by_one(paths: list[Path]) -> Iterator[Retrieval]:
    """Read retrievals when they are asked for: those of a study need not fit into memory."""
    from braindecode_clip.artifacts import Retrieval
    from braindecode_clip.io.hdf5 import load_artifact

    for path in paths:
        yield load_artifact(path, Retrieval)


group.__doc__ = f"{group.__doc__}\n\n{options_help(GroupConfig)}"
