"""Image encoders of timm: pooled features of a picture, without a text tower."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import load_state_dict

from braindecode_clip.checks import some
from braindecode_clip.clip.hub import missing_repository
from braindecode_clip.clip.parts import Parts, Request, jsonable
from braindecode_clip.errors import ConfigError, DataError

TIMM_PREFIX = "timm:"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_LIBRARIES = ("timm", "torch", "torchvision", "pillow")


class ImageTower(torch.nn.Module):
    """A model of timm without its classifier, with the method of open_clip's.

    Parameters
    ----------
    trunk : Module
        Built with ``num_classes=0``.
    """

    def __init__(self, trunk: torch.nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def encode_image(self, pictures: torch.Tensor) -> torch.Tensor:
        """Map pictures (n, 3, height, width) to pooled features (n, n_dims)."""
        return self.trunk(pictures)


def timm_parts(name: str, request: Request) -> Parts:
    """Load an image encoder of timm.

    Parameters
    ----------
    name : str
        After ``timm:``, an architecture with its tag (``vit_base_patch16_224.augreg_in21k``),
        or a directory with ``config.json`` and ``model.safetensors`` as timm writes them.
    request : Request
        ``weights`` names a checkpoint file of the architecture, with or without a classifier.

    Raises
    ------
    ConfigError
        timm knows no such model, or the request names a tag, a tokenizer or an activation.
    DataError
        Weights are not at hand, are damaged, or of another architecture.
    """
    if request.pretrained or request.tokenizer or request.quick_gelu is not None:
        raise ConfigError(
            f"timm:{name}: 'pretrained', 'tokenizer' and 'quick_gelu' are not used; the tag is "
            "part of the name, after a dot."
        )
    directory = Path(name)
    if (directory / "config.json").is_file():
        label, file, trunk = directory.name, _file_in(directory), _from_directory(directory)
        tag = "local"
    else:
        _check_known(name)
        label, _, tag = name.partition(".")
        # Without a dot timm takes the architecture's first tag.
        tag = tag or str(timm.get_pretrained_cfg(name).tag)
        file = request.weights or _downloaded(name)
        trunk = timm.create_model(name, pretrained=False, num_classes=0)
    _load(trunk, file, label=name)
    config = timm.data.resolve_model_data_config(trunk)
    return Parts(
        name=label,
        tag=tag,
        model=ImageTower(trunk.to(request.device)).eval(),
        n_dims=int(getattr(trunk, "head_hidden_size", None) or trunk.num_features),
        preprocess=timm.data.create_transform(**config, is_training=False),
        tokenize=None,
        files=(file,),
        preprocessing=jsonable(config),
        quick_gelu=False,
        libraries=_LIBRARIES,
    )


def _check_known(name: str) -> None:
    if timm.is_model(name):
        known = timm.list_pretrained(f"{name.split('.')[0]}*")
        if "." not in name or name in known:
            return
        raise ConfigError(f"timm:{name}: unknown tag; known are {some(known)}.")
    near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise ConfigError(f"timm:{name}: timm {timm.__version__} has no such model.{hint}")


def _downloaded(name: str) -> Path:
    from huggingface_hub import hf_hub_download

    config = timm.get_pretrained_cfg(name)
    repository = getattr(config, "hf_hub_id", None)
    if not repository:
        raise DataError(
            f"timm:{name}: timm names no download on the hub. Bring a checkpoint file and name it "
            "in the encoder's config: weights: /path/to/the/file."
        )
    # timm's registry may leave the repository's second part to the name.
    repository = repository + name if repository.endswith("/") else repository
    for file in _WEIGHTS:
        try:
            return Path(hf_hub_download(repository, file))
        except Exception:
            continue
    raise DataError(
        missing_repository(
            f"timm:{name}",
            repository,
            _WEIGHTS,
            then=f"kind: timm, model: {name}, weights: /path/to/the/file",
        )
    )


def _file_in(directory: Path) -> Path:
    for name in _WEIGHTS:
        if (directory / name).is_file():
            return directory / name
    raise DataError(f"{directory}: no {' and no '.join(_WEIGHTS)} beside config.json.")


def _from_directory(directory: Path) -> torch.nn.Module:
    path = directory / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return timm.create_model(
            config["architecture"],
            pretrained=False,
            num_classes=0,
            pretrained_cfg=config.get("pretrained_cfg", config),
            **{k: v for k, v in config.get("model_args", {}).items() if k != "num_classes"},
        )
    except Exception as error:
        # json and timm raise a dozen types for a damaged or foreign file.
        raise DataError(
            f"{path}: describes no model of timm ({type(error).__name__}: {error}). Take a folder "
            "that timm's `save_for_hf` wrote."
        ) from error


def _load(trunk: torch.nn.Module, file: Path, *, label: str) -> None:
    if not file.is_file():
        raise DataError(f"{file}: no such checkpoint file. Correct the path.")
    try:
        state = load_state_dict(str(file), device="cpu")
    except Exception as error:
        # torch, pickle and safetensors raise a dozen types for a damaged file.
        raise DataError(
            f"{file}: cannot be read as a checkpoint ({type(error).__name__}). Fetch it again."
        ) from error
    classifier = trunk.pretrained_cfg.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    wanted = set(trunk.state_dict())
    state = {
        key: value
        for key, value in state.items()
        if key in wanted or not any(key.startswith(f"{head}.") for head in heads)
    }
    try:
        trunk.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reasons = " ".join(line.strip() for line in str(error).splitlines()[1:3])[:300]
        raise DataError(
            f"{file}: these are not the weights of timm's {label}: {reasons} Name the "
            "architecture that the file was made with."
        ) from error
