"""The model card of a training run: what the run knows of itself, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from braindecode_clip.clip.card_evaluations import evaluation_sections
from braindecode_clip.clip.card_markdown import bullets, cell, code, count, percent, section, table
from braindecode_clip.clip.licences import UNKNOWN
from braindecode_clip.clip.models import CONFIG_FILE
from braindecode_clip.clip.run_files import Run, read_json_object, read_run
from braindecode_clip.clip.run_notes import notes
from braindecode_clip.clip.tokenizers import VOCABULARY_FILE
from braindecode_clip.errors import ConfigError, DataError

CARD_FILE = "README.md"
#: Tells a card of ours, which may be written anew, from one that somebody wrote.
MARK = "<!-- Written by braindecode-clip from the run; `clip card` writes it anew. -->"

_DIRECTIONS = {"image_to_text": "picture → caption", "text_to_image": "caption → picture"}


def model_card(folder: str | Path, *, licence: str | None = None) -> str:
    """Return the card of a model directory as Markdown with a YAML head.

    Parameters
    ----------
    folder : path
        Written by ``clip train``; JSON files of evaluations in it are told of too.
    licence : str, optional
        Identifier for the head, e.g. "bsd-3-clause". A run does not know it.

    Returns
    -------
    str

    Raises
    ------
    DataError
        The folder holds no model of a run, or a file in it is damaged.
    """
    path = Path(folder)
    run, config = read_run(path), read_json_object(path / CONFIG_FILE)
    if not run.is_model or not config:
        raise DataError(f"{path}: holds no trained model; a card tells of one.")
    parts = [
        _head(licence),
        MARK,
        f"# {run.name}",
        _summary(run),
        section("Model", _model(run, config)),
        section("Training data", _data(run)),
        section("Training", _training(run)),
        section("Held-out retrieval", _figures(run)),
        section("Limits", _limits(run)),
        *evaluation_sections(path),
        section("How to load it", _loading(path, config)),
        section("Versions", _versions(run)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def may_replace(path: Path) -> None:
    """Refuse to write over a file that is no card of ours.

    Raises
    ------
    ConfigError
    """
    if path.is_file() and MARK not in path.read_text(encoding="utf-8", errors="replace"):
        raise ConfigError(
            f"{path}: was written by somebody, not from a run. Move it away, or write the card "
            "elsewhere with --out."
        )


def _head(licence: str | None) -> str:
    head: dict[str, Any] = {
        "library_name": "open_clip",
        "pipeline_tag": "zero-shot-image-classification",
        "tags": ["clip", "braindecode-clip"],
    }
    if licence is not None:
        head["license"] = licence
    return f"---\n{yaml.safe_dump(head, sort_keys=False).strip()}\n---"


def _summary(run: Run) -> str:
    record = run.record
    if not record:
        return "A CLIP model. It was trained by a version that kept no record of the run."
    text = (
        f"A CLIP model, trained with `braindecode-clip clip train` on "
        f"{count(record['n_pictures'])} pictures with {count(record['n_captions'])} captions."
    )
    pools = record.get("held_out", {}).get("model", {}).get("pools")
    if pools:
        own = pools["image_to_text"]
        text += (
            f" Held-out pictures find their caption first among {count(own['n_candidates'])} in "
            f"{percent(own['r1']['value'])} of {count(own['n'])} cases (chance "
            f"{percent(own['r1']['chance'])})."
        )
    return text


def _model(run: Run, config: dict[str, Any]) -> list[str]:
    model, preprocess = config.get("model_cfg", {}), config.get("preprocess_cfg", {})
    weights = run.record.get("parameters", {})
    lines = [
        f"Image tower: {_options(model.get('vision_cfg', {}))}",
        f"Text tower: {_options(model.get('text_cfg', {}))}",
        f"Shared space: {model.get('embed_dim')} dimensions; activation: "
        f"{'QuickGELU' if model.get('quick_gelu') else 'GELU where the towers do not say other'}",
        f"Input: {_options(preprocess)}",
    ]
    if weights:
        names = {"image_tower": "image tower", "text_tower": "text tower"}
        names |= {"text_decoder": "text decoder"}
        own = [f"{count(weights[key])} {name}" for key, name in names.items() if key in weights]
        lines.append(
            f"Weights: {count(weights['total'])} ({', '.join(own)}), of which "
            f"{count(weights['trained'])} were trained"
        )
    lines.append(_started(run))
    if run.record.get("teacher"):
        lines.append(f"Teacher: {run.record['teacher']}")
    return lines


def _started(run: Run) -> str:
    start = run.record.get("start")
    if not start:
        return "Started from: not recorded"
    sha = f"SHA-256 of the first weights `{start['weights_sha256']}`"
    if start["kind"] == "fresh weights":
        return f"Started from fresh weights, seed {run.recipe.get('seed')} ({sha})"
    licence = start["licence"]
    known = f"licence {licence}" if licence != UNKNOWN else "licence not known to the run"
    return f"Started from the {start['kind']} “{start['name']}”, {known} ({sha})"


def _data(run: Run) -> str:
    if not run.data:
        return "Not recorded."
    rows = []
    names = {
        "source": "source",
        "kind": "kind",
        "n_pictures": "pictures",
        "n_captions": "captions",
        "n_captions_truncated": "captions longer than the context",
        "n_captions_with_unknown_words": "captions with unknown words",
        "n_corrupt": "corrupt pictures",
        "n_first_captions_in_training": "first captions that training has too",
        "n_pictures_in_training": "pictures that training has too",
    }
    parts = [run.data.get(name, {}) for name in ("training", "validation")]
    for key, name in names.items():
        if any(key in part for part in parts):
            rows.append([name, *(cell(part.get(key)) for part in parts)])
    return table(["", "training", "held-out"], rows)


def _training(run: Run) -> list[str]:
    record, optimiser = run.record, run.recipe.get("optimiser", {})
    training = run.recipe.get("training", {})
    lines = []
    if record:
        lines += [
            f"{count(record['step'])} of {count(record['n_steps'])} steps of "
            f"{count(record['pairs_per_step'])} pairs, {run.status}",
            f"Weights kept: those of step {count(record.get('weights_of_step', run.step))}",
        ]
    options = {
        "loss": training.get("loss"),
        "false negatives": training.get("false_negatives"),
        "precision": training.get("precision"),
        "AdamW's peak rate": optimiser.get("lr"),
        "weight decay": optimiser.get("weight_decay"),
        "schedule": optimiser.get("schedule"),
        "seed": run.recipe.get("seed"),
    }
    known = [f"{name} {value}" for name, value in options.items() if value is not None]
    lines += [
        f"Options: {', '.join(known)}",
        "Every option: `recipe.yaml`; every step that was logged: `training_log.csv`",
    ]
    return lines


def _figures(run: Run) -> str:
    held_out = run.record.get("held_out")
    if not held_out:
        return "Not recorded by the run."
    blocks = [f"Pairs: {held_out.get('source')}, first captions."]
    for key, name in (("model", "This model"), ("ema", "The running mean (folder `ema`)")):
        if key in held_out:
            rows = [row for d in _DIRECTIONS for row in _figure_rows(held_out[key], d)]
            columns = ["direction", "score", "value", "95 % interval", "chance", "queries"]
            blocks.append(f"{name}:\n\n{table([*columns, 'candidates'], rows)}")
    definitions = held_out["model"].get("definitions", {})
    lines = [f"{_DIRECTIONS.get(name, name)}: {text}" for name, text in definitions.items()]
    return "\n\n".join([*blocks, bullets(lines)])


def _figure_rows(figures: dict[str, Any], direction: str) -> list[list[str]]:
    pools, whole = figures["pools"][direction], figures[direction]
    scores = [(f"R@1 in {count(pools['n_pools'])} pools", pools["r1"], pools)]
    scores += [(f"R@{k}", whole[f"r{k}"], whole) for k in (1, 5, 10)]
    return [
        [
            _DIRECTIONS[direction],
            name,
            percent(own["value"]),
            f"{percent(own['low'])} to {percent(own['high'])}",
            percent(own["chance"], digits=2),
            count(sizes["n"]),
            count(sizes["n_candidates"]),
        ]
        for name, own, sizes in scores
    ]


def _limits(run: Run) -> list[str]:
    found = notes(run, run.record.get("held_out"))
    found.append(
        "What was measured is what stands here. Other pictures, words and tasks than those of the "
        "training data were not tried unless a section says so."
    )
    return found


def _loading(folder: Path, config: dict[str, Any]) -> str:
    vision = config.get("model_cfg", {}).get("vision_cfg", {})
    is_ours = str(vision.get("timm_model_name", "")).startswith("braindecode_")
    has_words = (folder / VOCABULARY_FILE).is_file()
    place = "local-dir:FOLDER"
    lines = ["import open_clip"]
    if is_ours:
        lines.insert(0, "import braindecode_clip.clip.towers  # makes the image tower known")
    lines += ["", f'model, _, preprocess = open_clip.create_model_and_transforms("{place}")']
    if not has_words:
        lines.append(f'tokenizer = open_clip.get_tokenizer("{place}")')
    ours = [
        "from PIL import Image",
        "from braindecode_clip.clip.encoders import load_encoder",
        "",
        'encoder = load_encoder("FOLDER")',
        'images = encoder.encode_image([Image.open("picture.png")])  # (1, n_dims), unit norm',
        'texts = encoder.encode_text(["a caption"])',
        "cosine = images @ texts.T",
    ]
    said = "FOLDER is this folder. With this package:"
    others = "With open_clip alone"
    if has_words:
        others += (
            f"; the tokenizer is the one of `{VOCABULARY_FILE}`, and open_clip's own would give "
            "other ids"
        )
    blocks = [said, code(ours), f"{others}:", code(lines)]
    return "\n\n".join(blocks)


def _versions(run: Run) -> str:
    found = run.record.get("versions", {})
    return ", ".join(f"{name} {text}" for name, text in found.items()) or "Not recorded."


def _options(options: dict[str, Any]) -> str:
    known = {key: value for key, value in options.items() if value is not None}
    return ", ".join(f"{key} {value}" for key, value in known.items())
