"""Tables of the page: scores, counts, resources and versions, as text ready to print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from braindecode_clip.report.content import Counts
from braindecode_clip.report.numbers import (
    NOTHING,
    count,
    duration,
    is_number,
    megabytes,
    p_value,
    quantity,
)
from braindecode_clip.report.results import (
    DIRECTIONS,
    LABEL_NAMES,
    PAIRWISE,
    TOP_1,
    Order,
    is_rank,
    metric_name,
    score,
)

_SUMMARY = (TOP_1, "top_5", PAIRWISE, "median_rank")
#: Heading to the columns of the voxel matrix's own table.
_FLOW = {
    "Trials": ("n_trials",),
    "Excluded": ("n_excluded",),
    "Stimuli": ("n_stimuli",),
    "Repeats": ("repeats_min", "repeats_max"),
    "Rows": ("n_rows",),
    "Voxels of ROI": ("n_voxels_roi",),
    "Outside brain": ("dropped_outside_brain",),
    "Constant": ("dropped_constant",),
    "Unreliable": ("dropped_unreliable",),
    "Voxels kept": ("n_voxels_kept",),
}
_CONDITION_IN_SETTING = ("subject", "roi", "decoder")


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes
    ----------
    text : str
    number : bool
        Stands to the right.
    clear : bool
        Bold.
    share : float or None
        0 to 100: length of a bar behind the text.
    title : str
        Shown on hovering.
    detail : str
        Smaller, after the text.
    """

    text: str
    number: bool = False
    clear: bool = False
    share: float | None = None
    title: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a caption; the first ``n_heads`` columns name the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    n_heads: int = 1

    def is_number(self, column: int) -> bool:
        """Tell whether a column holds numbers, which stand to the right."""
        return bool(self.rows) and all(row[column].number for row in self.rows)


def summary_table(metrics: pd.DataFrame, order: Order, caption: str) -> Table:
    """One row for each subject, ROI and decoder; the main scores beside each other.

    Parameters
    ----------
    metrics : DataFrame
        Rows of one setting and direction.
    order : Order
    caption : str
    """
    present = [name for name in _SUMMARY if (metrics["metric"] == name).any()]
    labels = [key for key in _CONDITION_IN_SETTING if key == "subject" or order.varying([key])]
    labels += ["decoder"] if "decoder" not in labels else []
    columns = [*(LABEL_NAMES[label] for label in labels), "n"]
    columns += [metric_name(name) for name in present] + ["Chance, Top-1", "p, Top-1"]
    rows = [
        _summary_row(group, labels, present)
        for _, group in order.sort(metrics).groupby(list(_CONDITION_IN_SETTING), sort=False)
    ]
    return Table(caption, tuple(columns), tuple(rows), n_heads=len(labels))


def _summary_row(
    group: pd.DataFrame, labels: Sequence[str], present: Sequence[str]
) -> tuple[Cell, ...]:
    by_metric = {str(row["metric"]): row for row in group.to_dict("records")}
    first = group.iloc[0]
    top = by_metric.get(TOP_1, {})
    cells = [Cell(str(first[label])) for label in labels]
    cells.append(Cell(count(top.get("n")), number=True))
    for name in present:
        row = by_metric.get(name)
        cells.append(value_cell(row) if row else Cell(NOTHING, number=True))
    cells.append(Cell(score(TOP_1, top.get("chance", float("nan"))), number=True))
    cells.append(Cell(_p(top), number=True))
    return tuple(cells)


def value_cell(row: Mapping[str, Any]) -> Cell:
    """Return a score, bold where it is clear of chance, with its interval ``38.4–64.0``."""
    text, detail = score(row["metric"], row["value"]), ""
    if is_number(row.get("ci_low")) and is_number(row.get("ci_high")):
        low, high = (score(row["metric"], row[key], bare=True) for key in ("ci_low", "ci_high"))
        detail = f"{low}{NOTHING}{high}"
    return Cell(text, number=True, clear=is_clear(row), detail=detail)


def _p(row: Mapping[str, Any]) -> str:
    text = p_value(row.get("p"), n_permutations=row.get("n_permutations"))
    return text.removeprefix("=").lstrip("\u202f")


def metrics_table(metrics: pd.DataFrame, order: Order, caption: str) -> Table:
    """Every metric of one condition in both directions.

    Parameters
    ----------
    metrics : DataFrame
        Rows of one subject, ROI, split, encoder, decoder and gallery.
    order : Order
    caption : str
    """
    columns = (
        "Score",
        "Direction",
        "Value (interval)",
        "Chance",
        "Permuted",
        "p",
        "Permutations",
        "n",
        "Drawn",
    )
    rows = []
    for row in order.sort(metrics).to_dict("records"):
        direction = str(row.get("direction") or "")
        rows.append(
            (
                Cell(metric_name(str(row["metric"])), title=str(row.get("definition") or "")),
                Cell(DIRECTIONS.get(direction, NOTHING)),
                value_cell(row),
                Cell(score(row["metric"], row.get("chance")), number=True),
                Cell(score(row["metric"], row.get("null_mean")), number=True),
                Cell(_p(row), number=True),
                Cell(count(row.get("n_permutations")), number=True),
                Cell(f"{count(row.get('n'))} {_text(row.get('n_unit'))}", number=True),
                Cell(f"{count(row.get('n_resampled'))} {_text(row.get('resampled'))}", number=True),
            )
        )
    return Table(caption, columns, tuple(rows))


def is_clear(row: Mapping[str, Any]) -> bool:
    """Tell whether the whole interval lies on the better side of chance."""
    if not all(is_number(row.get(key)) for key in ("ci_low", "ci_high", "chance")):
        return False
    if is_rank(str(row["metric"])):
        return row["ci_high"] < row["chance"]
    return row["ci_low"] > row["chance"]


def definitions(metrics: pd.DataFrame) -> list[tuple[str, str]]:
    """Return every metric with its definition, each definition once."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in metrics.to_dict("records"):
        key = (metric_name(str(row["metric"])), str(row.get("definition") or ""))
        directions = found.setdefault(key, [])
        named = DIRECTIONS.get(str(row.get("direction")), "")
        if named and named not in directions:
            directions.append(named)
    both = len(DIRECTIONS)
    return [
        (name if len(said) in (0, both) else f"{name}, {', '.join(said)}", text)
        for (name, text), said in found.items()
        if text
    ]


def flow_table(counts: Sequence[Counts]) -> Table:
    """Where every trial, picture, repeat and voxel went, the folds of a split as a range.

    Columns that are new to this table stand at the end, under their own names.
    """
    known = {name for names in _FLOW.values() for name in names} | {"fold", "part"}
    present = {name for item in counts for name in item.table.columns}
    columns = {head: names for head, names in _FLOW.items() if present & set(names)}
    columns |= {_heading(name): (name,) for name in sorted(present - known - {"repeats_median"})}
    rows = []
    for item in counts:
        parts = item.table.get("part", pd.Series("all", index=item.table.index))
        for part, group in item.table.groupby(parts, sort=False):
            labels = (item.subject, item.roi, item.split, str(part))
            cells = [Cell(text) for text in labels] + [Cell(count(item.n_folds), number=True)]
            cells += [Cell(_span(group, names), number=True) for names in columns.values()]
            rows.append(tuple(cells))
    heads = ("Subject", "ROI", "Split", "Part", "Folds")
    caption = "From trials to rows, and from voxels of the region to those kept, in each fold"
    return Table(caption, (*heads, *columns), tuple(rows), n_heads=4)


def _span(table: pd.DataFrame, names: Sequence[str]) -> str:
    """Return the smallest and the largest number of some columns, or the one number."""
    found = [value for name in names if name in table for value in table[name]]
    numbers = sorted({float(value) for value in found if is_number(value)})
    if not numbers:
        return ", ".join(dict.fromkeys(map(_text, found))) or NOTHING
    ends = [quantity(numbers[0]), quantity(numbers[-1])]
    return NOTHING.join(dict.fromkeys(ends))


def fold_table(counts: Counts) -> Table:
    """Where every trial, picture, repeat and voxel of one voxel matrix went, fold by fold."""
    table = counts.table
    heads = 0
    for name in table.columns:
        if pd.api.types.is_numeric_dtype(table[name]):
            break
        heads += 1
    rows = tuple(
        tuple(
            Cell(quantity(value), number=True) if is_number(value) else Cell(_text(value))
            for value in row
        )
        for row in table.itertuples(index=False)
    )
    columns = tuple(_heading(str(name)) for name in table.columns)
    caption = f"Subject {counts.subject}, ROI {counts.roi}, split {counts.split}"
    return Table(caption, columns, rows, n_heads=max(1, min(heads, 2)))


def _heading(name: str) -> str:
    """Return a column's name for people: ``n_trials`` is ``Trials``."""
    words = name.removeprefix("n_").replace("_", " ")
    return words[:1].upper() + words[1:]


def _text(value: object) -> str:
    return NOTHING if value is None or value != value or value == "" else str(value)


def resources_table(jobs: pd.DataFrame) -> Table:
    """Time and memory of every rule of the workflow, the longest first."""
    rules = (
        jobs.groupby("rule", sort=False)
        .agg(
            n=("seconds", "size"),
            total=("seconds", "sum"),
            longest=("seconds", "max"),
            cpu=("cpu_s", "sum"),
            memory=("max_mb", "max"),
        )
        .sort_values("total", ascending=False, kind="stable")
    )
    longest, largest = rules["total"].max(), rules["memory"].max()
    rows = [
        (
            Cell(str(rule)),
            Cell(count(row["n"]), number=True),
            Cell(duration(row["total"]), share=_part(row["total"], longest)),
            Cell(duration(row["longest"]), number=True),
            Cell(duration(row["cpu"]), number=True),
            Cell(megabytes(row["memory"]), share=_part(row["memory"], largest)),
        )
        for rule, row in rules.iterrows()
    ]
    columns = ("Rule", "Jobs", "Time, all jobs", "Longest job", "CPU time", "Peak memory")
    caption = (
        f"{count(len(jobs))} jobs, {duration(jobs['seconds'].sum())} in all when run one after "
        f"another; the largest took {megabytes(jobs['max_mb'].max())}"
    )
    return Table(caption, columns, tuple(rows))


def _part(value: float, whole: float) -> float:
    return 100 * float(value) / float(whole) if is_number(value) and whole > 0 else 0.0


def code_table(provenance: Sequence[Mapping[str, Any]]) -> Table:
    """Version and code digest of every stage whose files were read."""
    rows: dict[tuple[str, ...], int] = {}
    for record in provenance:
        if not record.get("stage"):
            continue
        seed = record.get("seed")
        key = (
            str(record["stage"]),
            str(record.get("version", NOTHING)),
            str(record.get("code_digest", NOTHING)),
            NOTHING if seed is None else str(seed),
        )
        rows[key] = rows.get(key, 0) + 1
    cells = tuple(
        (
            Cell(stage),
            Cell(version),
            Cell(digest),
            Cell(seed, number=True),
            Cell(count(n), number=True),
        )
        for (stage, version, digest, seed), n in rows.items()
    )
    columns = ("Stage", "Version", "Code digest", "Seed", "Files")
    return Table("Code that made the files this page was read from", columns, cells)


def library_versions(provenance: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return Python and libraries with their versions, several where stages differed."""
    versions: dict[str, dict[str, None]] = {}
    for record in provenance:
        found = {"Python": record.get("python"), **(record.get("libraries") or {})}
        for name, version in found.items():
            if version:
                versions.setdefault(name, {})[str(version)] = None
    return [(name, " and ".join(found)) for name, found in versions.items()]
