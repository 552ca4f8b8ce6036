"""Pairs from COCO's caption annotations: one JSON file beside folders of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from braindecode_clip.checks import Problems, some
from braindecode_clip.io.pair_source import (
    PairSource,
    clean_captions,
    empty_note,
    file_sizes,
    read_files,
)
from braindecode_clip.io.tables import read_json


def read_coco(path: Path, *, images: Path | None = None) -> PairSource:
    """Read ``images`` (id, file_name) and ``annotations`` (image_id, caption) of a JSON file.

    Parameters
    ----------
    path : path
        The JSON file.
    images : path, optional
        Folder of the pictures. Without it they are looked for beside the file, in a folder
        ``images`` beside it, and as COCO is unpacked: ``../train2017`` for
        ``annotations/captions_train2017.json``.

    Raises
    ------
    DataError
        Another JSON, double ids, captions of unknown pictures, or no folder with the first
        picture; all at once.
    """
    content = read_json(path)
    problems = Problems(str(path))
    entries = _entries(content, "images", ("id", "file_name"), problems)
    annotations = _entries(content, "annotations", ("image_id", "caption"), problems)
    problems.raise_if_any()
    rows = {entry["id"]: row for row, entry in enumerate(entries)}
    names = [str(entry["file_name"]) for entry in entries]
    if len(rows) < len(entries):
        problems.add(f"{len(entries) - len(rows)} ids stand twice in 'images'.")
    unknown = sorted({str(a["image_id"]) for a in annotations if a["image_id"] not in rows})
    if unknown:
        problems.add(f"captions of pictures that 'images' lacks: ids {some(unknown)}.")
    folder = images
    if folder is None and names:
        tried = _folders(path)
        folder = next((place for place in tried if (place / names[0]).is_file()), None)
        if folder is None:
            problems.add(
                f"'{names[0]}' is in none of {some(tried)}. Name the folder of the pictures with "
                "--images."
            )
    if not names:
        problems.add("'images' is empty.")
    problems.raise_if_any()
    wordings: list[list[str]] = [[] for _ in names]
    for annotation in annotations:
        wordings[rows[annotation["image_id"]]].append(str(annotation["caption"]))
    captions, n_empty = clean_captions(wordings)
    files = [folder / name for name in names]
    return PairSource(
        where=str(path),
        kind="coco",
        names=tuple(names),
        captions=captions,
        read=read_files(files),
        sizes=file_sizes(files),
        notes=empty_note(n_empty),
    )


def _entries(
    content: Any, key: str, fields: tuple[str, ...], problems: Problems
) -> list[dict[str, Any]]:
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        problems.add(f"lacks the list '{key}' of COCO's captions.")
        return []
    bad = [k for k, e in enumerate(entries) if not isinstance(e, dict) or not set(fields) <= set(e)]
    if bad:
        problems.add(f"entries of '{key}' without {' or '.join(fields)}: numbers {some(bad)}.")
        return []
    return entries


def _folders(path: Path) -> list[Path]:
    name = path.stem.removeprefix("captions_")
    beside, above = path.resolve().parent, path.resolve().parent.parent
    return [beside, beside / "images", beside / name, above / name, above / "images"]
