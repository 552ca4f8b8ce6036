"""Tab-separated tables as BIDS writes them, and JSON and YAML files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from braindecode_clip.checks import some
from braindecode_clip.errors import DataError
from braindecode_clip.io.atomic import write_text

NOT_AVAILABLE = "n/a"


def read_tsv(
    path: str | Path, *, required: Iterable[str] = (), text: Iterable[str] = ()
) -> pd.DataFrame:
    """Read a TSV with a header; ``n/a`` (BIDS) and empty cells become NaN.

    Parameters
    ----------
    path : path
    required : iterable of str
        Columns that must be there.
    text : iterable of str
        Columns kept as strings whatever they look like ("01" stays "01").

    Raises
    ------
    DataError
        Missing file, no table, or missing columns, all named at once.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file.")
    try:
        table = pd.read_csv(
            path,
            sep="\t",
            na_values=[NOT_AVAILABLE],
            dtype=dict.fromkeys(text, str),
            encoding="utf-8-sig",
        )
    except (ValueError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"{path}: cannot be read as a tab-separated table ({reason}). "
            "Expected a header line and columns separated by tabs, in UTF-8."
        ) from error
    missing = [column for column in required if column not in table.columns]
    if missing:
        hint = " Its columns are separated by commas, not tabs." if _has_commas(table) else ""
        raise DataError(
            f"{path}: lacks the columns {some(missing)}; it has {some(table.columns, limit=20)}."
            f"{hint}"
        )
    return table


def write_tsv(path: str | Path, table: pd.DataFrame) -> None:
    """Write a TSV in one step; missing values as ``n/a``."""
    write_text(path, table.to_csv(sep="\t", index=False, na_rep=NOT_AVAILABLE, lineterminator="\n"))


def read_json(path: str | Path) -> Any:
    """Read a JSON file; a damaged one is a :class:`DataError` with the line."""
    return _parse(path, json.loads, "JSON")


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file; a damaged one is a :class:`DataError` with the line."""
    return _parse(path, yaml.safe_load, "YAML")


def _parse(path: str | Path, parser: Any, kind: str) -> Any:
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file.")
    try:
        return parser(Path(path).read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path}: is not valid {kind}: {error}") from error


def _has_commas(table: pd.DataFrame) -> bool:
    return len(table.columns) == 1 and "," in str(table.columns[0])
