"""The losses of a batch, each a mean over the rows that one process holds.

A process holds n of the N pairs of a batch and compares its own pictures and captions with all
N; row i of the (n, N) logits has its right answer in column ``first + i``. With one process
n = N and ``first`` = 0. The mean over processes is the loss of the whole batch.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def pair_logits(
    own: torch.Tensor,
    others: torch.Tensor,
    *,
    scale: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the scaled cosines (n, N) of own rows to all rows of the other modality.

    Parameters
    ----------
    own : Tensor (n, n_dims)
        Unit norm.
    others : Tensor (N, n_dims)
        Unit norm.
    scale : Tensor ()
        Factor on the cosines, already exponentiated.
    bias : Tensor (), optional
        Added to every one.
    """
    logits = scale * own @ others.T
    return logits if bias is None else logits + bias


def info_nce(
    per_image: torch.Tensor,
    per_text: torch.Tensor,
    *,
    first: int = 0,
    masked: torch.Tensor | None = None,
    targets: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""InfoNCE in both directions.

    With logits :math:`a_{ij}` of picture i and text j, and those of text i and picture j as
    :math:`b_{ij}`,

    .. math:: \ell = -\frac{1}{2n} \sum_i \left[
        \sum_j t_{ij} \log \frac{e^{a_{ij}}}{\sum_{k \in K(i)} e^{a_{ik}}} +
        \sum_j t_{ij} \log \frac{e^{b_{ij}}}{\sum_{k \in K(i)} e^{b_{ik}}} \right]

    K(i) are all columns that are not ``masked`` in row i. Without ``targets`` t is 1 at the
    right answer, and without ``masked`` too the loss is open_clip's ``ClipLoss`` (Radford et
    al. 2021, figure 3).

    Masking takes pairs out of each other's wrong answers. Spreading the target evenly over
    pairs of one caption would change nothing: their texts have the same vector, so row and
    column sums, and with them loss and gradient, stay what they are. Targets change the loss
    where captions are alike without being equal.

    Parameters
    ----------
    per_image, per_text : Tensor (n, N)
        Logits, see :func:`pair_logits`.
    first : int
        Column of row 0's right answer.
    masked : Tensor (n, N) bool, optional
        Answers that do not count; never the right one.
    targets : Tensor (n, N), optional
        Degree in 0 to 1 to which an answer is right; rows are divided by their sums.
    """
    if targets is not None:
        target = targets / targets.sum(dim=1, keepdim=True)
    else:
        target = torch.arange(first, first + len(per_image), device=per_image.device)
    if masked is not None:
        per_image = per_image.masked_fill(masked, -torch.inf)
        per_text = per_text.masked_fill(masked, -torch.inf)
    return (
        functional.cross_entropy(per_image, target) + functional.cross_entropy(per_text, target)
    ) / 2


def sigmoid_loss(
    per_image: torch.Tensor,
    *,
    first: int = 0,
    masked: torch.Tensor | None = None,
    targets: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""SigLIP: every combination of picture and text is right or wrong by itself.

    .. math:: \ell = -\frac{1}{n} \sum_i \sum_{j \in K(i)} \left[
        t_{ij} \log \sigma(a_{ij}) + (1 - t_{ij}) \log \sigma(-a_{ij}) \right]

    (Zhai et al. 2023, equation 1, where t is 0 or 1). Parameters as in :func:`info_nce`;
    rows of ``targets`` are not divided by anything.
    """
    if targets is None:
        right = torch.zeros_like(per_image)
        right.diagonal(first).fill_(1.0)
        loss = -functional.logsigmoid((2 * right - 1) * per_image)
    else:
        loss = -targets * functional.logsigmoid(per_image)
        loss = loss - (1 - targets) * functional.logsigmoid(-per_image)
    if masked is not None:
        loss = loss.masked_fill(masked, 0.0)
    return loss.sum() / len(per_image)


def distillation(
    student: tuple[torch.Tensor, torch.Tensor], teacher: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    r"""Cross-entropy of the student's choices under the teacher's, in both directions.

    .. math:: \ell = -\frac{1}{2n} \sum_i \sum_j \left[
        \operatorname{softmax}(a'_i)_j \log \operatorname{softmax}(a_i)_j +
        \operatorname{softmax}(b'_i)_j \log \operatorname{softmax}(b_i)_j \right]

    with logits a, b of the student and a', b' of the teacher: the interactive form of Yang
    et al. (2024, "CLIP-KD"), and open_clip's ``DistillClipLoss``.

    Parameters
    ----------
    student, teacher : pair of Tensor (n, N)
        Logits per image and per text, see :func:`pair_logits`.
    """
    terms = [
        functional.cross_entropy(ours, theirs.softmax(dim=1))
        for ours, theirs in zip(student, teacher, strict=True)
    ]
    return (terms[0] + terms[1]) / 2


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
        # A text of ignored ids alone, such as one that was cut before its first word, has no say.
        return -((scores * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)).mean()
