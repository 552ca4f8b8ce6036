"""What a training run was started with, compared when it is taken up again."""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from braindecode_clip.checks import Problems
from braindecode_clip.clip.tokenizers import Tokenizer
from braindecode_clip.config.clip import ClipRecipe
from braindecode_clip.errors import ConfigError
from braindecode_clip.seeds import derive_seed

logger = logging.getLogger(__name__)

_NAMES = {
    "recipe": "another recipe",
    "pairs_sha256": "other pairs",
    "initial": "another start",
    "weights_sha256": "other first weights",
    "tokenizer_sha256": "another tokenizer",
    "teacher": "another teacher",
    "teacher_sha256": "other weights of the teacher",
    "n_processes": "another number of processes",
}


def check_facts(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a state of another run; warn where only the last bits will differ.

    Parameters
    ----------
    path : Path
        Of the state, for messages.
    found, wanted : mapping
        Facts of the state, and of this run.

    Raises
    ------
    ConfigError
        Anything but the number of threads differs; all differences are named.
    """
    other = [name for key, name in _NAMES.items() if found.get(key) != wanted[key]]
    if other:
        raise ConfigError(
            f"{path}: was made from {' and '.join(other)}. Name another folder, or give "
            "what the run was started with."
        )
    if found["n_threads"] != wanted["n_threads"]:
        logger.warning(
            "%s: made with %d threads, now %d: the result is as good but differs in the last bits.",
            path,
            found["n_threads"],
            wanted["n_threads"],
        )


def check_options(
    recipe: ClipRecipe, initial: str | Path | None, teacher: str | Path | None
) -> None:
    """Refuse a recipe that needs a model which is not given, or a teacher that nothing asks.

    Raises
    ------
    ConfigError
    """
    problems = Problems(f"recipe '{recipe.name}'")
    training = recipe.training
    if training.l2_sp and initial is None and not recipe.model.is_pretrained:
        problems.add(
            "training.l2_sp pulls towards a model: give --initial or pretrained towers, or set it "
            "to 0."
        )
    if training.l2_sp and recipe.adapt is not None and recipe.adapt.lora is not None:
        problems.add(
            "training.l2_sp pulls weights to where they were, and adapt.lora leaves them there. "
            "Set l2_sp to 0; optimiser.weight_decay pulls the low-rank changes towards none."
        )
    if training.distill_weight and teacher is None:
        problems.add("training.distill_weight imitates a teacher: give --teacher, or set it to 0.")
    asks = training.distill_weight or training.duplicate_similarity is not None
    if teacher is not None and not (asks or training.false_negatives == "soft"):
        problems.add(
            "--teacher is given, and nothing asks it: set training.distill_weight, "
            "duplicate_similarity or false_negatives: soft, or leave it out."
        )
    problems.raise_if_any(ConfigError)


def check_tokenizer(recipe: ClipRecipe, tokenizer: Tokenizer, *, has_teacher: bool) -> None:
    """Refuse options that count words where the tokenizer knows none.

    Raises
    ------
    ConfigError
    """
    if tokenizer.kind != "bytes":
        return
    problems = Problems(f"recipe '{recipe.name}', whose tokenizer reads bytes")
    training = recipe.training
    if training.word_loss_weight:
        problems.add(
            "training.word_loss_weight predicts a caption's words, and there are letters alone. "
            "Set it to 0, or model.tokenizer to words."
        )
    counts = training.duplicate_similarity is not None or training.false_negatives == "soft"
    if counts and not has_teacher:
        problems.add(
            "training.duplicate_similarity and false_negatives: soft compare captions by their "
            "words, and there are letters alone, of which all captions hold the same. Give a "
            "--teacher, or set model.tokenizer to words."
        )
    problems.raise_if_any(ConfigError)


def record_digest(record: Mapping[str, Any]) -> str:
    """Return a SHA-256 over a record that JSON can hold."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def weights_digest(model: torch.nn.Module) -> str:
    """Return a SHA-256 over all weights and buffers."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def seed_step(seed: int, step: int, rank: int) -> None:
    """Make every random number of a step a function of seed, step and process.

    So a run that is taken up at a step draws what the first run drew, without any generator's
    state having been saved.
    """
    value = derive_seed(seed, "step", step, rank)
    torch.manual_seed(value)
    random.seed(value)
    # Ours do not use the global generator, but towers of other packages may.
    np.random.seed(value % 2**32)  # noqa: NPY002
