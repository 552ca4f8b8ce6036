"""``braindecode-clip clip card``: the model card of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def card(
    model: Annotated[Path, typer.Option(help="Folder that `clip train` wrote.")],
    out: Annotated[
        Path | None, typer.Option(help="File to write; README.md in the folder by default.")
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            "--license", help="Identifier for the card's head, e.g. bsd-3-clause; none by default."
        ),
    ] = None,
) -> None:
    """Write the model card anew, e.g. after files of evaluations were added to the folder.

    Nothing that the run does not know is claimed; JSON files of figures in the folder are told of.
    """
    from braindecode_clip.logs import get_logger

    path = write_card(model, out=out, licence=licence)
    get_logger(__name__).info("wrote %s", path)


def write_card(folder: Path, *, out: Path | None = None, licence: str | None = None) -> Path:
    """Write the card of a model directory, unless somebody's own stands there.

    Raises
    ------
    ConfigError
        The file exists and was not written from a run.
    """
    from braindecode_clip.clip.model_card import CARD_FILE, may_replace, model_card
    from braindecode_clip.io.atomic import write_text

    path = folder / CARD_FILE if out is None else out
    may_replace(path)
    write_text(path, model_card(folder, licence=licence))
    return path
