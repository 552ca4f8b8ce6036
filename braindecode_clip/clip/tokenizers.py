"""A word-level tokenizer with a closed vocabulary, kept as JSON beside the weights."""

from __future__ import annotations

import json
import logging
import re
import string
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from braindecode_clip.checks import some
from braindecode_clip.errors import DataError

VOCABULARY_FILE = "vocabulary.json"

_PAD, _UNKNOWN, _END = "<pad>", "<unk>", "<end>"
_SPECIAL = (_PAD, _UNKNOWN)
# Single characters, so that names and numbers outside the vocabulary can be spelled.
_CHARACTERS = tuple(string.digits + string.ascii_lowercase)
_WORD = re.compile(r"[a-z]+|[0-9]+")

logger = logging.getLogger(__name__)


class WordTokenizer:
    """Split at everything that is no letter or digit, and look the words up.

    A word outside the vocabulary becomes ``<unk>`` (named once in the log). Numbers and
    single letters outside the vocabulary are spelled character by character. The end
    token has the largest id: open_clip's ``argmax`` pooling reads the text vector there.

    Parameters
    ----------
    words : sequence of str
        The vocabulary; lower case, letters or digits only.
    context_length : int
        Number of tokens of every text, end token included.

    Examples
    --------
    >>> tokenizer = WordTokenizer(["a", "circle", "red"], context_length=6)
    >>> tokenizer.encode("A red circle!")
    array([ 2,  4,  3, 40,  0,  0])
    """

    def __init__(self, words: Sequence[str], *, context_length: int) -> None:
        bad = [word for word in words if not _WORD.fullmatch(word)]
        if bad or len(set(words)) != len(words):
            raise DataError(
                f"vocabulary: {some(bad) if bad else 'a word stands twice'}; words must be "
                "unique and hold lower-case letters or digits only."
            )
        if context_length < 2:
            raise DataError(f"context_length is {context_length}; at least 2 is needed.")
        characters = [c for c in _CHARACTERS if c not in set(words)]
        self.words = tuple(words)
        self.context_length = int(context_length)
        self.tokens = (*_SPECIAL, *words, *characters, _END)
        self._id = {token: i for i, token in enumerate(self.tokens)}
        self._named: set[str] = set()

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return len(self.tokens)

    @property
    def pad_id(self) -> int:
        """Id of the filler after the end."""
        return self._id[_PAD]

    @property
    def end_id(self) -> int:
        """Id of the end token, the largest of all."""
        return self._id[_END]

    def encode(self, text: str) -> np.ndarray:
        """Return the ids of one text, (context_length,) int64, padded."""
        ids, unknown = self._ids(text)
        self._warn(unknown, [text] if len(ids) >= self.context_length else [])
        return self._padded(ids)

    def __call__(self, texts: str | Iterable[str]) -> np.ndarray:
        """Return the ids of several texts, (n_texts, context_length) int64.

        Unknown words and cut texts are named in one warning of the log each; a word is
        named once in the life of the tokenizer.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        rows, unknown, cut = [], [], []
        for text in texts:
            ids, missing = self._ids(text)
            unknown += missing
            if len(ids) >= self.context_length:
                cut.append(text)
            rows.append(self._padded(ids))
        self._warn(unknown, cut)
        if not rows:
            return np.zeros((0, self.context_length), dtype=np.int64)
        return np.stack(rows)

    def length(self, text: str) -> int:
        """Return how many tokens a text has uncut, end token included."""
        return len(self._ids(text)[0]) + 1

    def decode(self, ids: Iterable[int]) -> str:
        """Return the tokens up to the end token, joined by blanks."""
        tokens = []
        for i in ids:
            if int(i) == self.end_id:
                break
            if int(i) != self.pad_id:
                tokens.append(self.tokens[int(i)])
        return " ".join(tokens)

    def _ids(self, text: str) -> tuple[list[int], list[str]]:
        ids: list[int] = []
        unknown: list[str] = []
        for word in _WORD.findall(text.lower()):
            if word in self._id:
                ids.append(self._id[word])
            elif word.isdigit():
                ids.extend(self._id[c] for c in word)
            else:
                ids.append(self._id[_UNKNOWN])
                unknown.append(word)
        return ids, unknown

    def _padded(self, ids: list[int]) -> np.ndarray:
        row = np.full(self.context_length, self.pad_id, dtype=np.int64)
        kept = ids[: self.context_length - 1]
        row[: len(kept)] = kept
        row[len(kept)] = self.end_id
        return row

    def _warn(self, unknown: list[str], cut: list[str]) -> None:
        new = sorted(set(unknown) - self._named)
        if new:
            self._named.update(new)
            logger.warning(
                "unknown words, read as %s: %s. The model has %d words.",
                _UNKNOWN,
                some(new, limit=10),
                len(self.words),
            )
        if cut:
            logger.warning(
                "%d texts are longer than %d words and are cut: %s. Shorten them.",
                len(cut),
                self.context_length - 1,
                some(cut, limit=2),
            )

    def to_json(self) -> dict[str, Any]:
        """Return what :meth:`from_json` needs to build the same tokenizer."""
        return {
            "tokenizer": "words",
            "context_length": self.context_length,
            "words": list(self.words),
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> WordTokenizer:
        """Build a tokenizer from :meth:`to_json`'s record.

        Raises
        ------
        DataError
            The record is of another kind.
        """
        if content.get("tokenizer") != "words" or "words" not in content:
            raise DataError(
                f"{VOCABULARY_FILE}: expected the keys 'tokenizer': 'words', 'context_length' "
                f"and 'words', got {some(sorted(content))}. Take the file that `clip train` "
                "wrote beside the weights."
            )
        return cls(content["words"], context_length=content["context_length"])

    @classmethod
    def from_captions(cls, captions: Iterable[str], *, context_length: int) -> WordTokenizer:
        """Build a tokenizer of all words in the captions, sorted."""
        words = {word for text in captions for word in _WORD.findall(text.lower())}
        return cls(sorted(words), context_length=context_length)


def read_vocabulary(directory: str | Path) -> WordTokenizer:
    """Read the tokenizer of a model directory.

    Raises
    ------
    DataError
        The file is damaged or of another kind.
    """
    path = Path(directory) / VOCABULARY_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}). Restore the model directory."
        ) from error
    return WordTokenizer.from_json(content)
