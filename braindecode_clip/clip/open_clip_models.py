"""Encoders that open_clip builds: by name and tag, from its directories, from the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from braindecode_clip.clip.hub import missing_repository, needs_extra, snapshot
from braindecode_clip.clip.models import CONFIG_FILE, quiet_open_clip, with_own_text
from braindecode_clip.clip.parts import Parts, Request, Tokenize, activations, jsonable
from braindecode_clip.clip.pretrained import resolve
from braindecode_clip.clip.state_dicts import DIRECTORY_WEIGHTS, load_weights
from braindecode_clip.clip.tokenizers import VOCABULARY_FILE, read_vocabulary
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.errors import BraindecodeError, ConfigError, DataError

open_clip = import_open_clip()

_LIBRARIES = ("open_clip_torch", "torch", "torchvision", "pillow")
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "vocab.json")


def named_parts(name: str, request: Request) -> Parts:
    """Load a built-in model of open_clip by its name and a tag, or from a checkpoint file.

    Raises
    ------
    ConfigError
        Unknown model or tag, or an activation that does not fit the weights.
    DataError
        Weights or tokenizer are not at hand, are damaged, or are of another architecture.
    """
    source = resolve(
        name, request.pretrained, weights=request.weights, quick_gelu=request.quick_gelu
    )
    config = open_clip.get_model_config(name)
    config["quick_gelu"] = source.quick_gelu
    model = _built(
        name,
        request.device,
        force_quick_gelu=source.quick_gelu,
        force_preprocess_cfg=source.preprocess,
    )
    load_weights(model, source.weights, label=name)
    tokenize = _tokenizer(name, config, request.tokenizer, label=name)
    return _parts(name, source.tag, model, config, tokenize, (source.weights,))


def directory_parts(
    directory: Path, request: Request, *, name: str | None = None, tag: str = "local"
) -> Parts:
    """Load a directory with ``open_clip_config.json`` and weights.

    The tokenizer is ours where a vocabulary lies beside the weights, the directory's where it
    holds one, and else the config's.

    Parameters
    ----------
    directory : Path
    request : Request
        ``weights`` may name other weights of the same model, such as a training state.
    name, tag : str
        For the fingerprint; the directory's name by default.

    Raises
    ------
    ConfigError
        The request names a tag or an activation: both are the directory's own.
    DataError
        Files are missing, damaged, or do not fit the config.
    """
    own_words(directory, request)
    weights = _weights_of(directory, request.weights)
    try:
        config = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))["model_cfg"]
        with with_own_text(directory) as folder:
            model = _built(f"local-dir:{folder}", request.device)
        load_weights(model, weights, label=directory.name)
    except Exception as error:
        # open_clip, json, safetensors and torch raise a dozen types for a damaged directory.
        raise DataError(
            f"{directory}: the model cannot be read ({type(error).__name__}: {error}). Restore "
            "the directory from its source, or train it again."
        ) from error
    tokenize: Tokenize
    if (directory / VOCABULARY_FILE).is_file():
        tokenize = read_vocabulary(directory)
    else:
        holds_one = any((directory / file).is_file() for file in _TOKENIZER_FILES)
        folder = request.tokenizer or (directory if holds_one else None)
        tokenize = _tokenizer(f"local-dir:{directory}", config, folder, label=str(directory))
    return _parts(name or directory.name, tag, model, config, tokenize, (weights,))


def hub_directory(repository: str) -> Path:
    """Return the folder of a repository on the hub, downloaded if need be.

    Raises
    ------
    DataError
        It is neither in the cache nor can be downloaded.
    """
    from braindecode_clip.clip.hf_clip import WEIGHTS_FILES

    names = (*DIRECTORY_WEIGHTS, *WEIGHTS_FILES)
    return snapshot(repository, weights=names, label=f"hf-hub:{repository}")


def own_words(directory: Path, request: Request) -> None:
    """Refuse a tag or an activation for a model that brings its own."""
    if request.pretrained or request.quick_gelu is not None:
        raise ConfigError(
            f"{directory}: is a model with its own weights and activation; leave 'pretrained' and "
            "'quick_gelu' out."
        )


def _weights_of(directory: Path, other: Path | None) -> Path:
    problems = [] if (directory / CONFIG_FILE).is_file() else [CONFIG_FILE]
    found = [directory / name for name in DIRECTORY_WEIGHTS if (directory / name).is_file()]
    if other is not None:
        if not other.is_file():
            raise DataError(f"{other}: no such checkpoint file. Correct the path.")
        found = [other]
    if not found:
        problems.append(DIRECTORY_WEIGHTS[0])
    if problems:
        raise DataError(
            f"{directory}: no {' and no '.join(problems)}. A model directory holds {CONFIG_FILE} "
            f"and {DIRECTORY_WEIGHTS[0]}, as written by `clip train` or open_clip, or config.json "
            "and model.safetensors, as written by transformers."
        )
    return found[0]


def _built(name: str, device: torch.device, **options: Any) -> torch.nn.Module:
    try:
        with quiet_open_clip():
            return open_clip.create_model(
                name, load_weights=False, pretrained_text=False, device=device, **options
            ).eval()
    except BraindecodeError:
        raise
    except Exception as error:
        # Text towers of transformers read their sizes from a repository of their own.
        text = open_clip.get_model_config(name)["text_cfg"].get("hf_model_name")
        if not text:
            raise
        if isinstance(error, RuntimeError) and "pip install transformers" in str(error):
            raise DataError(needs_extra(name, "transformers")) from error
        where = "in a local model directory, hf_model_name of open_clip_config.json: the folder"
        raise DataError(
            missing_repository(f"{name}: config.json of its text tower {text}", text, then=where)
        ) from error


def _tokenizer(name: str, config: dict[str, Any], folder: Path | None, *, label: str) -> Tokenize:
    """Return open_clip's tokenizer of a model, from a folder where one is given."""
    text = config["text_cfg"]
    source = text.get("hf_tokenizer_name")
    try:
        with quiet_open_clip():
            if source and folder is not None:
                return open_clip.tokenizer.HFTokenizer(
                    str(folder),
                    context_length=text.get("context_length", 77),
                    tokenizer_mode=text.get("tokenizer_mode"),
                    **text.get("tokenizer_kwargs", {}),
                )
            if source and name.startswith("local-dir:"):
                return open_clip.tokenizer.HFTokenizer(
                    source,
                    context_length=text.get("context_length", 77),
                    tokenizer_mode=text.get("tokenizer_mode"),
                    **text.get("tokenizer_kwargs", {}),
                )
            return open_clip.get_tokenizer(name)
    except ModuleNotFoundError as error:
        raise DataError(needs_extra(f"{label}: its tokenizer", "transformers")) from error
    except Exception as error:
        # transformers raises a dozen types for files that are missing or damaged.
        if folder is not None:
            raise DataError(
                f"{folder}: no tokenizer can be read from it ({type(error).__name__}: {error}). "
                f"It needs the files of the tokenizer {source}, such as tokenizer.json."
            ) from error
        then = "tokenizer: /path/to/the/folder"
        raise DataError(
            missing_repository(f"{label}: its tokenizer {source}", str(source), then=then)
        ) from error


def _parts(
    name: str,
    tag: str,
    model: torch.nn.Module,
    config: dict[str, Any],
    tokenize: Tokenize,
    files: tuple[Path, ...],
) -> Parts:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    quick_gelu = bool(config.get("quick_gelu", False))
    native = "timm_model_name" not in config["vision_cfg"]
    is_vit = native and not isinstance(config["vision_cfg"].get("layers"), list)
    if is_vit and ("QuickGELU" in activations(model.visual)) != quick_gelu:
        raise DataError(
            f"{name}: was built with {activations(model.visual)}, its config asks for quick_gelu "
            f"{quick_gelu}. Its vectors would be wrong; use another version of open_clip."
        )
    libraries = list(_LIBRARIES)
    libraries += [] if native else ["timm"]
    if config["text_cfg"].get("hf_model_name") or config["text_cfg"].get("hf_tokenizer_name"):
        libraries += ["transformers", "tokenizers"]
    preprocess_cfg = PreprocessCfg(**model.visual.preprocess_cfg)
    return Parts(
        name=name,
        tag=tag,
        model=model,
        n_dims=int(config["embed_dim"]),
        preprocess=image_transform_v2(preprocess_cfg, is_train=False),
        tokenize=tokenize,
        files=files,
        preprocessing=jsonable(dict(model.visual.preprocess_cfg)),
        quick_gelu=quick_gelu,
        libraries=tuple(libraries),
    )
