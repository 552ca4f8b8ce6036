"""Lists that people write: classes with their names, templates, and queries."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from braindecode_clip.checks import Problems, some
from braindecode_clip.errors import DataError
from braindecode_clip.io.tables import read_tsv

_ENDINGS = (".txt", ".tsv")


def read_lines(path: str | Path) -> list[str]:
    """Read the lines of a text file that are neither blank nor begin with ``#``.

    Raises
    ------
    DataError
        The file is missing, no text in UTF-8, or has no such line.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file.")
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text in UTF-8 ({error}).") from error
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise DataError(f"{path}: holds no lines of text.")
    return lines


def read_classes(source: str) -> dict[str, tuple[str, ...]]:
    """Read classes and what they are called.

    Parameters
    ----------
    source : str
        A list such as ``"dog, cat, tea cup"``; or a file: ``.txt`` with one class a line, or
        ``.tsv`` with the column ``class`` and, where a class is called otherwise or has several
        names, ``name`` (one row for each name).

    Returns
    -------
    dict of str to tuple of str
        Class to its names, in the order of the source.

    Raises
    ------
    DataError
        No such file, empty cells, a class or a name that stands twice.
    """
    path = Path(source)
    is_file = path.suffix.lower() in _ENDINGS and "," not in source
    if is_file and path.suffix.lower() == ".tsv":
        table = read_tsv(path, required=["class"], text=["class", "name"])
        where = source
    else:
        names = read_lines(path) if is_file else [part.strip() for part in source.split(",")]
        table = pd.DataFrame({"class": [name or None for name in names]})
        where = source if is_file else "--classes"
    if "name" not in table.columns:
        table["name"] = table["class"]
        _refuse_repeats(where, table["class"])
    problems = Problems(where)
    empty = [int(row) + 1 + is_file for row in table.index[table.isna().any(axis=1)]]
    if not len(table):
        problems.add("has no rows.")
    if empty:
        problems.add(f"a class or a name is empty in the lines {some(empty)}. Fill them.")
    problems.raise_if_any()
    grouped = table.groupby("class", sort=False)["name"].agg(list)
    return {str(label): tuple(dict.fromkeys(own)) for label, own in grouped.items()}


def _refuse_repeats(where: str, labels: pd.Series) -> None:
    twice = labels[labels.duplicated() & labels.notna()]
    if len(twice):
        raise DataError(f"{where}: classes that stand twice: {some(twice)}. Take one out.")


def read_queries(path: str | Path) -> pd.DataFrame:
    """Read queries of a search.

    Parameters
    ----------
    path : path
        ``.txt`` with one text a line; or ``.tsv`` with the columns text, image (path beside the
        table), image_weight and negative, of which text or image is needed.

    Returns
    -------
    DataFrame
        The columns text, image (path), image_weight and negative; None where there is none.

    Raises
    ------
    DataError
        Missing, without text and image, or with unknown columns or weights that are no numbers.
    """
    path = Path(path)
    columns = ["text", "image", "image_weight", "negative"]
    if path.suffix.lower() != ".tsv":
        table = pd.DataFrame({"text": read_lines(path)})
    else:
        table = read_tsv(path, text=columns)
        problems = Problems(str(path))
        unknown = [name for name in table.columns if name not in columns]
        if unknown:
            problems.add(f"unknown columns {some(unknown)}; known are {', '.join(columns)}.")
        if not {"text", "image"} & set(table.columns):
            problems.add("lacks the columns 'text' and 'image'; one of them is needed.")
        if not len(table):
            problems.add("has no rows.")
        if "image_weight" in table.columns:
            numbers = pd.to_numeric(table["image_weight"], errors="coerce")
            bad = table["image_weight"][numbers.isna() & table["image_weight"].notna()]
            if len(bad):
                problems.add(f"'image_weight' must be a number; got {some(bad)}.")
            table["image_weight"] = numbers
        problems.raise_if_any()
        if "image" in table.columns:
            table["image"] = [
                None if pd.isna(name) else path.parent / name for name in table["image"]
            ]
    table = table.reindex(columns=columns).astype(object)
    return table.where(table.notna(), None)
