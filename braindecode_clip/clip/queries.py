"""Queries of a search: texts, pictures, both together, and what to keep away from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from braindecode_clip.checks import Problems, some
from braindecode_clip.clip.prompts import PLACE
from braindecode_clip.clip.zero_shot import prompt_means
from braindecode_clip.errors import DataError

#: A combined vector shorter than this has no direction worth searching in.
_NO_LENGTH = 1e-6


@dataclass(frozen=True)
class Query:
    """One question to a gallery.

    Attributes
    ----------
    text : str or None
    image : path or None
        At least one of text and image.
    image_weight : float
        Share of the picture where there is a text too, 0 to 1.
    negative : str or None
        Words whose direction is taken off.
    """

    text: str | None = None
    image: Path | None = None
    image_weight: float = 0.5
    negative: str | None = None

    @property
    def name(self) -> str:
        """What the query is called in tables and titles."""
        parts = [part for part in (self.text, self.image and self.image.name) if part]
        without = f" − {self.negative}" if self.negative else ""
        return " + ".join(parts) + without


def check_queries(queries: Sequence[Query], *, where: str) -> None:
    """Raise with every query that asks for nothing, and every weight out of range.

    Raises
    ------
    DataError
        No queries, a query without text and image, a weight outside 0 to 1, or two queries
        of one name.
    """
    problems = Problems(where)
    if not queries:
        problems.add("no queries. Give a text, --image or --queries.")
    empty = [k for k, q in enumerate(queries, 1) if not (q.text or "").strip() and not q.image]
    if empty:
        problems.add(f"queries without a text and an image: numbers {some(empty)}.")
    wrong = [f"{q.name}: {q.image_weight}" for q in queries if not 0 <= q.image_weight <= 1]
    if wrong:
        problems.add(f"an image's weight must lie between 0 and 1; got {some(wrong)}.")
    names = [q.name for q in queries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        problems.add(f"queries must differ; more than once: {some(twice)}.")
    problems.raise_if_any()


def query_vectors(
    encoder: Any,
    queries: Sequence[Query],
    *,
    templates: Sequence[str] = (PLACE,),
    negative_weight: float = 0.5,
) -> np.ndarray:
    r"""Turn queries into unit vectors.

    .. math:: q \propto (1 - w)\, t + w\, x - \lambda\, n

    with the unit vectors of the text t (the normalised mean over the templates), of the picture
    x and of the negative text n; a query of one kind has that kind alone. Since the gallery's
    vectors are of unit norm too, a candidate's score is the same mixture of its cosines with t,
    x and n, over the length of the mixture. Cosines between pictures are higher and more spread
    than those between pictures and texts, so w = 0.5 leans towards the picture.

    Parameters
    ----------
    encoder : object
        With ``encode_image`` and ``encode_text``, each to float32 of unit norm; ``encode_text``
        may be missing, and ``name`` is named in messages.
    queries : sequence of Query (n,)
    templates : sequence of str
        Wordings with ``{}`` for texts and negatives.
    negative_weight : float
        :math:`\lambda`, 0 or more.

    Returns
    -------
    ndarray (n, n_dims) float32
        Unit norm.

    Raises
    ------
    DataError
        Texts for an encoder without a text tower, pictures that cannot be read, or parts that
        cancel out.
    """
    texts = sorted({text for q in queries for text in (q.text, q.negative) if text})
    files = sorted({q.image for q in queries if q.image})
    if texts:
        require_text_tower(encoder, texts)
    of_text = dict(
        zip(texts, prompt_means(encoder, [[t] for t in texts], templates), strict=True)
        if texts
        else ()
    )
    of_image = dict(zip(files, encoder.encode_image(files), strict=True) if files else ())
    rows = []
    for query in queries:
        weight = query.image_weight if query.text and query.image else float(bool(query.image))
        row = np.zeros(encoder.n_dims)
        if query.text:
            row += (1 - weight) * of_text[query.text].astype(np.float64)
        if query.image:
            row += weight * of_image[query.image].astype(np.float64)
        if query.negative:
            row -= negative_weight * of_text[query.negative].astype(np.float64)
        rows.append(row)
    mixed = np.stack(rows)
    norm = np.linalg.norm(mixed, axis=1, keepdims=True)
    bad = [q.name for q, length in zip(queries, norm[:, 0], strict=True) if not length > _NO_LENGTH]
    if bad:
        raise DataError(
            f"queries: the parts of {some(bad)} cancel out or are NaN. Change their weights."
        )
    return (mixed / norm).astype(np.float32)


def require_text_tower(encoder: Any, texts: Sequence[str]) -> None:
    """Raise a :class:`DataError` where an encoder has no text tower."""
    known = getattr(encoder, "modalities", None)
    has_tower = callable(getattr(encoder, "encode_text", None))
    if not has_tower or (known is not None and "text" not in known):
        raise DataError(
            f"encoder '{encoder.name}': has no text tower, so it can't encode {some(texts)}. Ask "
            "with --image, or take an encoder for pictures and texts, such as scenes."
        )
