"""``braindecode-clip clip data``: describe a source of pairs before training on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from braindecode_clip.cli.clip_options import InitialOption

if TYPE_CHECKING:
    from collections.abc import Callable

    from braindecode_clip.config.clip import ClipRecipe
    from braindecode_clip.io.pair_source import PairSource


def data(
    path: Annotated[Path, typer.Argument(help="Pairs of any kind that `clip train` reads.")],
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Recipe: its tokenizer and context length, and its templates are used. "
            "Without one, or without towers in it, captions are counted in the tokens of "
            "--initial, or in CLIP's, context 77."
        ),
    ] = None,
    initial: InitialOption = None,
    split: Annotated[str | None, typer.Option(help="Look at this split alone.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="table, folder, coco, tar, datasets or scenes; recognised by default.",
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the pictures of COCO's JSON.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File for the same as JSON.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Threads that read and decode.")] = 2,
) -> None:
    """Describe pairs: numbers, repeats, groups, splits, corrupt files, lengths, sizes.

    Every picture is decoded and every file hashed. Corrupt pictures are listed; they do not
    make the command fail.
    """
    from braindecode_clip.cli.clip_pairs import with_templates
    from braindecode_clip.cli.common import read_options
    from braindecode_clip.clip.data_report import report_lines
    from braindecode_clip.config.clip import ClipRecipe
    from braindecode_clip.io.atomic import write_json
    from braindecode_clip.io.pairs import read_pairs

    config = None if recipe is None else read_options(recipe, ClipRecipe, flag="--recipe")
    source = read_pairs(path, kind=kind, split=split, images=images)
    if config is not None:
        source = with_templates(source, config.data)
    length, context = _measure(source, config, initial)
    report = _report(source, length, context, n_workers=workers)
    for line in report_lines(report):
        typer.echo(line)
    if out is not None:
        write_json(out, report)


def _measure(
    source: PairSource, recipe: ClipRecipe | None, initial: Path | None
) -> tuple[Callable[[str], int], int]:
    """Return what counts a caption's tokens, and the context they must fit in."""
    from braindecode_clip.clip.blueprint import text_towers_of
    from braindecode_clip.clip.initial import read_start
    from braindecode_clip.clip.model_tokenizers import ClipTokenizer, tokenizer_of
    from braindecode_clip.clip.torchvision_compat import import_open_clip

    if initial is not None:
        tokenizer = read_start(initial).tokenizer
    elif recipe is None or recipe.model.is_taken_over:
        tokenizer = ClipTokenizer(import_open_clip().tokenizer.SimpleTokenizer())
    else:
        captions = [caption for own in source.captions for caption in own]
        tokenizer = tokenizer_of(text_towers_of(recipe), lambda: captions)
    return tokenizer.length, tokenizer.context_length


def _report(
    source: PairSource, length: Callable[[str], int], context: int, *, n_workers: int
) -> dict[str, Any]:
    from braindecode_clip.clip.data_report import (
        describe_captions,
        describe_column,
        describe_pictures,
        leaks_between,
    )
    from braindecode_clip.io.pair_scan import look_at_pictures

    facts = look_at_pictures(source, n_workers=n_workers)
    digests = [fact.sha256 for fact in facts]
    return {
        "source": source.where,
        "kind": source.kind,
        "pictures": describe_pictures(
            source.names,
            digests=digests,
            sizes_px=[(fact.width, fact.height) for fact in facts],
            errors=[fact.error for fact in facts],
        ),
        "captions": describe_captions(source.captions, token_length=length, context_length=context),
        "labels": describe_column(source.labels),
        "groups": describe_column(source.groups),
        "splits": describe_column(source.splits),
        "in_several_splits": leaks_between(
            source.splits, {"groups": source.groups, "identical files": digests}
        ),
        "notes": list(source.notes),
    }
