"""Pictures or vectors that a user points at, encoded through an index that is kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from braindecode_clip.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from braindecode_clip.artifacts import Gallery
    from braindecode_clip.io.galleries import GallerySource

#: Arrays of pictures in HDF5: NSD's stimuli, and the pairs of `simulate scenes`.
_DATASETS = ("imgBrick", "images")


@dataclass(frozen=True)
class Candidates:
    """A gallery with its vectors and what can be shown of it.

    Attributes
    ----------
    ids : ndarray (n,) str
    vectors : ndarray (n, n_dims) float32
        Unit norm.
    pictures : sequence of path or PIL image, or None
        None where there are texts or vectors alone.
    paths : list of str (n,)
        File of each, or "".
    texts : tuple of str, or None
    metadata : DataFrame
        n rows, or empty.
    fingerprint : dict
        Of what made the vectors.
    origin : str
    n_encoded : int
        How many were encoded now, and not found in the index.
    """

    ids: np.ndarray
    vectors: np.ndarray
    pictures: Sequence[Any] | None
    paths: list[str]
    texts: tuple[str, ...] | None
    metadata: pd.DataFrame
    fingerprint: dict[str, Any]
    origin: str
    n_encoded: int

    def __len__(self) -> int:
        return len(self.ids)

    def picture(self, row: int) -> Any | None:
        """Return the picture of a candidate, where there are pictures."""
        return None if self.pictures is None else self.pictures[row]

    @property
    def all_pictures(self) -> Sequence[Any]:
        """A picture, or None, for each candidate; nothing is opened."""
        return [None] * len(self) if self.pictures is None else self.pictures

    def detail(self, row: int) -> str:
        """Return what tells a candidate from others: its caption, else its name."""
        for column in ("caption", "label"):
            if column in self.metadata.columns and isinstance(self.metadata[column][row], str):
                return self.metadata[column][row]
        return "" if self.texts is not None else str(self.ids[row])


def read_candidates(
    path: Path,
    get_encoder: Callable[[], Any],
    *,
    cache: Path | None,
    batch_size: int = 64,
    text_column: str | None = None,
    dataset: str | None = None,
    is_asked: bool = True,
) -> Candidates:
    """Read a gallery of any kind, and encode what the index lacks.

    Parameters
    ----------
    path : path
        Folder, TSV, HDF5 of pictures, TXT, or a file of `embed` or `gallery`.
    get_encoder : callable
        Returns the encoder; called only where something must be encoded or compared.
    cache : path, optional
        Folder of the index; the user's cache folder by default.
    batch_size : int
    text_column : str, optional
        Column of a table whose texts are the candidates.
    dataset : str, optional
        Array of an HDF5 file.
    is_asked : bool
        Whether queries of the encoder will be compared with the candidates; else vectors from a
        file are taken whatever made them.

    Raises
    ------
    DataError
        The gallery is missing or unreadable, pictures are missing, or vectors come from another
        encoder.
    """
    from braindecode_clip.io.encoded import is_encoded, load_candidates
    from braindecode_clip.io.galleries import read_gallery

    if is_encoded(path):
        return _from_vectors(path, load_candidates(path), get_encoder() if is_asked else None)
    if dataset is None and path.suffix.lower() in (".h5", ".hdf5") and path.is_file():
        dataset = _dataset_of(path)
    source = read_gallery(path, text_column=text_column, dataset=dataset or _DATASETS[0])
    return _encoded(source, get_encoder(), cache, batch_size)


def _from_vectors(path: Path, stored: Gallery, encoder: Any | None) -> Candidates:
    from braindecode_clip.checks import differences

    if encoder is not None:
        parts = differences(encoder.fingerprint, stored.fingerprint)
        if parts:
            raise DataError(
                f"{path}: was made by another encoder than --encoder; encoder != file in "
                f"{'; '.join(parts)}. Name the encoder that made it."
            )
    files = _files_of(stored)
    there = [file for file in files if file and Path(file).is_file()]
    shown = [Path(file) for file in files] if files and len(there) == len(files) else None
    texts = tuple(stored.ids.tolist()) if stored.modality == "text" else None
    return Candidates(
        ids=stored.ids,
        vectors=stored.vectors,
        pictures=shown,
        paths=files or [""] * len(stored.ids),
        texts=texts,
        metadata=stored.metadata,
        fingerprint=stored.fingerprint,
        origin=str(path),
        n_encoded=0,
    )


def _files_of(stored: Gallery) -> list[str]:
    """Return the files that a gallery was made of, where it tells."""
    origin, table = Path(stored.origin), stored.metadata
    if stored.modality != "image":
        return []
    if "file" in table.columns:
        return [str(origin / name) for name in table["file"]]
    if "image" in table.columns:
        return [str(origin.parent / name) for name in table["image"]]
    return []


def _dataset_of(path: Path) -> str | None:
    import h5py

    if not h5py.is_hdf5(path):
        return None
    with h5py.File(path, "r") as file:
        return next((name for name in _DATASETS if name in file), None)


def _encoded(
    source: GallerySource, encoder: Any, cache: Path | None, batch_size: int
) -> Candidates:
    from braindecode_clip.clip.queries import require_text_tower
    from braindecode_clip.embed.encode import embed_images, embed_texts
    from braindecode_clip.io.images import picture_source
    from braindecode_clip.io.shards import VectorShards

    paths = _paths(source)
    _refuse_missing(source, paths)
    text = json.dumps(encoder.fingerprint, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    index = VectorShards((default_folder() if cache is None else cache) / digest, encoder.n_dims)
    how = {"batch_size": batch_size, "cache": index}
    ids = source.ids.tolist()
    if source.pictures is None:
        require_text_tower(encoder, source.texts or ())
        embedded = embed_texts(encoder, source.texts or (), ids, **how)
    else:
        embedded = embed_images(encoder, source.pictures, ids, source=picture_source, **how)
    index.merge()
    return Candidates(
        ids=source.ids,
        vectors=embedded.embeddings.vectors,
        pictures=source.pictures,
        paths=paths,
        texts=source.texts,
        metadata=source.metadata,
        fingerprint=dict(encoder.fingerprint),
        origin=source.origin,
        n_encoded=embedded.n_encoded,
    )


def default_folder() -> Path:
    """Return where indices are kept: ``BRAINDECODE_CLIP_CACHE``, or the user's cache folder."""
    named = os.environ.get("BRAINDECODE_CLIP_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "braindecode-clip"


def _paths(source: GallerySource) -> list[str]:
    if isinstance(source.pictures, list):
        return [str(item) for item in source.pictures]
    return [""] * len(source)


def _refuse_missing(source: GallerySource, paths: Sequence[str]) -> None:
    """Name all missing files before the first picture is encoded."""
    from braindecode_clip.checks import some

    missing = [path for path in paths if path and not Path(path).is_file()]
    if missing:
        raise DataError(
            f"{source.origin}: {len(missing)} of {len(paths)} pictures are missing: "
            f"{some(missing)}. Restore them, or take them off the list."
        )
