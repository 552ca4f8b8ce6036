r"""Pairs of one batch that mean the same, and so are no wrong answers to each other.

Three ways to tell: equal captions, equal pictures, and vectors whose cosine is high. For the
last, a teacher's vectors are used where there is one, and else the captions' word counts: the
vectors of the model in training are all alike at the start, and would call everything the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional


@dataclass(frozen=True)
class Marks:
    """What tells pairs apart, one row per pair.

    Attributes
    ----------
    equal : tuple of Tensor (n,) int64
        Pairs with an equal number in any of them mean the same.
    captions : Tensor (n, n_dims), optional
        Unit vectors of the captions.
    pictures : Tensor (n, n_dims), optional
        Unit vectors of the pictures.
    """

    equal: tuple[torch.Tensor, ...]
    captions: torch.Tensor | None = None
    pictures: torch.Tensor | None = None

    def rows(self, part: slice) -> Marks:
        """Return the marks of some rows."""
        return Marks(
            tuple(numbers[part] for numbers in self.equal),
            None if self.captions is None else self.captions[part],
            None if self.pictures is None else self.pictures[part],
        )


def duplicates(
    own: Marks, everyone: Marks, *, first: int, similarity: float | None = None
) -> torch.Tensor:
    """Tell which pairs mean the same; a pair and itself do not count.

    Parameters
    ----------
    own, everyone : Marks
        Of the n pairs of this process, and of all N.
    first : int
        Position of the first own pair among all.
    similarity : float, optional
        Least cosine of captions, or of pictures, that makes two pairs mean the same.

    Returns
    -------
    Tensor (n, N) bool
    """
    found = [a[:, None] == b[None, :] for a, b in zip(own.equal, everyone.equal, strict=True)]
    if similarity is not None:
        vectors = ((own.captions, everyone.captions), (own.pictures, everyone.pictures))
        # A cosine of exactly 1 comes out as a little less in float32.
        limit = similarity - 1e-6
        found += [a @ b.T >= limit for a, b in vectors if a is not None]
    same = torch.stack(found).any(dim=0)
    same.diagonal(first).fill_(False)
    return same


def soft_targets(own: Marks, everyone: Marks, *, first: int, temperature: float) -> torch.Tensor:
    r"""Return to which degree every caption is right for every pair.

    .. math:: t_{ij} = e^{(c_{ij} - 1) / \tau}

    with the cosine c of the captions; 1 for a pair's own caption and for pairs that mean the
    same by their numbers. Divided by its row's sum this is a softmax of :math:`c / \tau`.

    Returns
    -------
    Tensor (n, N) float32, in 0 to 1
    """
    cosine = own.captions @ everyone.captions.T
    targets = ((cosine - 1) / temperature).exp().clamp(max=1.0)
    targets = targets.masked_fill(duplicates(own, everyone, first=first), 1.0)
    targets.diagonal(first).fill_(1.0)
    return targets


def word_counts(tokens: torch.Tensor, *, ignored: tuple[int, ...]) -> torch.Tensor:
    """Return unit vectors (n, n_words) of how often each word stands in a caption.

    Parameters
    ----------
    tokens : Tensor (n, context_length) int64
        Each row holds at least one word.
    ignored : tuple of int
        Ids that are no words (padding, end).
    """
    words, places = torch.unique(tokens, return_inverse=True)
    counts = torch.zeros(len(tokens), len(words), device=tokens.device)
    counts.scatter_add_(1, places, torch.ones_like(tokens, dtype=counts.dtype))
    skipped = torch.isin(words, torch.tensor(ignored, device=words.device))
    return functional.normalize(counts[:, ~skipped], dim=1)


def equal_pictures(images: np.ndarray) -> np.ndarray:
    """Number pictures so that equal ones, to the bit, and only they, have equal numbers."""
    digests = [hashlib.sha256(np.ascontiguousarray(picture)).hexdigest() for picture in images]
    _, numbers = np.unique(np.array(digests), return_inverse=True)
    return numbers.astype(np.int64)
