"""Pairs from a folder: pictures, each with a text file of the same name beside it."""

from __future__ import annotations

from pathlib import Path

from braindecode_clip.checks import Problems, some
from braindecode_clip.errors import DataError
from braindecode_clip.io.pair_source import (
    PICTURE_ENDINGS,
    PairSource,
    clean_captions,
    empty_note,
    file_sizes,
    read_files,
)


def read_folder(path: Path) -> PairSource:
    """Read ``x.jpg`` with its captions in ``x.txt``, one a line, in all subfolders.

    The first subfolder of a picture is its label. Hidden files and folders are passed over.

    Raises
    ------
    DataError
        No pictures, two pictures of one name beside each other, or text files that are not
        UTF-8; all at once.
    """
    files = sorted(
        file
        for file in path.rglob("*")
        if not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    pictures = [file for file in files if file.suffix.lower() in PICTURE_ENDINGS]
    if not pictures:
        raise DataError(
            f"{path}: no pictures ({', '.join(PICTURE_ENDINGS)}) in it or its subfolders."
        )
    problems = Problems(str(path))
    seen: dict[Path, Path] = {}
    for file in pictures:
        other = seen.setdefault(file.with_suffix(""), file)
        if other is not file:
            problems.add(f"{other.name} and {file.name} share one text file. Rename one of them.")
    texts = [_lines(file.with_suffix(".txt"), problems) for file in pictures]
    problems.raise_if_any()
    captions, n_empty = clean_captions(texts)
    lonely = [
        str(file.relative_to(path))
        for file in files
        if file.suffix == ".txt" and file.with_suffix("") not in seen
    ]
    notes = empty_note(n_empty)
    if lonely:
        notes += (f"{len(lonely)} text files have no picture: {some(lonely)}",)
    relative = [file.relative_to(path) for file in pictures]
    has_folders = any(len(file.parts) > 1 for file in relative)
    return PairSource(
        where=str(path),
        kind="folder",
        names=tuple(map(str, relative)),
        captions=captions,
        read=read_files(pictures),
        sizes=file_sizes(pictures),
        labels=tuple(f.parts[0] if len(f.parts) > 1 else "" for f in relative)
        if has_folders
        else None,
        notes=notes,
    )


def _lines(path: Path, problems: Problems) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        problems.add(f"{path.name} is no text in UTF-8 ({error}). Save it as UTF-8.")
        return []
    except OSError as error:
        problems.add(f"{path.name} cannot be read ({error.strerror or error}).")
        return []
    # An empty file is one empty caption; the line end after the last caption is none.
    return text.splitlines() or [""]
