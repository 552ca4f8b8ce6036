"""Pairs from a table: CSV or TSV with the path of a picture and its captions."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from braindecode_clip.checks import Problems, some
from braindecode_clip.errors import DataError
from braindecode_clip.io.pair_source import (
    PairSource,
    clean_captions,
    empty_note,
    file_sizes,
    read_files,
)
from braindecode_clip.io.tables import NOT_AVAILABLE

_CAPTION = re.compile(r"captions?([ _-]?\d+)?$")
_FACTS = ("label", "group", "split")


def read_table(path: Path) -> PairSource:
    """Read a table of pairs.

    Columns: ``image`` (path beside the table); captions in one or several columns
    ``caption``, ``caption1``, ``caption_2``...; optionally ``label``, ``group`` and
    ``split``. Rows of one picture are wordings of it.

    Raises
    ------
    DataError
        No table in UTF-8, columns are missing, empty paths, or a picture with two labels,
        groups or splits; all at once.
    """
    table = _parse(path)
    wordings = [name for name in table.columns if _CAPTION.match(name)]
    problems = Problems(str(path))
    if "image" not in table.columns:
        problems.add(f"lacks the column 'image'; it has {some(table.columns, limit=20)}.")
    elif not wordings and "label" not in table.columns:
        problems.add(
            f"lacks a column 'caption' (or 'caption1', 'caption2', ... or 'label'); it has "
            f"{some(table.columns, limit=20)}."
        )
    problems.raise_if_any()
    if not len(table):
        raise DataError(f"{path}: no rows.")
    empty = table.index[table["image"].str.strip() == ""]
    if len(empty):
        problems.add(
            f"'image' is empty in {len(empty)} rows, first in line {int(empty[0]) + 2}. Fill "
            "them, or take the rows out."
        )
    names = tuple(dict.fromkeys(table["image"]))
    facts = {name: _one_each(table, name, problems) for name in _FACTS if name in table.columns}
    problems.raise_if_any()
    grouped: dict[str, list[str]] = {name: [] for name in names}
    for image, *own in table[["image", *wordings]].itertuples(index=False):
        grouped[image].extend(own)
    captions, n_empty = clean_captions(grouped.values())
    if "label" in facts:
        # A table that words some pictures and labels the others has blanks by intention.
        n_empty = 0
    files = [path.parent / name for name in names]
    return PairSource(
        where=str(path),
        kind="table",
        names=names,
        captions=captions,
        read=read_files(files),
        sizes=file_sizes(files),
        labels=facts.get("label"),
        groups=facts.get("group"),
        splits=facts.get("split"),
        notes=empty_note(n_empty),
    )


def _parse(path: Path) -> pd.DataFrame:
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        table = pd.read_csv(
            path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text in UTF-8 ({error}). Save it as UTF-8.") from error
    except ValueError as error:
        name = "tab-separated" if separator == "\t" else "comma-separated"
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{path}: cannot be read as {name} table ({reason}).") from error
    # In a TSV "n/a" is an empty cell (BIDS); elsewhere it may be a caption.
    return table.replace(NOT_AVAILABLE, "") if separator == "\t" else table


def _one_each(table: pd.DataFrame, column: str, problems: Problems) -> tuple[str, ...]:
    """Return a column's value for each picture, and note pictures with several."""
    values = table.groupby("image", sort=False)[column]
    several = values.nunique()
    mixed = several.index[several > 1]
    if len(mixed):
        problems.add(f"pictures with more than one '{column}': {some(mixed)}. Give one each.")
    return tuple(values.first())
