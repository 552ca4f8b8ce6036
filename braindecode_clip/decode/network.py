"""The residual network from voxels to an embedding, and its losses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from braindecode_clip.decode.linear import Dropout, Linear
from braindecode_clip.decode.losses import Mixture, bi_mixco, repeated, soft_clip, unit_vectors


class ResidualBlock(nn.Module):
    """``x + W₂ gelu(W₁ norm(x))``, which starts as the identity."""

    def __init__(self, width: int, *, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.rise = Linear(width, width)
        self.fall = Linear(width, width)
        self.dropout = Dropout(dropout)
        nn.init.zeros_(self.fall.weight)
        nn.init.zeros_(self.fall.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, width) to (n, width)."""
        return x + self.dropout(self.fall(functional.gelu(self.rise(self.norm(x)))))


class ResidualMLP(nn.Module):
    """Linear projection, residual blocks, LayerNorm, linear head.

    Parameters
    ----------
    n_voxels, n_targets, hidden, n_blocks : int
    dropout : float
        In the blocks and after the projection.
    input_dropout : float
        Share of voxels set to 0 (their mean).
    """

    def __init__(
        self,
        n_voxels: int,
        n_targets: int,
        *,
        hidden: int,
        n_blocks: int,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.input_dropout = Dropout(input_dropout)
        self.project = Linear(n_voxels, hidden)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(ResidualBlock(hidden, dropout=dropout) for _ in range(n_blocks))
        self.norm = nn.LayerNorm(hidden)
        self.head = Linear(hidden, n_targets)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, n_voxels) to (n, n_targets)."""
        x = self.dropout(self.project(self.input_dropout(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def loss_of(
    predicted: torch.Tensor,
    target: torch.Tensor,
    *,
    weights: Mapping[str, float],
    tau: float,
    mixture: Mixture | None = None,
    stimuli: torch.Tensor | None = None,
    n_tokens: int = 1,
    pooled: bool = False,
) -> torch.Tensor:
    """Mix the losses ``contrastive``, ``cosine`` and ``mse`` by their weights.

    ``contrastive`` is the symmetric cross-entropy between the softmax of the similarities of
    predictions and targets and that of targets and targets, both over the batch at
    temperature ``tau``, less its smallest possible value (SoftCLIP; Scotti et al., NeurIPS
    2023, eq. 2). A repeated stimulus in a batch is thus no false negative. ``cosine`` is one
    minus the cosine similarity, the mean over tokens, ``mse`` the squared error over the
    variance of the batch's targets. Where inputs were mixed, ``contrastive`` is BiMixCo
    (ibid., eq. 1), and the other two take the mixed targets.

    Parameters
    ----------
    predicted, target : Tensor (n, n_targets)
        Centred on the training mean.
    weights : mapping
        Name to weight; absent names count 0.
    tau : float
    mixture : Mixture, optional
        How the inputs were mixed.
    stimuli : Tensor (n,) int, optional
        With a mixture: repeats of one stimulus are no negatives of each other.
    n_tokens : int
    pooled : bool
        Contrast the mean over tokens instead of the tokens in a row.
    """
    shown = target if mixture is None else mixture.apply(target)
    total = predicted.new_zeros(())
    if weights.get("mse"):
        variance = shown.square().mean().clamp_min(1e-12)
        total = total + weights["mse"] * functional.mse_loss(predicted, shown) / variance
    if weights.get("cosine"):
        one, two = (part.reshape(len(part) * n_tokens, -1) for part in (predicted, shown))
        total = total + weights["cosine"] * (1 - functional.cosine_similarity(one, two).mean())
    if weights.get("contrastive"):
        one, two = (unit_vectors(x, n_tokens=n_tokens, pooled=pooled) for x in (predicted, target))
        logits = one @ two.T / tau
        if mixture is None:
            contrast = soft_clip(logits, two @ two.T / tau)
        else:
            same = None if stimuli is None else repeated(stimuli)
            contrast = bi_mixco(logits, mixture, not_negative=same)
        total = total + weights["contrastive"] * contrast
    return total


def network_arrays(network: ResidualMLP) -> dict[str, np.ndarray]:
    """Return the parameters as named float32 arrays, copied."""
    return {
        name: value.detach().cpu().numpy().copy() for name, value in network.state_dict().items()
    }


def run_network(arrays: Mapping[str, np.ndarray], X: np.ndarray) -> np.ndarray:
    """Apply a network given by its arrays, in float64 on the CPU; (n, n_targets).

    Float64 makes the answer for one row the same, whatever rows come with it.
    """
    hidden, n_voxels = arrays["project.weight"].shape
    n_blocks = sum(name.endswith(".rise.bias") for name in arrays)
    # Without memory of its own, so that no initial weights are drawn from the global stream.
    with torch.device("meta"):
        network = ResidualMLP(n_voxels, len(arrays["head.bias"]), hidden=hidden, n_blocks=n_blocks)
    network.load_state_dict(
        {name: torch.tensor(value, dtype=torch.float64) for name, value in arrays.items()},
        assign=True,
    )
    network.eval()
    with torch.inference_mode():
        return network(torch.tensor(X, dtype=torch.float64)).numpy()
