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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from braindecode_clip.clip.checkpoints import replacing
from braindecode_clip.clip.hub import missing_repository, needs_extra
from braindecode_clip.clip.lora import merged_state
from braindecode_clip.clip.text_towers import (
    TEXT_FOLDER,
    check_vocabulary,
    is_local,
    text_source,
    write_text_config,
)
from braindecode_clip.clip.tokenizers import Tokenizer
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.config.clip import ClipRecipe
from braindecode_clip.errors import BraindecodeError, ConfigError, DataError
from braindecode_clip.seeds import derive_seed

open_clip = import_open_clip()
# Makes the name of our image tower known to timm, and so to open_clip's factory.
importlib.import_module("braindecode_clip.clip.towers")

WEIGHTS_FILE = "open_clip_model.safetensors"
CONFIG_FILE = "open_clip_config.json"


def model_config(recipe: ClipRecipe, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the content of ``open_clip_config.json`` for a settled recipe and a tokenizer."""
    text_cfg = {**recipe.model.text_cfg, **tokenizer.tower_fields()}
    preprocess = recipe.preprocess
    # The factory makes a bias where it is given a value, and so does reading the model again.
    bias = {"init_logit_bias": recipe.training.logit_bias_init}
    return {
        "model_cfg": {
            **recipe.model.other_cfg,
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


def build_model(
    recipe: ClipRecipe, tokenizer: Tokenizer, *, start: Path | None = None
) -> torch.nn.Module:
    """Build the recipe's model with fresh weights, the same for the same seed.

    Parameters
    ----------
    recipe : ClipRecipe
        Settled; see :func:`braindecode_clip.clip.blueprint.settled`.
    tokenizer : Tokenizer
    start : Path, optional
        Model directory whose text tower's config is used, where it keeps one.

    Raises
    ------
    ConfigError
        open_clip does not take the towers' options, or the tokenizer does not fit them.
    DataError
        The config of a text tower of transformers is not at hand.
    """
    config = model_config(recipe, tokenizer)
    vision, text = config["model_cfg"]["vision_cfg"], config["model_cfg"]["text_cfg"]
    hub_name = text.get("hf_model_name")
    if hub_name:
        text["hf_model_name"] = text_source(hub_name, start)
    with tempfile.TemporaryDirectory() as directory, torch.random.fork_rng(devices=[]):
        Path(directory, CONFIG_FILE).write_text(json.dumps(config), encoding="utf-8")
        torch.manual_seed(derive_seed(recipe.seed, "weights"))
        try:
            with quiet_open_clip():
                model = open_clip.create_model(
                    f"local-dir:{directory}",
                    load_weights=False,
                    pretrained_image=start is None and bool(vision.get("timm_model_pretrained")),
                    pretrained_text=False,
                )
        except Exception as error:
            # timm and transformers raise a dozen types without a network.
            raise _not_built(recipe, hub_name, error) from error
    check_vocabulary(model, tokenizer, where=f"recipe '{recipe.name}'")
    with torch.no_grad():
        model.logit_scale.fill_(math.log(recipe.training.scale_at_start))
        if recipe.model.residual_gain is not None:
            _set_residual_gains(model.visual, recipe)
    return model


def _not_built(recipe: ClipRecipe, hub_name: str | None, error: Exception) -> BraindecodeError:
    """Word why open_clip could not build a model."""
    label = f"recipe '{recipe.name}', model"
    if "pip install transformers" in str(error):
        return DataError(needs_extra(label, "transformers"))
    if isinstance(error, OSError) and hub_name and not is_local(hub_name):
        then = "model.text_cfg.hf_model_name: /path/to/the/folder"
        return DataError(missing_repository(f"text tower {hub_name}", hub_name, then=then))
    timm_name = recipe.model.vision_cfg.get("timm_model_name")
    if recipe.model.vision_cfg.get("timm_model_pretrained") and "hub" in f"{error}".lower():
        return DataError(
            f"{label}: the pretrained weights of timm's {timm_name} could not be downloaded. Bring "
            "the file here and name it: model.image_weights: /path/to/the/file."
        )
    return ConfigError(
        f"{label}: open_clip cannot build it ({error}). Options are the fields of its "
        "CLIPVisionCfg and CLIPTextCfg."
    )


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
    tokenizer: Tokenizer,
) -> None:
    """Write weights, config and tokenizer, each beside and then moved into place.

    Of a text tower of transformers the config goes into the folder ``text``.
    ``hf_model_name`` then names that folder by its absolute path if the tower came from a folder
    of this machine: open_clip looks nowhere else. :func:`braindecode_clip.clip.load_encoder`
    reads the folder itself, so that the directory may be moved.
    """
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in merged_state(model).items()}
    with replacing(target / WEIGHTS_FILE) as temporary:
        save_file(weights, temporary, metadata={"format": "pt"})
    config = model_config(recipe, tokenizer)
    text = config["model_cfg"]["text_cfg"]
    name = text.get("hf_model_name")
    if name:
        write_text_config(model, target / TEXT_FOLDER)
        # open_clip reads the tokenizer from the directory where any is named.
        text["hf_tokenizer_name"] = Path(text.get("hf_tokenizer_name") or name).name
        if is_local(name):
            text["hf_model_name"] = str((target / TEXT_FOLDER).resolve())
    with replacing(target / CONFIG_FILE) as temporary:
        temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tokenizer.save(target)


@contextlib.contextmanager
def with_own_text(directory: Path) -> Iterator[Path]:
    """Give a folder whose config names the text tower's sizes where they are now.

    That is the directory itself, unless it keeps them in ``text`` and was moved.
    """
    own = directory / TEXT_FOLDER
    content = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
    if not (own.is_dir() and content["model_cfg"]["text_cfg"].get("hf_model_name")):
        yield directory
        return
    content["model_cfg"]["text_cfg"]["hf_model_name"] = str(own)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, CONFIG_FILE).write_text(json.dumps(content), encoding="utf-8")
        yield Path(folder)


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
