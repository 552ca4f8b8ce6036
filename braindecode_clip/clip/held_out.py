"""Held-out pairs in a trained model's space: ranks, figures, and the pairs worth looking at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import gammaln

from braindecode_clip.clip.recall import Recall, pooled_recall
from braindecode_clip.errors import DataError
from braindecode_clip.metrics import wilson

#: Queries that are ranked at a time.
_CHUNK = 512
_KS = (1, 5, 10)

#: What the figures mean; they travel with the numbers.
DEFINITIONS = {
    "image_to_text": "A picture is the query, and the distinct first captions of all held-out "
    "pictures are the candidates, ranked by cosine. A hit within the first k is the picture's own "
    "caption; pictures that share a caption share the hit.",
    "text_to_image": "A distinct first caption is the query, and all held-out pictures are the "
    "candidates. A hit within the first k is any picture that has the caption.",
    "pools": "One pair of each distinct caption, dealt into disjoint pools; the share of queries "
    "whose partner comes first in its pool. The curve of the run shows the same.",
    "ties": "Candidates of an equal cosine share their mean rank.",
}


@dataclass(frozen=True)
class HeldOut:
    """Vectors of held-out pairs, first captions only.

    Attributes
    ----------
    images, texts : ndarray (n, n_dims) float32
        Unit norm; row i of both is one pair.
    captions : tuple of str (n,)
    names : tuple of str (n,)
        Of the pictures.
    groups : tuple of str (n,), optional
        By which pairs are sorted for the eye; "" for a picture of none.
    """

    images: np.ndarray
    texts: np.ndarray
    captions: tuple[str, ...]
    names: tuple[str, ...]
    groups: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        n = len(self.captions)
        lengths = {len(self.images), len(self.texts), len(self.names), n}
        lengths |= {n if self.groups is None else len(self.groups)}
        if len(lengths) > 1:
            raise DataError(f"held-out pairs: parts have {sorted(lengths)} rows; all need {n}.")

    def __len__(self) -> int:
        return len(self.captions)

    @cached_property
    def _numbered(self) -> tuple[np.ndarray, np.ndarray]:
        _, first, number = np.unique(self.captions, return_index=True, return_inverse=True)
        return first, number

    @property
    def first_of_caption(self) -> np.ndarray:
        """Row of the first pair of each distinct caption (n_captions,) int64."""
        return self._numbered[0]

    @property
    def caption_of(self) -> np.ndarray:
        """Number of each pair's caption, 0 to n_captions - 1 (n,) int64."""
        return self._numbered[1]

    def text_ranks(self) -> np.ndarray:
        """Return the rank of each picture's caption among the distinct ones (n,) float64."""
        texts = self.texts[self.first_of_caption]
        ranks = np.empty(len(self))
        for start in range(0, len(self), _CHUNK):
            rows = slice(start, start + _CHUNK)
            similarity = self.images[rows] @ texts.T
            own = similarity[np.arange(len(similarity)), self.caption_of[rows]]
            ranks[rows] = _rank(similarity, own)
        return ranks

    def image_ranks(self) -> np.ndarray:
        """Return the rank of the best picture of each distinct caption (n_captions,) float64.

        A tie with a picture of another caption counts half; pictures of the caption itself
        push nothing back.
        """
        texts = self.texts[self.first_of_caption]
        ranks = np.empty(len(texts))
        for start in range(0, len(texts), _CHUNK):
            similarity = texts[start : start + _CHUNK] @ self.images.T
            number = np.arange(start, start + len(similarity))
            is_own = self.caption_of[None, :] == number[:, None]
            best = np.where(is_own, similarity, -np.inf).max(axis=1)
            others = np.where(is_own, -np.inf, similarity)
            above = (others > best[:, None]).sum(axis=1)
            equal = (others == best[:, None]).sum(axis=1)
            ranks[number] = 1 + above + equal / 2
        return ranks

    def figures(self, *, seed: int = 0) -> dict[str, Any]:
        """Return retrieval over all held-out pairs and in pools, each with n and chance.

        Returns
        -------
        dict
            ``image_to_text`` and ``text_to_image``: n, n_candidates, median_rank, and r1, r5
            and r10, each with value, chance and a 95 % interval (Wilson, over queries);
            ``pools`` with the same directions, r1 alone (interval: Student's t over pools, or
            Wilson of a single pool); ``definitions``.
        """
        n_captions = len(self.first_of_caption)
        sizes = np.bincount(self.caption_of, minlength=n_captions)
        to_text = [min(1.0, k / n_captions) for k in _KS]
        to_image = [float(_chance_of_any(sizes, len(self), k).mean()) for k in _KS]
        pooled = pooled_recall(
            self.images, self.texts, np.array(self.captions), rng=np.random.default_rng(seed)
        )
        return {
            "n_pictures": len(self),
            "n_captions": n_captions,
            "image_to_text": _figures(self.text_ranks(), to_text, n_captions),
            "text_to_image": _figures(self.image_ranks(), to_image, len(self)),
            "pools": {
                name: _of_pools(recall)
                for name, recall in zip(("image_to_text", "text_to_image"), pooled, strict=True)
            },
            "definitions": dict(DEFINITIONS),
        }

    def nearest_texts(self, row: int, k: int) -> list[tuple[int, float]]:
        """Return (number of the caption, cosine) of the k captions nearest to a picture."""
        return _nearest(self.texts[self.first_of_caption] @ self.images[row], k)

    def nearest_images(self, number: int, k: int) -> list[tuple[int, float]]:
        """Return (row of the picture, cosine) of the k pictures nearest to a caption."""
        return _nearest(self.images @ self.texts[self.first_of_caption[number]], k)

    def sample(self, n: int, *, seed: int = 0) -> np.ndarray:
        """Draw pairs of distinct captions, sorted by group and caption; rows (<= n,) int64."""
        rows = np.random.default_rng(seed).permutation(self.first_of_caption)[:n]
        groups = self.groups or ("",) * len(self)
        return np.array(sorted(rows, key=lambda row: (groups[row], self.captions[row])), dtype=int)


def _rank(similarity: np.ndarray, own: np.ndarray) -> np.ndarray:
    above = (similarity > own[:, None]).sum(axis=1)
    equal = (similarity == own[:, None]).sum(axis=1)
    return 0.5 + above + equal / 2


def _chance_of_any(sizes: np.ndarray, n: int, k: int) -> np.ndarray:
    """Return the chance that any of ``sizes`` right ones is among k drawn of n."""
    if k >= n:
        return np.ones(len(sizes))

    def log_choose(m: np.ndarray) -> np.ndarray:
        return gammaln(m + 1) - gammaln(k + 1) - gammaln(m - k + 1)

    # Fewer wrong ones than k leave no draw without a right one.
    wrong = n - sizes
    missed = np.exp(log_choose(np.maximum(wrong, k)) - log_choose(np.array(n)))
    return np.where(wrong < k, 1.0, 1.0 - missed)


def _figures(ranks: np.ndarray, chances: Sequence[float], n_candidates: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "n": len(ranks),
        "n_candidates": n_candidates,
        "median_rank": float(np.median(ranks)),
    }
    for k, chance in zip(_KS, chances, strict=True):
        share = float((ranks <= k).mean())
        low, high = wilson(share, len(ranks))
        found[f"r{k}"] = {"value": share, "chance": chance, "low": low, "high": high}
    return found


def _of_pools(recall: Recall) -> dict[str, Any]:
    found = asdict(recall)
    low, high, method = found["r1_low"], found["r1_high"], "Student's t over pools"
    if not (math.isfinite(low) and math.isfinite(high)):
        low, high = wilson(recall.r1, recall.n)
        method = "Wilson, over queries of the one pool"
    return {
        "n": recall.n,
        "n_pools": recall.n_pools,
        "n_candidates": recall.pool_size,
        "interval": method,
        "r1": {"value": recall.r1, "chance": 1 / recall.pool_size, "low": low, "high": high},
    }


def _nearest(similarity: np.ndarray, k: int) -> list[tuple[int, float]]:
    order = np.argsort(-similarity, kind="stable")[:k]
    return [(int(row), float(similarity[row])) for row in order]
