"""Encode stimuli with any encoder, and encode only what was not encoded before."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from braindecode_clip.artifacts import Embeddings
from braindecode_clip.checks import Problems, some
from braindecode_clip.errors import DataError
from braindecode_clip.logs import progress

_NORM_TOLERANCE = 1e-3

Picture = str | Path | Image.Image
Cache = MutableMapping[str, np.ndarray]


class Encoder(Protocol):
    """What this stage needs of an encoder.

    Attributes
    ----------
    n_dims : int
        Dimensions of the vectors.
    fingerprint : dict
        What the vectors depend on.
    """

    n_dims: int
    fingerprint: dict[str, Any]

    def encode_image(self, images: Sequence[Any], *, batch_size: int) -> np.ndarray:
        """Return (n, n_dims) float32 of unit norm for paths or PIL images."""

    def encode_text(self, texts: Sequence[str], *, batch_size: int) -> np.ndarray:
        """Return (n, n_dims) float32 of unit norm for texts."""


def embed_images(
    encoder: Encoder,
    images: Sequence[Picture],
    ids: Sequence[str],
    *,
    batch_size: int = 64,
    cache: Cache | None = None,
) -> Embeddings:
    """Encode the pictures of stimuli.

    Parameters
    ----------
    encoder : Encoder
        E.g. from :func:`braindecode_clip.clip.load_encoder`.
    images : sequence of path or PIL image
        One for each stimulus.
    ids : sequence of str
        Unique names of the stimuli.
    batch_size : int
        Pictures at once.
    cache : mutable mapping, optional
        From a picture's content hash to its vector (n_dims,), made by an encoder of the
        same fingerprint. Pictures in it are not encoded; new vectors are added.

    Returns
    -------
    Embeddings
        In the order of ``ids``.

    Raises
    ------
    DataError
        Pictures are missing or damaged (all are listed), or the encoder returned NaN.
    """
    _check_lengths("images", images, ids)
    cache = {} if cache is None else cache
    keys = _picture_keys(images, ids, cache)

    def encode(rows: list[int]) -> np.ndarray:
        return encoder.encode_image([images[row] for row in rows], batch_size=len(rows))

    return _embed(encoder, keys, ids, encode, batch_size, cache, modality="image")


def embed_texts(
    encoder: Encoder,
    texts: Sequence[str],
    ids: Sequence[str],
    *,
    batch_size: int = 256,
    cache: Cache | None = None,
) -> Embeddings:
    """Encode the captions of stimuli; see :func:`embed_images`.

    Raises
    ------
    DataError
        Empty captions (all are listed), or the encoder returned NaN.
    """
    _check_lengths("captions", texts, ids)
    empty = [
        name
        for name, text in zip(ids, texts, strict=True)
        if not isinstance(text, str) or not text.strip()
    ]
    if empty:
        raise DataError(
            f"captions: empty for {some(empty)}. Fill the column 'caption', or encode pictures."
        )
    cache = {} if cache is None else cache
    keys = [hashlib.sha256(text.encode()).hexdigest() for text in texts]

    def encode(rows: list[int]) -> np.ndarray:
        return encoder.encode_text([texts[row] for row in rows], batch_size=len(rows))

    return _embed(encoder, keys, ids, encode, batch_size, cache, modality="text")


def _embed(
    encoder: Encoder,
    keys: list[str],
    ids: Sequence[str],
    encode: Callable[[list[int]], np.ndarray],
    batch_size: int,
    cache: Cache,
    *,
    modality: str,
) -> Embeddings:
    """Encode one row for each key that the cache lacks, then gather all."""
    new = {key: row for row, key in enumerate(keys) if key not in cache}
    rows = list(new.values())
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    for batch in progress(batches, what=f"encoding {modality}s"):
        vectors = np.asarray(encode(batch), dtype=np.float32)
        _check_vectors(vectors, [str(ids[row]) for row in batch])
        for row, vector in zip(batch, vectors, strict=True):
            cache[keys[row]] = vector
    gathered = np.empty((len(keys), encoder.n_dims), dtype=np.float32)
    for row, key in enumerate(keys):
        gathered[row] = cache[key]
    return Embeddings(
        ids=np.asarray(ids).astype(str),
        vectors=gathered,
        modality=modality,
        fingerprint=dict(encoder.fingerprint),
    )


def _check_lengths(what: str, items: Sequence[Any], ids: Sequence[str]) -> None:
    if len(items) != len(ids):
        raise DataError(f"{what}: {len(items)} for {len(ids)} stimuli; one is needed for each.")
    if not len(ids):
        raise DataError("the stimulus list is empty; nothing can be embedded.")


def _check_vectors(vectors: np.ndarray, names: list[str]) -> None:
    off = np.abs(np.linalg.norm(vectors, axis=1) - 1.0)
    # A comparison with NaN is false, so NaN counts as bad here.
    bad = [name for name, gap in zip(names, off, strict=True) if not gap < _NORM_TOLERANCE]
    if bad:
        raise DataError(
            f"the encoder gave zero, NaN or unnormalised vectors for {some(bad)}. Look at these "
            "stimuli, and check the weights."
        )


def _picture_keys(images: Sequence[Picture], ids: Sequence[str], cache: Cache) -> list[str]:
    """Hash every picture; those that must be encoded are read in full, so that all damaged
    ones are found before the first is encoded."""
    problems = Problems("pictures")
    keys = []
    for picture, name in zip(images, ids, strict=True):
        try:
            keys.append(_picture_key(picture, cache))
        except OSError as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
            problems.add(f"{name}: {picture}: {reason}. Restore it, or take it off the list.")
    problems.raise_if_any()
    return keys


def _picture_key(picture: Picture, cache: Cache) -> str:
    if isinstance(picture, Image.Image):
        rgb = picture.convert("RGB")
        return hashlib.sha256(repr(rgb.size).encode() + rgb.tobytes()).hexdigest()
    content = Path(picture).read_bytes()
    key = hashlib.sha256(content).hexdigest()
    if key not in cache:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    return key
