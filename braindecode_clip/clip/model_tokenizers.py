"""The tokenizer that a recipe's towers read, with the members that training asks for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from braindecode_clip.clip.checkpoints import replacing
from braindecode_clip.clip.packaged import located
from braindecode_clip.clip.parts import Tokenize, tokenizer_record
from braindecode_clip.clip.tokenizers import (
    ByteTokenizer,
    Tokenizer,
    WordTokenizer,
    warn_of_cuts,
)
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.config.clip import ClipRecipe
from braindecode_clip.errors import ConfigError, DataError

open_clip = import_open_clip()

#: Ids that open_clip's text config stands for where it names none: CLIP's own.
CLIP_VOCABULARY = 49408
_CLIP_CONTEXT = 77


class _Wrapped:
    """A tokenizer of another library; each cut text is named in the log once."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.context_length = int(inner.context_length)
        self._named: set[str] = set()

    def __call__(self, texts: str | Iterable[str]) -> np.ndarray:
        """Return the ids of several texts, (n_texts, context_length) int64."""
        texts = [texts] if isinstance(texts, str) else [str(text) for text in texts]
        if not texts:
            return np.zeros((0, self.context_length), dtype=np.int64)
        warn_of_cuts(self, texts, self._lengths(texts), self._named)
        return np.asarray(self.inner(texts), dtype=np.int64)

    def _lengths(self, texts: list[str]) -> list[int]:
        return [self.length(text) for text in texts]

    def tower_fields(self) -> dict[str, int]:
        """Return nothing: the towers were made for this tokenizer."""
        return {}

    def record(self) -> dict[str, Any]:
        """Return what tells tokenizers apart."""
        return dict(tokenizer_record(self.inner))


class ClipTokenizer(_Wrapped):
    """CLIP's byte pairs, as open_clip ships them; nothing is unknown to it.

    Parameters
    ----------
    inner : open_clip.SimpleTokenizer
    """

    kind = "clip"
    # The filler is 0, which is also the id of "!".
    pad_id = 0

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.vocab_size, self.end_id = int(inner.vocab_size), int(inner.eot_token_id)
        self.ignored = (self.pad_id, int(inner.sot_token_id), self.end_id)

    def length(self, text: str) -> int:
        """Return how many ids a text has uncut, start and end included."""
        return len(self.inner.encode(text)) + 2

    def unknown(self, text: str) -> list[str]:
        """Return nothing: what is no token is spelled in bytes."""
        return []

    def save(self, directory: Path) -> None:
        """Write nothing: open_clip ships the tokenizer."""


class TransformersTokenizer(_Wrapped):
    """A tokenizer of transformers, as open_clip wraps it.

    Parameters
    ----------
    inner : open_clip.tokenizer.HFTokenizer

    Raises
    ------
    ConfigError
        It has no filler.
    """

    kind = "transformers"

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        own = inner.tokenizer
        if own.pad_token_id is None:
            raise ConfigError(
                f"the tokenizer {own.name_or_path} has no padding token, so texts of several "
                "lengths fit in no batch. Give it one (pad_token), and save it again."
            )
        ends = (own.eos_token_id, own.sep_token_id, own.pad_token_id)
        self.pad_id = int(own.pad_token_id)
        self.end_id = int(next(i for i in ends if i is not None))
        self.vocab_size = len(own)
        unknown = own.unk_token_id
        self.ignored = tuple(sorted(set(own.all_special_ids) - {unknown}))
        self._unknown = None if unknown == self.pad_id else unknown

    def length(self, text: str) -> int:
        """Return how many ids a text has uncut, special ones included."""
        return len(self._encoded(text)["input_ids"])

    def unknown(self, text: str) -> list[str]:
        """Return the words of a text that hold an unknown piece."""
        if self._unknown is None:
            return []
        encoded = self._encoded(text)
        return (
            [own for own in text.split() if self._unknown in self._encoded(own)["input_ids"]]
            if self._unknown in encoded["input_ids"]
            else []
        )

    def save(self, directory: Path) -> None:
        """Write the tokenizer's files, each beside and then moved into place."""
        target = Path(directory)
        with tempfile.TemporaryDirectory() as folder:
            self.inner.save_pretrained(folder)
            for file in sorted(Path(folder).iterdir()):
                with replacing(target / file.name) as temporary:
                    temporary.write_bytes(file.read_bytes())

    def _lengths(self, texts: list[str]) -> list[int]:
        cleaned = [self.inner.clean_fn(text) for text in texts]
        # All at once: its tokenizers are many times faster so.
        encoded = self.inner.tokenizer(cleaned, truncation=False, verbose=False)
        return [len(ids) for ids in encoded["input_ids"]]

    def _encoded(self, text: str) -> Any:
        return self.inner.tokenizer(self.inner.clean_fn(text), truncation=False, verbose=False)


def wrapped(tokenize: Tokenize) -> Tokenizer:
    """Return a loaded model's tokenizer with the members that training asks for.

    Raises
    ------
    ConfigError
        It is of a kind that training does not know.
    """
    if isinstance(tokenize, WordTokenizer | ByteTokenizer):
        return tokenize
    if isinstance(tokenize, open_clip.SimpleTokenizer):
        return ClipTokenizer(tokenize)
    if isinstance(tokenize, open_clip.tokenizer.HFTokenizer):
        return TransformersTokenizer(tokenize)
    raise ConfigError(
        f"{type(tokenize).__name__}: models with this tokenizer can be used and not trained. Take "
        "a model in open_clip's form."
    )


def tokenizer_of(recipe: ClipRecipe, captions: Callable[[], Iterable[str]]) -> Tokenizer:
    """Return the tokenizer of a settled recipe that takes no model's towers over.

    Parameters
    ----------
    recipe : ClipRecipe
        Of :func:`braindecode_clip.clip.blueprint.settled`.
    captions : callable
        Gives the training captions, if the vocabulary is made of them.

    Raises
    ------
    ConfigError
        Tokenizer and text tower do not fit each other.
    DataError
        The tokenizer's files are neither on this machine nor can be downloaded.
    """
    model, text = recipe.model, recipe.model.text_cfg
    length = int(text.get("context_length", _CLIP_CONTEXT))
    is_own = text.get("hf_model_name") or text.get("hf_tokenizer_name")
    kind = model.tokenizer
    if kind == "auto" and not (is_own or model.open_clip or model.config):
        kind = "words"
    if kind != "auto":
        fixed = "is of transformers" if text.get("hf_model_name") else None
        fixed = fixed or ("is pretrained" if model.pretrained or model.weights else None)
        if fixed:
            raise ConfigError(
                f"recipe '{recipe.name}': model.tokenizer is '{kind}', and the text tower {fixed}, "
                "so it reads the ids of its own tokenizer. Set it to auto."
            )
        if kind == "bytes":
            return ByteTokenizer(context_length=length)
        return WordTokenizer.from_captions(captions(), context_length=length)
    if is_own:
        return TransformersTokenizer(_from_transformers(text, length))
    if text.get("vocab_size", CLIP_VOCABULARY) != CLIP_VOCABULARY:
        raise ConfigError(
            f"recipe '{recipe.name}': the text tower has {text['vocab_size']} ids, CLIP's own "
            f"tokenizer {CLIP_VOCABULARY}. Set model.tokenizer to words or bytes, or name a "
            "tokenizer (text_cfg.hf_tokenizer_name)."
        )
    kwargs = text.get("tokenizer_kwargs") or {}
    return ClipTokenizer(open_clip.SimpleTokenizer(context_length=length, **kwargs))


def _from_transformers(text: dict[str, Any], length: int) -> Any:
    from braindecode_clip.clip.hub import missing_repository, needs_extra

    name = text.get("hf_tokenizer_name") or text["hf_model_name"]
    try:
        return open_clip.tokenizer.HFTokenizer(
            str(located(name)),
            context_length=length,
            tokenizer_mode=text.get("tokenizer_mode"),
            **(text.get("tokenizer_kwargs") or {}),
        )
    except ModuleNotFoundError as error:
        raise DataError(needs_extra(f"tokenizer {name}", "transformers")) from error
    except DataError:
        raise
    except Exception as error:
        # transformers raises a dozen types for files that are missing or damaged.
        if located(name).is_dir():
            raise DataError(
                f"{name}: no tokenizer can be read from it ({type(error).__name__}: {error}). It "
                "needs files such as tokenizer.json and tokenizer_config.json."
            ) from error
        then = "model.text_cfg.hf_tokenizer_name: /path/to/the/folder"
        raise DataError(missing_repository(f"tokenizer {name}", name, then=then)) from error
