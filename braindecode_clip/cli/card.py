"""``braindecode-clip card``: a card that says what a number is a number of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from braindecode_clip.errors import ConfigError, DataError

if TYPE_CHECKING:
    from braindecode_clip.cards import Card


def card(
    out: Annotated[Path, typer.Option(help="Card to write (JSON).")],
    metrics: Annotated[Path | None, typer.Option(help="Scores (JSON), from `evaluate`.")] = None,
    predictions: Annotated[Path | None, typer.Option(help="Predictions, from `decode`.")] = None,
    voxels: Annotated[Path | None, typer.Option(help="Voxels, from `voxels`.")] = None,
    retrieval: Annotated[
        Path | None, typer.Option(help="Ranks, brain to image, from `retrieve`.")
    ] = None,
    reverse: Annotated[
        Path | None, typer.Option(help="Ranks, image to brain, from `retrieve`.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Name of the data set, as other cards have it.")
    ] = None,
    published: Annotated[
        Path | None,
        typer.Option(
            help="Instead of all these: a published number typed by hand (YAML or JSON) with the "
            "keys of a card; data/published holds some."
        ),
    ] = None,
    out_text: Annotated[
        Path | None, typer.Option(help="The card as text to read too (Markdown).")
    ] = None,
) -> None:
    """Write the card of a result: data, pictures, repeats, voxels, encoder, decoder, protocol.

    Each score stands with its direction, candidates, interval, p-value, ceiling and chance.
    `compare` holds two cards against each other.
    """
    from braindecode_clip.cards import card_text
    from braindecode_clip.io.atomic import write_json, write_text
    from braindecode_clip.logs import get_logger

    logger = get_logger(__name__)
    measured = {"--metrics": metrics, "--predictions": predictions, "--voxels": voxels}
    measured |= {"--retrieval": retrieval, "--dataset": dataset}
    if published is not None:
        given = [flag for flag, value in {**measured, "--reverse": reverse}.items() if value]
        if given:
            raise ConfigError(f"--published stands alone: leave out {', '.join(given)}.")
        made = published_card(published)
    else:
        lacking = [flag for flag, value in measured.items() if value is None]
        if lacking:
            raise ConfigError(
                f"a card of a result needs {', '.join(lacking)} as well; a card of a published "
                "number needs --published alone."
            )
        made = measured_card(measured, reverse=reverse, out=out)
    if out_text is not None:
        write_text(out_text, card_text(made))
        logger.info("wrote %s", out_text)
    write_json(out, made.model_dump(mode="json"))
    logger.info("wrote %s", out)


def published_card(path: Path) -> Card:
    """Read a published number typed by hand."""
    from braindecode_clip.cards import parse_card
    from braindecode_clip.io.tables import read_yaml

    made = parse_card(read_yaml(path), where=str(path))
    if made.kind != "published":
        raise DataError(f"{path}: 'kind' is '{made.kind}', expected published.")
    return made


def measured_card(given: dict[str, Path | str | None], *, reverse: Path | None, out: Path) -> Card:
    """Read the files of a result and make its card."""
    from braindecode_clip.artifacts import Predictions, Retrieval, VoxelSet
    from braindecode_clip.cards import make_card
    from braindecode_clip.io.hdf5 import load_artifact, open_vectors, read_provenance
    from braindecode_clip.io.tables import read_json

    paths = {flag: Path(str(value)) for flag, value in given.items() if flag != "--dataset"}
    content = read_json(paths["--metrics"])
    if not isinstance(content, dict) or not isinstance(content.get("rows"), list):
        raise DataError(f"{paths['--metrics']}: holds no metrics. Expected the JSON of `evaluate`.")
    ranked = load_artifact(paths["--retrieval"], Retrieval)
    files = {"metrics": paths["--metrics"], "retrieval": paths["--retrieval"]}
    if reverse is not None:
        files["reverse"] = reverse
    with open_vectors(paths["--predictions"], Predictions) as predictions:
        return make_card(
            content,
            predictions,
            load_artifact(paths["--voxels"], VoxelSet),
            voxels_record=read_provenance(paths["--voxels"]),
            decoder_record=read_provenance(paths["--predictions"]),
            averaged_predictions=bool(ranked.info.get("averaged_predictions")),
            dataset=str(given["--dataset"]),
            files={
                name: Path(os.path.relpath(path, out.parent)).as_posix()
                for name, path in files.items()
            },
        )
