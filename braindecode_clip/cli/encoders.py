"""``braindecode-clip encoders``: which encoders there are, and which are on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from braindecode_clip.errors import ConfigError

if TYPE_CHECKING:
    from braindecode_clip.clip.catalogue import Entry

_KINDS = ("scenes", "open_clip", "hub", "local", "timm", "sentence_transformers")


def encoders(
    name: Annotated[
        str | None, typer.Option(help="Only the model of exactly this name, with all its tags.")
    ] = None,
    filter_: Annotated[
        str | None,
        typer.Option("--filter", help="Only models whose name or tag contains this, in any case."),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Only these kinds: {', '.join(_KINDS)}. The many tags of timm are listed only "
            "with --kind timm."
        ),
    ] = None,
    here: Annotated[
        bool, typer.Option("--here", help="Only models whose weights are on this machine.")
    ] = False,
    folder: Annotated[
        list[Path] | None, typer.Option(help="Search this folder for model directories too.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Table to write (TSV), instead of printing it.")
    ] = None,
    docs: Annotated[
        Path | None,
        typer.Option(help="Write a Markdown table of all models, whatever is on this machine."),
    ] = None,
    tsv: Annotated[
        bool, typer.Option("--tsv", help="Print tab-separated, with full paths.")
    ] = False,
) -> None:
    """List encoders: dimensions, input size, weights, licence, and whether they are here.

    Kind, model and tag go into an encoder's config as `kind`, `model` and `pretrained`.
    """
    unknown = sorted(set(kind or []) - set(_KINDS))
    if unknown:
        raise ConfigError(f"--kind: unknown {', '.join(unknown)}. Known: {', '.join(_KINDS)}.")
    from braindecode_clip.clip.catalogue import document_encoders, entries, write_rows
    from braindecode_clip.io.atomic import write_text

    if docs is not None:
        write_text(docs, document_encoders())
        return
    kinds = list(kind) if kind else None
    found = [
        entry
        for entry in entries(kinds=kinds, folders=folder or [])
        if (name is None or entry.model == name)
        and (filter_ is None or filter_.lower() in f"{entry.model} {entry.tag}".lower())
        and (not here or entry.on_machine)
    ]
    if not found:
        raise ConfigError(_nothing(name or filter_, kinds, here=here))
    rows = write_rows(found)
    text = "".join("\t".join(row) + "\n" for row in rows)
    if out is not None:
        write_text(out, text)
        return
    typer.echo(text if tsv else _aligned(found), nl=False)


def _nothing(wanted: str | None, kinds: list[str] | None, *, here: bool) -> str:
    """Say that nothing was found, with the nearest names."""
    import difflib

    from braindecode_clip.clip.catalogue import entries

    names = {entry.model for entry in entries(kinds=kinds)}
    lower = {item.lower(): item for item in names}
    near = difflib.get_close_matches((wanted or "").lower(), lower, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(lower[item]) for item in near)}?" if near else ""
    where = " on this machine" if here else ""
    what = f" that fits '{wanted}'" if wanted else ""
    return f"no encoder{what}{where}.{hint} Without options, `encoders` lists all."


def _aligned(found: list[Entry]) -> str:
    """Return columns for a terminal: weights in millions, yes or no for the machine."""
    rows = [["kind", "model", "tag", "of", "dims", "px", "weights", "licence", "here"]]
    for entry in found:
        millions = "-" if entry.n_parameters is None else f"{entry.n_parameters / 1e6:.1f}M"
        rows.append(
            [
                entry.kind,
                entry.model,
                entry.tag or "-",
                entry.modalities,
                str(entry.n_dims or "-"),
                str(entry.image_size_px or "-"),
                millions,
                entry.licence,
                "yes" if entry.on_machine else "no",
            ]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    n_here = sum(bool(entry.on_machine) for entry in found)
    return "\n".join([*lines, f"{len(found)} encoders, {n_here} on this machine", ""])
