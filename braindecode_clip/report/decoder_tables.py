"""Tables about the decoders, as text ready to print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from braindecode_clip.report.fitted import with_steps
from braindecode_clip.report.numbers import NOTHING, count, decimal, is_number, percent
from braindecode_clip.report.results import metric_name
from braindecode_clip.report.tables import Cell, Table

_MAPS = {"learned": "learned map", "random": "random map", "prior": "no data (random prior)"}


def comparison_table(table: pd.DataFrame) -> Table:
    """Out-of-fold scores beside test scores, and the choice."""
    rows = []
    for row in table.to_dict("records"):
        chosen = "in its ROI" if is_true(row["best_of_roi"]) else ""
        best = is_true(row["best"])
        name = str(row["decoder"])
        rows.append(
            (
                *(Cell(str(row[key])) for key in ("subject", "roi", "split", "encoder")),
                Cell(name, detail="transductive" if is_true(row["transductive"]) else ""),
                Cell(str(row["gallery"])),
                Cell(
                    percent(row["validation_pairwise"]),
                    number=True,
                    clear=best,
                    detail="optimistic" if is_optimistic(row) else "",
                ),
                Cell(decimal(row["validation_r2"], digits=3), number=True),
                _with_interval(
                    row, "test_pairwise", "test_pairwise_ci_low", "test_pairwise_ci_high"
                ),
                Cell(percent(row["test_top_1"]), number=True),
                Cell("of all" if best else chosen or NOTHING),
            )
        )
    columns = ("Subject", "ROI", "Split", "Encoder", "Decoder", "Gallery", "Validation, pairwise")
    columns += ("Validation, R²", "Test, pairwise", "Test, Top-1", "Best on validation")
    caption = (
        "Decoders: out-of-fold scores within the training part (validation) beside the test "
        "scores, brain → image. The best one is chosen on validation alone. Closed forms (ridge "
        "and its kin) are scored by cross-validation, in which the scored rows too had a part in "
        "the choice of penalties; networks and contrastive decoders by cross-fitting, in which "
        "they had none. Optimistic: of rows by which the networks were stopped."
    )
    if table["validation_pairwise"].isna().any():
        caption += (
            " Without a validation score: decoders that keep no out-of-fold predictions, as those "
            "of several subjects together, which are never chosen."
        )
    steps = table.get("transductive_steps", [""] * len(table))
    return with_steps(Table(caption, columns, tuple(rows), n_heads=6), steps)


def is_optimistic(row: Mapping[str, Any]) -> bool:
    """Whether validation scored rows by which a network was stopped."""
    return "stopping_rows" in str(row["validation_by"])


def bottleneck_table(table: pd.DataFrame) -> Table:
    """Identification against the rank of the map."""
    rows = [
        (
            Cell(str(row["subject"])),
            Cell(str(row["roi"])),
            Cell(str(row["split"])),
            Cell(_MAPS[row["map"]]),
            Cell(count(row["rank"]), number=True),
            _with_interval(row, "pairwise", "ci_low", "ci_high"),
            Cell(decimal(row["cosine"], digits=3), number=True),
        )
        for row in table.to_dict("records")
    ]
    columns = ("Subject", "ROI", "Split", "Map", "Rank", "Pairwise, test stimuli", "Cosine")
    caption = "Bottleneck: identification against the rank of the map from voxels to embedding"
    return Table(caption, columns, tuple(rows), n_heads=4)


def importance_table(table: pd.DataFrame) -> Table:
    """What is lost without each part of a region."""
    rows = [
        (
            *(Cell(str(row[key])) for key in ("subject", "roi", "split", "decoder")),
            Cell(left_out(row) or NOTHING),
            Cell(count(round(row["n_voxels"])), number=True),
            Cell(percent(row["out_of_fold_pairwise"]), number=True),
            Cell(percent(row["pairwise"]), number=True),
            _with_interval(row, "loss", "loss_ci_low", "loss_ci_high"),
        )
        for row in table.to_dict("records")
    ]
    columns = ("Subject", "ROI", "Split", "Decoder", "Left out", "Voxels")
    columns += ("Validation, pairwise", "Test, pairwise", "Loss on test")
    caption = "Leave one ROI out: fitted again without the voxels of one part of the region"
    return Table(caption, columns, tuple(rows), n_heads=5)


def curve_table(table: pd.DataFrame) -> Table:
    """Every point of the calibration curves."""
    rows = [
        (
            *(Cell(str(row[key])) for key in ("subject", "roi", "split", "encoder", "fitted")),
            Cell(str(row["decoder"])),
            Cell(metric_name(str(row["metric"]))),
            Cell(decimal(row["minutes"], digits=1), number=True),
            _with_interval(row, "value", "low", "high"),
            Cell(percent(row["chance"]), number=True),
        )
        for row in table.to_dict("records")
    ]
    columns = ("Subject", "ROI", "Split", "Encoder", "Helped by", "Decoder", "Score", "Minutes")
    caption = "Accuracy against minutes of training data, and differences of the decoders"
    return Table(caption, (*columns, "Value", "Chance"), tuple(rows), n_heads=7)


def _with_interval(row: Mapping[str, Any], value: str, low: str, high: str) -> Cell:
    detail = ""
    if is_number(row[low]) and is_number(row[high]):
        detail = f"{percent(row[low])} to {percent(row[high])}"
    return Cell(percent(row[value]), number=True, detail=detail)


def is_true(value: object) -> bool:
    """Tell whether a cell of a table that was read says True."""
    return str(value) == "True"


def left_out(row: Mapping[str, Any]) -> str:
    """Return the part that was left out; nothing for the whole region."""
    return row["left_out"] if isinstance(row["left_out"], str) else ""
