"""The contrastive loss, with pairs of the same caption taken out of the negatives."""

from __future__ import annotations

import torch
from torch.nn import functional

from braindecode_clip.clip.torchvision_compat import import_open_clip

open_clip = import_open_clip()


class MaskedClipLoss(open_clip.ClipLoss):
    r"""InfoNCE over a batch, blind to pairs that share a caption.

    With unit vectors :math:`u_i` (images) and :math:`v_j` (texts), scale :math:`s` and
    caption groups :math:`g`,

    .. math:: \ell = -\frac{1}{2n} \sum_i \left[
        \log \frac{e^{s u_i v_i}}{\sum_{j \in N(i)} e^{s u_i v_j}} +
        \log \frac{e^{s u_i v_i}}{\sum_{j \in N(i)} e^{s u_j v_i}} \right],
        \quad N(i) = \{j : j = i \text{ or } g_j \ne g_i\}

    Without groups this is open_clip's ``ClipLoss`` (Radford et al. 2021, figure 3). Two
    pictures with the same caption are not each other's wrong answer; spreading the target
    over them instead would change nothing, for identical texts have identical vectors.
    """

    def forward(
        self,
        image_features: torch.Tensor,
        text_features: torch.Tensor,
        logit_scale: torch.Tensor,
        groups: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the mean loss of a batch.

        Parameters
        ----------
        image_features, text_features : Tensor (n, n_dims)
            Unit norm, row by row the two sides of a pair.
        logit_scale : Tensor ()
            Factor on the cosines, already exponentiated.
        groups : Tensor (n,) int64, optional
            Equal numbers mark equal captions.
        """
        per_image, per_text = self.get_logits(image_features, text_features, logit_scale)
        target = torch.arange(len(per_image), device=per_image.device)
        if groups is not None:
            same = (groups[:, None] == groups[None, :]).fill_diagonal_(False)
            per_image = per_image.masked_fill(same, -torch.inf)
            per_text = per_text.masked_fill(same, -torch.inf)
        return (
            functional.cross_entropy(per_image, target) + functional.cross_entropy(per_text, target)
        ) / 2


class WordLoss(torch.nn.Module):
    r"""Predict the words of a caption from its picture.

    With the picture's vector :math:`f_i` before normalisation, a linear layer
    :math:`(W, b)` and the distinct words :math:`T_i` of the caption,

    .. math:: \ell = -\frac{1}{n} \sum_i \frac{1}{|T_i|} \sum_{t \in T_i}
        \log \operatorname{softmax}(W f_i + b)_t

    (Joulin et al. 2016, "Learning visual features from large weakly supervised data",
    equation 1). In a batch of random pairs a picture is told from the others by colours and
    grounds alone, so the contrastive loss learns shapes late; this loss asks for every word
    from the first step.

    Parameters
    ----------
    n_dims : int
        Dimensions of the pictures' vectors.
    vocab_size : int
        Number of token ids.
    ignored : tuple of int
        Ids that are no words (padding, end).
    """

    def __init__(self, n_dims: int, vocab_size: int, *, ignored: tuple[int, ...]) -> None:
        super().__init__()
        self.head = torch.nn.Linear(n_dims, vocab_size)
        self.ignored = ignored

    def forward(self, image_features: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of a batch.

        Parameters
        ----------
        image_features : Tensor (n, n_dims)
            Before normalisation.
        tokens : Tensor (n, context_length) int64
            Each row holds at least one word.
        """
        scores = functional.log_softmax(self.head(image_features), dim=1)
        present = torch.zeros_like(scores).scatter_(1, tokens, 1.0)
        present[:, list(self.ignored)] = 0.0
        return -((scores * present).sum(dim=1) / present.sum(dim=1)).mean()
