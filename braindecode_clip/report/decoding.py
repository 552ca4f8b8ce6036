"""The part of the page about decoders: compared, by rank, by minutes of data, without an ROI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from braindecode_clip.config.study import StudyConfig
from braindecode_clip.report.curve_figure import curve_figure
from braindecode_clip.report.decoder_figures import Contender, bottleneck_figure, forest_figure
from braindecode_clip.report.decoder_tables import (
    bottleneck_table,
    comparison_table,
    curve_table,
    importance_table,
    is_optimistic,
    is_true,
    left_out,
)
from braindecode_clip.report.figures import Dot, accuracy_figure
from braindecode_clip.report.numbers import decimal, percent
from braindecode_clip.report.results import Order, label_text, matching, metric_name
from braindecode_clip.report.sections import Block, Drawing, Studio, panel_columns
from braindecode_clip.report.surface_topic import TITLE, intro, surface_blocks, surface_numbers
from braindecode_clip.report.tables import Table


@dataclass(frozen=True)
class Topic:
    """One question about the decoders: its figures, and all numbers in a table."""

    title: str
    intro: str
    blocks: tuple[Block, ...]
    table: Table


def decoding_topics(
    decoding: Mapping[str, pd.DataFrame], order: Order, studio: Studio, *, study: StudyConfig
) -> list[Topic]:
    """Return what the study measured about its decoders.

    Parameters
    ----------
    decoding : mapping of str to DataFrame
        Tables "comparison", "bottleneck", "curves", "surface" and "importance"; each may be
        absent or empty.
    order : Order
    studio : Studio
    study : StudyConfig
    """
    makers = {
        "comparison": _comparison_topic,
        "bottleneck": _bottleneck_topic,
        "curves": _curve_topic,
        "surface": _surface_topic,
        "importance": _importance_topic,
    }
    return [
        make(order.sort(decoding[name]), order, studio, study)
        for name, make in makers.items()
        if len(decoding.get(name, pd.DataFrame()))
    ]


def _comparison_topic(
    table: pd.DataFrame, order: Order, studio: Studio, study: StudyConfig
) -> Topic:
    blocks = []
    for setting in order.settings(table):
        panels: dict[str, list[Contender]] = {}
        for row in matching(table, **setting).to_dict("records"):
            numbers = ("test_pairwise", "test_pairwise_ci_low", "test_pairwise_ci_high")
            contender = Contender(
                str(row["decoder"]),
                *(float(row[key]) for key in (*numbers, "validation_pairwise")),
                state=_state(row, several_rois=bool(order.varying(["roi"]))),
            )
            panels.setdefault(order.row_label(row), []).append(contender)
        names = [
            name
            for name in order.names["decoder"]
            if any(name == c.decoder for contenders in panels.values() for c in contenders)
        ]
        title = f"Every decoder: {order.setting_title(setting)}"
        drawing = studio.draw(
            forest_figure(panels, names, columns=panel_columns(panels, order)),
            alt=f"{title}. Pairwise identification, chance 50 %. "
            + "; ".join(f"{row}: {_spoken(own)}" for row, own in panels.items()),
            caption=f"Test scores with {percent(study.evaluate.confidence, digits=0)} intervals. "
            "The ring is the score on validation, of out-of-fold predictions among the training "
            "stimuli; it alone decides who is marked as chosen. Compare rings with rings: other "
            "candidates, and trials that are not averaged, set them apart from the test scores.",
            small=len(panels) == 1,
        )
        blocks.append(Block(title, (drawing,), folded=bool(blocks)))
    intro = (
        "The best decoder is chosen on validation, never by a test score: choosing by the test "
        "set and reporting the same test set would report luck. So the one that is marked need not "
        "be the one furthest to the right."
    )
    if any(is_optimistic(row) for row in table.to_dict("records")):
        intro += (
            " Where it says optimistic, the rows that a network is validated on also ended its "
            "training, so its validation score is on the high side."
        )
    return Topic("Which decoder", intro, tuple(blocks), comparison_table(table))


def _state(row: Mapping[str, Any], *, several_rois: bool) -> str:
    if is_true(row["transductive"]):
        return "transductive"
    if is_true(row["best"]):
        return "chosen"
    return "chosen in its ROI" if several_rois and is_true(row["best_of_roi"]) else ""


def _spoken(contenders: list[Contender]) -> str:
    said = []
    for c in contenders:
        state = f", {c.state}" if c.state else ""
        said.append(
            f"{c.decoder} {percent(c.value)} ({percent(c.low)} to {percent(c.high)}), "
            f"validation {percent(c.validation)}{state}"
        )
    return ", ".join(said)


def _bottleneck_topic(
    table: pd.DataFrame, order: Order, studio: Studio, study: StudyConfig
) -> Topic:
    blocks = []
    for setting in order.settings(table):
        part = matching(table, **setting)
        panels = {
            order.row_label({"subject": subject, "roi": roi}): rows
            for (subject, roi), rows in part.groupby(["subject", "roi"], sort=False)
        }
        title = _titled("Accuracy against rank", order, setting)
        drawing = studio.draw(
            bottleneck_figure(panels, columns=panel_columns(panels, order)),
            alt=f"{title}. Pairwise identification, chance 50 %. "
            + "; ".join(f"{row}: {_spoken_ranks(rows)}" for row, rows in panels.items()),
            caption="Ridge regression whose map has the given rank; ridge on as many random "
            "combinations of voxels; and a prior that draws the embedding of a training stimulus "
            f"and sees no voxel. Bands: {percent(study.bottleneck.confidence, digits=0)} "
            "intervals.",
            small=len(panels) == 1,
        )
        blocks.append(Block(title, (drawing,), folded=bool(blocks)))
    intro = (
        "How few dimensions have to pass from the brain for this score? What a map of rank 1 or "
        "2, or a prior without any data, reaches already is no evidence of detail that was read "
        "out (BrainBits, Mayo et al. 2024, arXiv:2411.02783)."
    )
    return Topic("Through how narrow a bottleneck", intro, tuple(blocks), bottleneck_table(table))


def _spoken_ranks(rows: pd.DataFrame) -> str:
    names = {"learned": "learned map", "random": "random map", "prior": "random prior"}
    said = []
    for name, label in names.items():
        line = rows[rows["map"] == name].sort_values("rank").to_dict("records")
        if name == "prior":
            said += [f"{label} {percent(row['pairwise'])}" for row in line]
        else:
            points = ", ".join(f"rank {row['rank']} {percent(row['pairwise'])}" for row in line)
            said.append(f"{label} {points}")
    return ", ".join(said)


def _curve_topic(table: pd.DataFrame, order: Order, studio: Studio, study: StudyConfig) -> Topic:
    blocks: list[Block] = []
    keys = ["subject", "roi", "split", "encoder", "fitted"]
    n_fitted = table["fitted"].nunique()
    counted = (
        "that they took" if study.calibration_curve.trial_s is None else "of their training trials"
    )
    for values, rows in table.groupby(keys, sort=False):
        labels = dict(zip(keys, map(str, values), strict=True))
        title = order.row_label(labels)
        title += "".join(
            f", {label_text(key, labels[key])}" for key in order.varying(["split", "encoder"])
        )
        title += f", decoder {labels['fitted']}" if n_fitted > 1 else ""
        drawing = studio.draw(
            curve_figure(rows),
            alt=f"{title}: accuracy against minutes of training data. {_spoken_curve(rows)}",
            caption=f"After the first runs of the subject, by the minutes {counted}; "
            f"candidates are the test pictures; bands: {percent(0.95, digits=0)} intervals over "
            "pictures.",
        )
        blocks.append(Block(title, (drawing,), folded=bool(blocks)))
    intro = (
        "How soon can a new subject be decoded: by a decoder fitted on that subject alone, and "
        "by one that is helped by the other subjects."
    )
    return Topic("How many minutes of data", intro, tuple(blocks), curve_table(table))


def _spoken_curve(rows: pd.DataFrame) -> str:
    """Say first and last point of every line."""
    said = []
    scores = rows[rows["chance"].notna()]
    for (metric, decoder), line in scores.groupby(["metric", "decoder"], sort=False):
        ends = line.sort_values("minutes").iloc[[0, -1]].to_dict("records")
        points = " and ".join(
            f"{percent(row['value'])} after {decimal(row['minutes'], digits=1)} minutes"
            for row in ends[: len(line)]
        )
        chance = percent(ends[0]["chance"])
        said.append(f"{metric_name(str(metric))}, {decoder}: {points} (chance {chance})")
    return "; ".join(said)


def _surface_topic(table: pd.DataFrame, order: Order, studio: Studio, study: StudyConfig) -> Topic:
    blocks = surface_blocks(table, order, studio, study)
    return Topic(TITLE, intro(), blocks, surface_numbers(table))


def _importance_topic(
    table: pd.DataFrame, order: Order, studio: Studio, study: StudyConfig
) -> Topic:
    blocks = []
    for setting in order.settings(table):
        part = matching(table, **setting)
        blocks.append(
            _importance_block(part, setting, order, studio, study=study, folded=bool(blocks))
        )
    intro = (
        "What identification on the test set loses when the decoder is fitted again without one "
        "part of the region. A part that others can stand in for loses nothing, so a loss of 0 "
        "does not say that the part holds nothing."
    )
    return Topic("Without one region", intro, tuple(blocks), importance_table(table))


def _importance_block(
    part: pd.DataFrame,
    setting: dict[str, str],
    order: Order,
    studio: Studio,
    *,
    study: StudyConfig,
    folded: bool,
) -> Block:
    """Draw the losses of one setting: a panel for each subject, a line for each part."""
    panels: dict[str, list[Dot]] = {}
    lost = [row for row in part.to_dict("records") if left_out(row)]
    for row in lost:
        numbers = (float(row[key]) for key in ("loss", "loss_ci_low", "loss_ci_high"))
        dot = Dot(f"without {left_out(row)}", str(row["decoder"]), *numbers, chance=0.0)
        panels.setdefault(order.row_label(row), []).append(dot)
    dots = [dot for own in panels.values() for dot in own]
    series = [name for name in order.names["decoder"] if any(name == d.series for d in dots)]
    ends = 100 * np.array([(dot.low, dot.high) for dot in dots])
    title = _titled("Loss without one region", order, setting)
    figure = accuracy_figure(
        panels,
        series,
        limits=(min(0.0, ends.min()), max(0.0, ends.max())),
        xlabel="loss of pairwise identification (percentage points)",
        reference="no loss",
    )
    drawing: Drawing = studio.draw(
        figure,
        alt=f"{title}, in percentage points of pairwise identification. "
        + "; ".join(
            f"{row}: "
            + ", ".join(
                f"{d.row}, {d.series} {_points(d.value)} ({_points(d.low)} to {_points(d.high)})"
                for d in own
            )
            for row, own in panels.items()
        ),
        caption="Whole region minus the region without the part, paired over test samples, with "
        f"{percent(study.importance.confidence, digits=0)} intervals; to the right of the "
        "stroke identification is worse without the part.",
    )
    return Block(title, (drawing,), folded=folded)


def _points(share: float) -> str:
    return decimal(100 * share, digits=1)


def _titled(name: str, order: Order, setting: Mapping[str, str]) -> str:
    """Return a title, with what tells its setting from others."""
    title = order.setting_title(setting)
    return f"{name}: {title}" if title else name
