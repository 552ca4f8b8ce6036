"""Batch normalisation that keeps its statistics, beside towers that are in training."""

from __future__ import annotations

import torch
from torch.nn.modules.batchnorm import _BatchNorm

# Set on a module, so that copies of a model keep it; no part of the weights.
_MARK = "keeps_statistics"


def freeze_batch_norm(module: torch.nn.Module) -> None:
    """Keep mean and variance of all batch normalisation in a module as they are.

    They stay so under :func:`train_mode`, which must be used in place of ``model.train()``.
    Gains and biases are left to the optimiser. Normalisation that tracks no statistics cannot
    be frozen and is left alone.
    """
    for part in module.modules():
        if isinstance(part, _BatchNorm) and part.running_mean is not None:
            setattr(part, _MARK, True)
            part.eval()


def train_mode(model: torch.nn.Module) -> None:
    """Put a model into training mode, its frozen batch normalisation into evaluation mode."""
    model.train()
    for part in model.modules():
        if getattr(part, _MARK, False):
            part.eval()


def normalises_over_batch(model: torch.nn.Module) -> bool:
    """Tell whether, in training, a picture's vector depends on the others of its batch."""
    return any(
        isinstance(part, _BatchNorm) and not getattr(part, _MARK, False) for part in model.modules()
    )
