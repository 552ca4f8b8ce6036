"""From a training run to a folder with a model that others can load."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
import yaml

from braindecode_clip.clip.checkpoints import BEST_FILE, read_state, replacing
from braindecode_clip.clip.models import save_model
from braindecode_clip.clip.tokenizers import Tokenizer
from braindecode_clip.clip.training_log import LOG_FILE
from braindecode_clip.config.clip import ClipRecipe

RECIPE_FILE = "recipe.yaml"
#: Folder of the running mean of the weights, in the model's.
MEAN_FOLDER = "ema"


def export_run(
    target: Path,
    modules: torch.nn.ModuleDict,
    *,
    recipe: ClipRecipe,
    tokenizer: Tokenizer,
    state_dir: Path,
) -> None:
    """Write models, recipe and log.

    Parameters
    ----------
    target : Path
        The model's folder; the running mean of its weights goes into ``ema`` in it.
    modules : ModuleDict
        The run's, as they are now: ``clip`` and perhaps ``mean``.
    recipe : ClipRecipe
        If it stops early, the weights of the best held-out retrieval are written instead.
    tokenizer : Tokenizer
    state_dir : Path
        Holds the log and the best weights.
    """
    if recipe.training.early_stop_patience is not None:
        best = read_state(state_dir / BEST_FILE).tensors
        modules = copy.deepcopy(modules)
        modules.load_state_dict({k.removeprefix("model."): v for k, v in best.items()})
    save_model(target, modules["clip"], recipe=recipe, tokenizer=tokenizer)
    if "mean" in modules:
        save_model(target / MEAN_FOLDER, modules["mean"], recipe=recipe, tokenizer=tokenizer)
    texts = {
        RECIPE_FILE: yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False),
        LOG_FILE: (state_dir / LOG_FILE).read_text(encoding="utf-8"),
    }
    for name, text in texts.items():
        with replacing(target / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
