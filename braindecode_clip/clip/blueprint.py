"""Settle what a recipe leaves open: towers, activation and preprocessing of named models.

A recipe writes its towers out, names a model of open_clip, a file with a model config, or none,
for those of the model that training starts from. :func:`settled` returns the same recipe with
everything written out, which is what the rest of training reads.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from braindecode_clip.checks import Problems
from braindecode_clip.clip.models import CONFIG_FILE
from braindecode_clip.clip.pretrained import EMBEDDED, Source, embedded_model, known_config, resolve
from braindecode_clip.clip.text_towers import TEXT_FOLDER
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.config.clip import ClipRecipe, ModelConfig
from braindecode_clip.errors import ConfigError, DataError

open_clip = import_open_clip()

logger = logging.getLogger(__name__)

_TOWER_KEYS = ("embed_dim", "quick_gelu", "vision_cfg", "text_cfg")
# Where training starts is its own option; the vocabulary is the tokenizer's.
_SETTLED_ELSEWHERE = ("init_logit_scale", "init_logit_bias")
_NO_ARCHITECTURE = {
    "timm_model_pretrained",
    "hf_model_pretrained",
    "hf_model_name",
    "hf_tokenizer_name",
    "vocab_size",
    "eos_id",
    "pad_id",
    "output_tokens",
}
_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")


def settled(recipe: ClipRecipe, initial: str | Path | None = None) -> ClipRecipe:
    """Return a recipe with its towers and its preprocessing written out.

    A settled recipe settles to itself.

    Parameters
    ----------
    recipe : ClipRecipe
    initial : path or name of an embedded model, optional
        Model directory that training starts from. Preprocessing that the recipe does not state
        is that of the directory, or of the pretrained tag.

    Raises
    ------
    ConfigError
        There are no towers, two kinds that do not agree, or two sources of weights.
    DataError
        A file or a folder is missing or damaged, or weights cannot be downloaded.
    """
    model = recipe.model
    if initial is None:
        if model.is_taken_over:
            raise ConfigError(
                f"recipe '{recipe.name}': names no towers. Give model.open_clip, model.config, "
                "model.vision_cfg and text_cfg, or a model to start from (--initial)."
            )
        if not (model.open_clip or model.config):
            _check_stated(recipe)
            return recipe
        towers, preprocess = _named(recipe)
    else:
        given = [k for k in ("pretrained", "weights", "image_weights") if getattr(model, k)]
        if given:
            raise ConfigError(
                f"recipe '{recipe.name}': model.{given[0]} and --initial both name weights. "
                "Leave one of them out."
            )
        folder = model_folder(initial)
        towers, preprocess = _of_directory(folder)
        if not model.is_taken_over:
            written = _named(recipe)[0] if model.open_clip or model.config else _written(recipe)
            _check_agreement(recipe, written, towers, where=str(folder))
            # The recipe's own words for where a text tower comes from are kept.
            towers = {**towers, "text_cfg": {**towers["text_cfg"], **_names(written)}}
    towers = _with_sizes(towers, where=f"recipe '{recipe.name}'")
    if initial is None and model.vision_cfg is not None:
        _check_agreement(recipe, _written(recipe), towers, where=model.open_clip or model.config)
    settled_model = model.model_copy(update=_model_fields(model, towers, name=recipe.name))
    stated = recipe.preprocess.model_fields_set
    taken = {k: preprocess[k] for k in _PREPROCESSING if k in preprocess and k not in stated}
    own = {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in taken.items()}
    _warn_of_preprocessing(recipe, preprocess, stated)
    result = recipe.model_copy(
        update={"model": settled_model, "preprocess": recipe.preprocess.model_copy(update=own)}
    )
    if initial is None:
        _check_stated(result)
    return result


def text_towers_of(recipe: ClipRecipe) -> ClipRecipe:
    """Return a recipe whose towers are written out; no weights are asked for.

    Raises
    ------
    ConfigError, DataError
        Unknown model, or a damaged config.
    """
    bare = {"pretrained": None, "weights": None}
    kept = {key: getattr(recipe.model, key) for key in bare}
    found = settled(recipe.model_copy(update={"model": recipe.model.model_copy(update=bare)}))
    return found.model_copy(update={"model": found.model.model_copy(update=kept)})


def model_folder(initial: str | Path) -> Path:
    """Return the folder of a model directory, or of an embedded model by its name.

    Raises
    ------
    DataError
        There is none.
    """
    path = Path(initial)
    if not path.is_dir() and str(initial) in EMBEDDED:
        return embedded_model(str(initial))
    if not (path / CONFIG_FILE).is_file():
        raise DataError(
            f"{initial}: no {CONFIG_FILE} there. Name a folder that `clip train` or open_clip "
            f"wrote, or an embedded model ({', '.join(EMBEDDED)})."
        )
    return path


def source_of(recipe: ClipRecipe) -> Source | None:
    """Return where a recipe's pretrained model of open_clip comes from; None if it has none.

    Raises
    ------
    ConfigError, DataError
        See :func:`braindecode_clip.clip.pretrained.resolve`.
    """
    model = recipe.model
    if not model.open_clip or not (model.pretrained or model.weights):
        return None
    tag = model.pretrained or "TAG"
    return resolve(
        model.open_clip,
        model.pretrained,
        weights=model.weights,
        quick_gelu=model.quick_gelu,
        told=f"in the recipe, section model: open_clip: {model.open_clip}, pretrained: {tag}, "
        "weights: /path/to/the/file",
    )


def _named(recipe: ClipRecipe) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return towers and preprocessing of a model of open_clip, or of a config file."""
    model = recipe.model
    if model.config:
        return _of_file(Path(model.config), quick_gelu=model.quick_gelu)
    source = source_of(recipe)
    towers = _bare(known_config(model.open_clip))
    gelu = bool(towers.get("quick_gelu", False))
    if source is not None:
        gelu = source.quick_gelu
    elif model.quick_gelu is not None:
        gelu = model.quick_gelu
    if source is None:
        return {**towers, "quick_gelu": gelu}, {}
    preprocess = dataclasses.asdict(open_clip.transform.PreprocessCfg()) | source.preprocess
    return {**towers, "quick_gelu": gelu}, preprocess


def _of_file(path: Path, *, quick_gelu: bool | None) -> tuple[dict[str, Any], dict[str, Any]]:
    content = _read(path)
    towers = _bare(content.get("model_cfg", content))
    found = bool(towers.get("quick_gelu", False))
    return {**towers, "quick_gelu": found if quick_gelu is None else quick_gelu}, content.get(
        "preprocess_cfg", {}
    )


def _of_directory(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    content = _read(folder / CONFIG_FILE)
    towers = _bare(content.get("model_cfg", {}))
    towers["quick_gelu"] = bool(towers.get("quick_gelu", False))
    text = towers["text_cfg"]
    if (folder / TEXT_FOLDER).is_dir() and Path(text.get("hf_model_name") or "").is_absolute():
        # Its sizes lie in the folder; the path is that of the machine that wrote it.
        text["hf_model_name"] = TEXT_FOLDER
    defaults = dataclasses.asdict(open_clip.transform.PreprocessCfg())
    return towers, defaults | content.get("preprocess_cfg", {})


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        config = content.get("model_cfg", content)
        missing = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if key not in config]
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path}: cannot be read as a model config ({error}). Name a JSON file with the fields "
            "of open_clip's model configs."
        ) from error
    if missing:
        raise DataError(
            f"{path}: {', '.join(missing)} missing; a model config has embed_dim, vision_cfg and "
            "text_cfg."
        )
    return content


def _bare(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model config without what is settled elsewhere, its towers copied."""
    towers = {k: v for k, v in config.items() if k not in _SETTLED_ELSEWHERE}
    for key, dropped in (
        ("vision_cfg", "timm_model_pretrained"),
        ("text_cfg", "hf_model_pretrained"),
    ):
        towers[key] = {k: v for k, v in config[key].items() if k != dropped}
    return towers


def _model_fields(model: ModelConfig, towers: Mapping[str, Any], *, name: str) -> dict[str, Any]:
    """Return the fields of a recipe's section 'model' that towers settle."""
    further = {k: v for k, v in towers.items() if k not in _TOWER_KEYS}
    own = {k: v for k, v in further.items() if k in ModelConfig.model_fields}
    other = {k: v for k, v in further.items() if k not in own}
    wrong = {k: v for k, v in model.other_cfg.items() if other.get(k) != v}
    if wrong:
        raise ConfigError(
            f"recipe '{name}', model.other_cfg: {next(iter(wrong))} is not that of the named "
            "towers. Leave it out, or write the towers out."
        )
    return (
        {key: towers[key] for key in _TOWER_KEYS}
        | {k: v for k, v in own.items() if getattr(model, k) is None}
        | {"other_cfg": other}
    )


def _written(recipe: ClipRecipe) -> dict[str, Any]:
    return {key: getattr(recipe.model, key) for key in _TOWER_KEYS}


def _names(towers: Mapping[str, Any]) -> dict[str, Any]:
    text = towers["text_cfg"]
    return {k: text[k] for k in ("hf_model_name", "hf_tokenizer_name") if k in text}


def _with_sizes(towers: dict[str, Any], *, where: str) -> dict[str, Any]:
    """Write out the picture's size and the context length."""
    vision, text = dict(towers["vision_cfg"]), dict(towers["text_cfg"])
    size = vision.get("image_size", 224)
    if not isinstance(size, int):
        if len(set(size)) != 1:
            raise ConfigError(
                f"{where}: the image tower takes pictures of {size[1]} x {size[0]} pixels; "
                "training needs squares. Take another model."
            )
        size = int(size[0])
    vision["image_size"] = size
    text.setdefault("context_length", 77)
    return {**towers, "vision_cfg": vision, "text_cfg": text}


def _check_agreement(
    recipe: ClipRecipe, written: Mapping[str, Any], found: Mapping[str, Any], *, where: str
) -> None:
    """Refuse towers that the recipe writes out and that are not those of the named model."""
    problems = Problems(f"recipe '{recipe.name}', model, against {where}")
    for key in ("embed_dim", "quick_gelu"):
        if written.get(key) is not None and written[key] != found[key]:
            problems.add(_differs(key, written[key], found[key]))
    for key, kind in (
        ("vision_cfg", open_clip.model.CLIPVisionCfg),
        ("text_cfg", open_clip.model.CLIPTextCfg),
    ):
        theirs = _fields(kind, found[key], where=where)
        ours = _fields(kind, written[key], where=f"recipe '{recipe.name}'")
        for name in sorted(ours.keys() - _NO_ARCHITECTURE):
            if ours[name] != theirs[name]:
                problems.add(_differs(f"{key}.{name}", ours[name], theirs[name]))
    problems.raise_if_any(ConfigError)


def _differs(name: str, ours: Any, theirs: Any) -> str:
    return (
        f"{name} is {ours}, and {theirs} there. Leave the towers out of the recipe, or name "
        "another model."
    )


def _fields(kind: type, config: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    try:
        fields = dataclasses.asdict(kind(**config))
    except TypeError as error:
        raise ConfigError(
            f"{where}: {error}. Options are the fields of open_clip's {kind.__name__}."
        ) from error
    return json.loads(json.dumps(fields))


def _check_stated(recipe: ClipRecipe) -> None:
    """Ask for the preprocessing of pretrained image towers that do not record theirs."""
    model = recipe.model
    is_pretrained = model.image_weights or model.vision_cfg.get("timm_model_pretrained")
    problems = Problems(f"recipe '{recipe.name}'")
    if model.image_weights and not model.vision_cfg.get("timm_model_name"):
        problems.add(
            "model.image_weights is for image towers of timm (vision_cfg.timm_model_name). Use "
            "model.pretrained for a checkpoint of both towers."
        )
    missing = {"mean", "std"} - recipe.preprocess.model_fields_set
    if is_pretrained and missing:
        problems.add(
            f"the image tower is pretrained, and preprocess does not state "
            f"{' and '.join(sorted(missing))}. Give what its weights were trained with; "
            "other values spoil its features without any sign of it."
        )
    problems.raise_if_any(ConfigError)


def _warn_of_preprocessing(recipe: ClipRecipe, found: Mapping[str, Any], stated: set[str]) -> None:
    for key in ("mean", "std"):
        own = getattr(recipe.preprocess, key)
        if key in stated and key in found and list(found[key]) != list(own):
            logger.warning(
                "recipe '%s': preprocess.%s is %s, the weights were trained with %s",
                recipe.name,
                key,
                list(own),
                list(found[key]),
            )
