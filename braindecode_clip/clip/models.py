"""Build, write and read models through open_clip's factory.

The one format is open_clip's ``local-dir``: ``open_clip_config.json`` (towers, activation,
preprocessing) beside ``open_clip_model.safetensors``. Unlike a bare state dict it records
the activation, and it comes back to the bit.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from braindecode_clip.checks import Problems
from braindecode_clip.clip.checkpoints import replacing
from braindecode_clip.clip.lora import merged_state
from braindecode_clip.clip.tokenizers import VOCABULARY_FILE, WordTokenizer, read_vocabulary
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.config.clip import ClipRecipe
from braindecode_clip.errors import ConfigError, DataError
from braindecode_clip.seeds import derive_seed

open_clip = import_open_clip()
# Makes the name of our image tower known to timm, and so to open_clip's factory.
importlib.import_module("braindecode_clip.clip.towers")

WEIGHTS_FILE = "open_clip_model.safetensors"
CONFIG_FILE = "open_clip_config.json"

Tokenize = Callable[[list[str]], np.ndarray | torch.Tensor]


@dataclass(frozen=True)
class LoadedModel:
    """A model with what it needs to read pictures and texts.

    Attributes
    ----------
    model : Module
        open_clip's, in evaluation mode.
    preprocess : callable
        PIL image to Tensor (3, height, width) float32.
    tokenize : callable
        List of texts to ids (n, context_length).
    config : dict
        ``model_cfg`` and ``preprocess_cfg``.
    """

    model: torch.nn.Module
    preprocess: Callable[[Image.Image], torch.Tensor]
    tokenize: Tokenize
    config: dict[str, Any]


def model_config(recipe: ClipRecipe, tokenizer: WordTokenizer) -> dict[str, Any]:
    """Return the content of ``open_clip_config.json`` for a recipe and a vocabulary."""
    text_cfg = dict(recipe.model.text_cfg)
    text_cfg.update(
        vocab_size=tokenizer.vocab_size, eos_id=tokenizer.end_id, pad_id=tokenizer.pad_id
    )
    preprocess = recipe.preprocess
    # The factory makes a bias where it is given a value, and so does reading the model again.
    bias = {"init_logit_bias": recipe.training.logit_bias_init}
    return {
        "model_cfg": {
            **(bias if recipe.training.loss == "siglip" else {}),
            "embed_dim": recipe.model.embed_dim,
            "quick_gelu": recipe.model.quick_gelu,
            "vision_cfg": dict(recipe.model.vision_cfg),
            "text_cfg": text_cfg,
        },
        "preprocess_cfg": {
            "size": recipe.model.vision_cfg["image_size"],
            "mode": "RGB",
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
            "interpolation": preprocess.interpolation,
            "resize_mode": preprocess.resize_mode,
        },
    }


def build_model(recipe: ClipRecipe, tokenizer: WordTokenizer) -> torch.nn.Module:
    """Build the recipe's model with fresh weights, the same for the same seed.

    Raises
    ------
    ConfigError
        open_clip does not take the towers' options.
    """
    config = model_config(recipe, tokenizer)
    with tempfile.TemporaryDirectory() as directory, torch.random.fork_rng(devices=[]):
        Path(directory, CONFIG_FILE).write_text(json.dumps(config), encoding="utf-8")
        torch.manual_seed(derive_seed(recipe.seed, "weights"))
        try:
            with quiet_open_clip():
                model = open_clip.create_model(f"local-dir:{directory}", load_weights=False)
        except (TypeError, ValueError, AssertionError, RuntimeError) as error:
            raise ConfigError(
                f"recipe '{recipe.name}', model: open_clip cannot build it ({error}). Options "
                "are the fields of its CLIPVisionCfg and CLIPTextCfg."
            ) from error
    with torch.no_grad():
        model.logit_scale.fill_(math.log(recipe.training.scale_at_start))
        if recipe.model.residual_gain is not None:
            _set_residual_gains(model.visual, recipe)
    return model


def _set_residual_gains(tower: torch.nn.Module, recipe: ClipRecipe) -> None:
    gains = [p for name, p in tower.named_parameters() if ".bn3.weight" in name]
    if not gains:
        raise ConfigError(
            f"recipe '{recipe.name}': model.residual_gain is for image towers whose layers are "
            "a list of four numbers (ModifiedResNet). Leave it out."
        )
    for gain in gains:
        gain.fill_(recipe.model.residual_gain)


def save_model(
    directory: str | Path,
    model: torch.nn.Module,
    *,
    recipe: ClipRecipe,
    tokenizer: WordTokenizer,
) -> None:
    """Write weights, config and vocabulary, each beside and then moved into place."""
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in merged_state(model).items()}
    with replacing(target / WEIGHTS_FILE) as temporary:
        save_file(weights, temporary, metadata={"format": "pt"})
    texts = {
        CONFIG_FILE: model_config(recipe, tokenizer),
        VOCABULARY_FILE: tokenizer.to_json(),
    }
    for name, content in texts.items():
        with replacing(target / name) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def load_model_directory(directory: str | Path, *, device: str | torch.device) -> LoadedModel:
    """Read a ``local-dir`` model; its tokenizer is ours where a vocabulary lies beside it.

    Raises
    ------
    DataError
        A file is missing, damaged, or does not fit the config.
    """
    path = Path(directory)
    missing = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if not (path / name).is_file()]
    if missing:
        raise DataError(
            f"{path}: no {' and no '.join(missing)}. A model directory holds {CONFIG_FILE} and "
            f"{WEIGHTS_FILE}, as written by `clip train` or open_clip."
        )
    try:
        config = json.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))
        with quiet_open_clip():
            model, _, preprocess = open_clip.create_model_and_transforms(
                f"local-dir:{path}", device=device
            )
    except Exception as error:
        # open_clip, safetensors and torch raise a dozen types for a damaged file.
        raise DataError(
            f"{path}: the model cannot be read ({type(error).__name__}: {error}). Restore the "
            "directory from its source, or train it again."
        ) from error
    if (path / VOCABULARY_FILE).is_file():
        tokenize: Tokenize = read_vocabulary(path)
    else:
        tokenize = open_clip.get_tokenizer(f"local-dir:{path}")
    return LoadedModel(model.eval(), preprocess, tokenize, config)


def start_from(model: torch.nn.Module, directory: str | Path, *, tokenizer: WordTokenizer) -> None:
    """Give a model the weights of a model directory of the same towers and vocabulary.

    Raises
    ------
    DataError
        The directory is damaged, or holds other towers or another vocabulary.
    """
    start = _load_with_same_words(directory, tokenizer)
    try:
        model.load_state_dict(start.model.state_dict())
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise DataError(
            f"{directory}: its towers are not the recipe's ({reason}). Give both the "
            "same 'model' section."
        ) from error


def load_teacher(
    directory: str | Path, recipe: ClipRecipe, *, tokenizer: WordTokenizer
) -> torch.nn.Module:
    """Read a frozen model that takes the recipe's pixels and tokens as they are.

    Raises
    ------
    DataError
        The directory is damaged, or its model reads pictures or words in another way.
    """
    teacher = _load_with_same_words(directory, tokenizer)
    ours = model_config(recipe, tokenizer)
    pairs = {
        "context_length": [c["model_cfg"]["text_cfg"] for c in (teacher.config, ours)],
        "size": [c["preprocess_cfg"] for c in (teacher.config, ours)],
        "mean": [c["preprocess_cfg"] for c in (teacher.config, ours)],
        "std": [c["preprocess_cfg"] for c in (teacher.config, ours)],
    }
    problems = Problems(f"{directory}, as a teacher")
    for key, (theirs, own) in pairs.items():
        if theirs.get(key) != own[key]:
            problems.add(
                f"its {key} is {theirs.get(key)}, the recipe's is {own[key]}; both must read the "
                "same input. Change the recipe, or take another teacher."
            )
    problems.raise_if_any()
    return teacher.model.requires_grad_(False)


def _load_with_same_words(directory: str | Path, tokenizer: WordTokenizer) -> LoadedModel:
    start = load_model_directory(directory, device="cpu")
    same_words = (
        isinstance(start.tokenize, WordTokenizer)
        and start.tokenize.to_json() == tokenizer.to_json()
    )
    if not same_words:
        raise DataError(
            f"{directory}: its vocabulary is not that of the training captions, so its text tower "
            "would read other words. Take a model that was trained on the same pairs."
        )
    return start


@contextlib.contextmanager
def quiet_open_clip() -> Iterator[None]:
    """Keep open_clip's chatter on the root logger away from the user's terminal.

    Its factory logs every step there and, through ``logging.warning``, installs a handler
    for the whole process.
    """
    root = logging.getLogger()
    silent = logging.NullHandler()

    def drop(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.CRITICAL

    root.addHandler(silent)
    root.addFilter(drop)
    try:
        yield
    finally:
        root.removeFilter(drop)
        root.removeHandler(silent)
