"""The recipe's section ``adapt`` on a model: locks, low-rank changes, what fits together."""

from __future__ import annotations

import logging

from torch import nn

from braindecode_clip.clip.locking import (
    TOWERS,
    LockedParts,
    Tower,
    check_something_learns,
    lock_towers,
)
from braindecode_clip.clip.lora import add_lora
from braindecode_clip.config.clip import ClipRecipe

logger = logging.getLogger(__name__)


def adapted(model: nn.Module, recipe: ClipRecipe, *, has_start: bool = False) -> LockedParts:
    """Lock what the recipe locks and add its low-rank changes.

    Parameters
    ----------
    model : Module
        An open_clip model with the weights it starts from; changed.
    recipe : ClipRecipe
    has_start : bool
        Whether a model directory gave the weights, and not the recipe.

    Returns
    -------
    LockedParts
        What stays in evaluation mode.

    Raises
    ------
    ConfigError
        The recipe does not fit the towers.
    """
    adapt = recipe.adapt
    if adapt is not None and not adapt.changes_nothing:
        for tower in TOWERS:
            if adapt.how(tower) != "train" and not (has_start or _is_pretrained(recipe, tower)):
                logger.warning(
                    "adapt keeps the %s tower's weights, and they are drawn at random. Give "
                    "--initial, or pretrained weights in the recipe's section 'model'.",
                    tower,
                )
        lock_towers(model, adapt)
        add_lora(model, adapt, seed=recipe.seed)
        check_something_learns(model)
        n_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        n_all = sum(p.numel() for p in model.parameters())
        logger.info("%.3f of %.3f million weights learn", n_trained / 1e6, n_all / 1e6)
    return LockedParts(model)


def _is_pretrained(recipe: ClipRecipe, tower: Tower) -> bool:
    """Tell whether the recipe itself gives a tower weights to start from."""
    model = recipe.model
    if model.pretrained or model.weights:
        return True
    if tower == "image":
        return bool(model.image_weights or (model.vision_cfg or {}).get("timm_model_pretrained"))
    text = model.text_cfg or {}
    return bool(text.get("hf_model_name")) and text.get("hf_model_pretrained", True)
