"""Correlation and R² of every embedding dimension, from weighted sums.

All resamples are matrix products of weights with the same few tables of sums, so that a
bootstrap of 1,000 samples and 768 dimensions takes seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from braindecode_clip.evaluate.permutation import permuted_labels
from braindecode_clip.metrics import CONSTANT_SHARE

NAMES = ("correlation_mean", "correlation_median", "r2_mean", "r2_median")

#: Dimensions of all tokens that are scored one by one: the median of a bootstrap sample needs
#: all of them at a time.
MOST_TOKEN_DIMS = 4096


def scored_dimensions(vectors: np.ndarray) -> np.ndarray:
    """Return the dimensions that are scored: all of a vector, some of many tokens.

    Parameters
    ----------
    vectors : array-like (n, n_dims), or (n, n_tokens, n_dims), which may lie in a file

    Returns
    -------
    ndarray (n, n_scored)
        Of tokens, all laid end to end, at most :data:`MOST_TOKEN_DIMS` at equal steps.
    """
    if len(vectors.shape) == 2:
        return vectors
    _, n_tokens, n_dims = vectors.shape
    n_scored = min(n_tokens * n_dims, MOST_TOKEN_DIMS)
    chosen = np.linspace(0, n_tokens * n_dims - 1, n_scored).astype(int)
    parts = []
    for token in np.unique(chosen // n_dims):
        own = chosen[chosen // n_dims == token] - token * n_dims
        parts.append(np.asarray(vectors[:, token : token + 1])[:, 0, own])
    return np.concatenate(parts, axis=1)


@dataclass(frozen=True)
class DimensionScores:
    """Predictions and targets, shifted so that the targets' mean is zero.

    Attributes
    ----------
    predicted : ndarray (n_samples, n_dims) float64
    target_of : ndarray (n_stimuli, n_dims) float64
        Target of each stimulus.
    labels : ndarray (n_samples,) int64
        Stimulus of each sample.
    baseline : ndarray (n_dims,) float64
        The constant that R² compares with, the same in every resample: a mean taken anew from
        each resample would shrink its spread by (n - 1) / n in all dimensions at once.
    n_constant : int
        Dimensions left out because the targets do not vary in them.
    """

    predicted: np.ndarray
    target_of: np.ndarray
    labels: np.ndarray
    baseline: np.ndarray
    n_constant: int

    @classmethod
    def of(
        cls,
        predicted: np.ndarray,
        target_of: np.ndarray,
        labels: np.ndarray,
        *,
        baseline: np.ndarray | None = None,
    ) -> DimensionScores:
        """Shift, and keep the dimensions in which the targets vary.

        ``baseline`` (n_dims,) is the mean of the samples' targets by default.
        """
        predicted = np.asarray(predicted, dtype=np.float64)
        target_of = np.asarray(target_of, dtype=np.float64)
        targets = target_of[labels]
        varies = targets.var(axis=0) > CONSTANT_SHARE * (targets**2).mean(axis=0)
        # Correlation and R² stay as they are when both sides move; the sums lose fewer digits.
        shift = targets.mean(axis=0)[varies]
        return cls(
            predicted=predicted[:, varies] - shift,
            target_of=target_of[:, varies] - shift,
            labels=labels,
            baseline=np.zeros_like(shift) if baseline is None else baseline[varies] - shift,
            n_constant=int((~varies).sum()),
        )

    @property
    def n_dims(self) -> int:
        """Number of dimensions scored."""
        return self.predicted.shape[1]

    def weighted(self, weights: np.ndarray) -> np.ndarray:
        """Return the scores (b, 4) with sample i counted ``weights[:, i]`` times."""
        targets = self.target_of[self.labels]
        return self._scores(
            weights.sum(axis=1, keepdims=True),
            weights @ self.predicted,
            weights @ targets,
            weights @ self.predicted**2,
            weights @ targets**2,
            weights @ (self.predicted * targets),
        )

    def permuted(
        self,
        groups: np.ndarray,
        *,
        unit: str,
        n_permutations: int,
        rng: np.random.Generator,
        strata: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the scores (n_permutations, 4) under permuted labels."""
        n_samples = len(self.labels)
        chunks = permuted_labels(
            self.labels,
            groups,
            unit=unit,
            n_permutations=n_permutations,
            rng=rng,
            chunk=64,
            strata=strata,
        )
        found = []
        for labels in chunks:
            counts = np.stack([np.bincount(row, minlength=len(self.target_of)) for row in labels])
            products = [
                np.einsum("ij,ij->j", self.predicted, self.target_of[row]) for row in labels
            ]
            found.append(
                self._scores(
                    np.full((len(labels), 1), float(n_samples)),
                    self.predicted.sum(axis=0),
                    counts @ self.target_of,
                    (self.predicted**2).sum(axis=0),
                    counts @ self.target_of**2,
                    np.stack(products),
                )
            )
        return np.concatenate(found)

    def _scores(
        self,
        n: np.ndarray,
        sum_p: np.ndarray,
        sum_t: np.ndarray,
        sum_pp: np.ndarray,
        sum_tt: np.ndarray,
        sum_pt: np.ndarray,
    ) -> np.ndarray:
        """Turn sums over samples (b, n_dims) into the four scores (b, 4).

        NaN where the targets drawn are all alike.
        """
        spread_p = sum_pp - sum_p**2 / n
        spread_t = sum_tt - sum_t**2 / n
        flat_p = spread_p <= CONSTANT_SHARE * sum_pp
        flat_t = spread_t <= CONSTANT_SHARE * sum_tt
        spread_t = np.where(flat_t, np.nan, spread_t)
        product = np.where(flat_p, 0.0, sum_pt - sum_p * sum_t / n)
        r = np.clip(product / np.sqrt(np.where(flat_p, 1.0, spread_p) * spread_t), -1.0, 1.0)
        total = sum_tt - 2 * sum_t * self.baseline + n * self.baseline**2
        total = np.where(flat_t, np.nan, total)
        r2 = 1.0 - (sum_pp - 2 * sum_pt + sum_tt) / total
        return np.stack(
            [r.mean(axis=1), np.median(r, axis=1), r2.mean(axis=1), np.median(r2, axis=1)], axis=1
        )
