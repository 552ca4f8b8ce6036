"""Text towers of transformers under open_clip: where they come from, and what is kept of them."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from braindecode_clip.clip.checkpoints import replacing
from braindecode_clip.clip.hub import missing_repository
from braindecode_clip.clip.packaged import PREFIX, located
from braindecode_clip.clip.tokenizers import Tokenizer
from braindecode_clip.errors import ConfigError, DataError

_CONFIG = "config.json"
#: Folder of a model directory with the config of its text tower.
TEXT_FOLDER = "text"


def is_local(name: str) -> bool:
    """Tell whether ``hf_model_name`` names a folder, and no repository on the hub."""
    return name == TEXT_FOLDER or name.startswith(PREFIX) or Path(name).is_dir()


def text_source(name: str, start: Path | None) -> str:
    """Return where transformers finds the config of a text tower.

    Parameters
    ----------
    name : str
        ``hf_model_name`` of a recipe: a hub name, a folder, or ``package:NAME/FOLDER``.
    start : Path, optional
        Model directory that training starts from; the config that it keeps comes first.

    Raises
    ------
    DataError
        The folder is missing.
    """
    if start is not None and (start / TEXT_FOLDER / _CONFIG).is_file():
        return str(start / TEXT_FOLDER)
    path = located(name)
    looks_like_a_path = path.is_absolute() or len(path.parts) > 2 or name.startswith((".", "~"))
    if not path.is_dir() and (looks_like_a_path or name == TEXT_FOLDER):
        raise DataError(
            f"model.text_cfg.hf_model_name '{name}': no such folder. Correct the path, or give a "
            "name on the hub."
        )
    return str(path) if path.is_dir() else name


def load_text_weights(model: torch.nn.Module, name: str) -> None:
    """Give a text tower of transformers its pretrained weights, every one of them.

    Parameters
    ----------
    model : Module
        open_clip's, with a text tower of transformers.
    name : str
        As for :func:`text_source`.

    Raises
    ------
    DataError
        The weights are not at hand, or lack some that the tower has.
    """
    from transformers import AutoModel

    source = text_source(name, None)
    try:
        with torch.random.fork_rng(devices=[]), _without_bar():
            loaded, info = AutoModel.from_pretrained(source, output_loading_info=True)
    except Exception as error:
        # transformers raises a dozen types for files that are missing or damaged.
        if is_local(name):
            raise DataError(
                f"{name}: no weights can be read from it ({type(error).__name__}: {error}). It "
                "needs config.json and model.safetensors; or set hf_model_pretrained to false."
            ) from error
        then = "model.text_cfg.hf_model_name: /path/to/the/folder"
        raise DataError(missing_repository(f"text tower {name}", name, then=then)) from error
    tower = model.text.transformer
    if getattr(loaded.config, "is_encoder_decoder", False):
        loaded = loaded.encoder
    state, wanted = loaded.state_dict(), tower.state_dict()
    lacking = sorted(set(wanted) & _bare_names(info["missing_keys"]) | wanted.keys() - state.keys())
    if lacking:
        raise DataError(
            f"{name}: lacks the weights {', '.join(lacking[:3])} of the text tower ({len(lacking)} "
            "in all). Set text_cfg.hf_pooler_type to one that does without, or take another model."
        )
    tower.load_state_dict({key: state[key] for key in wanted})


def checkpoint_activations(model: torch.nn.Module) -> None:
    """Let a model's towers compute their blocks again on the way back."""
    config = getattr(getattr(model, "text", None), "config", None)
    if config is not None:
        # A cache of keys is for generation, and transformers says that it cannot have both.
        config.use_cache = False
    with warnings.catch_warnings():
        # open_clip calls transformers' method by a name that is to go.
        warnings.filterwarnings("ignore", "`gradient_checkpointing_enable`", FutureWarning)
        model.set_grad_checkpointing(True)


@contextlib.contextmanager
def _without_bar() -> Iterator[None]:
    """Keep transformers' progress bar away from ours."""
    from transformers.utils import logging as chatter

    if not chatter.is_progress_bar_enabled():
        yield
        return
    chatter.disable_progress_bar()
    try:
        yield
    finally:
        chatter.enable_progress_bar()


def check_vocabulary(model: torch.nn.Module, tokenizer: Tokenizer, *, where: str) -> None:
    """Refuse a tokenizer whose ids or rows a text tower has no place for.

    Raises
    ------
    ConfigError
    """
    text = getattr(model, "text", model)
    config = getattr(text, "config", None)
    n_ids = int(text.vocab_size)
    if tokenizer.vocab_size > n_ids:
        raise ConfigError(
            f"{where}: the tokenizer has {tokenizer.vocab_size} ids, the text tower {n_ids}. Name "
            "the tokenizer that the tower was trained with."
        )
    if config is None:
        return
    places = int(text.context_length)
    if 0 < places < tokenizer.context_length:
        raise ConfigError(
            f"{where}: text_cfg.context_length is {tokenizer.context_length}, the text tower has "
            f"{places} positions. Lower it."
        )
    if config.pad_token_id != tokenizer.pad_id:
        raise ConfigError(
            f"{where}: the tokenizer's filler is {tokenizer.pad_id}, the text tower leaves "
            f"{config.pad_token_id} out. Name the tokenizer that the tower was trained with."
        )


def write_text_config(model: torch.nn.Module, folder: Path) -> None:
    """Write the config of a text tower of transformers, without where it came from."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / _CONFIG) as temporary:
        model.text.config.to_json_file(temporary, use_diff=True)


def _bare_names(keys: Any) -> set[str]:
    return {str(key) for key in keys}
