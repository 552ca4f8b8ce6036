"""Tables of what ran: the way of the data, fits, resources and versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from braindecode_clip.artifacts import Retrieval
from braindecode_clip.report.content import Counts
from braindecode_clip.report.numbers import (
    NOTHING,
    count,
    duration,
    is_number,
    megabytes,
    quantity,
)
from braindecode_clip.report.results import LABEL_NAMES
from braindecode_clip.report.tables import Cell, Table, text_or_dash

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
_FIT = ("subject", "roi", "split", "encoder", "decoder")
#: Heading to what a fit reports of itself.
_FITTED = {
    "Training rows": ("n_train",),
    "Voxels": ("n_voxels",),
    "Out-of-fold R²": ("out_of_fold_r2",),
    "Gain": ("mean_gain",),
    "Penalty, median": ("alpha_median",),
    "Penalty, range": ("alpha_min", "alpha_max"),
    "Share at edge of grid": ("share_at_edge",),
    "Best epoch": ("best_epochs",),
}


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
    cells = [value for name in names if name in table for value in table[name]]
    found = [item for cell in cells for item in (cell if isinstance(cell, list) else [cell])]
    numbers = sorted({float(value) for value in found if is_number(value)})
    if not numbers:
        return ", ".join(dict.fromkeys(map(text_or_dash, found))) or NOTHING
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
            Cell(quantity(value), number=True) if is_number(value) else Cell(text_or_dash(value))
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


def fits_table(retrievals: Sequence[Retrieval]) -> Table:
    """What the fits of every decoder reported, over the folds of its split."""
    fits = {tuple(str(item.info.get(label)) for label in _FIT): item.info for item in retrievals}
    found = {key: info["folds"] for key, info in fits.items() if info.get("folds")}
    present = {name for folds in found.values() for fold in folds for name in fold}
    columns = {head: names for head, names in _FITTED.items() if present & set(names)}
    rows = [
        (
            *(Cell(name) for name in key),
            Cell(count(len(folds)), number=True),
            *(Cell(_span(pd.DataFrame(folds), names), number=True) for names in columns.values()),
        )
        for key, folds in found.items()
    ]
    heads = (*(LABEL_NAMES[label] for label in _FIT), "Folds")
    caption = "Decoders as they were fitted; a range where folds or dimensions differ"
    return Table(caption, (*heads, *columns), tuple(rows), n_heads=len(_FIT))


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
