"""Correlation and R² of every embedding dimension, from weighted sums.

All resamples are matrix products of weights with the same few tables of sums, so that a
bootstrap of 1,000 samples and 768 dimensions takes seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from braindecode_clip.evaluate.fdr import Q_LEVEL, benjamini_hochberg
from braindecode_clip.evaluate.permutation import permuted_labels
from braindecode_clip.metrics import CONSTANT_SHARE
from braindecode_clip.threads import run_blocks

NAMES = ("correlation_mean", "correlation_median", "r2_mean", "r2_median")
#: Columns of the table of dimensions.
COLUMNS = ("dimension", "correlation", "r2", "null_mean", "p", "q")

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
    n_dims = vectors.shape[2]
    chosen = scored_index(vectors.shape)
    parts = []
    for token in np.unique(chosen // n_dims):
        own = chosen[chosen // n_dims == token] - token * n_dims
        parts.append(np.asarray(vectors[:, token : token + 1])[:, 0, own])
    return np.concatenate(parts, axis=1)


def scored_index(shape: tuple[int, ...]) -> np.ndarray:
    """Return which dimensions :func:`scored_dimensions` gives, counted from 0 over all tokens."""
    n_dims = int(np.prod(shape[1:]))
    n_scored = n_dims if len(shape) == 2 else min(n_dims, MOST_TOKEN_DIMS)
    return np.linspace(0, n_dims - 1, n_scored).astype(int)


@dataclass(frozen=True)
class DimensionNull:
    """What permuted labels give.

    Attributes
    ----------
    scores : ndarray (n_permutations, 4) float64
    mean : ndarray (n_dims,) float64
        Mean correlation of each dimension.
    p : ndarray (n_dims,) float64
        (1 + permutations whose correlation is at least the true one) / (1 + n_permutations),
        one-sided, for each dimension.
    """

    scores: np.ndarray
    mean: np.ndarray
    p: np.ndarray


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
    kept : ndarray (n_dims,) int64
        Positions of the dimensions scored among those given.
    n_constant : int
        Dimensions left out because the targets do not vary in them.
    """

    predicted: np.ndarray
    target_of: np.ndarray
    labels: np.ndarray
    baseline: np.ndarray
    kept: np.ndarray
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
            kept=np.flatnonzero(varies),
            n_constant=int((~varies).sum()),
        )

    @property
    def n_dims(self) -> int:
        """Number of dimensions scored."""
        return self.predicted.shape[1]

    def weighted(self, weights: np.ndarray) -> np.ndarray:
        """Return the scores (b, 4) with sample i counted ``weights[:, i]`` times."""
        return _summarised(*self.each(weights))

    def each(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return correlation and R² of each dimension, (b, n_dims) each, as :meth:`weighted`."""
        targets = self.target_of[self.labels]
        return self._from_sums(
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
    ) -> DimensionNull:
        """Score permuted labels; parameters as of ``permuted_labels``."""
        chunks = list(
            permuted_labels(
                self.labels,
                groups,
                unit=unit,
                n_permutations=n_permutations,
                rng=rng,
                chunk=64,
                strata=strata,
            )
        )
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = [None] * len(chunks)
        # The true labels by the same sums as the permuted ones: then equal ones come out equal.
        true = self._under(self.labels[None])[0][0]
        slack = 1e-9 * np.maximum(np.abs(true), 1e-300)

        def score(place: int) -> None:
            r, r2 = self._under(chunks[place])
            at_least = (r >= true - slack).sum(axis=0)
            found[place] = (_summarised(r, r2), r.sum(axis=0), at_least)

        run_blocks(score, range(len(chunks)))
        scores, sums, at_least = zip(*found, strict=True)
        return DimensionNull(
            scores=np.concatenate(scores),
            mean=np.sum(sums, axis=0) / n_permutations,
            p=(1 + np.sum(at_least, axis=0)) / (1 + n_permutations),
        )

    def _under(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return correlation and R² (b, n_dims) under labels (b, n_samples)."""
        counts = np.stack([np.bincount(row, minlength=len(self.target_of)) for row in labels])
        products = [np.einsum("ij,ij->j", self.predicted, self.target_of[row]) for row in labels]
        return self._from_sums(
            np.full((len(labels), 1), float(len(self.labels))),
            self.predicted.sum(axis=0),
            counts @ self.target_of,
            (self.predicted**2).sum(axis=0),
            counts @ self.target_of**2,
            np.stack(products),
        )

    def _from_sums(
        self,
        n: np.ndarray,
        sum_p: np.ndarray,
        sum_t: np.ndarray,
        sum_pp: np.ndarray,
        sum_tt: np.ndarray,
        sum_pt: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Turn sums over samples (b, n_dims) into correlations and R².

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
        return r, 1.0 - (sum_pp - 2 * sum_pt + sum_tt) / total


def _summarised(r: np.ndarray, r2: np.ndarray) -> np.ndarray:
    """Return the four scores (b, 4) of correlations and R² (b, n_dims)."""
    return np.stack(
        [r.mean(axis=1), np.median(r, axis=1), r2.mean(axis=1), np.median(r2, axis=1)], axis=1
    )


def dimension_table(
    scores: DimensionScores, null: DimensionNull | None, index: np.ndarray
) -> pd.DataFrame:
    """Return one row a dimension.

    Parameters
    ----------
    scores : DimensionScores
    null : DimensionNull or None
        None where labels cannot be permuted.
    index : int array
        Number, counted from 0, of each dimension that the scores were made of.

    Returns
    -------
    DataFrame
        dimension, correlation, r2, null_mean (correlation under permutation), p, and q
        (Benjamini-Hochberg over the rows); the last three are NaN without ``null``.
    """
    r, r2 = (part[0] for part in scores.each(np.ones((1, len(scores.labels)))))
    nothing = np.full(len(r), np.nan)
    return pd.DataFrame(
        {
            "dimension": index[scores.kept],
            "correlation": r,
            "r2": r2,
            "null_mean": nothing if null is None else null.mean,
            "p": nothing if null is None else null.p,
            "q": nothing if null is None else benjamini_hochberg(null.p),
        }
    )


def dimension_counts(table: pd.DataFrame, *, n_permutations: int) -> dict[str, float | int | None]:
    """Count the discoveries of :func:`dimension_table`.

    Returns
    -------
    dict
        n_dims, n_significant (q below ``q_level``; None without p), q_level, smallest_p (that
        ``n_permutations`` allow).
    """
    tested = bool(table["q"].notna().any())
    return {
        "n_dims": len(table),
        "n_significant": int((table["q"] < Q_LEVEL).sum()) if tested else None,
        "q_level": Q_LEVEL,
        "smallest_p": 1 / (1 + n_permutations) if tested else None,
    }
