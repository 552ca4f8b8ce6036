"""The recipe's section ``adapt`` on a model: locks, low-rank changes, what fits together."""

from __future__ import annotations

import logging

from torch import nn

from braindecode_clip.clip.locking import LockedParts, check_something_learns, lock_towers
from braindecode_clip.clip.lora import add_lora
from braindecode_clip.config.clip import ClipRecipe

logger = logging.getLogger(__name__)


def adapted(model: nn.Module, recipe: ClipRecipe) -> LockedParts:
    """Lock what the recipe locks and add its low-rank changes.

    Parameters
    ----------
    model : Module
        An open_clip model with the weights it starts from; changed.
    recipe : ClipRecipe

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
        lock_towers(model, adapt)
        add_lora(model, adapt, seed=recipe.seed)
        check_something_learns(model)
        n_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        n_all = sum(p.numel() for p in model.parameters())
        logger.info("%.3f of %.3f million weights learn", n_trained / 1e6, n_all / 1e6)
    return LockedParts(model)
