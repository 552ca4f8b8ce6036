r"""Low-rank adaptation: weights that stay as they are, and small changes that learn.

.. math:: W' = W + \frac{\alpha}{r} B A, \quad B \in R^{m \times r}, A \in R^{r \times n}

with :math:`B = 0` at the start, so that the first step sees the model as it was (Hu et al. 2022,
"LoRA: low-rank adaptation of large language models", section 4.1).

The change is made where a weight is read (torch's parametrizations) and not where a module is
called: ``nn.MultiheadAttention``, which open_clip's towers are made of, never calls its
``out_proj``, and an adapter around that module would learn nothing. Its ``in_proj_weight`` holds
queries, keys and values; each third has a change of its own.

A running mean of the weights (``training.ema_decay``) is of A and of B, not of their product.
Export puts the changed weights in the place of the old ones (:func:`merged_state`), so that what is
written is a plain model.
"""

from __future__ import annotations

import math
import re

import torch
from torch import nn
from torch.nn.utils import parametrize

from braindecode_clip.checks import Problems
from braindecode_clip.clip.locking import TOWERS, Tower, tower_groups
from braindecode_clip.config.clip_adapt import AdaptConfig, LoraConfig
from braindecode_clip.errors import ConfigError
from braindecode_clip.seeds import derive_seed

#: Endings of the names of weights, in the towers of open_clip, timm and Hugging Face, and how
#: many matrices stand one above the other in the weight.
_KINDS: dict[str, tuple[tuple[str, int], ...]] = {
    "attention_in": (
        (r"\.(in_proj_weight|qkv\.weight)", 3),
        (r"\.(self|attn|attention|SelfAttention)\.(query|key|value|[qkv](_lin|_proj)?)\.weight", 1),
        (r"\battnpool\.[qkv]_proj\.weight", 1),
        (r"\.[qkv]_proj_weight", 1),
    ),
    "attention_out": (
        (r"\.(attn|attention)\.(out_proj|proj|o|out_lin|output\.dense)\.weight", 1),
        (r"\.SelfAttention\.o\.weight", 1),
        (r"\battnpool\.c_proj\.weight", 1),
    ),
    "mlp": (
        (r"\.mlp\.(c_fc|c_proj|fc1|fc2)\.weight", 1),
        (r"\.(intermediate|(?<!attention\.)output)\.dense\.weight", 1),
        (r"\.(ffn\.lin[12]|DenseReluDense\.w[io](_[01])?)\.weight", 1),
    ),
}


class LowRank(nn.Module):
    """The change of one weight.

    Parameters
    ----------
    weight : Tensor (n_parts * m, n)
        Only its shape, type and device are looked at.
    rank, n_parts : int
        Each of the ``n_parts`` matrices has a change of this rank.
    scale : float
        alpha / rank.
    generator : torch.Generator
        Draws A from a normal distribution of variance 1 / n.

    Attributes
    ----------
    lora_a : Parameter (n_parts, rank, n)
    lora_b : Parameter (n_parts, m, rank)
        0 at the start.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        *,
        rank: int,
        n_parts: int,
        scale: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        n_out, n_in = weight.shape
        drawn = torch.randn(n_parts, rank, n_in, generator=generator) / math.sqrt(n_in)
        self.lora_a = nn.Parameter(drawn.to(weight))
        self.lora_b = nn.Parameter(weight.new_zeros(n_parts, n_out // n_parts, rank))
        self.scale = scale

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the changed weight."""
        change = torch.matmul(self.lora_b, self.lora_a).reshape(weight.shape)
        return weight + self.scale * change


def add_lora(model: nn.Module, adapt: AdaptConfig, *, seed: int) -> None:
    """Put low-rank changes on the towers that the recipe names, and lock the rest of them.

    Projections that open_clip puts on towers of timm and Hugging Face always learn.

    Parameters
    ----------
    model : Module
        An open_clip model; changed.
    adapt : AdaptConfig
    seed : int
        Draws A; the same changes come out for the same seed, tower and layers.

    Raises
    ------
    ConfigError
        A tower has none of the layers, or the rank is no smaller than a matrix.
    """
    lora = adapt.lora
    if lora is None:
        return
    problems = Problems("recipe")
    for tower in TOWERS:
        if adapt.how(tower) == "lora":
            _change_tower(model, tower, lora, seed, problems)
    problems.raise_if_any(ConfigError)


def merged_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state of a plain model, with the low-rank changes put into the weights."""
    state = dict(model.state_dict())
    for owner, module in model.named_modules():
        if not parametrize.is_parametrized(module):
            continue
        # torch's own removal would take the changes from copies of the model too, such as the
        # running mean: they share the class that it changes.
        for key, parts in module.parametrizations.items():
            for name in parts.state_dict():
                del state[f"{owner}.parametrizations.{key}.{name}"]
            state[f"{owner}.{key}"] = getattr(module, key).detach()
    return state


def _change_tower(
    model: nn.Module, tower: Tower, lora: LoraConfig, seed: int, problems: Problems
) -> None:
    groups = tower_groups(model, tower)
    norms = _norm_parameters(model) if lora.norms else set()
    names = [name for group in groups.trunk for name in group]
    learns = set(groups.projection) if lora.projections or groups.is_added else set()
    found = {
        name: n
        for name in names + groups.projection
        if model.get_parameter(name).ndim == 2 and (n := _parts(name, lora))
    }
    if not found:
        problems.add(
            f"adapt.lora: the {tower} tower has none of the layers {', '.join(lora.layers)}. "
            f"Take '{tower}' out of adapt.lora.towers, or add layers."
        )
        return
    for name in names + groups.projection:
        parameter = model.get_parameter(name)
        parameter.requires_grad_(parameter.requires_grad and name in learns | norms)
    generator = torch.Generator().manual_seed(derive_seed(seed, "lora", tower))
    for name, n_parts in found.items():
        weight = model.get_parameter(name)
        smallest = min(weight.shape[0] // n_parts, weight.shape[1])
        if lora.rank >= smallest:
            problems.add(
                f"adapt.lora.rank is {lora.rank}, and '{name}' is made of matrices of rank "
                f"{smallest} at most, so a change of it would be no smaller. Lower the rank."
            )
            return
        owner, _, key = name.rpartition(".")
        change = LowRank(
            weight,
            rank=lora.rank,
            n_parts=n_parts,
            scale=lora.alpha / lora.rank,
            generator=generator,
        )
        parametrize.register_parametrization(model.get_submodule(owner), key, change)


def _parts(name: str, lora: LoraConfig) -> int:
    """Return how many matrices a weight holds; 0 for one that does not change."""
    for layer in lora.layers:
        for pattern, n_parts in _KINDS[layer]:
            if re.search(pattern + "$", name):
                return n_parts
    return 0


def _norm_parameters(model: nn.Module) -> set[str]:
    kinds = (nn.LayerNorm, nn.GroupNorm)
    return {
        f"{owner}.{name}"
        for owner, module in model.named_modules()
        if isinstance(module, kinds)
        for name, _ in module.named_parameters(recurse=False)
    }
