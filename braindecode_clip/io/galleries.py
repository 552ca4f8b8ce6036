"""Galleries of candidates: a folder of pictures, a table, NSD's HDF5 of pictures, a word list.

Pictures are opened one at a time when they are asked for, so a gallery may be larger than the
memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from PIL import Image

from braindecode_clip.checks import Problems, some
from braindecode_clip.errors import DataError
from braindecode_clip.io.tables import read_tsv

#: Endings of files that count as pictures in a folder.
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
#: Where the stimuli file of NSD (nsd_stimuli.hdf5) holds its pictures.
NSD_DATASET = "imgBrick"


@dataclass(frozen=True)
class GallerySource:
    """Candidates that are not encoded yet.

    Attributes
    ----------
    ids : ndarray (n,) str
        Unique names.
    pictures : sequence of path or PIL image, or None
        One a candidate, opened when asked for.
    texts : tuple of str, or None
        One a candidate.
    metadata : DataFrame
        n rows, one column for each thing that the source tells of its candidates; the ids are
        not among them.
    origin : str
        The file or folder.
    """

    ids: np.ndarray
    pictures: Sequence[Path | Image.Image] | None
    texts: tuple[str, ...] | None
    metadata: pd.DataFrame
    origin: str

    def __len__(self) -> int:
        return len(self.ids)


class Hdf5Pictures(Sequence):
    """Pictures of an HDF5 array (n, height, width, 3) uint8, read one at a time.

    Parameters
    ----------
    path : path
    dataset : str
    rows : ndarray (n_chosen,) int64
        Which pictures, in which order.
    """

    def __init__(self, path: str | Path, dataset: str, rows: np.ndarray) -> None:
        self._path, self._dataset, self._rows = Path(path), dataset, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, item: int | slice) -> Any:
        """Return one picture, or a list of them for a slice."""
        if isinstance(item, slice):
            return list(self._read(self._rows[item]))
        (picture,) = self._read([self._rows[item]])
        return picture

    def __iter__(self) -> Iterator[Image.Image]:
        return self._read(self._rows)

    def chosen(self, positions: np.ndarray) -> Hdf5Pictures:
        """Return some of these pictures."""
        return Hdf5Pictures(self._path, self._dataset, self._rows[positions])

    def _read(self, rows: Sequence[int]) -> Iterator[Image.Image]:
        try:
            with h5py.File(self._path, "r") as file:
                pixels = file[self._dataset]
                for row in rows:
                    yield Image.fromarray(pixels[int(row)])
        except OSError as error:
            raise DataError(
                f"{self._path}: '{self._dataset}' can't be read ({error}). Is the file whole?"
            ) from error


def read_gallery(
    path: str | Path,
    *,
    id_column: str = "stimulus_id",
    image_column: str = "image",
    text_column: str | None = None,
    dataset: str = NSD_DATASET,
    metadata: str | Path | None = None,
) -> GallerySource:
    """Read what a gallery consists of, by what ``path`` is.

    ========================  ==============================================================
    path                      candidates
    ========================  ==============================================================
    a folder                  its pictures, those of folders in it too; the id is the path
                              within the folder without ending, ``folder`` the part before
                              the last slash
    .tsv                      one a row: ``image_column`` (path beside the table), or
                              ``text_column`` where it is given; all other columns are metadata
    .h5, .hdf5                the pictures of ``dataset`` (n, height, width, 3) uint8, as in
                              NSD's nsd_stimuli.hdf5; the id is the number from 0, with as many
                              digits as the last, and ``row`` repeats it
    .txt                      one text a line; the id is the text
    ========================  ==============================================================

    Parameters
    ----------
    path : path
    id_column : str
        Of a table. Where texts are read, and the table has no such column or it is
        ``text_column``, the distinct texts are the candidates and their own ids.
    image_column, text_column : str
        Of a table.
    dataset : str
        Of an HDF5 file.
    metadata : path, optional
        Table with further columns, one row a candidate in any order, told by ``id_column``;
        for a folder or HDF5 file. Candidates without a row are left out: so a part of a file is
        chosen.

    Returns
    -------
    GallerySource

    Raises
    ------
    DataError
        Missing, empty or of another layout; repeated ids; everything in one message.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such gallery. Name a folder, .tsv, .txt or HDF5 file.")
    if path.is_dir():
        source = _from_folder(path)
    elif path.suffix.lower() == ".tsv":
        source = _from_table(path, id_column, image_column, text_column)
    elif path.suffix.lower() in (".h5", ".hdf5"):
        source = _from_hdf5(path, dataset)
    elif path.suffix.lower() == ".txt":
        source = _from_lines(path)
    else:
        raise DataError(
            f"{path}: a gallery is a folder of pictures, a .tsv, a .txt with one text a line, or "
            "an HDF5 file with pictures (.h5, .hdf5)."
        )
    _check_ids(path, source.ids)
    return source if metadata is None else _with_metadata(source, Path(metadata), id_column)


def _from_folder(path: Path) -> GallerySource:
    files = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in PICTURE_ENDINGS and not file.name.startswith(".")
    )
    if not files:
        raise DataError(f"{path}: no pictures ({', '.join(PICTURE_ENDINGS)}) in this folder.")
    names = [file.relative_to(path).with_suffix("").as_posix() for file in files]
    table = pd.DataFrame(
        {
            "folder": [name.rpartition("/")[0] for name in names],
            "file": [file.relative_to(path).as_posix() for file in files],
        }
    )
    return GallerySource(np.array(names), files, None, table, str(path))


def _from_table(
    path: Path, id_column: str, image_column: str, text_column: str | None
) -> GallerySource:
    wanted = text_column or image_column
    table = read_tsv(path, required=[wanted], text=[id_column, wanted])
    problems = Problems(str(path))
    if not len(table):
        problems.add("has no rows.")
    own_ids = id_column in table.columns and id_column != text_column
    if not own_ids and text_column is None:
        problems.add(f"lacks the column '{id_column}' with a name for each picture.")
    for column in [wanted] + [id_column] * own_ids:
        empty = [int(row) + 2 for row in table.index[table[column].isna()]]
        if empty:
            problems.add(f"'{column}' is empty in the lines {some(empty)}. Fill them.")
    problems.raise_if_any()
    if not own_ids:
        table = table.drop_duplicates(wanted, ignore_index=True)
    ids = table[id_column if own_ids else wanted].to_numpy().astype(str)
    rest = table.drop(columns=[id_column] if own_ids else []).reset_index(drop=True)
    if text_column is not None:
        return GallerySource(ids, None, tuple(table[wanted]), rest, str(path))
    files = [path.parent / name for name in table[wanted]]
    return GallerySource(ids, files, None, rest, str(path))


def _from_hdf5(path: Path, dataset: str) -> GallerySource:
    try:
        with h5py.File(path, "r") as file:
            if dataset not in file or not isinstance(file[dataset], h5py.Dataset):
                raise DataError(
                    f"{path}: holds no array '{dataset}'; it has {some(file)}. Name the array of "
                    "the pictures with 'dataset'."
                )
            shape, dtype = file[dataset].shape, file[dataset].dtype
    except OSError as error:
        raise DataError(f"{path}: is no readable HDF5 file ({error}). Is it whole?") from error
    if len(shape) != 4 or shape[-1] != 3 or dtype != np.uint8 or not shape[0]:
        raise DataError(
            f"{path}: '{dataset}' has shape {shape} and type {dtype}, expected pictures "
            "(n, height, width, 3) uint8."
        )
    rows = np.arange(shape[0])
    digits = len(str(shape[0] - 1))
    ids = np.array([f"{row:0{digits}d}" for row in rows])
    pictures = Hdf5Pictures(path, dataset, rows)
    return GallerySource(ids, pictures, None, pd.DataFrame({"row": rows}), str(path))


def _from_lines(path: Path) -> GallerySource:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text in UTF-8 ({error}).") from error
    texts = [line for line in lines if line]
    if not texts:
        raise DataError(f"{path}: holds no text.")
    empty = pd.DataFrame(index=range(len(texts)))
    return GallerySource(np.array(texts), None, tuple(texts), empty, str(path))


def _check_ids(path: Path, ids: np.ndarray) -> None:
    names, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        twice = names[counts > 1].tolist()
        raise DataError(
            f"{path}: candidates must have different names; more than once: {some(twice)}. Rename "
            "them, or take the repeats out."
        )


def _with_metadata(source: GallerySource, path: Path, id_column: str) -> GallerySource:
    table = read_tsv(path, required=[id_column], text=[id_column])
    problems = Problems(str(path))
    named = table[id_column].astype(str)
    twice = named[named.duplicated()]
    if len(twice):
        problems.add(f"'{id_column}' must be unique; more than once: {some(twice)}.")
    position = {name: row for row, name in enumerate(source.ids)}
    unknown = [name for name in named if name not in position]
    if unknown:
        problems.add(
            f"{some(unknown)} are no candidates of {source.origin}, whose names are like "
            f"{some(source.ids[:2])}."
        )
    both = sorted(set(table.columns) & set(source.metadata.columns))
    if both:
        problems.add(f"the columns {some(both)} are the gallery's own. Rename them.")
    problems.raise_if_any()
    rows = np.array([position[name] for name in named])
    columns = [
        source.metadata.iloc[rows].reset_index(drop=True),
        table.drop(columns=id_column).reset_index(drop=True),
    ]
    pictures = source.pictures
    if isinstance(pictures, Hdf5Pictures):
        pictures = pictures.chosen(rows)
    elif pictures is not None:
        pictures = [pictures[row] for row in rows]
    texts = None if source.texts is None else tuple(source.texts[row] for row in rows)
    return GallerySource(
        source.ids[rows], pictures, texts, pd.concat(columns, axis=1), source.origin
    )
