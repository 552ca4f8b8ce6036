"""Text encoders of sentence-transformers, and of transformers with mean pooling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from braindecode_clip.clip.hub import missing_repository, needs_extra, repository_folder
from braindecode_clip.clip.parts import Parts, Request
from braindecode_clip.errors import ConfigError, DataError

SENTENCE_PREFIX = "sentence-transformers:"
_LIBRARIES = ("sentence-transformers", "transformers", "tokenizers", "torch")
_SUFFIXES = (".safetensors", ".bin")


class TextTower(torch.nn.Module):
    """A sentence encoder with the method of open_clip's models.

    Parameters
    ----------
    sentences : SentenceTransformer
    """

    def __init__(self, sentences: Any) -> None:
        super().__init__()
        self.sentences = sentences

    def encode_text(self, tokens: Any) -> torch.Tensor:
        """Map the tokenizer's output to sentence vectors (n, n_dims)."""
        return self.sentences(dict(tokens))["sentence_embedding"]


class SentenceTokenizer:
    """The tokenizer of a sentence encoder; texts are padded to the longest of a batch."""

    def __init__(self, sentences: Any) -> None:
        self._sentences = sentences

    def __call__(self, texts: list[str]) -> Any:
        """Return ids and mask, (n, longest) each, that move to a device together."""
        from transformers import BatchEncoding

        found = self._sentences.preprocess(texts)
        tensors = {k: v for k, v in found.items() if isinstance(v, torch.Tensor)}
        return BatchEncoding(tensors)


def sentence_parts(name: str, request: Request) -> Parts:
    """Load a text encoder.

    Parameters
    ----------
    name : str
        A directory, or a repository on the hub such as
        ``sentence-transformers/all-MiniLM-L6-v2``. Without ``modules.json`` it is a plain text
        model of transformers, and the mean over its tokens is taken.
    request : Request

    Raises
    ------
    ConfigError
        The request names weights, a tag, a tokenizer or an activation: all are its own.
    DataError
        The package is not installed, or the model is neither here nor can be downloaded.
    """
    own = (request.pretrained, request.weights, request.tokenizer, request.quick_gelu)
    if any(item is not None for item in own):
        raise ConfigError(
            f"sentence-transformers:{name}: 'pretrained', 'weights', 'tokenizer' and 'quick_gelu' "
            "are not used; all are the model's own."
        )
    try:
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError as error:
        raise DataError(
            needs_extra(f"sentence-transformers:{name}", "sentence-transformers")
        ) from error
    directory = Path(name)
    try:
        sentences = SentenceTransformer(name, device=str(request.device))
    except Exception as error:
        # transformers and the hub's client raise a dozen types here.
        if directory.is_dir():
            raise DataError(
                f"{directory}: no text encoder can be read ({type(error).__name__}: "
                f"{str(error).splitlines()[0]}). It needs config.json, weights and the "
                "tokenizer's files; fetch them from the model's source."
            ) from error
        then = "kind: sentence_transformers, model: /path/to/the/folder"
        label = f"sentence-transformers:{name}"
        raise DataError(missing_repository(label, name, then=then)) from error
    if not directory.is_dir():
        snapshots = sorted(repository_folder(name).glob("snapshots/*/"))
        directory = max(snapshots, key=lambda path: path.stat().st_mtime)
    files = sorted(p for p in directory.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
    return Parts(
        name=Path(name).name,
        tag="local" if Path(name).is_dir() else "hub",
        model=TextTower(sentences.float()).eval(),
        n_dims=int(sentences.get_embedding_dimension()),
        preprocess=None,
        tokenize=SentenceTokenizer(sentences),
        files=tuple(files),
        preprocessing={
            "max_seq_length": int(sentences.max_seq_length),
            "modules": [type(module).__name__ for module in sentences],
        },
        quick_gelu=False,
        libraries=_LIBRARIES,
    )
