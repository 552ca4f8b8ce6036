"""Picture-caption pairs: one HDF5 file, or a table that names picture files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from braindecode_clip.checks import Problems
from braindecode_clip.errors import DataError
from braindecode_clip.io.images import read_picture
from braindecode_clip.io.tables import read_tsv

_SEPARATORS = {".tsv": "\t", ".csv": ","}
_COLUMNS = ("image", "caption")


@dataclass(frozen=True)
class PairFile:
    """What a file of pairs holds.

    Attributes
    ----------
    images : ndarray (n, height, width, 3) uint8, or list of PIL images
        An array from HDF5; pictures of any size from a table.
    captions : ndarray (n, n_captions) of str
    scenes : ndarray (n,) of str, or None
        Ground truth as JSON, where the file has it.
    groups : ndarray (n,) of str, or None
        Column 'group' of a table, where it has one.
    """

    images: np.ndarray | list
    captions: np.ndarray
    scenes: np.ndarray | None
    groups: np.ndarray | None = None


def read_pairs(path: str | Path, *, split: str | None = None) -> PairFile:
    """Read pairs.

    Parameters
    ----------
    path : path
        ``.h5`` or ``.hdf5`` with ``images`` and ``captions`` (and ``scenes``), as
        ``simulate scenes`` writes them; or ``.tsv`` or ``.csv`` with the columns image
        (path beside the table) and caption. Rows of one image are wordings of it.
    split : str, optional
        Keep the table's rows with this value in its column ``split``.

    Raises
    ------
    DataError
        The file is missing, damaged, or lacks a part; pictures that cannot be read are all
        listed.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file of pairs.")
    if path.suffix.lower() in _SEPARATORS:
        return _from_table(path, split)
    if path.suffix.lower() not in (".h5", ".hdf5"):
        raise DataError(f"{path}: pairs are read from .h5, .hdf5, .tsv or .csv files.")
    if split is not None:
        raise DataError(f"{path}: has no splits; leave the split out, or give a table.")
    try:
        with h5py.File(path, "r") as content:
            scenes = content["scenes"].asstr()[...] if "scenes" in content else None
            return PairFile(content["images"][...], content["captions"].asstr()[...], scenes)
    except (OSError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: no readable file of pairs ({error}). Expected the arrays 'images' and "
            "'captions', as `simulate scenes` writes them."
        ) from error


def _from_table(path: Path, split: str | None) -> PairFile:
    table = _read_table(path)
    if split is not None:
        if "split" not in table.columns:
            raise DataError(f"{path}: lacks the column 'split', and '{split}' was asked for.")
        table = table[table["split"] == split]
    if not len(table):
        raise DataError(f"{path}: no rows{'' if split is None else f' of split {split!r}'}.")
    groups = table.groupby("image", sort=False)["caption"].agg(list)
    problems = Problems(str(path))
    images = []
    for name in groups.index:
        try:
            images.append(read_picture(path.parent / str(name)))
        except DataError as error:
            problems.add(str(error))
    problems.raise_if_any()
    # Pictures with fewer wordings repeat theirs, so that every row has the same number.
    longest = max(map(len, groups))
    captions = np.array([np.resize(np.array(row, dtype=object), longest) for row in groups])
    kin = table.groupby("image", sort=False)["group"].first() if "group" in table else None
    return PairFile(images, captions, None, None if kin is None else kin.astype(str).to_numpy())


def _read_table(path: Path) -> pd.DataFrame:
    if path.suffix.lower() == ".tsv":
        table = read_tsv(path, required=_COLUMNS, text=(*_COLUMNS, "split", "group"))
    else:
        try:
            table = pd.read_csv(path, dtype=str)
        except (ValueError, UnicodeDecodeError) as error:
            raise DataError(
                f"{path}: cannot be read as comma-separated table ({error})."
            ) from error
        missing = [name for name in _COLUMNS if name not in table.columns]
        if missing:
            raise DataError(f"{path}: lacks the columns {', '.join(missing)}.")
    empty = table.index[table["image"].isna() | table["caption"].isna()]
    if len(empty):
        raise DataError(
            f"{path}: 'image' or 'caption' is empty in {len(empty)} rows, first in line "
            f"{int(empty[0]) + 2}. Fill them, or take the rows out."
        )
    return table
