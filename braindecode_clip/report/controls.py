"""The part of the page that asks whether identification could be spurious."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from braindecode_clip.controls.verdict import LEVELS, NOT_APPLICABLE, SUSPICIOUS
from braindecode_clip.report.figures import Dot, accuracy_figure
from braindecode_clip.report.numbers import count, decimal, is_number, percent
from braindecode_clip.report.results import BRAIN_TO_IMAGE, Order, metric_name
from braindecode_clip.report.sections import Block, Studio
from braindecode_clip.report.tables import Cell, Table

#: Controls in the order of the rows, with what they are called.
NAMES = {
    "real": "real score",
    "nearest_train": "nearest training picture",
    "matched": "random pictures left out",
    "held_out_cluster": "cluster left out",
    "shuffled": "shuffled pairs",
    "constant": "constant prediction",
}
_OTHERS = {"overlap": "overlap of test and train", "effective_rank": "effective rank"}


@dataclass(frozen=True)
class Suspicion:
    """The controls of one subject, region, split and encoder.

    Attributes
    ----------
    block : Block
        Figures and tables.
    findings : tuple of (level, name, text)
        Suspicious ones first.
    """

    block: Block
    findings: tuple[tuple[str, str, str], ...]


def suspicions(
    controls: Sequence[Mapping[str, Any]], order: Order, studio: Studio
) -> list[Suspicion]:
    """Return a figure, tables and sentences for each result of ``controls``.

    Parameters
    ----------
    controls : sequence of mapping
        Contents of the JSON files.
    order : Order
    studio : Studio
    """
    keys = ("split", "encoder", "subject", "roi")
    found: list[Suspicion] = []
    known = [item for item in controls if all(str(item[k]) in order.names[k] for k in keys)]
    for item in sorted(known, key=lambda c: [order.names[k].index(str(c[k])) for k in keys]):
        title = f"Subject {item['subject']}, {item['roi']}, split {item['split']}"
        if len(order.names["encoder"]) > 1:
            title += f", encoder {item['encoder']}"
        rows = item["rows"]
        drawings = (_drawing(rows, order, studio, title),) if rows else ()
        tables = (_score_table(rows, title), *_other_tables(item, title)) if rows else ()
        block = Block(title, drawings, folded=bool(found), tables=tables)
        found.append(Suspicion(block, _findings(item["verdicts"])))
    return found


def n_suspicious(found: Sequence[Suspicion]) -> int:
    """Count the suspicious findings."""
    return sum(level == SUSPICIOUS for item in found for level, *_ in item.findings)


def _drawing(rows: Sequence[Mapping[str, Any]], order: Order, studio: Studio, title: str) -> Any:
    panels: dict[str, list[Dot]] = {}
    shown = sorted(rows, key=lambda row: list(NAMES).index(row["control"]))
    shown = [row for row in shown if row["direction"] == BRAIN_TO_IMAGE]
    for row in shown:
        ends = (row[key] if is_number(row[key]) else np.nan for key in ("ci_low", "ci_high"))
        dot = Dot(NAMES[row["control"]], row["decoder"], row["value"], *ends, row["chance"])
        panels.setdefault(metric_name(row["metric"]), []).append(dot)
    decoders = dict.fromkeys(row["decoder"] for row in shown)
    series = [name for name in order.names["decoder"] if name in decoders]
    series += [name for name in decoders if name not in series]
    spoken = "; ".join(
        f"{NAMES[row['control']]} {row['decoder']} {metric_name(row['metric'])} "
        f"{percent(row['value'])} (chance {percent(row['chance'])})"
        for row in shown
    )
    return studio.draw(
        accuracy_figure(panels, series),
        alt=f"{title}. {spoken}",
        caption="Brain → image, among the test stimuli. Real score: of each decoder; nearest "
        "training picture: every prediction replaced by the training embedding most similar to "
        "it. Below, ridge fitted again: without the training pictures of the test picture's "
        "cluster, without as many random ones, on shuffled pairs, and the mean of the training "
        "targets alone.",
    )


def _score_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    lines = tuple(
        (
            Cell(NAMES[row["control"]]),
            Cell(row["decoder"]),
            Cell(row["direction"].replace("_to_", " → ")),
            Cell(metric_name(row["metric"])),
            Cell(_with_ends(row, "value", "ci_low", "ci_high"), number=True),
            Cell(percent(row["chance"]), number=True),
            Cell(_with_ends(row, "difference", "difference_low", "difference_high"), number=True),
            Cell(count(row["n"]), number=True),
        )
        for row in rows
    )
    columns = ("Control", "Decoder", "Direction", "Score", "Value", "Chance", "Ahead of it", "n")
    return Table(f"{title}: scores of the controls", columns, lines, n_heads=4)


def _with_ends(row: Mapping[str, Any], value: str, low: str, high: str) -> str:
    if not is_number(row.get(value)):
        return percent(None)
    return f"{percent(row[value])} [{percent(row[low])}, {percent(row[high])}]"


def _other_tables(item: Mapping[str, Any], title: str) -> list[Table]:
    lines = tuple(
        (
            Cell(str(row["what"])),
            Cell(str(row["decoder"] or "")),
            Cell(decimal(row["effective_rank"], digits=1), number=True),
            Cell(decimal(row["participation_ratio"], digits=1), number=True),
            Cell(count(row["n"]), number=True),
        )
        for row in item["spectra"]
    )
    columns = ("Of", "Decoder", "Effective rank", "Participation ratio", "n")
    found = [Table(f"{title}: directions along which vectors vary", columns, lines, n_heads=2)]
    near = item["overlap"]
    if near is None:
        return found
    ends = {"test_to_train": "test → train", "train_to_train": "train → other train"}
    lines = tuple(
        (
            Cell(name),
            *(Cell(decimal(near[key][q], digits=3), number=True) for q in near[key]),
        )
        for key, name in ends.items()
    )
    columns = ("Cosine with the nearest", *(f"{q[1:]} %" for q in near["test_to_train"]))
    return [*found, Table(f"{title}: quantiles of the nearest neighbour", columns, lines)]


def _findings(verdicts: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, str, str], ...]:
    """Return (level, name, text), suspicious first; one line for controls ruled out alike."""
    lines: dict[tuple[str, str], list[str]] = {}
    for item in sorted(verdicts, key=lambda v: LEVELS.index(v["level"])):
        name = {**NAMES, **_OTHERS}[item["control"]]
        name += f" ({item['decoder']})" if item["decoder"] else ""
        text = f"{item['sentence']} {item['advice']}".strip()
        lines.setdefault((item["level"], text[:1].upper() + text[1:]), []).append(name)
    return tuple(
        (level if level != NOT_APPLICABLE else "does not apply", ", ".join(names), text)
        for (level, text), names in lines.items()
    )
