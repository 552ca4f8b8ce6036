"""What an encoder is made of, whatever library its weights come from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from braindecode_clip.clip.tokenizers import ByteTokenizer, WordTokenizer
from braindecode_clip.provenance import file_sha256

Tokenize = Callable[[list[str]], Any]

#: Texts whose token ids tell tokenizers apart: case, digits, accents, punctuation, length.
_PROBE_TEXTS = (
    "A photo of two dogs, 3 cats and a naïve façade.",
    "an X-ray of the left lung",
    "word " * 300,
)
_NO_LAYERS = frozenset({"MultiheadAttention"})


@dataclass(frozen=True)
class Request:
    """What a user asked for beside the encoder's name.

    Attributes
    ----------
    pretrained : str or None
        Tag of open_clip, or a checkpoint file.
    weights : Path or None
        Checkpoint file in place of the encoder's own.
    quick_gelu : bool or None
        Activation of a bare checkpoint file.
    tokenizer : Path or None
        Folder with the tokenizer's files, in place of a download.
    device : torch.device
    """

    pretrained: str | None = None
    weights: Path | None = None
    quick_gelu: bool | None = None
    tokenizer: Path | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


@dataclass(frozen=True)
class Parts:
    """A loaded model with all that its vectors depend on.

    Attributes
    ----------
    name, tag : str
        Which model, and which of its weights.
    model : Module
        In evaluation mode, on its device; with ``encode_image`` and ``encode_text`` as far as
        it has the towers, each of which returns (n, n_dims).
    n_dims : int
        Dimensions of the vectors.
    preprocess : callable or None
        PIL image to Tensor (3, height, width) float32; None without an image tower.
    tokenize : callable or None
        List of texts to what ``encode_text`` takes; None without a text tower.
    files : tuple of Path
        The weights on this machine.
    preprocessing : dict
        Size, normalisation, interpolation, resize mode, in the model's own words; JSON-able.
    quick_gelu : bool
        Whether the config asks for QuickGELU.
    libraries : tuple of str
        Distributions whose code makes the vectors.
    """

    name: str
    tag: str
    model: torch.nn.Module
    n_dims: int
    preprocess: Callable[[Image.Image], torch.Tensor] | None
    tokenize: Tokenize | None
    files: tuple[Path, ...]
    preprocessing: dict[str, Any]
    quick_gelu: bool
    libraries: tuple[str, ...]


def weights_sha256(files: Sequence[Path]) -> str:
    """Hash the weights: one file's own sha256, or that of all files' digests in order."""
    digests = [file_sha256(file) for file in files]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def library_versions(names: Sequence[str]) -> dict[str, str]:
    """Return distribution to version, without the build's suffix, e.g. ``+cpu``."""
    return {name: importlib.metadata.version(name).split("+")[0] for name in sorted(names)}


def activations(model: torch.nn.Module) -> list[str]:
    """Name the kinds of activation layers that a model really has, sorted.

    A state dict holds no trace of the activation and a config only an intention, so the built
    modules are looked at.
    """
    kinds = {type(module) for module in model.modules()}
    found = {
        kind.__name__
        for kind in kinds
        if kind.__module__ == "torch.nn.modules.activation"
        or kind.__module__ == "transformers.activations"
        or kind.__name__ == "QuickGELU"
    }
    return sorted(found - _NO_LAYERS)


def precision(model: torch.nn.Module) -> str:
    """Return the floating types of a model's weights, e.g. "float32"."""
    kinds = {p.dtype for p in model.parameters() if p.is_floating_point()}
    return "+".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))


def tokenizer_record(tokenize: Tokenize | None) -> dict[str, Any] | None:
    """Describe a tokenizer by its class and by the ids that it gives to fixed texts.

    Returns
    -------
    dict or None
        ``kind``, ``context_length`` (ids a text) and ``ids_sha256``; None without a tokenizer.
    """
    if tokenize is None:
        return None
    if isinstance(tokenize, WordTokenizer | ByteTokenizer):
        # It names unknown words and cut texts in the log: it must not meet the probes' words.
        text = json.dumps(tokenize.to_json(), sort_keys=True)
        return {
            "kind": type(tokenize).__name__,
            "context_length": tokenize.context_length,
            "ids_sha256": hashlib.sha256(text.encode()).hexdigest(),
        }
    given = tokenize(list(_PROBE_TEXTS))
    ids = np.asarray(given["input_ids"] if hasattr(given, "keys") else given)
    record = hashlib.sha256(json.dumps(ids.tolist()).encode()).hexdigest()
    return {
        "kind": type(tokenize).__name__,
        "context_length": int(ids.shape[1]),
        "ids_sha256": record,
    }


def jsonable(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config with its keys sorted and its tuples as lists."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in sorted(config.items())}
