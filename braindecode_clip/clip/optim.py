"""AdamW with decay on matrices only, rates by layer, and their schedule."""

from __future__ import annotations

import math
import re

import torch

from braindecode_clip.config.clip import OptimiserConfig
from braindecode_clip.errors import ConfigError

#: The layers of a tower, and what lies before them, in the names of its parameters.
# The outermost number counts: stages of convolutions are layers, and so are blocks of a
# transformer, also in the words of transformers ("encoder.layer.3.").
_LAYER = re.compile(r"(?:\bstages\.|blocks?\.|\blayers?\.?)(\d+)\.")
_STEM = re.compile(
    r"(?:conv\d|bn\d|class_embedding|cls_emb|positional_embedding|token_embedding|ln_pre"
    r"|patch_embed|cls_token|pos_embed|conv_stem|\bstem|\bembeddings\.)"
)


def parameter_groups(
    *modules: torch.nn.Module, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, list[torch.nn.Parameter] | float]]:
    """Split the trained parameters into those with weight decay and those without.

    Gains, biases, ``logit_scale`` and ``logit_bias`` have at most one dimension; decay
    would pull them to 0 where they mean something else than "no connection". Positional
    embeddings are excluded too, where the model says so (``no_weight_decay``).

    Parameters
    ----------
    *modules : Module
    weight_decay : float
    layer_decay : float
        See :func:`layer_scales`.

    Returns
    -------
    list of dict
        Groups for ``torch.optim.AdamW``, in the order of the modules: two, and with a layer
        decay two for each ``lr_scale``, the factor on the rate.

    Raises
    ------
    ConfigError
        A layer decay, and a tower whose layers are not known.
    """
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for module in modules:
        exempt = set(module.no_weight_decay()) if hasattr(module, "no_weight_decay") else set()
        scales = layer_scales(module, layer_decay) if layer_decay != 1 else {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            is_free = parameter.ndim < 2 or name in exempt
            key = (scales.get(name, 1.0), 0.0 if is_free else 1.0)
            groups.setdefault(key, []).append(parameter)
    scales_found = sorted({scale for scale, _ in groups}, reverse=True)
    return [
        {
            "params": groups.get((scale, decayed), []),
            "weight_decay": weight_decay * decayed,
            "lr_scale": scale,
        }
        for scale in scales_found
        for decayed in (1.0, 0.0)
    ]


def layer_scales(model: torch.nn.Module, decay: float) -> dict[str, float]:
    r"""Return the factor on the rate of every parameter of a CLIP model's towers.

    In a tower of L layers, what lies before layer 1 has :math:`d^{L + 1}`, layer k
    :math:`d^{L + 1 - k}`, and the projection 1 (Clark et al. 2020, "ELECTRA", section 3.2;
    Bao et al. 2022, "BEiT", appendix). ``logit_scale`` and ``logit_bias`` have 1.

    Raises
    ------
    ConfigError
        A tower's parameters do not tell its layers.
    """
    names = [name for name, _ in model.named_parameters()]
    is_visual = {name: name.startswith("visual.") for name in names}
    scales = dict.fromkeys(names, 1.0)
    for visual in (True, False):
        tower = [n for n in names if is_visual[n] == visual and not n.startswith("logit_")]
        layers = {n: int(m.group(1)) for n in tower if (m := _LAYER.search(n))}
        if tower and not layers and hasattr(model, "visual"):
            raise ConfigError(
                f"optimiser.layer_decay: the {'image' if visual else 'text'} tower "
                f"({type(model.visual if visual else model).__name__}) has no numbered layers. "
                "Set it to 1, or use a vision transformer or a ModifiedResNet."
            )
        ends_in_conv = any(".conv_head." in name for name in tower)
        order = {number: k + 1 for k, number in enumerate(sorted(set(layers.values())))}
        for name in tower:
            if name in layers:
                depth = order[layers[name]]
            elif layers:
                is_stem = _STEM.search(name) and "attnpool" not in name
                # An efficientnet's second norm stands behind its last convolution.
                is_stem = is_stem and not (ends_in_conv and ".bn2." in name)
                depth = 0 if is_stem else len(order) + 1
            else:
                depth = 1
            scales[name] = decay ** (len(order) + 1 - depth)
    return scales


def make_optimiser(*modules: torch.nn.Module, config: OptimiserConfig) -> torch.optim.AdamW:
    """Return a fused AdamW over :func:`parameter_groups`."""
    return torch.optim.AdamW(
        parameter_groups(
            *modules, weight_decay=config.weight_decay, layer_decay=config.layer_decay
        ),
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=True,
    )


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the rate times its own factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["lr_scale"]


def learning_rate(step: int, n_steps: int, config: OptimiserConfig) -> float:
    r"""Return the rate of a step: linear warm-up, then the schedule.

    .. math:: \eta_t = \eta \left[f + (1 - f) \, g_t\right], \quad t \ge w

    with the final share f and, for ``cosine``,
    :math:`g_t = (1 + \cos \pi \frac{t - w}{T - 1 - w}) / 2`; for ``constant``
    :math:`g_t = 1`; for ``cooldown`` :math:`g_t = \min(1, \frac{T - 1 - t}{c})`, a straight
    line in the last c steps.

    Parameters
    ----------
    step : int
        From 0 to ``n_steps - 1``.
    n_steps : int
        Length T of the run; the warm-up w and c are shares of it, so that they always fit.
    config : OptimiserConfig
        Peak rate, schedule and shares.
    """
    warmup = math.floor(config.warmup_fraction * n_steps)
    if step < warmup:
        return config.lr * (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "cooldown":
        length = max(1, math.floor(config.cooldown_fraction * n_steps))
        left = min(1.0, (n_steps - 1 - step) / length)
    else:
        done = (step - warmup) / max(1, n_steps - 1 - warmup)
        left = (1 + math.cos(math.pi * min(1.0, done))) / 2
    return config.lr * (config.final_lr_fraction + (1 - config.final_lr_fraction) * left)
