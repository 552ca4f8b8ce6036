"""What a training run writes about itself, and how a folder of one is read."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from braindecode_clip import __version__
from braindecode_clip.clip.checkpoints import STATE_FILE, read_header
from braindecode_clip.clip.export import RECIPE_FILE
from braindecode_clip.clip.licences import UNKNOWN, licence_of
from braindecode_clip.clip.recall import POOL_SIZE
from braindecode_clip.clip.training_log import LOG_FILE, LogRow, read_log
from braindecode_clip.errors import DataError

if TYPE_CHECKING:
    from braindecode_clip.clip.train import Trainer

RUN_FILE = "run.json"
DATA_FILE = "data.json"
_LIBRARIES = ("torch", "open-clip-torch", "timm", "transformers", "numpy", "safetensors")

#: How a run stands, and what is said of it.
Status = Literal["unfinished", "interrupted", "finished", "stopped early"]


@dataclass(frozen=True)
class Run:
    """A training run as its folder tells of it.

    Attributes
    ----------
    name : str
        Of the recipe.
    recipe : dict
    log : list of LogRow
    record : dict
        Content of ``run.json``; empty where an earlier version trained.
    data : dict
        Content of ``data.json``; empty where there is none.
    is_model : bool
        Whether the folder holds the trained model; else it is the state of a run.
    """

    name: str
    recipe: dict[str, Any]
    log: list[LogRow]
    record: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    is_model: bool = False

    @property
    def status(self) -> str:
        """How the run stands; what holds a model has ended."""
        return self.record.get("status", "finished" if self.is_model else "unfinished")

    @property
    def step(self) -> int:
        """Steps done, as far as the log or the record knows."""
        return max(self.record.get("step", 0), self.log[-1].step if self.log else 0)


def start_record(trainer: Trainer) -> dict[str, Any]:
    """Return what a run is before its first step; JSON-able, without paths of the machine."""
    recipe, facts = trainer.recipe, trainer.facts
    return {
        "name": recipe.name,
        "status": "unfinished",
        "step": trainer.step,
        "n_steps": trainer.n_steps,
        "steps_per_epoch": trainer.batches.steps_per_epoch,
        "pairs_per_step": trainer.n_pairs_per_step,
        "n_pictures": len(trainer.batches.pairs),
        "n_captions": len(trainer.batches.pairs.wordings),
        "n_held_out": len(trainer.validation),
        # Of the retrieval on the way, whose chance it gives.
        "n_pool_candidates": min(POOL_SIZE, len(set(trainer.validation.first_wordings))),
        "n_processes": trainer.processes.size,
        "n_threads": facts["n_threads"],
        "device": trainer.device.type,
        "parameters": count_parameters(trainer.model),
        "start": start_of(facts, recipe.model_dump(mode="json")["model"]),
        "teacher": Path(facts["teacher"]).name if facts["teacher"] else None,
        "recipe": without_places(recipe.model_dump(mode="json")),
        "versions": versions(),
    }


def progress_record(trainer: Trainer, *, is_ended: bool) -> dict[str, Any]:
    """Return what a run has come to; updates :func:`start_record`."""
    progress = trainer.progress
    status: Status = "interrupted"
    if is_ended:
        status = "stopped early" if progress.is_stopped else "finished"
    takes_best = trainer.recipe.training.early_stop_patience is not None
    log = read_log(trainer.state_dir / LOG_FILE)
    return {
        "status": status,
        "step": trainer.step,
        "best_step": progress.best_step if progress.best >= 0 else None,
        "weights_of_step": progress.best_step if takes_best else trainer.step,
        "training_seconds": round(sum(row.seconds for row in log), 2),
    }


def count_parameters(model: Any) -> dict[str, int]:
    """Count the weights of the towers, and those that training changes."""
    counts = {
        "image_tower": _n_weights(model.visual),
        "text_decoder": _n_weights(getattr(model, "text_decoder", None)),
    }
    total = _n_weights(model)
    scalars = sum(getattr(model, name, None) is not None for name in ("logit_scale", "logit_bias"))
    counts["text_tower"] = total - sum(counts.values()) - scalars
    if not counts["text_decoder"]:
        del counts["text_decoder"]
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {**counts, "total": total, "trained": trained}


def versions() -> dict[str, str]:
    """Return the versions of this package, Python, and what numbers depend on."""
    found = {"braindecode_clip": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def read_run(folder: str | Path) -> Run:
    """Read what lies in the folder of a model, or of the state of a run.

    Raises
    ------
    DataError
        The folder is of neither, or a file in it is damaged.
    """
    path = Path(folder)
    recipe_file, state_file = path / RECIPE_FILE, path / STATE_FILE
    record, is_model = read_json_object(path / RUN_FILE), recipe_file.is_file()
    if is_model:
        try:
            recipe = yaml.safe_load(recipe_file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise DataError(f"{recipe_file}: no readable YAML ({error}). Restore it.") from error
    elif "recipe" in record:
        recipe = record["recipe"]
    elif state_file.is_file():
        header = read_header(state_file)
        recipe = header["facts"]["recipe"]
        record = {"step": header["step"], **record}
    else:
        raise DataError(
            f"{path}: no training run. Expected the folder that `clip train` wrote (with "
            f"{RECIPE_FILE} and {LOG_FILE}), or that of its state (with {RUN_FILE} or "
            f"{STATE_FILE})."
        )
    if not isinstance(recipe, dict) or "name" not in recipe:
        raise DataError(f"{recipe_file}: holds no recipe. Restore it.")
    return Run(
        name=str(recipe["name"]),
        recipe=recipe,
        log=read_log(path / LOG_FILE),
        record=record,
        data=read_json_object(path / DATA_FILE),
        is_model=is_model,
    )


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one where there is no file."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: no readable JSON ({error}). Restore or delete it.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}, expected an object.")
    return content


def log_columns(log: list[LogRow]) -> dict[str, list[Any]]:
    """Return the columns of a log by name."""
    rows = [asdict(row) for row in log]
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else {})}


def without_places(options: Any) -> Any:
    """Return options with the names of files in place of absolute paths.

    Records and pages are handed on, and paths say where their maker works.
    """
    if isinstance(options, dict):
        return {key: without_places(value) for key, value in options.items()}
    if isinstance(options, list | tuple):
        return [without_places(value) for value in options]
    if isinstance(options, str) and (options.startswith("~") or Path(options).is_absolute()):
        return Path(options).name
    return options


def start_of(facts: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """Say what the first weights were: a model folder's, pretrained ones, or fresh ones.

    Parameters
    ----------
    facts : dict
        Of the run's state.
    model : dict
        Section ``model`` of the recipe.

    Returns
    -------
    dict
        ``kind``, ``name`` (None of fresh weights), ``licence`` as far as it was read
        anywhere, and ``weights_sha256`` of the model before its first step.
    """
    model, licence = without_places(model), UNKNOWN
    weights = model.get("weights") or model.get("pretrained")
    towers = _pretrained_towers(model)
    if facts["initial"]:
        folder = Path(facts["initial"])
        kind, name = "model folder", folder.name
        licence = licence_of(name, card=folder / "README.md", use_cache=False)
    elif weights:
        kind = "pretrained model"
        name = " ".join(str(part) for part in (model.get("open_clip"), weights) if part)
        licence = licence_of("", tag=str(model.get("pretrained")), use_cache=False)
    elif towers:
        kind, name = "pretrained towers", ", ".join(towers)
    else:
        kind, name = "fresh weights", None
    return {
        "kind": kind,
        "name": name,
        "licence": licence,
        "weights_sha256": facts["weights_sha256"],
    }


def _pretrained_towers(model: dict[str, Any]) -> list[str]:
    """Name the towers whose weights come from elsewhere; the rest of the model is fresh."""
    vision, text = model.get("vision_cfg") or {}, model.get("text_cfg") or {}
    found = []
    if model.get("image_weights"):
        found.append(f"image {model['image_weights']}")
    elif vision.get("timm_model_pretrained"):
        found.append(f"image {vision.get('timm_model_name')}")
    # open_clip fetches the weights of a transformer unless it is told not to.
    if text.get("hf_model_name") and text.get("hf_model_pretrained", True):
        found.append(f"text {text['hf_model_name']}")
    return found


def _n_weights(module: Any) -> int:
    return 0 if module is None else sum(p.numel() for p in module.parameters())
