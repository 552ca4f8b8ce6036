"""Read weights in every format that CLIP models are published in, and fit them to a model.

Formats: safetensors; a state dict of ``torch.save``, bare or below ``state_dict``, with or
without ``module.``; a TorchScript archive, as OpenAI published CLIP; a training state of
:mod:`braindecode_clip.clip.checkpoints`; big_vision's ``.npz``. Nothing is unpickled but
tensors and plain containers.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from braindecode_clip.checks import Problems, some
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.errors import DataError

open_clip = import_open_clip()

#: Names of weights in a model directory, the first that is there is taken.
DIRECTORY_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
# OpenAI's archives hold the sizes of the model as if they were weights.
_NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size")
_NUMPY = (".npz", ".npy")
# Masks and ranges that older versions stored, and that every model makes anew.
_MADE_ANEW = re.compile(r"(^|\.)(attn_mask|position_ids)$")


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Read the weights of a checkpoint file onto the CPU.

    Raises
    ------
    DataError
        The file is damaged or holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            return _from_safetensors(path)
        content = _unpickled(path)
    except Exception as error:
        # torch, zipfile, pickle and safetensors raise a dozen types for a damaged file.
        raise DataError(unreadable(path, error)) from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    is_tensors = isinstance(content, dict) and any(
        isinstance(value, torch.Tensor) for value in content.values()
    )
    if not is_tensors:
        raise DataError(
            f"{path}: holds no state dict (names and tensors), but {type(content).__name__}. Save "
            "`model.state_dict()`, or name the checkpoint of another training."
        )
    tensors = {k: v for k, v in content.items() if isinstance(v, torch.Tensor)}
    return {k.removeprefix("module."): v for k, v in tensors.items() if k not in _NO_WEIGHTS}


def unreadable(path: Path, error: Exception) -> str:
    """Word the message about a file that cannot be read."""
    first = str(error).splitlines()[0] if str(error) else "no message"
    return (
        f"{path}: cannot be read as a checkpoint ({type(error).__name__}: {first}). Is the file "
        "whole? Fetch it again from its source."
    )


def load_weights(model: torch.nn.Module, path: Path, *, label: str) -> None:
    """Give a model of open_clip the weights of a file, every one of them and no other.

    Unlike open_clip's own loader this stretches no position embedding: weights of another
    picture size or context length belong to another model.

    Parameters
    ----------
    model : Module
        As open_clip's factory builds it.
    path : Path
    label : str
        Name of the model, for messages.

    Raises
    ------
    DataError
        The file is damaged, or its weights are those of another architecture; the message
        names what differs, and the built-in models that the weights fit.
    """
    if path.suffix in _NUMPY:
        _load_numpy(model, path, label)
        return
    state = _in_open_clips_words(model, read_state_dict(path))
    wanted = model.state_dict()
    missing = sorted(wanted.keys() - state.keys())
    extra = sorted(state.keys() - wanted.keys())
    other = [
        f"{name} {tuple(state[name].shape)} in the file, {tuple(wanted[name].shape)} in the model"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    if not (other or missing or extra):
        model.load_state_dict(state)
        return
    problems = Problems(f"{path}: these are not the weights of {label}{_hint(state, label)}")
    if other:
        problems.add(f"other shapes: {some(other, limit=3)}.")
    if missing:
        problems.add(f"lacks the weights {some(missing, limit=3)}.")
    if extra:
        problems.add(f"has weights that the model has no place for: {some(extra, limit=3)}.")
    problems.raise_if_any()


def _from_safetensors(path: Path) -> dict[str, torch.Tensor]:
    tensors = load_file(path, device="cpu")
    with safe_open(path, framework="pt") as stream:
        header = stream.metadata() or {}
    if "state" in header and any(name.startswith("model.") for name in tensors):
        # A training state: the model's weights lie beside those of the optimiser.
        own = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        return own
    return {k.removeprefix("module."): v for k, v in tensors.items()}


def _unpickled(path: Path) -> Any:
    with warnings.catch_warnings():
        # torch announces that archives and their reader will go one day.
        warnings.filterwarnings("ignore", message=".*TorchScript archive.*")
        warnings.filterwarnings("ignore", message=".*torch.jit.load.*")
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except RuntimeError as error:
            if "TorchScript" not in str(error):
                raise
        return dict(torch.jit.load(str(path), map_location="cpu").state_dict())


def _load_numpy(model: torch.nn.Module, path: Path, label: str) -> None:
    try:
        open_clip.factory.load_checkpoint(model, str(path))
    except Exception as error:
        raise DataError(
            f"{path}: cannot be loaded as {label} ({type(error).__name__}: {error}). Numpy files "
            "are read for SigLIP models of big_vision alone."
        ) from error


def _in_open_clips_words(
    model: torch.nn.Module, state: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Rename what other releases call otherwise; shapes stay."""
    state = open_clip.convert.convert_state_dict(model, state)
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = open_clip.model.convert_to_custom_text_state_dict(state)
    wanted = model.state_dict()
    state = {k: v for k, v in state.items() if k in wanted or not _MADE_ANEW.search(k)}
    for name in ("logit_scale", "logit_bias"):
        if name in state and name in wanted and state[name].numel() == wanted[name].numel():
            state[name] = state[name].reshape(wanted[name].shape)
    return state


def _hint(state: dict[str, torch.Tensor], label: str) -> str:
    """Name the built-in models of open_clip that native weights fit, for the message."""
    sizes = _sizes(state)
    if sizes is None:
        return ""
    fitting = [
        name
        for name in open_clip.list_models()
        if name != label and _config_sizes(open_clip.get_model_config(name)) == sizes
    ]
    return f" (they fit {', '.join(fitting[:4])})" if fitting else ""


def _sizes(state: dict[str, torch.Tensor]) -> tuple[int, ...] | None:
    """Read (n_dims, image width, layers, patch, picture size, text width, layers, context)."""
    needed = ("visual.proj", "visual.conv1.weight", "visual.positional_embedding")
    if any(name not in state for name in needed) or "positional_embedding" not in state:
        return None
    width, n_dims = state["visual.proj"].shape
    patch = state["visual.conv1.weight"].shape[-1]
    grid = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5)
    context, text_width = state["positional_embedding"].shape
    towers = ("visual.transformer.resblocks.", "transformer.resblocks.")
    blocks = [{k[len(t) :].split(".")[0] for k in state if k.startswith(t)} for t in towers]
    layers = [len(found) for found in blocks]
    return (n_dims, width, layers[0], patch, grid * patch, text_width, layers[1], context)


def _config_sizes(config: dict[str, Any]) -> tuple[int | None, ...]:
    vision, text = config["vision_cfg"], config["text_cfg"]
    keys = ("width", "layers", "patch_size", "image_size")
    sizes = [vision.get(key) for key in keys]
    texts = [text.get("width"), text.get("layers"), text.get("context_length", 77)]
    return (config["embed_dim"], *sizes, *texts)
