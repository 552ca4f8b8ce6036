"""Encode stimuli with any encoder, and encode only what was not encoded before."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from braindecode_clip.artifacts import Embeddings
from braindecode_clip.checks import Problems
from braindecode_clip.embed.stream import Cache, Stream
from braindecode_clip.errors import DataError
from braindecode_clip.logs import progress

#: Names the content of a stimulus, and decodes it when called.
Source = Callable[[Any], tuple[str, Callable[[], Any]]]


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

    def prepare_image(self, picture: Any) -> Any:
        """Return the encoder's input for one decoded picture; called in several threads."""

    def encode_prepared(self, prepared: Sequence[Any]) -> np.ndarray:
        """Return (n, n_dims) float32 of unit norm for one batch of prepared pictures."""

    def encode_text(self, texts: Sequence[str], *, batch_size: int) -> np.ndarray:
        """Return (n, n_dims) float32 of unit norm for texts."""


@dataclass(frozen=True)
class Embedded:
    """Vectors, and what it took to get them.

    Attributes
    ----------
    embeddings : Embeddings
        In the order of the ids.
    n_encoded : int
        Vectors computed now; all others were known, or are of equal contents.
    contents_sha256 : str
        Over the content hashes of all stimuli in order: which pictures or captions they
        really were.
    """

    embeddings: Embeddings
    n_encoded: int
    contents_sha256: str


def embed_images(
    encoder: Encoder,
    images: Sequence[Any],
    ids: Sequence[str],
    *,
    source: Source,
    batch_size: int = 32,
    cache: Cache | None = None,
    n_readers: int = 2,
    n_encoders: int = 1,
) -> Embedded:
    """Encode the pictures of stimuli.

    Parameters
    ----------
    encoder : Encoder
        E.g. from :func:`braindecode_clip.clip.load_encoder`.
    images : sequence
        One for each stimulus, of a kind that ``source`` reads.
    ids : sequence of str
        Unique names of the stimuli.
    source : callable
        Reads one of ``images``: returns the hash of its content, and a callable that
        decodes it, e.g. :func:`braindecode_clip.io.images.picture_source`.
    batch_size : int
        Pictures at once; halved when memory runs out. Batches depend on it, on the order
        of the list and on what the cache holds at the start, never on the threads.
    cache : Cache, optional
        From a picture's content hash to its vector (n_dims,), made by an encoder of the
        same fingerprint. Pictures in it are not encoded; every batch is added as soon as
        it is encoded, also when the call fails later.
    n_readers : int
        Threads that read, decode and resize.
    n_encoders : int
        Batches encoded at once.

    Raises
    ------
    DataError
        Pictures are missing or damaged, or the encoder returned NaN for them: all are
        listed, each with the reason, after all others were encoded. Or memory runs out
        with a single picture.
    """

    def read(picture: Any) -> tuple[str, Callable[[], Any]]:
        key, decode = source(picture)
        return key, lambda: encoder.prepare_image(decode())

    _check_lengths("images", images, ids)
    stream = Stream(
        read,
        encoder.encode_prepared,
        {} if cache is None else cache,
        batch_size,
        n_readers=n_readers,
        n_encoders=n_encoders,
        unit_norm=encoder.fingerprint.get("unit_norm", True),
    )
    return _embed(encoder, stream, images, ids, modality="image")


def embed_texts(
    encoder: Encoder,
    texts: Sequence[str],
    ids: Sequence[str],
    *,
    batch_size: int = 256,
    cache: Cache | None = None,
    n_encoders: int = 1,
) -> Embedded:
    """Encode the captions of stimuli; see :func:`embed_images`.

    Raises
    ------
    DataError
        Empty captions, or the encoder returned NaN (all are listed).
    """

    def read(text: Any) -> tuple[str, Callable[[], str]]:
        if not isinstance(text, str) or not text.strip():
            raise DataError("the caption is empty")
        return hashlib.sha256(text.encode()).hexdigest(), lambda: text

    def encode(batch: Sequence[str]) -> np.ndarray:
        return encoder.encode_text(list(batch), batch_size=len(batch))

    _check_lengths("captions", texts, ids)
    stream = Stream(
        read,
        encode,
        {} if cache is None else cache,
        batch_size,
        n_encoders=n_encoders,
        unit_norm=encoder.fingerprint.get("unit_norm", True),
    )
    return _embed(encoder, stream, texts, ids, modality="text")


def _embed(
    encoder: Encoder, stream: Stream, items: Sequence[Any], ids: Sequence[str], *, modality: str
) -> Embedded:
    def rows() -> Iterator[int]:
        for n_rows in stream.run(items):
            yield from range(n_rows)

    for _ in progress(rows(), what=f"encoding {modality}s", total=len(items)):
        pass
    problems = Problems("pictures" if modality == "image" else "captions")
    for row, reason in stream.problems:
        problems.add(f"{ids[row]}: {items[row]}: {reason}. Restore it, or take it off the list.")
    problems.raise_if_any()
    vectors = np.empty((len(items), encoder.n_dims), dtype=np.float32)
    for row, key in enumerate(stream.keys):
        vectors[row] = stream.cache[key]
    return Embedded(
        Embeddings(
            ids=np.asarray(ids).astype(str),
            vectors=vectors,
            modality=modality,
            fingerprint=dict(encoder.fingerprint),
        ),
        n_encoded=stream.n_encoded,
        contents_sha256=hashlib.sha256("".join(stream.keys).encode()).hexdigest(),
    )


def _check_lengths(what: str, items: Sequence[Any], ids: Sequence[str]) -> None:
    if len(items) != len(ids):
        raise DataError(f"{what}: {len(items)} for {len(ids)} stimuli; one is needed for each.")
    if not len(ids):
        raise DataError("the stimulus list is empty; nothing can be embedded.")
