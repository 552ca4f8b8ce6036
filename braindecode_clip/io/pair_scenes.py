"""Pairs from the HDF5 file that ``simulate scenes`` writes."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from braindecode_clip.errors import DataError
from braindecode_clip.io.pair_source import PairSource, clean_captions, empty_note


def read_scenes(path: Path) -> PairSource:
    """Read the arrays ``images`` and ``captions`` (and ``scenes``).

    Raises
    ------
    DataError
        The file is damaged or of another kind.
    """
    try:
        with h5py.File(path, "r") as content:
            scenes = content["scenes"].asstr()[...] if "scenes" in content else None
            images, wordings = content["images"][...], content["captions"].asstr()[...]
    except (OSError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: no readable file of pairs ({error}). Expected the arrays 'images' and "
            "'captions', as `simulate scenes` writes them."
        ) from error
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise DataError(
            f"{path}: 'images' has shape {images.shape} and type {images.dtype}, expected "
            "(n, height, width, 3) uint8."
        )
    if wordings.ndim != 2 or len(wordings) != len(images):
        raise DataError(
            f"{path}: 'captions' has shape {wordings.shape}, expected ({len(images)}, n_captions)."
        )
    captions, n_empty = clean_captions(wordings.tolist())
    return PairSource(
        where=str(path),
        kind="scenes",
        names=tuple(map(str, range(len(images)))),
        captions=captions,
        read=lambda row: images[row].tobytes(),
        sizes=np.full(len(images), images[0].nbytes if len(images) else 0, dtype=np.int64),
        pixels=images,
        scenes=scenes,
        notes=empty_note(n_empty),
    )
