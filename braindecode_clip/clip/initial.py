"""The weights that training starts from, and the teacher that it asks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from braindecode_clip.checks import Problems
from braindecode_clip.clip.blueprint import model_folder, source_of
from braindecode_clip.clip.image_weights import load_image_weights
from braindecode_clip.clip.model_tokenizers import tokenizer_of, wrapped
from braindecode_clip.clip.open_clip_models import directory_parts
from braindecode_clip.clip.packaged import located
from braindecode_clip.clip.parts import Request
from braindecode_clip.clip.state_dicts import load_weights, read_state_dict
from braindecode_clip.clip.text_towers import load_text_weights
from braindecode_clip.clip.tokenizers import Tokenizer
from braindecode_clip.config.clip import ClipRecipe
from braindecode_clip.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

_BIAS = "logit_bias"


@dataclass(frozen=True)
class Start:
    """A model directory, read.

    Attributes
    ----------
    folder : Path
    model : Module
        open_clip's, on the CPU.
    tokenizer : Tokenizer
    preprocessing : dict
        ``size``, ``mean``, ``std`` and more.
    """

    folder: Path
    model: torch.nn.Module
    tokenizer: Tokenizer
    preprocessing: dict[str, Any]


@dataclass(frozen=True)
class Teacher:
    """A frozen model that reads the pixels of the model in training.

    Attributes
    ----------
    model : Module
        With ``encode_image``, ``encode_text`` and ``logit_scale``.
    tokenizer : Tokenizer or None
        Its own; None where it gives the same ids as that of the model in training.
    """

    model: torch.nn.Module
    tokenizer: Tokenizer | None


class _Renormalised(torch.nn.Module):
    """A model that gets pixels of another mean and deviation than its own."""

    def __init__(self, model: torch.nn.Module, own: dict[str, Any], given: dict[str, Any]) -> None:
        super().__init__()
        self.model = model
        means, stds = (
            [torch.tensor(c[key], dtype=torch.float64) for c in (own, given)]
            for key in ("mean", "std")
        )
        # Pixels x = (p - m) / s of RGB p are brought to (p - m') / s'.
        self.register_buffer("factor", (stds[1] / stds[0]).float()[:, None, None])
        self.register_buffer("shift", ((means[1] - means[0]) / stds[0]).float()[:, None, None])

    @property
    def logit_scale(self) -> torch.Tensor:
        return self.model.logit_scale

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.encode_image(pixels * self.factor + self.shift)

    def encode_text(self, tokens: torch.Tensor, *, normalize: bool) -> torch.Tensor:
        return self.model.encode_text(tokens, normalize=normalize)


def read_start(directory: str | Path) -> Start:
    """Read a model directory, or an embedded model by its name.

    Raises
    ------
    DataError
        It is missing or damaged.
    """
    folder = model_folder(directory)
    parts = directory_parts(folder, Request())
    return Start(folder, parts.model, wrapped(parts.tokenize), parts.preprocessing)


def tokenizer_for(
    recipe: ClipRecipe, captions: Callable[[], Iterable[str]], start: Start | None
) -> Tokenizer:
    """Return the tokenizer of a settled recipe, or of the model that training starts from.

    Parameters
    ----------
    recipe : ClipRecipe
    captions : callable
        Gives the training captions, if a vocabulary is to be made of them.
    start : Start, optional

    Raises
    ------
    ConfigError
        The recipe asks for another kind than the model has, or for one that does not fit the
        text tower.
    DataError
        The tokenizer's files are not at hand.
    """
    if start is None:
        return tokenizer_of(recipe, captions)
    kind = recipe.model.tokenizer
    if kind not in ("auto", start.tokenizer.kind):
        raise ConfigError(
            f"recipe '{recipe.name}': model.tokenizer is '{kind}', and {start.folder} has one of "
            f"the kind '{start.tokenizer.kind}'. Leave it out."
        )
    return start.tokenizer


def give_weights(model: torch.nn.Module, recipe: ClipRecipe, start: Start | None) -> None:
    """Give a fresh model the weights that a settled recipe starts from; none for none.

    Raises
    ------
    DataError
        A file is missing, damaged, or holds the weights of other towers.
    """
    if start is not None:
        _start_from(model, start)
        return
    config = recipe.model
    file = config.weights or config.pretrained
    if file:
        source = source_of(recipe)
        path = located(file) if source is None else source.weights
        if not path.is_file():
            raise DataError(f"{file}: no such checkpoint file. Correct model.pretrained.")
        label = config.open_clip or config.config or recipe.name
        _load_file(model, path, label=label)
    elif config.text_cfg.get("hf_model_name") and config.text_cfg.get("hf_model_pretrained", True):
        load_text_weights(model, config.text_cfg["hf_model_name"])
    if config.image_weights:
        label = config.vision_cfg["timm_model_name"]
        load_image_weights(model.visual.trunk, config.image_weights, label=label)


def load_teacher(directory: str | Path, recipe: ClipRecipe, *, own: Tokenizer) -> Teacher:
    """Read a frozen model that takes the recipe's pixels, and captions in its own tokens.

    Pixels that were normalised with another mean and deviation are brought to the teacher's.

    Parameters
    ----------
    directory : path or name of an embedded model
    recipe : ClipRecipe
        Settled.
    own : Tokenizer
        Of the model in training.

    Raises
    ------
    ConfigError
        The teacher reads pictures of another size.
    DataError
        The directory is missing or damaged.
    """
    start = read_start(directory)
    theirs, preprocess = start.preprocessing, recipe.preprocess
    size = theirs["size"]
    if not isinstance(size, int):
        size = size[0] if len(set(size)) == 1 else f"{size[1]} x {size[0]}"
    side = recipe.model.vision_cfg["image_size"]
    problems = Problems(f"{directory}, as a teacher")
    if size != side:
        problems.add(
            f"its size is {size}, the recipe's is {side}; both must see the same pixels. Take a "
            "teacher of that size, or change the recipe."
        )
    problems.raise_if_any(ConfigError)
    for key in ("interpolation", "resize_mode"):
        if theirs.get(key) != getattr(preprocess, key):
            logger.warning(
                "%s, as a teacher: its %s is %s, pictures are prepared with %s",
                directory,
                key,
                theirs.get(key),
                getattr(preprocess, key),
            )
    model, given = start.model, {"mean": list(preprocess.mean), "std": list(preprocess.std)}
    if any(list(theirs[key]) != given[key] for key in given):
        model = _Renormalised(model, theirs, given)
    is_same = start.tokenizer.record() == own.record()
    return Teacher(model.eval().requires_grad_(False), None if is_same else start.tokenizer)


def _start_from(model: torch.nn.Module, start: Start) -> None:
    state = dict(start.model.state_dict())
    own = model.state_dict()
    if _BIAS in state and _BIAS not in own:
        # Its loss does not know the number, to which the others are indifferent.
        del state[_BIAS]
    elif _BIAS in own and _BIAS not in state:
        state[_BIAS] = own[_BIAS]
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise DataError(
            f"{start.folder}: its towers are not the recipe's ({reason}). Give both the "
            "same 'model' section, or leave the recipe's out."
        ) from error


def _load_file(model: torch.nn.Module, path: Path, *, label: str) -> None:
    """Load a checkpoint of both towers, whichever of the two has a ``logit_bias``."""
    own = model.logit_bias
    # Weights of big_vision (.npz) are read by open_clip itself, and have one.
    theirs = path.suffix == ".npz" or _BIAS in read_state_dict(path)
    if theirs and own is None:
        model.logit_bias = torch.nn.Parameter(torch.zeros_like(model.logit_scale))
    elif own is not None and not theirs:
        model.logit_bias = None
    load_weights(model, path, label=label)
    if theirs != (own is not None):
        model.logit_bias = own
