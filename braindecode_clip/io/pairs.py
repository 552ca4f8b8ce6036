"""Picture-caption pairs from any source: the kind is recognised by the path."""

from __future__ import annotations

from pathlib import Path

from braindecode_clip.errors import DataError
from braindecode_clip.io.pair_coco import read_coco
from braindecode_clip.io.pair_datasets import is_saved_dataset, read_saved_dataset
from braindecode_clip.io.pair_folders import read_folder
from braindecode_clip.io.pair_scenes import read_scenes
from braindecode_clip.io.pair_source import PairSource
from braindecode_clip.io.pair_tables import read_table
from braindecode_clip.io.pair_tars import read_tars

KINDS = ("table", "folder", "coco", "tar", "datasets", "scenes")

_BY_ENDING = {
    ".tsv": "table",
    ".csv": "table",
    ".json": "coco",
    ".tar": "tar",
    ".h5": "scenes",
    ".hdf5": "scenes",
}


def kind_of(path: Path) -> str:
    """Recognise the kind of a source.

    Raises
    ------
    DataError
        The path does not exist, or has an unknown ending.
    """
    if is_saved_dataset(path):
        return "datasets"
    if path.is_dir():
        return "tar" if any(path.glob("*.tar")) else "folder"
    kind = _BY_ENDING.get(path.suffix.lower())
    # A brace pattern of shards is no file by itself.
    if kind != "tar" and not path.is_file():
        raise DataError(f"{path}: no such file of pairs.")
    if kind is None:
        raise DataError(
            f"{path}: no known kind of pairs. Known endings are {', '.join(_BY_ENDING)}, and "
            f"folders; or name the kind with --format ({', '.join(KINDS)})."
        )
    return kind


def read_pairs(
    path: str | Path,
    *,
    kind: str | None = None,
    split: str | None = None,
    images: str | Path | None = None,
) -> PairSource:
    """Read the captions of pairs, and where their pictures are.

    Parameters
    ----------
    path : path
        A table (:mod:`~braindecode_clip.io.pair_tables`), a folder
        (:mod:`~braindecode_clip.io.pair_folders`), COCO's JSON
        (:mod:`~braindecode_clip.io.pair_coco`), tar shards
        (:mod:`~braindecode_clip.io.pair_tars`), a saved data set
        (:mod:`~braindecode_clip.io.pair_datasets`), or HDF5 of ``simulate scenes``
        (:mod:`~braindecode_clip.io.pair_scenes`).
    kind : str, optional
        One of :data:`KINDS`; recognised by default.
    split : str, optional
        Keep the pairs of this split.
    images : path, optional
        Folder of the pictures of COCO's JSON.

    Raises
    ------
    DataError
        The source is missing, damaged, or lacks a part; all problems at once.
    """
    path = Path(path)
    kind = kind_of(path) if kind is None else kind
    if kind not in KINDS:
        raise DataError(f"--format '{kind}' is unknown. Use {', '.join(KINDS)}.")
    if kind != "tar" and not path.exists():
        raise DataError(f"{path}: no such file or folder of pairs.")
    if kind in ("folder", "datasets") and not path.is_dir():
        raise DataError(f"{path}: is no folder, as --format {kind} expects.")
    if kind in ("table", "coco", "scenes") and path.is_dir():
        raise DataError(f"{path}: is a folder; --format {kind} expects a file.")
    if images is not None and kind != "coco":
        raise DataError(f"{path}: --images belongs to COCO's JSON; this is a {kind}.")
    if kind == "coco":
        source = read_coco(path, images=None if images is None else Path(images))
    else:
        readers = {
            "table": read_table,
            "folder": read_folder,
            "tar": read_tars,
            "datasets": read_saved_dataset,
            "scenes": read_scenes,
        }
        source = readers[kind](path)
    return source if split is None else source.of_split(split)
