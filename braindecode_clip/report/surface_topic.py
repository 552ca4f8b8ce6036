"""The part of the page about the accuracy surface: figures, checks and all numbers."""

from __future__ import annotations

import pandas as pd

from braindecode_clip.config.study import StudyConfig
from braindecode_clip.evaluate.surface import WIDER
from braindecode_clip.report.numbers import NOTHING, count, decimal, is_number, percent, plain
from braindecode_clip.report.results import Order, label_text
from braindecode_clip.report.sections import Block, Studio
from braindecode_clip.report.surface_figure import repeats_text, surface_figure
from braindecode_clip.report.tables import Cell, Table

TITLE = "How much data, how many repeats, how many candidates"
_LABELS = ("subject", "roi", "split", "encoder", "decoder")
_KINDS = {
    "measured": "measured",
    "extrapolated": "extrapolated",
    "candidates": "extrapolated",
    "check": "predicted from half",
}


def surface_blocks(
    table: pd.DataFrame, order: Order, studio: Studio, study: StudyConfig
) -> tuple[Block, ...]:
    """Draw every surface, with what its check said below it."""
    blocks = []
    level = percent(study.surface.confidence, digits=0)
    for values, rows in table.groupby(list(_LABELS), sort=False):
        labels = dict(zip(_LABELS, map(str, values), strict=True))
        title = order.row_label(labels)
        varying = order.varying(["split", "encoder"])
        title += "".join(f", {label_text(key, labels[key])}" for key in varying)
        title += f", decoder {labels['decoder']}"
        drawing = studio.draw(
            surface_figure(rows),
            alt=f"{title}: top-{rows['k'].min()} accuracy. {_spoken(rows)}",
            caption="Random parts of the training data, each within the next, the mean of "
            f"{count(rows['n_seeds'].max())} orders; means of as many repeats as there are. "
            f"Bands: {level} intervals over test stimuli; for what is extrapolated (dashed) over "
            f"stimuli, orders and two laws of growth, widened by "
            f"{percent(WIDER - 1, digits=0)}. {check_text(rows)}",
        )
        blocks.append(Block(title, (drawing,), folded=bool(blocks)))
    return tuple(blocks)


def intro() -> str:
    """Say what the surface is for, and what its extrapolation rests on."""
    return (
        "Would more data help, or more repeats, and what would be left among more candidates? The "
        "decoder was fitted again on parts of the training data. Lines beyond the data are "
        "extrapolated: they take noise to fall with the number of repeats and the decoder's error "
        "with the amount of training data, or its square root, and more candidates to be like "
        "those there are."
    )


def describe_surface(study: StudyConfig) -> list[str]:
    """Say in the methods how the surface was measured; nothing where it was not."""
    options = study.surface
    if not options.enabled:
        return []
    shares = ", ".join(percent(share) for share in options.fractions)
    return [
        f"Decoders ({', '.join(options.decoders)}) were fitted again on {shares} of the training "
        f"data, in {plain(options.seeds)} random orders, and tested on means of fewer repeats; "
        "top-k is the expectation over all pools of candidates of a size. Extrapolations fit the "
        "inverse square of d' by terms in 1 / repeats, in the inverse of the training trials or "
        "of their root, and in the product; more candidates follow from a normal distribution of "
        "the probit of the share of candidates that are beaten."
    ]


def check_text(rows: pd.DataFrame) -> str:
    """Say whether the scores with all data were foreseen from half of them."""
    checks = rows[rows["kind"] == "check"]
    if not len(checks):
        return "There are too few amounts of data for a check of the extrapolation."
    held = checks["inside"].astype(str) == "True"
    off = 100 * (checks["value"] - checks["measured"]).astype(float)
    text = (
        f"Check: from at most half of the data, {count(held.sum())} of {count(len(checks))} "
        "scores with all data were foreseen within their intervals; on average they came out "
        f"{decimal(abs(off.mean()), digits=1)} points "
        f"{'lower' if off.mean() > 0 else 'higher'} than foreseen."
    )
    if held.mean() < 0.9:
        text += " The extrapolation missed more than it should: take it with care."
    return text


def surface_numbers(table: pd.DataFrame) -> Table:
    """Every point of the surfaces."""
    rows = [
        (
            *(Cell(str(row[key])) for key in _LABELS),
            Cell(_KINDS[row["kind"]]),
            Cell(count(row["n_train"]), number=True),
            Cell(plain(row["n_repeats"]), number=True),
            Cell(count(row["pool_size"]), number=True),
            Cell(count(row["k"]), number=True),
            Cell(
                percent(row["value"]),
                number=True,
                detail=f"{percent(row['ci_low'])} to {percent(row['ci_high'])}",
            ),
            Cell(percent(row["measured"]) if is_number(row["measured"]) else NOTHING, number=True),
            Cell(percent(row["chance"]), number=True),
        )
        for row in table.to_dict("records")
    ]
    columns = ("Subject", "ROI", "Split", "Encoder", "Decoder", "How", "Training trials")
    columns += ("Repeats", "Candidates", "Top-k", "Value", "Really", "Chance")
    caption = "Accuracy against training data, repeats and candidates"
    return Table(caption, columns, tuple(rows), n_heads=6)


def _spoken(rows: pd.DataFrame) -> str:
    """Say the ends of every measured line, and the furthest that is foreseen."""
    top = rows[rows["k"] == rows["k"].min()]
    top = top[top["pool_size"] == top.loc[top["kind"] == "measured", "pool_size"].max()]
    said = []
    for kind, word in (("measured", ""), ("extrapolated", "foreseen ")):
        for number, line in top[top["kind"] == kind].groupby("n_repeats"):
            ends = line.sort_values("n_train").iloc[[0, -1]]
            points = " and ".join(
                f"{word}{percent(row['value'])} with {count(row['n_train'])} training trials"
                for row in ends.drop_duplicates().to_dict("records")
            )
            said.append(f"{repeats_text(float(number))}: {points}")
    return "; ".join(said)
