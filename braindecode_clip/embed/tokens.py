"""Encode the tokens of pictures into an array that may lie in a file."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from braindecode_clip.artifacts.vectors import token_norms
from braindecode_clip.checks import Problems, some
from braindecode_clip.errors import DataError
from braindecode_clip.logs import progress

_NORM_TOLERANCE = 1e-3


class TokenEncoder(Protocol):
    """What is needed of an encoder of tokens.

    Attributes
    ----------
    n_tokens, n_dims : int
    """

    n_tokens: int
    n_dims: int

    def encode_image(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Return (n, n_tokens, n_dims) float32 whose root mean square token norm is 1."""


def picture_digests(pictures: Sequence[Path], ids: Sequence[str]) -> list[str]:
    """Return the sha256 of every picture file, as hex, after decoding each.

    Raises
    ------
    DataError
        Pictures are missing or damaged; all are listed.
    """
    problems = Problems("pictures")
    digests = []
    for path, name in zip(pictures, ids, strict=True):
        try:
            content = Path(path).read_bytes()
            with Image.open(io.BytesIO(content)) as image:
                image.load()
            digests.append(hashlib.sha256(content).hexdigest())
        except OSError as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
            problems.add(f"{name}: {path}: {reason}. Restore it, or take it off the list.")
    problems.raise_if_any()
    return digests


def encode_tokens(
    encoder: TokenEncoder,
    pictures: Sequence[Path],
    ids: Sequence[str],
    *,
    out: Any,
    n_done: int = 0,
    batch_size: int = 64,
    after_batch: Callable[[int], None] = lambda n_done: None,
) -> None:
    """Encode pictures and write their tokens batch by batch.

    Parameters
    ----------
    encoder : TokenEncoder
        E.g. :class:`braindecode_clip.clip.tokens.TokenEncoder`.
    pictures : sequence of path
    ids : sequence of str
        Names of the stimuli, for messages.
    out : array-like (n, n_tokens, n_dims), float16 or float32
        Written by slices of rows; an HDF5 data set, for example.
    n_done : int
        Rows that are there already.
    batch_size : int
    after_batch : callable
        Given the number of rows that are done.

    Raises
    ------
    DataError
        The encoder gave NaN, or numbers that ``out`` cannot hold.
    """
    starts = range(n_done, len(pictures), batch_size)
    for start in progress(starts, what="encoding tokens"):
        rows = slice(start, min(start + batch_size, len(pictures)))
        images = []
        for path in pictures[rows]:
            with Image.open(path) as image:
                images.append(image.convert("RGB"))
        with np.errstate(over="ignore"):
            tokens = encoder.encode_image(images).astype(out.dtype)
        off = np.abs(token_norms(tokens) - 1)
        # A comparison with NaN is false, so NaN counts as bad here.
        bad = [name for name, gap in zip(ids[rows], off, strict=True) if not gap < _NORM_TOLERANCE]
        if bad:
            raise DataError(
                f"the encoder gave NaN, or numbers that {out.dtype} does not hold, for "
                f"{some(bad)}. Look at these stimuli, check the weights, and set 'token_dtype: "
                "float32'."
            )
        out[rows] = tokens
        after_batch(rows.stop)
