"""``braindecode-clip config``: check a study's config, print its schema or its table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Check a study's config, or print what it may hold.",
)


@app.command()
def check(
    files: Annotated[
        list[Path], typer.Argument(help="Config files (YAML); later ones override earlier ones.")
    ],
) -> None:
    """Check a config as the workflow would: unknown keys, types, ranges, double names."""
    from braindecode_clip.config.study import parse_study
    from braindecode_clip.io.tables import read_yaml

    merged: dict = {}
    for path in files:
        _merge(merged, read_yaml(path) or {})
    study = parse_study(merged, where=" + ".join(map(str, files)))
    typer.echo(f"{study.study}: the config is valid")


@app.command()
def schema(
    out: Annotated[Path | None, typer.Option(help="File to write; the terminal if left out.")] = (
        None
    ),
) -> None:
    """Print the JSON schema that the workflow validates against."""
    from braindecode_clip.config.study import json_schema
    from braindecode_clip.io.atomic import write_text

    text = json.dumps(json_schema(), indent=2) + "\n"
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)


@app.command()
def options(
    out: Annotated[Path | None, typer.Option(help="File to write; the terminal if left out.")] = (
        None
    ),
) -> None:
    """Print every option with its type, default and meaning, as Markdown."""
    from braindecode_clip.config.document import document_study
    from braindecode_clip.io.atomic import write_text

    text = document_study()
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)


def _merge(base: dict, update: dict) -> None:
    """Merge ``update`` into ``base`` deeply, as Snakemake merges config files."""
    for key, value in update.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value
