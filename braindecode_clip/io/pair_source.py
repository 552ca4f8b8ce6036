"""What every reader of picture-caption pairs returns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from braindecode_clip.checks import some
from braindecode_clip.errors import DataError

PICTURE_ENDINGS = (
    ".jpg",
    ".jpeg",
    ".png",
    ".webp",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
)

_LABEL_BLANKS = re.compile(r"[_\s]+")


@dataclass(frozen=True)
class PairSource:
    """Pictures with any number of captions each; the pictures are read when asked for.

    Attributes
    ----------
    where : str
        The path, for messages.
    kind : str
        "table", "folder", "coco", "tar", "datasets" or "scenes".
    names : tuple of str (n,)
        What names each picture: a path or a key.
    captions : tuple of tuple of str (n,)
        Wordings of each picture, without blank ones; a picture may have none.
    read : callable
        Row number to the bytes of the picture's file; raises :class:`DataError` with the
        reason alone where they cannot be had. Safe in threads.
    sizes : ndarray (n,) int64
        Bytes of each file; -1 where they are not known before reading.
    labels, groups, splits : tuple of str (n,), optional
        "" where a picture has none.
    pixels : ndarray (n, height, width, 3) uint8, optional
        Pictures that are no files; ``read`` is not called then.
    scenes : ndarray (n,) of str, optional
        Ground truth as JSON, of ``simulate scenes``.
    notes : tuple of str
        What was left out, and how many of it.
    """

    where: str
    kind: str
    names: tuple[str, ...]
    captions: tuple[tuple[str, ...], ...]
    read: Callable[[int], bytes]
    sizes: np.ndarray
    labels: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    splits: tuple[str, ...] | None = None
    pixels: np.ndarray | None = None
    scenes: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: Sequence[int] | np.ndarray) -> PairSource:
        """Return the pairs of some rows, in that order."""
        rows = np.asarray(rows, dtype=np.int64)
        read = self.read

        def picked(values: tuple | None) -> tuple | None:
            return None if values is None else tuple(values[row] for row in rows)

        return replace(
            self,
            names=picked(self.names),
            captions=picked(self.captions),
            read=lambda row: read(int(rows[row])),
            sizes=self.sizes[rows],
            labels=picked(self.labels),
            groups=picked(self.groups),
            splits=picked(self.splits),
            pixels=None if self.pixels is None else self.pixels[rows],
            scenes=None if self.scenes is None else self.scenes[rows],
        )

    def of_split(self, split: str) -> PairSource:
        """Return the pairs of one split.

        Raises
        ------
        DataError
            The source has no splits, or none of that name.
        """
        if self.splits is None:
            raise DataError(
                f"{self.where}: has no splits, and '{split}' was asked for. Leave the split out, "
                "or give a source with splits (a column 'split' of a table)."
            )
        rows = [row for row, own in enumerate(self.splits) if own == split]
        if not rows:
            known = some(sorted(set(self.splits)))
            raise DataError(f"{self.where}: no rows of split '{split}'; it has {known}.")
        return self.take(rows)


def with_label_captions(source: PairSource, templates: Sequence[str]) -> PairSource:
    """Add a caption for each template to every picture that has a label.

    Underscores and runs of blanks in a label become one blank: ``sea_lion`` reads "sea lion".

    Raises
    ------
    DataError
        No picture has a label.
    """
    labels = source.labels or ()
    if not any(labels):
        raise DataError(
            f"{source.where}: data.templates need labels, and there are none. Give a column "
            "'label', 'label' in each shard's JSON, or one subfolder for each label; or take the "
            "templates out."
        )
    made = (
        tuple(template.replace("{}", spaced(label)) for template in templates) if label else ()
        for label in labels
    )
    captions = tuple(
        tuple(dict.fromkeys([*own, *new])) for own, new in zip(source.captions, made, strict=True)
    )
    return replace(source, captions=captions)


def spaced(label: str) -> str:
    """Return a label as it reads in a caption: ``sea_lion`` as "sea lion"."""
    return _LABEL_BLANKS.sub(" ", label).strip()


def captioned(source: PairSource) -> PairSource:
    """Leave out the pictures without a caption, and note how many they were.

    Raises
    ------
    DataError
        None is left.
    """
    rows = [row for row, own in enumerate(source.captions) if own]
    if len(rows) == len(source):
        return source
    if not rows:
        hint = (
            " It has labels: make captions of them with data.templates."
            if any(source.labels or ())
            else ""
        )
        raise DataError(f"{source.where}: no picture has a caption.{hint}")
    missing = [source.names[row] for row, own in enumerate(source.captions) if not own]
    note = f"{len(missing)} pictures have no caption and are left out: {some(missing)}"
    return replace(source.take(rows), notes=(*source.notes, note))


def clean_captions(
    captions: Iterable[Iterable[str]],
) -> tuple[tuple[tuple[str, ...], ...], int]:
    """Strip captions and drop empty ones; return the rest, and how many were dropped."""
    n_empty = 0
    cleaned = []
    for own in captions:
        stripped = [str(caption).strip() for caption in own]
        kept = tuple(caption for caption in stripped if caption)
        n_empty += len(stripped) - len(kept)
        cleaned.append(kept)
    return tuple(cleaned), n_empty


def empty_note(n_empty: int) -> tuple[str, ...]:
    """Word the number of dropped captions; nothing for none."""
    return (f"{n_empty} captions are empty and are left out",) if n_empty else ()


def read_files(paths: Sequence[Path]) -> Callable[[int], bytes]:
    """Return a reader of the bytes of these files by number."""

    def read(row: int) -> bytes:
        try:
            return paths[row].read_bytes()
        except FileNotFoundError as error:
            raise DataError("no such file") from error
        except OSError as error:
            raise DataError(error.strerror or str(error)) from error

    return read


def file_sizes(paths: Sequence[Path]) -> np.ndarray:
    """Return the bytes of each file (n,) int64, -1 for a missing one."""
    sizes = np.full(len(paths), -1, dtype=np.int64)
    for row, path in enumerate(paths):
        try:
            sizes[row] = path.stat().st_size
        except OSError:
            continue
    return sizes


def strings_of(value: object) -> list[str]:
    """Return captions given as one text, a list of texts, or nothing, as a list."""
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, list | tuple):
        return [text for item in value for text in strings_of(item)]
    return [str(value)]
