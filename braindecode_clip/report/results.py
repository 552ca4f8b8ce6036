"""The scores put in order, and what they say in plain words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from braindecode_clip.config.study import StudyConfig
from braindecode_clip.report.content import CONDITION
from braindecode_clip.report.numbers import (
    MINUS,
    NOTHING,
    decimal,
    is_number,
    percent,
)

#: Labels that make a setting: within one, subjects, ROIs and decoders can be compared.
SETTING = ("split", "encoder", "gallery")
BRAIN_TO_IMAGE, IMAGE_TO_BRAIN = "brain_to_image", "image_to_brain"
DIRECTIONS = {BRAIN_TO_IMAGE: "brain → image", IMAGE_TO_BRAIN: "image → brain"}
DIRECTION_MEANINGS = {
    BRAIN_TO_IMAGE: "each brain sample ranks the candidates",
    IMAGE_TO_BRAIN: "each candidate that was shown ranks the brain samples",
}
#: Section of the study's config that lists the names of a label.
_SECTIONS = {
    "roi": "rois",
    "split": "splits",
    "encoder": "encoders",
    "decoder": "decoders",
    "gallery": "galleries",
}
#: Labels as headings.
LABEL_NAMES = {
    "subject": "Subject",
    "roi": "ROI",
    "split": "Split",
    "encoder": "Encoder",
    "decoder": "Decoder",
    "gallery": "Gallery",
}
_NAMES = {
    "correlation_mean": "Correlation, mean",
    "correlation_median": "Correlation, median",
    "r2_mean": "R², mean",
    "r2_median": "R², median",
}
TOP_1, PAIRWISE = "top_1", "pairwise"
#: A null further from chance than this is told to the reader beside the score.
_NULL_TOLERANCE = 0.02


def label_text(label: str, name: object) -> str:
    """Return a label with its name in running text: ``ROI early``, ``split run``."""
    return f"{label.upper() if label == 'roi' else label} {name}"


def metric_name(metric: str) -> str:
    """Return a metric's name for people: ``top_5`` is ``Top-5``."""
    top = re.fullmatch(r"top_(\d+)", metric)
    if top:
        return f"Top-{top.group(1)}"
    return _NAMES.get(metric, metric.replace("_", " ").capitalize())


def is_share(metric: str) -> bool:
    """Tell whether a metric is a share of queries or pairs, shown in percent."""
    shares = (PAIRWISE, f"{PAIRWISE}_cosine", f"{PAIRWISE}_correlation", "percentile_rank")
    return metric in shares or re.fullmatch(r"top_\d+", metric) is not None


def is_rank(metric: str) -> bool:
    """Tell whether a metric counts places in a list, where less is better."""
    return metric in ("mean_rank", "median_rank")


@dataclass(frozen=True)
class Order:
    """The names of every label in the order of the config.

    Attributes
    ----------
    names : dict
        Label (subject, roi, ...) to its names.
    """

    names: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, study: StudyConfig, metrics: pd.DataFrame) -> Order:
        """Take the names that have results: as the config lists them, then all others."""
        names = {}
        for label in CONDITION:
            present = sorted(set(metrics[label].astype(str))) if label in metrics else []
            listed = [item.name for item in getattr(study, _SECTIONS.get(label, ""), [])]
            ordered = [name for name in listed if name in present]
            names[label] = (*ordered, *(name for name in present if name not in ordered))
        return cls(names)

    def varying(self, labels: Iterable[str] = CONDITION) -> list[str]:
        """Return the labels that have more than one name: only those need saying."""
        return [label for label in labels if len(self.names[label]) > 1]

    def sort(self, table: pd.DataFrame) -> pd.DataFrame:
        """Sort rows by their labels, the first label slowest; ties stay as they are."""
        if not len(table):
            return table
        keys = [
            table[label].astype(str).map({n: i for i, n in enumerate(self.names[label])})
            for label in CONDITION
            if label in table
        ]
        positions = np.lexsort([*reversed([key.to_numpy() for key in keys])])
        return table.iloc[positions].reset_index(drop=True)

    def settings(self, table: pd.DataFrame) -> list[dict[str, str]]:
        """Return every (split, encoder, gallery) that has rows, in order.

        A table of what no gallery plays a part in has settings without one.
        """
        labels = [label for label in SETTING if label in table]
        seen = table[labels].astype(str).drop_duplicates()
        return sorted(
            seen.to_dict("records"),
            key=lambda s: [self.names[label].index(s[label]) for label in labels],
        )

    def setting_title(self, setting: Mapping[str, str]) -> str:
        """Name what tells a setting from the others; its gallery where nothing does."""
        labels = self.varying(SETTING) or ["gallery"]
        return ", ".join(label_text(label, setting[label]) for label in labels if label in setting)

    def row_label(self, row: Mapping[str, Any]) -> str:
        """Name subject and ROI, as far as they vary (the subject always)."""
        parts = [f"Subject {row['subject']}"]
        parts += [str(row["roi"])] if self.varying(["roi"]) else []
        return " · ".join(parts)


def matching(table: pd.DataFrame, **labels: str) -> pd.DataFrame:
    """Return the rows that carry all these labels."""
    keep = np.ones(len(table), dtype=bool)
    for name, wanted in labels.items():
        keep &= (table[name].astype(str) == wanted).to_numpy()
    return table[keep]


def is_clear(row: Mapping[str, Any]) -> bool:
    """Tell whether the whole interval is better than chance and than permuted labels."""
    if not all(is_number(row.get(key)) for key in ("ci_low", "ci_high", "chance")):
        return False
    guesses = [
        row["chance"],
        row["null_mean"] if is_number(row.get("null_mean")) else row["chance"],
    ]
    if is_rank(str(row["metric"])):
        return row["ci_high"] < min(guesses)
    return row["ci_low"] > max(guesses)


def null_apart(row: Mapping[str, Any]) -> float | None:
    """Return the mean under permuted labels where that is not chance, as a share."""
    null = row.get("null_mean")
    if not is_number(null) or abs(null - row["chance"]) <= _NULL_TOLERANCE:
        return None
    return float(null)


def interval_text(row: Mapping[str, Any]) -> str:
    """Return ``95 % CI 38.4–64.0; `` or nothing where there is no interval."""
    if not (is_number(row.get("ci_low")) and is_number(row.get("ci_high"))):
        return ""
    level = percent(row["confidence"], digits=0)
    return f"{level} CI {interval(row)}; "


def interval(row: Mapping[str, Any]) -> str:
    """Return the ends of a score's interval: ``38.4–64.0``, or ``−0.2 to 0.1``."""
    low, high = (score(row["metric"], row[key], bare=True) for key in ("ci_low", "ci_high"))
    return f"{low} to {high}" if MINUS in low else f"{low}{NOTHING}{high}"


def score(metric: str, value: float, *, bare: bool = False) -> str:
    """Return a metric's value in its own unit: percent, ranks, or a plain number."""
    if is_share(metric):
        text = percent(value)
        return text[:-2] if bare and is_number(value) else text
    if is_rank(metric):
        return decimal(value, digits=1)
    return decimal(value, digits=3)


def interval_level(metrics: pd.DataFrame) -> str:
    """Return the level of the intervals as ``95 %``."""
    return " and ".join(percent(level, digits=0) for level in sorted(set(metrics["confidence"])))


def series_names(metrics: pd.DataFrame, order: Order) -> Sequence[str]:
    """Return the decoders in the order of their colours."""
    return [name for name in order.names["decoder"] if (metrics["decoder"] == name).any()]
