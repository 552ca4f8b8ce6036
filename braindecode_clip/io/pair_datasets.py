"""Pairs from a data set that the library `datasets` saved to disk (optional extra)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from braindecode_clip.checks import some
from braindecode_clip.errors import DataError
from braindecode_clip.io.pair_source import PairSource, clean_captions, empty_note, strings_of

_MARKS = (("dataset_dict.json",), ("dataset_info.json", "state.json"))
_PICTURE_COLUMNS = ("image", "img", "jpg", "png")
_CAPTION_COLUMNS = ("caption", "captions", "text", "texts", "sentences", "txt")


def is_saved_dataset(path: Path) -> bool:
    """Tell whether a folder was written by ``save_to_disk``."""
    return path.is_dir() and any(all((path / name).is_file() for name in names) for names in _MARKS)


def read_saved_dataset(path: Path) -> PairSource:
    """Read a folder of ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk``.

    The column of pictures is ``image`` (``img``, ``jpg``, ``png``); those of captions are
    ``caption``, ``captions``, ``text``, ``texts``, ``sentences`` or ``txt``, a text or a list
    of texts each; ``label`` (class names are put in for numbers), ``group`` and ``split`` are
    read where they are. The parts of a DatasetDict are splits.

    Raises
    ------
    DataError
        The library is not installed, the folder is damaged, or a column is missing.
    """
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"{path}: was saved by the library 'datasets', which is not installed. Install it "
            "with `pip install 'braindecode-clip[datasets]'`, or write the pairs as a table, a "
            "folder or tar shards."
        ) from error
    try:
        loaded = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{path}: cannot be loaded as a saved data set ({error}). Save it again."
        ) from error
    parts = dict(loaded) if isinstance(loaded, dict) else {"": loaded}
    columns = next(iter(parts.values())).column_names
    picture = next((name for name in _PICTURE_COLUMNS if name in columns), None)
    wordings = [name for name in _CAPTION_COLUMNS if name in columns]
    if picture is None or not (wordings or "label" in columns):
        raise DataError(
            f"{path}: needs a column of pictures ({', '.join(_PICTURE_COLUMNS)}) and one of "
            f"captions ({', '.join(_CAPTION_COLUMNS)}) or labels; it has {some(columns)}."
        )
    # Bytes as they were stored: decoding is done later, and by one rule for all sources.
    stored = {
        name: part.cast_column(picture, datasets.Image(decode=False))
        for name, part in parts.items()
    }
    return _source(path, parts, stored, picture=picture, wordings=wordings)


def _source(
    path: Path, parts: dict[str, Any], stored: dict[str, Any], *, picture: str, wordings: list[str]
) -> PairSource:
    places = [(name, row) for name, part in parts.items() for row in range(len(part))]

    def read(row: int) -> bytes:
        name, place = places[row]
        cell = stored[name][place][picture]
        if cell.get("bytes") is not None:
            return bytes(cell["bytes"])
        try:
            return Path(cell["path"]).read_bytes()
        except (OSError, TypeError) as error:
            raise DataError(f"no such file as {cell.get('path')}") from error

    texts: list[list[str]] = [[] for _ in places]
    for column in wordings:
        for row, value in enumerate(v for part in parts.values() for v in part[column]):
            texts[row].extend(strings_of(value))
    captions, n_empty = clean_captions(texts)
    facts = {name: _fact(parts, name) for name in ("label", "group", "split")}
    if facts["split"] is None and "" not in parts:
        facts["split"] = tuple(name for name, _ in places)
    return PairSource(
        where=str(path),
        kind="datasets",
        names=tuple(f"{name}[{row}]" for name, row in places),
        captions=captions,
        read=read,
        sizes=np.full(len(places), -1, dtype=np.int64),
        labels=facts["label"],
        groups=facts["group"],
        splits=facts["split"],
        notes=empty_note(n_empty),
    )


def _fact(parts: dict[str, Any], column: str) -> tuple[str, ...] | None:
    if not all(column in part.column_names for part in parts.values()):
        return None
    values: list[str] = []
    for part in parts.values():
        names = getattr(part.features.get(column), "names", None)
        values += [
            names[value] if names and isinstance(value, int) and value >= 0 else str(value)
            for value in part[column]
        ]
    return tuple(values)
