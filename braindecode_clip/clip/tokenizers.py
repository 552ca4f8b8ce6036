"""Tokenizers of small models of one's own: words of a closed vocabulary, or bytes.

What they are made of is kept as JSON beside the weights. Tokenizers of other models are wrapped
in :mod:`braindecode_clip.clip.model_tokenizers`.
"""

from __future__ import annotations

import json
import logging
import re
import string
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from braindecode_clip.checks import some
from braindecode_clip.clip.checkpoints import replacing
from braindecode_clip.errors import DataError

VOCABULARY_FILE = "vocabulary.json"

_PAD, _UNKNOWN, _END = "<pad>", "<unk>", "<end>"
_SPECIAL = (_PAD, _UNKNOWN)
# Single characters, so that names and numbers outside the vocabulary can be spelled.
_CHARACTERS = tuple(string.digits + string.ascii_lowercase)
_WORD = re.compile(r"[a-z]+|[0-9]+")

logger = logging.getLogger(__name__)


class Tokenizer(Protocol):
    """What training asks of a tokenizer.

    Attributes
    ----------
    kind : str
        "words", "bytes", "clip" or "transformers".
    context_length : int
        Ids of every text.
    vocab_size : int
        Number of different ids.
    pad_id, end_id : int
        The filler, and what stands after a text.
    ignored : tuple of int
        Ids that stand for no part of a text.
    """

    kind: str
    context_length: int
    vocab_size: int
    pad_id: int
    end_id: int
    ignored: tuple[int, ...]

    def __call__(self, texts: str | Iterable[str]) -> np.ndarray:
        """Return ids (n_texts, context_length) int64."""

    def length(self, text: str) -> int:
        """Return how many ids a text has uncut, those around it included."""

    def unknown(self, text: str) -> list[str]:
        """Return the words of a text that the tokenizer cannot tell from other unknown ones."""

    def tower_fields(self) -> dict[str, int]:
        """Return the fields of open_clip's text config that the tokenizer settles."""

    def record(self) -> dict[str, Any]:
        """Return what tells tokenizers apart."""

    def save(self, directory: Path) -> None:
        """Write the tokenizer's files beside a model's weights."""


class _Kept:
    """Common to the tokenizers that are kept in ``vocabulary.json``."""

    pad_id: int
    end_id: int
    vocab_size: int

    @property
    def ignored(self) -> tuple[int, ...]:
        """Ids that stand for no part of a text."""
        return (self.pad_id, self.end_id)

    def tower_fields(self) -> dict[str, int]:
        """Return the fields of open_clip's text config that the tokenizer settles."""
        return {"vocab_size": self.vocab_size, "eos_id": self.end_id, "pad_id": self.pad_id}

    def record(self) -> dict[str, Any]:
        """Return what tells tokenizers apart."""
        return self.to_json()

    def save(self, directory: Path) -> None:
        """Write ``vocabulary.json``."""
        with replacing(Path(directory) / VOCABULARY_FILE) as temporary:
            text = json.dumps(self.to_json(), indent=2) + "\n"
            temporary.write_text(text, encoding="utf-8")


class WordTokenizer(_Kept):
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

    kind = "words"

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

    def unknown(self, text: str) -> list[str]:
        """Return the words of a text that are read as ``<unk>``."""
        return self._ids(text)[1]

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
                f"{VOCABULARY_FILE}: expected the keys 'tokenizer': 'words' (or 'bytes'), "
                f"'context_length' and 'words', got {some(sorted(content))}. Take the file that "
                "`clip train` wrote beside the weights."
            )
        return cls(content["words"], context_length=content["context_length"])

    @classmethod
    def from_captions(cls, captions: Iterable[str], *, context_length: int) -> WordTokenizer:
        """Build a tokenizer of all words in the captions, sorted."""
        words = {word for text in captions for word in _WORD.findall(text.lower())}
        return cls(sorted(words), context_length=context_length)


class ByteTokenizer(_Kept):
    """The bytes of a text in UTF-8: any language, nothing unknown, long rows.

    Ids are 0 for padding, byte + 1, and 257 for the end, the largest: open_clip's ``argmax``
    pooling reads the text vector there. Texts are neither lower-cased nor cleaned but for
    blanks at their ends. A text that is cut may end within a character.

    Parameters
    ----------
    context_length : int
        Number of ids of every text, end included.

    Examples
    --------
    >>> ByteTokenizer(context_length=5)("né")
    array([[111, 196, 170, 257,   0]])
    """

    kind = "bytes"
    pad_id, end_id, vocab_size = 0, 257, 258

    def __init__(self, *, context_length: int) -> None:
        if context_length < 2:
            raise DataError(f"context_length is {context_length}; at least 2 is needed.")
        self.context_length = int(context_length)
        self._named: set[str] = set()

    def __call__(self, texts: str | Iterable[str]) -> np.ndarray:
        """Return the ids of several texts, (n_texts, context_length) int64.

        Each cut text is named in the log once.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        rows = np.full((len(texts), self.context_length), self.pad_id, dtype=np.int64)
        for row, text in zip(rows, texts, strict=True):
            kept = text.strip().encode("utf-8")[: self.context_length - 1]
            row[: len(kept)] = np.frombuffer(kept, dtype=np.uint8).astype(np.int64) + 1
            row[len(kept)] = self.end_id
        warn_of_cuts(self, texts, [self.length(text) for text in texts], self._named)
        return rows

    def length(self, text: str) -> int:
        """Return how many ids a text has uncut, end included."""
        return len(text.strip().encode("utf-8")) + 1

    def unknown(self, text: str) -> list[str]:
        """Return nothing: all bytes are known."""
        return []

    def to_json(self) -> dict[str, Any]:
        """Return what :func:`read_vocabulary` needs to build the same tokenizer."""
        return {"tokenizer": "bytes", "context_length": self.context_length}


def warn_of_cuts(
    tokenizer: Tokenizer, texts: Sequence[str], lengths: Sequence[int], named: set[str]
) -> None:
    """Name in the log the texts that a tokenizer cuts, those in ``named`` excepted; add them."""
    limit = tokenizer.context_length
    long = {text for text, n in zip(texts, lengths, strict=True) if n > limit}
    cut = sorted(long - named)
    if cut:
        named.update(cut)
        logger.warning(
            "%d texts have more than the %d tokens that the model reads and are cut: %s. "
            "Shorten them.",
            len(cut),
            tokenizer.context_length,
            some(cut, limit=2),
        )


def read_vocabulary(directory: str | Path) -> WordTokenizer | ByteTokenizer:
    """Read the tokenizer of words or bytes of a model directory.

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
    if isinstance(content, dict) and content.get("tokenizer") == "bytes":
        if not isinstance(content.get("context_length"), int):
            raise DataError(f"{path}: 'context_length' is missing. Restore the model directory.")
        return ByteTokenizer(context_length=content["context_length"])
    return WordTokenizer.from_json(content)
