"""The part of the page about the study as a whole: over subjects, and decoders in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from braindecode_clip.config.group import GroupConfig
from braindecode_clip.report.decoding import Topic
from braindecode_clip.report.group_figures import (
    Line,
    differences_figure,
    means_figure,
    spoken_difference,
)
from braindecode_clip.report.group_tables import group_table, pair_table, subject_table
from braindecode_clip.report.numbers import number_or_nan, percent
from braindecode_clip.report.results import (
    BRAIN_TO_IMAGE,
    DIRECTIONS,
    PAIRWISE,
    TOP_1,
    Order,
    matching,
    metric_name,
)
from braindecode_clip.report.sections import Block, Studio

#: Pairs of decoders that one figure has room for.
_MOST_LINES = 30
#: What the figures and tables show; the TSV files have every score in both directions.
SHOWN = (TOP_1, PAIRWISE)


def group_topics(
    group: Mapping[str, pd.DataFrame], order: Order, studio: Studio, *, options: GroupConfig
) -> list[Topic]:
    """Return what holds over subjects, what survives correction, and how pairs compare.

    Parameters
    ----------
    group : mapping
        Tables "rows" and "pairs" of `group`; each may be absent or empty.
    order : Order
    studio : Studio
    options : GroupConfig
    """
    rows = group.get("rows", pd.DataFrame())
    pairs = group.get("pairs", pd.DataFrame())
    topics = []
    if len(rows):
        rows = rows[rows["metric"].isin(SHOWN)]
        subjects = order.sort(matching(rows, level="subject"))
        means = order.sort(matching(rows, level="group").drop(columns="subject"))
        if len(means):
            topics.append(_means_topic(means, subjects, order, studio, options))
        topics.append(_corrected_topic(subjects, order, options))
    if len(pairs):
        pairs = matching(pairs, direction=BRAIN_TO_IMAGE)
        pairs = order.sort(pairs[pairs["metric"].isin(SHOWN)])
        if len(pairs):
            topics.append(_pairs_topic(pairs, order, studio, options))
    return topics


def _means_topic(
    means: pd.DataFrame,
    subjects: pd.DataFrame,
    order: Order,
    studio: Studio,
    options: GroupConfig,
) -> Topic:
    level = percent(options.confidence, digits=0)
    blocks = []
    for setting in order.settings(means):
        for direction, name in DIRECTIONS.items():
            part = matching(means, **setting, direction=direction)
            if not len(part):
                continue
            own = matching(subjects, **setting, direction=direction)
            panels = {
                metric_name(metric): [
                    _mean_line(row, own) for row in matching(part, metric=metric).to_dict("records")
                ]
                for metric in SHOWN
                if metric in set(part["metric"])
            }
            title = f"Means over subjects: {order.setting_title(setting)}, {name}"
            first = part.iloc[0]
            drawing = studio.draw(
                means_figure(panels),
                alt=f"{title}. "
                + "; ".join(
                    f"{metric}: " + ", ".join(_spoken(line) for line in lines)
                    for metric, lines in panels.items()
                ),
                caption=f"{level} intervals over {first['resampled']}, n = {first['n']:.0f} "
                "subjects.",
            )
            blocks.append(Block(title, (drawing,), folded=bool(blocks)))
    intro = (
        "Does it hold for the group? p tests that nobody has any information: one strong subject "
        "can reject it. How widespread the effect is, the prevalence says: the share of people "
        "in whom this test would find it, the likeliest value and the interval that holds it with "
        f"96 % (Ince et al. 2021), from the subjects above chance at {options.alpha:g}, without "
        "correction. Corrected: by the maximum over ROIs, decoders and directions under the same "
        "permutations."
    )
    return Topic("Over subjects", intro, tuple(blocks), group_table(means, order))


def _mean_line(row: Mapping[str, Any], subjects: pd.DataFrame) -> Line:
    own = matching(subjects, roi=row["roi"], decoder=row["decoder"], metric=row["metric"])
    return Line(
        f"{row['roi']} · {row['decoder']}",
        *(number_or_nan(row[key]) for key in ("value", "ci_low", "ci_high", "chance")),
        subjects=tuple(own["value"]),
    )


def _spoken(line: Line) -> str:
    said = f"{line.label} {percent(line.value)}"
    if np.isfinite([line.low, line.high]).all():
        said += f" ({percent(line.low)} to {percent(line.high)})"
    return said


def _corrected_topic(subjects: pd.DataFrame, order: Order, options: GroupConfig) -> Topic:
    tested = subjects[subjects["p_corrected"].notna()]
    n_sizes = sorted({int(n) for n in tested["n_family"]})
    intro = (
        "Many ROIs and decoders were tried; some would pass by luck. The corrected p compares a "
        "score with the best score of the whole family under each permutation, so that the chance "
        f"of even one false alarm in a subject stays at {options.alpha:g} (Westfall & Young 1993). "
    )
    if n_sizes:
        sizes = " or ".join(map(str, n_sizes))
        intro += f"Family: one score over ROIs, decoders and directions, {sizes} tests."
    else:
        intro += "No labels could be exchanged, so there is no p."
    return Topic("Corrected for all that was tried", intro, (), subject_table(subjects, order))


def _pairs_topic(pairs: pd.DataFrame, order: Order, studio: Studio, options: GroupConfig) -> Topic:
    means = matching(pairs, level="group")
    shown = means if len(means) else pairs
    blocks = []
    for setting in order.settings(shown):
        for (compared, within), part in _panels_of(matching(shown, **setting)):
            panels, margins = {}, {}
            for metric in SHOWN:
                rows = matching(part, metric=metric)
                if not len(rows):
                    continue
                name = metric_name(metric)
                own = matching(pairs, **setting, metric=metric, level="subject")
                panels[name] = [_pair_line(row, own) for row in rows.to_dict("records")]
                margins[name] = float(rows["margin"].iloc[0])
            of = {"decoders": "Decoders", "rois": "ROIs"}[compared]
            of += f" in {within}" if within else ""
            title = f"{of}, first less second: {order.setting_title(setting)}"
            drawing = studio.draw(
                differences_figure(panels, margins),
                alt=f"{title}, in percentage points. "
                + "; ".join(
                    f"{metric}: " + ", ".join(spoken_difference(line) for line in lines)
                    for metric, lines in panels.items()
                ),
                caption=_pairs_caption(part, options),
            )
            blocks.append(Block(title, (drawing,), folded=bool(blocks)))
    intro = (
        "Is one better than the other, or is the difference too small to matter? Each pair is "
        "compared on the same test samples, brain → image. p exchanges the two in whole pictures "
        "(or runs); q is corrected over all pairs (Benjamini & Hochberg 1995). Equivalent: two "
        "one-sided tests put the difference within the margin. Undecided means just that: neither "
        "a difference nor its absence was shown. The Bayes factor says how many times likelier "
        "the data are without a difference than with one (JZS prior of width 0.707)."
    )
    if len(means):
        intro += (
            " p and q speak of the subjects measured, intervals and equivalence of subjects at "
            "large; a difference in these subjects alone is called so."
        )
    return Topic("Decoders and ROIs in pairs", intro, tuple(blocks), pair_table(shown, order))


def _panels_of(part: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """Split pairs of decoders by ROI, where they are many; ROIs of all decoders stand together."""
    decoders = part["compared"] == "decoders"
    together = decoders.sum() <= _MOST_LINES * part["metric"].nunique()
    keys = part["within"].where(decoders & ~together, "")
    groups = part.groupby([part["compared"], keys], sort=False)
    return [((str(key[0]), str(key[1])), rows) for key, rows in groups]


def _pair_line(row: Mapping[str, Any], subjects: pd.DataFrame) -> Line:
    label = f"{row['within']}: {row['first']} − {row['second']}"
    keys = ("compared", "within", "first", "second")
    own: Sequence[float] = ()
    if row["level"] == "group":
        own = matching(subjects, **{key: row[key] for key in keys})["difference"].tolist()
    else:
        label = f"{label} ({row['subject']})" if subjects["subject"].nunique() > 1 else label
    return Line(
        label,
        *(number_or_nan(row[key]) for key in ("difference", "ci_low", "ci_high")),
        subjects=tuple(own),
        state=_state(str(row["verdict"])),
    )


def _state(verdict: str) -> str:
    if not verdict.startswith(("better", "worse")):
        return verdict
    return "here" if "in these subjects" in verdict else "different"


def _pairs_caption(part: pd.DataFrame, options: GroupConfig) -> str:
    first = part.iloc[0]
    level = percent(options.confidence, digits=0)
    return (
        f"{level} intervals over {first['resampled']}, n = {first['n_resampled']:.0f}; q over "
        f"{first['n_pairs']:.0f} pairs at {options.alpha:g}."
    )
