"""AdamW with decay on matrices only, and the schedule of its rate."""

from __future__ import annotations

import math

import torch

from braindecode_clip.config.clip import OptimiserConfig


def parameter_groups(
    *modules: torch.nn.Module, weight_decay: float
) -> list[dict[str, list[torch.nn.Parameter] | float]]:
    """Split the trained parameters into those with weight decay and those without.

    Gains, biases, ``logit_scale`` and ``logit_bias`` have at most one dimension; decay
    would pull them to 0 where they mean something else than "no connection". Positional
    embeddings are excluded too, where the model says so (``no_weight_decay``).

    Returns
    -------
    list of dict
        Two groups for ``torch.optim.AdamW``, in the order of the modules.
    """
    decayed, free = [], []
    for module in modules:
        exempt = set(module.no_weight_decay()) if hasattr(module, "no_weight_decay") else set()
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            is_free = parameter.ndim < 2 or name in exempt
            (free if is_free else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]


def make_optimiser(*modules: torch.nn.Module, config: OptimiserConfig) -> torch.optim.AdamW:
    """Return a fused AdamW over :func:`parameter_groups`."""
    return torch.optim.AdamW(
        parameter_groups(*modules, weight_decay=config.weight_decay),
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=True,
    )


def learning_rate(step: int, n_steps: int, config: OptimiserConfig) -> float:
    r"""Return the rate of a step: linear warm-up, then half a cosine.

    .. math:: \eta_t = \eta \left[f + \tfrac{1 - f}{2}
        \left(1 + \cos \pi \tfrac{t - w}{T - 1 - w}\right)\right], \quad t \ge w

    Parameters
    ----------
    step : int
        From 0 to ``n_steps - 1``.
    n_steps : int
        Length T of the run; the warm-up w is a share of it, so that it always fits.
    config : OptimiserConfig
        Peak rate, warm-up share and final share f.
    """
    warmup = math.floor(config.warmup_fraction * n_steps)
    if step < warmup:
        return config.lr * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, n_steps - 1 - warmup)
    left = (1 + math.cos(math.pi * min(1.0, done))) / 2
    return config.lr * (config.final_lr_fraction + (1 - config.final_lr_fraction) * left)
