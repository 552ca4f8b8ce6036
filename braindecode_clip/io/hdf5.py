"""Artefacts as HDF5: one generic writer and reader for all dataclasses of the stages.

Layout of a file: the root carries ``artifact_kind`` (class name), ``schema_version`` and
``provenance`` (JSON text), which no field is named; every field is a dataset (arrays, uncompressed
and contiguous, which reads random rows 100 times faster than gzip; what is filled in blocks lies
in chunks of some rows and one token, uncompressed too; dicts as JSON text), an
attribute (numbers, short strings) or a group (tables, nested artefacts). JSON stands in datasets,
as does the provenance, since an attribute holds 64 kB at the most.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import types
import typing
from collections.abc import Collection, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import pandas as pd

from braindecode_clip.artifacts import Embeddings, Predictions, Records, TokenRows
from braindecode_clip.constants import SCHEMA_VERSION
from braindecode_clip.errors import ArtifactError
from braindecode_clip.io.atomic import atomic_path
from braindecode_clip.provenance import Provenance

ArtefactT = TypeVar("ArtefactT")
VectorsT = TypeVar("VectorsT", Embeddings, Predictions)
_TEXT = h5py.string_dtype("utf-8")
#: Rows of a chunk of tokens: some tokens of all rows are read far more often than whole rows.
CHUNK_ROWS = 64
#: Bytes of an array of a decoder of tokens above which it stays in its file.
LAZY_ABOVE = 2**26
#: Numbers copied in one step from one file to another.
COPIED_NUMBERS = 2**24


def save_artifact(path: str | Path, artefact: Any, provenance: Provenance) -> None:
    """Write an artefact beside ``path`` and move it into place.

    Parameters
    ----------
    path : path
        Usually ``*.h5``.
    artefact : dataclass instance
        See :mod:`braindecode_clip.artifacts`.
    provenance : Provenance
        Recorded as JSON.
    """
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        write_artifact(file, artefact, provenance)


def write_artifact(file: h5py.File, artefact: Any, provenance: Provenance) -> None:
    """Write an artefact into an open file that holds none yet.

    Its arrays may be data sets of this file, made by :func:`new_dataset` and filled block by
    block: they are linked, not copied.
    """
    file.attrs["artifact_kind"] = type(artefact).__name__
    file.attrs["schema_version"] = SCHEMA_VERSION
    file.create_dataset("provenance", data=provenance.as_json(), dtype=_TEXT)
    _write_fields(file, artefact)


def new_dataset(file: h5py.File, shape: tuple[int, ...], dtype: Any) -> h5py.Dataset:
    """Make room for an array that is filled in blocks; without a name, so it goes if unused.

    Parameters
    ----------
    file : File
        Open for writing.
    shape : tuple of int
        (n, n_tokens, n_dims), in chunks of rows of a token; other shapes in one piece.
    dtype : dtype

    Returns
    -------
    Dataset
        Not initialised.
    """
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if len(shape) == 3:
        plist.set_chunk((min(CHUNK_ROWS, shape[0]), 1, shape[2]))
    # All room at once and nothing filled in: a file that was killed stays readable.
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple(shape)
    kind = h5py.h5t.py_create(np.dtype(dtype))
    return h5py.Dataset(h5py.h5d.create(file.id, None, kind, space, dcpl=plist))


def load_artifact(path: str | Path, cls: type[ArtefactT]) -> ArtefactT:
    """Read an artefact and let it check itself.

    Raises
    ------
    ArtifactError
        The file is missing, damaged, holds another kind of artefact, or was written by
        another schema version.
    """
    with open_artifact(path, cls) as artefact:
        return artefact


@contextlib.contextmanager
def open_artifact(
    path: str | Path,
    cls: type[ArtefactT],
    *,
    lazy: Collection[str] = (),
    lazy_above: int | None = None,
) -> Iterator[ArtefactT]:
    """Read an artefact, but for some arrays, which are read from the open file as they are sliced.

    Parameters
    ----------
    path : path
    cls : type
    lazy : collection of str
        Fields that become HDF5 datasets; their numbers are not checked again.
    lazy_above : int, optional
        Arrays of numbers of more bytes than this become datasets too, at any depth.

    Raises
    ------
    ArtifactError
        As :func:`load_artifact`.
    """
    with _open(path) as file:
        kind = file.attrs.get("artifact_kind")
        if kind != cls.__name__:
            raise ArtifactError(
                f"{path}: holds {kind or 'no artefact of this package'}, expected "
                f"{cls.__name__}. Check which file was passed to which option."
            )
        version = int(file.attrs.get("schema_version", -1))
        if version != SCHEMA_VERSION:
            raise ArtifactError(
                f"{path}: written with schema version {version}, this version reads "
                f"{SCHEMA_VERSION}. Re-run the stage that wrote it."
            )
        try:
            artefact = _read_fields(file, cls, lazy, lazy_above)
        except (KeyError, OSError, ValueError) as error:
            raise ArtifactError(
                f"{path}: damaged ({error}). Delete it and re-run the stage that wrote it."
            ) from error
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error}") from error
        yield artefact


@contextlib.contextmanager
def open_vectors(path: str | Path, cls: type[VectorsT]) -> Iterator[VectorsT]:
    """Read embeddings or predictions; tokens stay in the open file, as ``TokenRows``.

    Raises
    ------
    ArtifactError
        As :func:`load_artifact`.
    """
    has_tokens = holds_tokens(path)
    with open_artifact(path, cls, lazy=("vectors",) if has_tokens else ()) as artefact:
        if has_tokens:
            artefact = dataclasses.replace(artefact, vectors=TokenRows(artefact.vectors))
        yield artefact


def holds_tokens(path: str | Path) -> bool:
    """Tell whether a file of embeddings or predictions has several vectors for each row."""
    with _open(path) as file:
        stored = file.get("vectors")
        return isinstance(stored, h5py.Dataset) and stored.ndim == 3


def read_provenance(path: str | Path) -> dict[str, Any]:
    """Return the provenance record of an artefact."""
    with _open(path) as file:
        if "provenance" not in file:
            raise ArtifactError(f"{path}: has no provenance, so this package did not write it.")
        return json.loads(file["provenance"].asstr()[()])


def _open(path: str | Path) -> h5py.File:
    if not Path(path).is_file():
        raise ArtifactError(f"{path}: no such file. Run the stage that writes it first.")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ArtifactError(
            f"{path}: is no readable HDF5 file, or is truncated ({error}). "
            "Delete it and re-run the stage that wrote it."
        ) from error


def _write_fields(group: h5py.Group, artefact: Any) -> None:
    for item in fields(artefact):
        _write_value(group, item.name, getattr(artefact, item.name))


def _write_value(group: h5py.Group, name: str, value: Any) -> None:
    if value is None:
        group.attrs[name] = h5py.Empty("f4")
    elif isinstance(value, np.ndarray):
        _write_array(group, name, value)
    elif isinstance(value, h5py.Dataset | TokenRows):
        _write_blocks(group, name, value)
    elif isinstance(value, pd.DataFrame):
        table = group.create_group(name)
        table.attrs["columns"] = json.dumps([str(column) for column in value.columns])
        for position, column in enumerate(value.columns):
            _write_array(table, f"column_{position:03d}", value[column].to_numpy())
    elif isinstance(value, dict):
        group.create_dataset(name, data=json.dumps(value, sort_keys=True), dtype=_TEXT)
    elif is_dataclass(value):
        _write_fields(group.create_group(name), value)
    elif isinstance(value, tuple):
        items = group.create_group(name)
        items.attrs["n_items"] = len(value)
        for position, item in enumerate(value):
            _write_fields(items.create_group(f"{position:05d}"), item)
    elif isinstance(value, str | bool | int | float | np.number | np.bool_):
        group.attrs[name] = value
    else:
        raise TypeError(f"cannot store field '{name}' of type {type(value).__name__}")


def _write_blocks(group: h5py.Group, name: str, value: h5py.Dataset | TokenRows) -> None:
    """Link a data set of the same file, or copy one of another file."""
    if isinstance(value, h5py.Dataset) and value.file == group.file:
        group[name] = value
        return
    target = new_dataset(group.file, tuple(value.shape), value.dtype)
    step = max(1, COPIED_NUMBERS // max(1, int(np.prod(value.shape[1:]))))
    # Whole chunks, where several fit.
    step = step // CHUNK_ROWS * CHUNK_ROWS or step
    for start in range(0, value.shape[0], step):
        target[start : start + step] = value[start : start + step]
    group[name] = target


def _write_array(group: h5py.Group, name: str, array: np.ndarray) -> None:
    if array.dtype.kind in "UOT":
        text = ["" if value is None or value != value else str(value) for value in array.ravel()]
        data = np.array(text, dtype=object).reshape(array.shape)
        group.create_dataset(name, data=data, dtype=_TEXT)
    else:
        group.create_dataset(name, data=array)


def _read_fields(
    group: h5py.Group,
    cls: type[ArtefactT],
    lazy: Collection[str] = (),
    lazy_above: int | None = None,
) -> ArtefactT:
    hints = typing.get_type_hints(cls)
    values = {
        item.name: group[item.name]
        if item.name in lazy
        else _read_value(group, item.name, hints[item.name], lazy_above)
        for item in fields(cls)
        # A field with a default may be younger than the file; without records the evaluation
        # tells which stage to re-run.
        if item.name in group
        or item.name in group.attrs
        or not (hints[item.name] is Records or item.default is not dataclasses.MISSING)
    }
    return cls(**values)  # type: ignore[arg-type]


def _read_value(group: h5py.Group, name: str, hint: Any, lazy_above: int | None = None) -> Any:
    if name in group.attrs and isinstance(group.attrs[name], h5py.Empty):
        return None
    origin = typing.get_origin(hint)
    if origin is types.UnionType or origin is typing.Union:
        hint = next(arg for arg in typing.get_args(hint) if arg is not type(None))
        origin = typing.get_origin(hint)
    if hint is np.ndarray or origin is np.ndarray:
        stored = group[name]
        stays = lazy_above is not None and stored.dtype.kind == "f" and stored.nbytes > lazy_above
        return stored if stays else _read_array(stored)
    if hint is pd.DataFrame:
        table = group[name]
        columns = json.loads(table.attrs["columns"])
        return pd.DataFrame(
            {
                column: _read_array(table[f"column_{position:03d}"])
                for position, column in enumerate(columns)
            }
        )
    if hint is dict or origin is dict:
        return json.loads(group[name].asstr()[()])
    if is_dataclass(hint):
        return _read_fields(group[name], hint, lazy_above=lazy_above)
    if origin is tuple:
        items = group[name]
        item_type = typing.get_args(hint)[0]
        return tuple(
            _read_fields(items[f"{position:05d}"], item_type, lazy_above=lazy_above)
            for position in range(int(items.attrs["n_items"]))
        )
    return hint(group.attrs[name])


def _read_array(dataset: h5py.Dataset) -> np.ndarray:
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return np.asarray(dataset.asstr()[...], dtype=object).astype(str)
    return dataset[...]
