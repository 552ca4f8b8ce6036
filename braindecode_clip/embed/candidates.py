"""Encode galleries of any size, part by part: an interrupted run goes on where it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd

from braindecode_clip.artifacts import Gallery
from braindecode_clip.checks import Problems, some
from braindecode_clip.embed.encode import Encoder, Source, embed_images, embed_texts
from braindecode_clip.errors import DataError
from braindecode_clip.logs import progress

#: Candidates that are encoded before they are put away.
PART_SIZE = 1024


class PartStore(Protocol):
    """Keeps encoded parts, e.g. :class:`braindecode_clip.io.training_state.TrainingState`."""

    def load(self, slot: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Return what was saved under a name, or None."""

    def save(self, slot: str, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
        """Save arrays under a name."""


def embed_candidates(
    encoder: Encoder,
    ids: np.ndarray,
    *,
    pictures: Sequence[Any] | None = None,
    texts: Sequence[str] | None = None,
    source: Source | None = None,
    templates: Sequence[str] = ("{}",),
    metadata: pd.DataFrame | None = None,
    origin: str = "",
    batch_size: int = 64,
    store: PartStore | None = None,
) -> Gallery:
    """Encode pictures, or texts put into templates.

    Parameters
    ----------
    encoder : Encoder
    ids : ndarray (n,) str
        Unique names.
    pictures : sequence of path or PIL image, or None
        Either pictures or ``texts``; sliced part by part, so they need not fit in memory.
    texts : sequence of str, or None
    source : callable, optional
        Reads one of ``pictures``; see :func:`~braindecode_clip.embed.encode.embed_images`.
    templates : sequence of str
        For texts: wordings with ``{}`` where the text goes. A candidate's vector is the mean
        over its wordings, scaled to unit norm (the prompt ensemble of Radford et al. 2021,
        section 3.1.4).
    metadata : DataFrame, optional
        n rows, carried through.
    origin : str
        Carried through.
    batch_size : int
        Pictures or wordings at once.
    store : PartStore, optional
        Parts found in it are not encoded again.

    Returns
    -------
    Gallery

    Raises
    ------
    DataError
        Damaged pictures, empty texts, templates without ``{}``, or both or none of pictures and
        texts.
    """
    items = texts if pictures is None else pictures
    problems = Problems("gallery")
    if (pictures is None) == (texts is None) or items is None:
        raise DataError("gallery: give either pictures or texts.")
    if (pictures is None) != (source is None):
        raise DataError("gallery: pictures, and they alone, need a source that reads them.")
    if len(items) != len(ids) or not len(ids):
        problems.add(f"{len(items)} candidates for {len(ids)} names; one is needed for each.")
    bad = [template for template in templates if template.count("{}") != 1]
    if bad or not templates:
        problems.add(f"a template needs '{{}}' once, where the text goes; got {some(bad)}.")
    problems.raise_if_any()
    vectors = np.empty((len(ids), encoder.n_dims), dtype=np.float32)
    starts = range(0, len(ids), PART_SIZE)
    for number, start in enumerate(progress(starts, what="encoding parts of the gallery")):
        part = slice(start, start + PART_SIZE)
        slot = f"part-{number:06d}"
        known = None if store is None else store.load(slot)
        if known is not None:
            vectors[part] = known[0]["vectors"]
            continue
        vectors[part] = _encode(encoder, items[part], ids[part], source, templates, batch_size)
        if store is not None:
            store.save(slot, {"vectors": vectors[part]}, {})
    return Gallery(
        ids=np.asarray(ids).astype(str),
        vectors=vectors,
        modality="text" if pictures is None else "image",
        fingerprint=dict(encoder.fingerprint),
        metadata=pd.DataFrame() if metadata is None else metadata,
        origin=origin,
    )


def _encode(
    encoder: Encoder,
    items: Sequence[Any],
    ids: np.ndarray,
    source: Source | None,
    templates: Sequence[str],
    batch_size: int,
) -> np.ndarray:
    if source is not None:
        embedded = embed_images(encoder, items, ids.tolist(), source=source, batch_size=batch_size)
        return embedded.embeddings.vectors
    wordings = [template.replace("{}", text) for text in items for template in templates]
    names = [name for name in ids.tolist() for _ in templates]
    vectors = embed_texts(encoder, wordings, _distinct(names), batch_size=batch_size)
    vectors = vectors.embeddings.vectors
    mean = vectors.reshape(len(items), len(templates), -1).astype(np.float64).mean(axis=1)
    length = np.linalg.norm(mean, axis=1, keepdims=True)
    if (length == 0).any():
        raise DataError(f"the wordings of {some(ids[length[:, 0] == 0])} cancel out to zero.")
    return (mean / length).astype(np.float32)


def _distinct(names: list[str]) -> list[str]:
    """Number the names, since the wordings of one text share theirs."""
    return [f"{name} (wording {i})" for i, name in enumerate(names)]
