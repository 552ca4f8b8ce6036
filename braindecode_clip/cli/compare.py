"""``braindecode-clip compare``: decoders side by side, or two result cards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from braindecode_clip.errors import ConfigError


def compare(
    cards: Annotated[
        list[Path] | None,
        typer.Argument(help="Two result cards (JSON), from `card`: may they be compared?"),
    ] = None,
    decoder: Annotated[
        list[Path] | None, typer.Option(help="Fitted decoder, from `decode`; once for each.")
    ] = None,
    metrics: Annotated[
        list[Path] | None, typer.Option(help="Scores (JSON), from `evaluate`; once for each.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Table of the decoders (TSV), or what came of two cards (JSON)."),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Of two cards: the metric. Default top_1.")
    ] = None,
    direction: Annotated[
        str | None,
        typer.Option(
            help="Of two cards: brain_to_image or image_to_brain. Default: one that both have."
        ),
    ] = None,
) -> None:
    """Compare decoders, or two result cards.

    With two cards: says of every part whether it is the same, differs and matters, or differs and
    does not matter; whether the numbers may be compared at all; and how far they lie apart, paired
    by picture where the test pictures are the same and their ranks are there. Exit code 0 when
    they are comparable, 3 when they are not.

    With --decoder, --metrics and --out: a table of decoders, out-of-fold scores of the training
    part beside those of the test part.

    The column `best` marks the decoder with the highest out-of-fold pairwise identification of
    a subject, split and encoder, `best_of_roi` that of an ROI. No test score has a part in it.
    `validation_by` says how out-of-fold predictions were made: cross_validation (closed forms:
    the rows were not trained on, but had a part in the choice of penalties), cross_fit (networks
    and contrastive decoders: the rows had a part in nothing), stopping_rows (by networks that
    stopped by the same rows: optimistic), or none (kind shared keeps no out-of-fold predictions
    and is never chosen).
    """
    if cards:
        if decoder or metrics:
            raise ConfigError(
                "two cards are compared, or decoders with --decoder and --metrics; not both at "
                "once. Leave out one of them."
            )
        if len(cards) != 2:
            raise ConfigError(f"got {len(cards)} cards, expected two.")
        from braindecode_clip.cli.compare_cards import compare_two_cards

        compare_two_cards(cards, metric=metric or "top_1", direction=direction, out=out)
        return
    if not (decoder and metrics and out):
        raise ConfigError(
            "give two result cards, or --decoder, --metrics and --out for a table of decoders."
        )
    if metric or direction:
        raise ConfigError("--metric and --direction choose a score of two cards: name the cards.")
    from braindecode_clip.decode import FittedDecoder
    from braindecode_clip.decode.compare import compare_decoders
    from braindecode_clip.errors import DataError
    from braindecode_clip.io.hdf5 import load_artifact
    from braindecode_clip.io.tables import read_json, write_tsv
    from braindecode_clip.logs import get_logger, milestone

    logger = get_logger(__name__)
    with milestone(logger, "compared") as note:
        rows = []
        for path in metrics:
            content = read_json(path)
            if not isinstance(content, dict) or not isinstance(content.get("rows"), list):
                raise DataError(f"{path}: holds no metrics. Expected the JSON of `evaluate`.")
            rows += content["rows"]
        fitted = (load_artifact(path, FittedDecoder) for path in decoder)
        table = compare_decoders(fitted, rows)
        if not len(table):
            raise DataError("none of the metrics is of one of the decoders: pass those of each.")
        note(f"{len(decoder)} decoders, {len(table)} rows")
    write_tsv(out, table)
    logger.info("wrote %s", out)
