"""When two captions are the same: case, punctuation and blanks do not count."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

_APOSTROPHES = re.compile(r"['’‘`]")
#: A point, comma, colon or slash between digits, and a minus before one, are part of a number.
_PUNCTUATION = re.compile(
    r"[;!?…\"“”„«»()\[\]_]|[.,:/](?!\d)|(?<!\d)[.,:/]|[-–—](?!\d)|(?<=\w)[-–—]"
)


def normalised_caption(caption: str) -> str:
    """Return a caption without what makes no difference to its meaning.

    Unicode's compatibility forms (NFKC) are unified, case is folded, apostrophes go, other
    punctuation becomes a blank, and runs of blanks become one. Signs that mean something stay
    (``%``, ``+``, ``#``, ``1.5``, ``-3``). A caption of punctuation alone stays as it is.
    """
    text = unicodedata.normalize("NFKC", str(caption)).casefold()
    text = " ".join(_PUNCTUATION.sub(" ", _APOSTROPHES.sub("", text)).split())
    return text or str(caption)


def number_captions(captions: Sequence[str]) -> np.ndarray:
    """Number captions (n,) int64 so that those, and only those, that are the same share one."""
    numbers: dict[str, int] = {}
    found = [numbers.setdefault(normalised_caption(text), len(numbers)) for text in captions]
    return np.array(found, dtype=np.int64)
