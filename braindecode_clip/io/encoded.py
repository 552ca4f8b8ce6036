"""Candidates that are encoded already: files of ``gallery`` and of ``embed``."""

from __future__ import annotations

from pathlib import Path

import h5py

from braindecode_clip.artifacts import Embeddings, Gallery
from braindecode_clip.errors import ArtifactError
from braindecode_clip.io.hdf5 import load_artifact


def is_encoded(path: str | Path) -> bool:
    """Tell whether a file was written by ``gallery`` or ``embed``."""
    path = Path(path)
    if not path.is_file() or not h5py.is_hdf5(path):
        return False
    with h5py.File(path, "r") as file:
        return "artifact_kind" in file.attrs


def load_candidates(path: str | Path) -> Gallery:
    """Read a file of ``gallery`` or of ``embed``.

    Raises
    ------
    ArtifactError
        It is neither.
    """
    try:
        return load_artifact(path, Gallery)
    except ArtifactError as error:
        if "expected Gallery" not in str(error):
            raise
    try:
        return Gallery.from_embeddings(load_artifact(path, Embeddings), origin=str(path))
    except ArtifactError as error:
        raise ArtifactError(
            str(error).replace("expected Embeddings", "expected Gallery or Embeddings")
        ) from error
