"""Vectors with names from files of other programs: .npy with a table, .npz, HDF5."""

from __future__ import annotations

import zipfile
from pathlib import Path

import h5py
import numpy as np

from braindecode_clip.errors import DataError
from braindecode_clip.io.tables import read_tsv


def read_vectors(
    path: str | Path,
    *,
    names: str | Path | None = None,
    names_column: str = "name",
    vectors_key: str = "vectors",
    names_key: str = "names",
) -> tuple[np.ndarray, np.ndarray]:
    """Read a matrix of vectors and the name of each row.

    Parameters
    ----------
    path : path
        ``.npy``; or ``.npz``, ``.h5``, ``.hdf5`` with two arrays.
    names : path, optional
        TSV with the names, in the order of the rows; needed for ``.npy``, and taken in
        place of ``names_key`` where given.
    names_column : str
        Column of the TSV.
    vectors_key, names_key : str
        Arrays in an ``.npz`` or HDF5 file.

    Returns
    -------
    vectors : ndarray (n_names, n_dims)
        As stored.
    names : ndarray (n_names,) of str

    Raises
    ------
    DataError
        The file is missing, damaged, of another format, or lacks an array.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file. Correct 'vectors' in the encoder's options.")
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz", ".h5", ".hdf5"):
        raise DataError(f"{path}: vectors are read from .npy, .npz, .h5 or .hdf5 files.")
    if suffix == ".npy" and names is None:
        raise DataError(f"{path}: holds no names. Set 'names' to a TSV with one row a vector.")
    wanted = [vectors_key] if names is not None else [vectors_key, names_key]
    try:
        if suffix == ".npy":
            arrays = [np.load(path, allow_pickle=False)]
        elif suffix == ".npz":
            # numpy leaves a damaged archive open when it opens the file itself.
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
                arrays = [content[key] for key in wanted]
        else:
            with h5py.File(path, "r") as content:
                arrays = [_dataset(content[key]) for key in wanted]
    except KeyError as error:
        raise DataError(
            f"{path}: lacks one of the arrays {', '.join(wanted)}. Set 'vectors_key' and "
            "'names_key' in the encoder's options."
        ) from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: cannot be read as {suffix} ({error}). Is the file whole?"
        ) from error
    if names is None:
        return arrays[0], arrays[1].astype(str)
    table = read_tsv(names, required=[names_column], text=[names_column])
    missing = table.index[table[names_column].isna()]
    if len(missing):
        raise DataError(f"{names}: '{names_column}' is empty in line {int(missing[0]) + 2}.")
    return arrays[0], table[names_column].to_numpy().astype(str)


def _dataset(item: h5py.Dataset) -> np.ndarray:
    if h5py.check_string_dtype(item.dtype) is not None:
        return item.asstr()[...]
    return item[...]
