"""Names, tags and files of pretrained models, and what to do when one is not at hand."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.errors import ConfigError, DataError

open_clip = import_open_clip()

#: Folder of embedded models, in place of the checkout's data/models.
MODELS_VARIABLE = "BRAINDECODE_CLIP_MODELS"

#: Names of the models that ship with the project.
EMBEDDED = ("scenes",)

_CHECKOUT_MODELS = Path(__file__).resolve().parents[2] / "data" / "models"


@dataclass(frozen=True)
class Source:
    """Where a model's weights and settings come from.

    Attributes
    ----------
    model : str
        open_clip's model name.
    tag : str
        Pretrained tag, or the file's name where no tag was given.
    weights : Path
        Checkpoint file on this machine.
    quick_gelu : bool
        The activation that the weights were trained with.
    preprocess : dict
        ``mean``, ``std``, ``interpolation``, ``resize_mode`` where the tag has its own.
    """

    model: str
    tag: str
    weights: Path
    quick_gelu: bool
    preprocess: dict[str, Any]


def embedded_model(name: str) -> Path:
    """Find the directory of a model that ships with the project.

    Looked for in the folder that the environment variable ``BRAINDECODE_CLIP_MODELS``
    names, then in ``data/models`` beside the package (a checkout, or ``pip install -e``).

    Raises
    ------
    DataError
        It is in neither; the message says how to cure it.
    """
    named = os.environ.get(MODELS_VARIABLE)
    folders = [Path(named)] if named else []
    folders.append(_CHECKOUT_MODELS)
    for folder in folders:
        if (folder / name).is_dir():
            return folder / name
    raise DataError(
        f"model '{name}': not found in {' or in '.join(str(f) for f in folders)}. It lies in "
        f"data/models/{name} of a source checkout: install with `pip install -e .` from there, "
        f"or set the environment variable {MODELS_VARIABLE} to the checkout's data/models."
    )


def resolve(
    model: str,
    pretrained: str | None,
    *,
    weights: str | Path | None = None,
    quick_gelu: bool | None = None,
    told: str | None = None,
) -> Source:
    """Settle model name, activation, preprocessing and weights file of an open_clip model.

    Parameters
    ----------
    model : str
        open_clip's model name.
    pretrained : str, optional
        A tag, or a checkpoint file.
    weights : path, optional
        Checkpoint file in place of the tag's download.
    quick_gelu : bool, optional
        Needed for a bare checkpoint file of a model that exists in both activations.
    told : str, optional
        How the user names a file in place of a download, for the message without a network;
        the words of an encoder's config by default.

    Raises
    ------
    ConfigError
        Unknown model or tag, or an activation that does not fit the weights.
    DataError
        The weights are neither on this machine nor can be downloaded.
    """
    _check_known("open_clip model", model, open_clip.list_models())
    if not pretrained and not weights:
        raise ConfigError(
            f"{model}: no weights named. Give a pretrained tag, one of "
            f"{', '.join(_tags(model)) or '(none is known for this model)'}, or a checkpoint file."
        )
    if pretrained and weights is None and _is_file_name(pretrained):
        pretrained, weights = None, pretrained
    built_gelu = bool((open_clip.get_model_config(model) or {}).get("quick_gelu", False))
    if pretrained is None:
        file = _existing(Path(weights))
        gelu = _gelu_of_bare_file(model, file, built_gelu, quick_gelu)
        _check_one_preprocessing(model, file)
        return Source(model, file.name, file, gelu, {})
    _check_tag(model, pretrained)
    settings = open_clip.get_pretrained_cfg(model, pretrained)
    # One model (roberta-ViT-B-32) has QuickGELU in its only config and no word of it in its tag.
    only = built_gelu and not model.endswith("-quickgelu")
    wanted = bool(settings.get("quick_gelu", only))
    if (quick_gelu is not None and quick_gelu != wanted) or (built_gelu and not wanted):
        raise ConfigError(
            f"{model}, {pretrained}: the weights were trained with quick_gelu {wanted}, the "
            f"model would be built with {not wanted}; its vectors would be wrong without any "
            "sign of it. Leave quick_gelu unset and use the model name without '-quickgelu'."
        )
    preprocess = _preprocessing(settings)
    file = _existing(Path(weights)) if weights else _downloaded(model, pretrained, settings, told)
    return Source(model, pretrained, file, wanted, preprocess)


def known_config(model: str) -> dict[str, Any]:
    """Return the config of a built-in model of open_clip.

    Raises
    ------
    ConfigError
        open_clip knows no such model; similar names are given.
    """
    _check_known("open_clip model", model, open_clip.list_models())
    return open_clip.get_model_config(model)


def _is_file_name(text: str) -> bool:
    return os.sep in text or text.endswith((".pt", ".pth", ".bin", ".safetensors", ".npz"))


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path}: no such checkpoint file. Correct the path, or use a tag.")
    return path


def _tags(model: str) -> list[str]:
    return list(open_clip.list_pretrained_tags_by_model(model))


def _check_known(what: str, name: str, known: list[str]) -> None:
    if name in known:
        return
    lower = {item.lower(): item for item in known}
    near = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(repr(lower[item]) for item in near)}?" if near else ""
    listed = f" Known: {', '.join(known)}." if 0 < len(known) <= 20 else ""
    raise ConfigError(f"unknown {what}: '{name}'. {hint}{listed}".rstrip())


def _check_tag(model: str, tag: str) -> None:
    """Refuse a tag that the architecture has no weights for; say which one has."""
    if tag not in _tags(model):
        others = [m for m in open_clip.list_pretrained_models_by_tag(tag) if m != model]
        if others:
            raise ConfigError(
                f"{model}: has no weights with the tag '{tag}'; that tag belongs to "
                f"{', '.join(others[:4])}. Tags of {model}: {', '.join(_tags(model)) or 'none'}."
            )
    _check_known(f"pretrained tag of {model}", tag, _tags(model))


def _preprocessing(settings: dict[str, Any]) -> dict[str, Any]:
    keys = ("mean", "std", "interpolation", "resize_mode")
    return {key: settings[key] for key in keys if settings.get(key) is not None}


def _check_one_preprocessing(model: str, file: Path) -> None:
    """Refuse a bare file where the model's tags differ in how pictures are prepared."""
    kinds: dict[str, list[str]] = {}
    for tag in _tags(model):
        settings = _preprocessing(open_clip.get_pretrained_cfg(model, tag))
        kinds.setdefault(repr(sorted(settings.items())), []).append(tag)
    if len(kinds) > 1:
        first = "; ".join(", ".join(tags[:3]) for tags in kinds.values())
        raise ConfigError(
            f"{file}: the weights of {model} were trained with {len(kinds)} kinds of preprocessing "
            f"(tags by kind: {first}), and a checkpoint file does not say which is its own. Set "
            "pretrained to the tag that the file is of, or was fine-tuned from, and weights to "
            "the file."
        )


def _gelu_of_bare_file(model: str, file: Path, built: bool, told: bool | None) -> bool:
    """Settle the activation of a file that does not record it."""
    if told is not None:
        if built and not told:
            raise ConfigError(
                f"{model}: is built with quick_gelu, quick_gelu false was asked for. Use the "
                "model name without '-quickgelu'."
            )
        return told
    configs = [open_clip.get_pretrained_cfg(model, tag) for tag in _tags(model)]
    kinds = {bool(config.get("quick_gelu", False)) for config in configs} | {built}
    if len(kinds) > 1:
        raise ConfigError(
            f"{file}: {model} exists with and without quick_gelu, and a checkpoint file does "
            "not say which it is. Set quick_gelu to true or false, or name the pretrained tag "
            "and pass the file as weights."
        )
    return kinds.pop()


def _downloaded(model: str, tag: str, settings: dict[str, Any], told: str | None) -> Path:
    try:
        return Path(open_clip.download_pretrained(settings))
    except Exception as error:
        # The hub's client, urllib and open_clip raise many types when there is no network.
        raise DataError(_missing_weights(model, tag, settings, told)) from error


def _missing_weights(model: str, tag: str, settings: dict[str, Any], told: str | None) -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    hub = settings.get("hf_hub", "")
    if hub:
        repository, _, file = hub.rpartition("/")
        file = file or "open_clip_model.safetensors (or open_clip_pytorch_model.bin)"
        origin = f"{file} of https://huggingface.co/{repository}"
        cache = f" Or copy the folder {HF_HUB_CACHE} from a machine that has loaded the model."
    else:
        origin, cache = settings.get("url", "the checkpoint file"), ""
    told = told or (
        f"in the encoder's config: model: {model}, pretrained: {tag}, weights: /path/to/the/file"
    )
    return (
        f"{model}, {tag}: the weights are not on this machine and could not be downloaded. "
        f"On a machine with network download {origin}, bring the file here, and name it "
        f"{told}.{cache}"
    )
