"""The scores of identification: value, chance, range and definition of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from braindecode_clip import metrics
from braindecode_clip.resampling.bootstrap import wilson_of_mean, wilson_of_median


@dataclass(frozen=True)
class Score:
    """One score of ranks.

    Attributes
    ----------
    name : str
        As in the table, e.g. "top_1".
    per_query : callable
        (rank, n_distractors) to a number for each query, elementwise on arrays of any shape.
    summary : callable
        Mean or median over the last axis.
    chance : callable
        n_distractors (n_queries,) to the score's expectation for a guess.
    limits : callable
        n_distractors (n_queries,) to the lowest and the highest possible score.
    sign : int
        1 when more is better, -1 when less is better.
    definition : str
        One sentence.
    """

    name: str
    per_query: Callable[[np.ndarray, np.ndarray], np.ndarray]
    summary: Callable[..., np.ndarray]
    chance: Callable[[np.ndarray], float]
    limits: Callable[[np.ndarray], tuple[float, float]]
    sign: int
    definition: str

    def value(self, rank: np.ndarray, n_distractors: np.ndarray) -> np.ndarray:
        """Return the score of ranks (..., n_queries)."""
        return self.summary(self.per_query(rank, n_distractors), axis=-1)

    def fallback(
        self, rank: np.ndarray, n_distractors: np.ndarray, *, n_clusters: int, confidence: float
    ) -> tuple[float, float]:
        """Return the interval to give when the bootstrap has no spread."""
        if not self.is_mean:
            return wilson_of_median(rank, n_clusters, confidence=confidence)
        value = float(self.value(rank, n_distractors))
        return wilson_of_mean(value, self.limits(n_distractors), n_clusters, confidence=confidence)

    @property
    def is_mean(self) -> bool:
        """Tell whether the score is a mean over queries."""
        return self.summary is np.mean


def identification_scores(ks: tuple[int, ...], n_distractors: np.ndarray) -> list[Score]:
    """Return the scores that a gallery allows: top-k only below its smallest size."""
    smallest = int(np.min(n_distractors)) + 1
    return [*(_top(k) for k in ks if k < smallest), *_RANK_SCORES]


def _top(k: int) -> Score:
    return Score(
        name=f"top_{k}",
        per_query=lambda rank, _: rank <= k,
        summary=np.mean,
        chance=lambda d: metrics.chance_top_k(k, d + 1),
        limits=lambda d: (0.0, 1.0),
        sign=1,
        definition=f"Share of queries whose true candidate has rank {k} or better (rank 1 is the "
        "most similar candidate; ties have their mean rank).",
    )


def _itself(rank: np.ndarray, _: np.ndarray) -> np.ndarray:
    return rank


def _rank_limits(n_distractors: np.ndarray) -> tuple[float, float]:
    return 1.0, float(np.mean(n_distractors)) + 1.0


_RANK_SCORES = (
    Score(
        name="pairwise",
        per_query=lambda rank, d: 1.0 - (rank - 1.0) / d,
        summary=np.mean,
        chance=lambda d: 0.5,
        limits=lambda d: (0.0, 1.0),
        sign=1,
        definition="Share of distractors less similar to the query than the true candidate, the "
        "mean over queries; a tie counts one half (two-alternative forced choice).",
    ),
    Score(
        name="mean_rank",
        per_query=_itself,
        summary=np.mean,
        chance=lambda d: metrics.chance_rank(d + 1),
        limits=_rank_limits,
        sign=-1,
        definition="Mean rank of the true candidate; 1 is best, ties have their mean rank.",
    ),
    Score(
        name="median_rank",
        per_query=_itself,
        summary=np.median,
        chance=lambda d: metrics.chance_rank(d + 1),
        limits=_rank_limits,
        sign=-1,
        definition="Median rank of the true candidate; 1 is best, ties have their mean rank.",
    ),
    Score(
        name="mean_reciprocal_rank",
        per_query=lambda rank, _: 1.0 / rank,
        summary=np.mean,
        chance=lambda d: metrics.chance_reciprocal_rank(d + 1),
        limits=lambda d: (float(np.mean(1.0 / (d + 1.0))), 1.0),
        sign=1,
        definition="Mean of 1 / rank of the true candidate; 1 is best.",
    ),
    Score(
        name="percentile_rank",
        per_query=lambda rank, d: (d + 1.5 - rank) / (d + 1.0),
        summary=np.mean,
        chance=lambda d: 0.5,
        limits=lambda d: (float(np.mean(0.5 / (d + 1.0))), float(np.mean(1 - 0.5 / (d + 1.0)))),
        sign=1,
        definition="Percentile rank of the true candidate among all, as a share, the mean over "
        "queries: candidates below it, and of those level with it, itself among them, one half.",
    ),
)
