"""Contrastive losses between predictions and targets, and the mixing of inputs for BiMixCo.

All take logits (cosine similarity over temperature), rows for predictions and columns for
targets; row i belongs to column i.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional


def unit_vectors(x: torch.Tensor, *, n_tokens: int = 1, pooled: bool = False) -> torch.Tensor:
    """Return the vectors that are compared, of unit norm; (n, n_dims) or (n, n_tokens·n_dims).

    Parameters
    ----------
    x : Tensor (n, n_tokens · n_dims)
        The tokens of a row one after another.
    n_tokens : int
    pooled : bool
        Compare the mean over the tokens instead of all tokens in a row.
    """
    if pooled and n_tokens > 1:
        x = x.reshape(len(x), n_tokens, -1).mean(dim=1)
    return functional.normalize(x, dim=1)


def repeated(stimuli: torch.Tensor) -> torch.Tensor | None:
    """Mark pairs of different rows that show one stimulus; (n, n) bool, None without any."""
    same = stimuli[:, None] == stimuli[None, :]
    same.fill_diagonal_(False)
    return same if bool(same.any()) else None


def info_nce(logits: torch.Tensor, *, not_negative: torch.Tensor | None = None) -> torch.Tensor:
    """Symmetric InfoNCE (Radford et al., ICML 2021, fig. 3).

    Parameters
    ----------
    logits : Tensor (n, n)
    not_negative : Tensor (n, n) bool, optional
        Pairs that count neither as right nor as wrong: other repeats of the same stimulus.
    """
    if not_negative is not None:
        logits = logits.masked_fill(not_negative, -math.inf)
    right = torch.arange(len(logits), device=logits.device)
    by_row = functional.cross_entropy(logits, right)
    return (by_row + functional.cross_entropy(logits.T, right)) / 2


def soft_clip(logits: torch.Tensor, target_logits: torch.Tensor) -> torch.Tensor:
    """SoftCLIP (Scotti et al., NeurIPS 2023, eq. 2), less its smallest possible value.

    The right answers of a row are the softmax of the targets' similarities to one another, so
    that a repeated stimulus is no false negative.
    """
    wanted = functional.log_softmax(target_logits, dim=1)
    got = functional.log_softmax(logits, dim=1) + functional.log_softmax(logits.T, dim=1)
    return (wanted.exp() * (wanted - got / 2)).sum(dim=1).mean()


@dataclass(frozen=True)
class Mixture:
    """Which rows of a batch were mixed, and how.

    Attributes
    ----------
    partner : Tensor (n,) int64
        Row that was mixed into each; itself where none was.
    share : Tensor (n,) float32
        Share of the row's own values.
    """

    partner: torch.Tensor
    share: torch.Tensor

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """Mix the rows of (n, n_voxels)."""
        own = self.share[:, None].to(x.dtype)
        return own * x + (1 - own) * x[self.partner]


def draw_mixture(n_rows: int, *, beta: float, device: torch.device | str = "cpu") -> Mixture:
    """Draw a mixture from torch's global stream: half of the rows, shares of Beta(beta, beta).

    MixCo (Kim et al., 2020, arXiv:2010.06300) as in Scotti et al. (2023), section 3.2.
    """
    partner = torch.randperm(n_rows)
    share = torch.distributions.Beta(beta, beta).sample((n_rows,))
    mixed = torch.rand(n_rows) <= 0.5
    partner = torch.where(mixed, partner, torch.arange(n_rows))
    share = torch.where(mixed, share, torch.ones(n_rows))
    return Mixture(partner.to(device), share.to(device))


def bi_mixco(
    logits: torch.Tensor, mixture: Mixture, *, not_negative: torch.Tensor | None = None
) -> torch.Tensor:
    """Bidirectional MixCo: a mixed row belongs to both of its stimuli, by their shares.

    Scotti et al. (2023), eq. 1.
    """
    share = mixture.share.to(logits.dtype)
    wanted = torch.diag(share)
    wanted = wanted.index_put(
        (torch.arange(len(logits), device=logits.device), mixture.partner),
        1 - share,
        accumulate=True,
    )
    if not_negative is not None:
        logits = logits.masked_fill(not_negative & (wanted == 0) & (wanted.T == 0), -1e4)
    by_row = -(functional.log_softmax(logits, dim=1) * wanted).sum(dim=1).mean()
    by_column = -(functional.log_softmax(logits.T, dim=1) * wanted.T).sum(dim=1).mean()
    return (by_row + by_column) / 2
