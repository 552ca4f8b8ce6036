"""Read CLIP checkpoints in the layout of transformers, and build them with open_clip.

A directory or hub repository with ``config.json`` (``model_type: clip``),
``model.safetensors`` and ``preprocessor_config.json``, such as PubMedCLIP. Both libraries
compute the same function, so weights are renamed (query, key and value joined to one matrix,
projections transposed) and nothing is lost; what open_clip cannot express exactly is refused.
Other two-tower models (SigLIP, Chinese CLIP, ...) go through transformers itself:
:mod:`braindecode_clip.clip.hf_wrapped`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from braindecode_clip.checks import Problems, some
from braindecode_clip.clip.hf_preprocess import (
    crop_as_transformers,
    preprocess_config,
    read_config,
)
from braindecode_clip.clip.hub import needs_extra
from braindecode_clip.clip.models import quiet_open_clip
from braindecode_clip.clip.open_clip_models import own_words
from braindecode_clip.clip.parts import Parts, Request, Tokenize, jsonable
from braindecode_clip.clip.state_dicts import read_state_dict
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.errors import DataError

open_clip = import_open_clip()

CONFIG_FILE = "config.json"
INDEX_FILE = "model.safetensors.index.json"
WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")

# What transformers takes where a config names nothing (CLIPTextConfig, CLIPVisionConfig).
_TEXT = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "eos_token_id": 49407,
}
_VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
    "num_channels": 3,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
_N_DIMS = 512
# Before transformers 4.31 every config said 2, whatever the vocabulary's end token was; the
# text vector is then read where the id is largest.
_OLD_END = 2
# How transformers spells the two special tokens of open_clip.
_ENDS = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
_LIBRARIES = ("open_clip_torch", "torch", "torchvision", "pillow")


def is_clip(directory: Path) -> bool:
    """Tell whether a directory's ``config.json`` is that of a CLIP model of transformers."""
    return model_type(directory) == "clip"


def model_type(directory: Path) -> str | None:
    """Return ``model_type`` of a directory's ``config.json``; None where there is none."""
    path = directory / CONFIG_FILE
    if not path.is_file():
        return None
    found = read_config(path).get("model_type")
    return None if found is None else str(found)


def hf_clip_parts(
    directory: Path, request: Request, *, name: str | None = None, tag: str = "local"
) -> Parts:
    """Load a CLIP checkpoint of transformers.

    Parameters
    ----------
    directory : Path
        With the files named above; ``pytorch_model.bin`` and split safetensors are read too.
    request : Request
    name, tag : str
        For the fingerprint; the directory's name by default.

    Raises
    ------
    ConfigError
        The request names a tag or an activation: both are the directory's own.
    DataError
        Files are missing or damaged, or open_clip cannot express the config exactly; all
        reasons are listed.
    """
    own_words(directory, request)
    config = model_config(read_config(directory / CONFIG_FILE), where=str(directory / CONFIG_FILE))
    preprocess = preprocess_config(directory, config["vision_cfg"]["image_size"])
    tokenize = clip_tokenizer(request.tokenizer or directory, config["text_cfg"])
    files = weight_files(directory) if request.weights is None else (request.weights,)
    state: dict[str, torch.Tensor] = {}
    for file in files:
        state |= read_state_dict(file)
    with quiet_open_clip():
        model = open_clip.CLIP(**config).eval()
        open_clip.model.set_model_preprocess_cfg(model, preprocess)
    renamed = rename_weights(state, where=str(files[0]))
    _check(model, renamed, where=str(files[0]))
    model.load_state_dict(renamed)
    return Parts(
        name=name or directory.name,
        tag=tag,
        model=model.to(request.device),
        n_dims=int(config["embed_dim"]),
        preprocess=crop_as_transformers(preprocess),
        tokenize=tokenize,
        files=tuple(files),
        preprocessing=jsonable({**preprocess, "center_crop": "floor"}),
        quick_gelu=bool(config["quick_gelu"]),
        libraries=_LIBRARIES
        if isinstance(tokenize, open_clip.SimpleTokenizer)
        else (*_LIBRARIES, "transformers", "tokenizers"),
    )


def model_config(config: dict[str, Any], *, where: str) -> dict[str, Any]:
    """Translate ``config.json`` into the arguments of ``open_clip.CLIP``.

    Raises
    ------
    DataError
        open_clip has no such model; every reason is listed.
    """
    text, vision = _section(config, "text", _TEXT), _section(config, "vision", _VISION)
    problems = Problems(where)
    kinds = {text["hidden_act"], vision["hidden_act"]}
    if len(kinds) > 1 or not kinds <= {"quick_gelu", "gelu"}:
        problems.add(f"hidden_act is {some(sorted(kinds))}; quick_gelu or gelu for both is read.")
    if vision["num_channels"] != 3:
        problems.add(f"num_channels is {vision['num_channels']}; pictures have 3.")
    problems.raise_if_any()
    n_dims = int(config.get("projection_dim", _N_DIMS))
    towers = {}
    for kind, section in (("vision", vision), ("text", text)):
        towers[kind] = {
            "width": section["hidden_size"],
            "layers": section["num_hidden_layers"],
            "mlp_ratio": section["intermediate_size"] / section["hidden_size"],
            "norm_kwargs": {"eps": section["layer_norm_eps"]},
        }
    towers["vision"] |= {
        "head_width": vision["hidden_size"] // vision["num_attention_heads"],
        "image_size": vision["image_size"],
        "patch_size": vision["patch_size"],
    }
    end = text["eos_token_id"]
    towers["text"] |= {
        "heads": text["num_attention_heads"],
        "context_length": text["max_position_embeddings"],
        "vocab_size": text["vocab_size"],
        "pool_type": "argmax" if end == _OLD_END else "eos",
        "eos_id": end,
    }
    return {
        "embed_dim": n_dims,
        "quick_gelu": kinds == {"quick_gelu"},
        "vision_cfg": towers["vision"],
        "text_cfg": towers["text"],
    }


def rename_weights(state: dict[str, torch.Tensor], *, where: str) -> dict[str, torch.Tensor]:
    """Rename the weights of ``CLIPModel`` into those of ``open_clip.CLIP``, as float32.

    Query, key and value matrices become one, in this order; both projections are transposed.
    """
    found: dict[str, torch.Tensor] = {}
    joined: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in state.items():
        value = value.float()
        part = re.fullmatch(r"(.+)\.self_attn\.([qkv])_proj\.(weight|bias)", name)
        if part:
            target = f"{_layer(part[1])}.attn.in_proj_{part[3]}"
            joined.setdefault(target, {})[part[2]] = value
        elif name in ("text_projection.weight", "visual_projection.weight"):
            found["text_projection" if name[0] == "t" else "visual.proj"] = value.T.contiguous()
        elif not name.endswith("position_ids"):
            found[_renamed(name)] = value
    for target, parts in joined.items():
        if set(parts) != set("qkv"):
            raise DataError(
                f"{where}: lacks the query, key or value of {target}. Is the file whole?"
            )
        found[target] = torch.cat([parts[key] for key in "qkv"])
    return found


def _layer(name: str) -> str:
    tower = "visual.transformer" if name.startswith("vision_model.") else "transformer"
    return f"{tower}.resblocks.{name.rsplit('.', 1)[1]}"


def _renamed(name: str) -> str:
    part = re.fullmatch(r"(.+\.encoder\.layers\.\d+)\.(.+)", name)
    if part:
        inner = part[2]
        for theirs, ours in (
            ("self_attn.out_proj", "attn.out_proj"),
            ("layer_norm", "ln_"),
            ("mlp.fc1", "mlp.c_fc"),
            ("mlp.fc2", "mlp.c_proj"),
        ):
            inner = inner.replace(theirs, ours)
        return f"{_layer(part[1])}.{inner}"
    return {
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.final_layer_norm.weight": "ln_final.weight",
        "text_model.final_layer_norm.bias": "ln_final.bias",
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
        "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
        "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
        "vision_model.post_layernorm.weight": "visual.ln_post.weight",
        "vision_model.post_layernorm.bias": "visual.ln_post.bias",
    }.get(name, name)


def clip_tokenizer(directory: Path, text_cfg: dict[str, Any]) -> Tokenize:
    """Return the tokenizer of a directory: open_clip's own where the vocabulary is CLIP's.

    Raises
    ------
    DataError
        The files are missing, or another vocabulary needs transformers.
    """
    length = int(text_cfg["context_length"])
    vocabulary = _vocabulary(directory)
    own = open_clip.SimpleTokenizer().encoder
    if vocabulary == {_ENDS.get(token, token): number for token, number in own.items()}:
        return open_clip.SimpleTokenizer(context_length=length)
    try:
        return open_clip.tokenizer.HFTokenizer(str(directory), context_length=length)
    except ModuleNotFoundError as error:
        raise DataError(needs_extra(f"{directory}: its tokenizer", "transformers")) from error
    except Exception as error:
        # transformers raises a dozen types for damaged files.
        raise DataError(
            f"{directory}: no tokenizer can be read ({type(error).__name__}: {error}). Fetch "
            "tokenizer.json, or vocab.json and merges.txt, from the model's source."
        ) from error


def weight_files(directory: Path) -> tuple[Path, ...]:
    """Return the file or files that hold the weights of a directory.

    Raises
    ------
    DataError
        There are none, or a part is missing.
    """
    for name in WEIGHTS_FILES:
        if (directory / name).is_file():
            return (directory / name,)
    if (directory / INDEX_FILE).is_file():
        parts = sorted(set(read_config(directory / INDEX_FILE)["weight_map"].values()))
        missing = [name for name in parts if not (directory / name).is_file()]
        if not missing:
            return tuple(directory / name for name in parts)
        raise DataError(f"{directory}: lacks {some(missing)}. Fetch them from the model's source.")
    raise DataError(
        f"{directory}: holds no weights; one of {', '.join(WEIGHTS_FILES)} is needed beside "
        f"{CONFIG_FILE}. Fetch it from the model's source."
    )


def _section(config: dict[str, Any], kind: str, defaults: dict[str, Any]) -> dict[str, Any]:
    # Old files hold the same settings twice, and transformers lets the second win.
    given = defaults | (config.get(f"{kind}_config") or {})
    second = config.get(f"{kind}_config_dict")
    return given if second is None else given | defaults | second


def _vocabulary(directory: Path) -> dict[str, int] | None:
    for name in ("vocab.json", "tokenizer.json"):
        path = directory / name
        if path.is_file():
            content = read_config(path)
            return content.get("model", {}).get("vocab") if name == "tokenizer.json" else content
    return None


def _check(model: torch.nn.Module, state: dict[str, torch.Tensor], *, where: str) -> None:
    wanted = model.state_dict()
    problems = Problems(f"{where}: these are not the weights that {CONFIG_FILE} describes")
    other = [
        f"{name} {tuple(state[name].shape)}, expected {tuple(wanted[name].shape)}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    for what, names in (
        ("other shapes", other),
        ("missing", sorted(wanted.keys() - state.keys())),
        ("unknown", sorted(state.keys() - wanted.keys())),
    ):
        if names:
            problems.add(f"{what}: {some(names, limit=3)}.")
    problems.raise_if_any()
