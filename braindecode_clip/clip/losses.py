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
