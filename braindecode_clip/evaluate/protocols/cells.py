"""Scores of every query under every label that it could have had."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from braindecode_clip.metrics import count_matrix

#: (n_better, n_tied) to a score, elementwise.
Hit = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Cells:
    """Counts of distractors, of which few differ, so that a score is looked up in a small table.

    Attributes
    ----------
    code : ndarray (n_samples, n_labels) int32
        Which pair of counts a sample has when its label is the column's.
    better, tied : ndarray (n_codes,) int64
        The counts of each code.
    n_distractors : int
    """

    code: np.ndarray
    better: np.ndarray
    tied: np.ndarray
    n_distractors: int

    @classmethod
    def of(cls, similarity: np.ndarray, *, n_labels: int | None = None) -> Cells:
        """Count in similarities (n_samples, n_gallery); labels are the first columns."""
        n_gallery = similarity.shape[1]
        better, tied = count_matrix(similarity, n_columns=n_labels)
        if not tied.any():
            counts = np.arange(n_gallery)
            return cls(better, counts, np.zeros_like(counts), n_gallery - 1)
        pairs = better.astype(np.int64) * n_gallery + tied
        found, code = np.unique(pairs, return_inverse=True)
        code = code.reshape(better.shape).astype(np.int32)
        return cls(code, *np.divmod(found, n_gallery), n_gallery - 1)

    def true_codes(self, labels: np.ndarray) -> np.ndarray:
        """Return the codes (..., n_samples) under labels (..., n_samples)."""
        n_samples, n_labels = self.code.shape
        return self.code.ravel()[np.arange(n_samples) * n_labels + labels]

    def scores(self, hit: Hit) -> np.ndarray:
        """Return the score of every code, (n_codes,) float64."""
        return np.asarray(hit(self.better, self.tied), dtype=np.float64)
