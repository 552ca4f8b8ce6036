"""Where the first of several right candidates stands, ties and chance by expectation.

A query has :math:`M` right candidates among :math:`n`. :math:`b` wrong ones are more similar than
the best right one; level with it are :math:`t` wrong ones and :math:`m` right ones, itself among
them. The level ones come in any order, all alike, so the rank is :math:`b + X` with

.. math:: P(X > x) = \\prod_{j=0}^{x-1} \\frac{t - j}{t + m - j}, \\qquad
    E[X] = \\frac{t + m + 1}{m + 1}

the first place of m among t + m (a negative hypergeometric variable). Every score is its
expectation over those orders, so that a model whose similarities are all equal scores what a
random order does, exactly; the latter is the case b = 0, t = n - M, m = M.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class FirstRanks:
    """What decides the rank of the first right candidate of each query.

    Attributes
    ----------
    n_better, n_tied : ndarray (n,) int64
        Wrong candidates above, and level with, the best right one.
    n_level : ndarray (n,) int64
        Right candidates level with the best right one, itself among them.
    n_right, n_candidates : ndarray (n,) int64
    clusters : ndarray (n,) int64
        Queries of one number are drawn together by a bootstrap.
    """

    n_better: np.ndarray
    n_tied: np.ndarray
    n_level: np.ndarray
    n_right: np.ndarray
    n_candidates: np.ndarray
    clusters: np.ndarray

    def __len__(self) -> int:
        return len(self.n_better)

    def hits(self, k: int) -> np.ndarray:
        """Return the chance (n,), mostly 0 or 1, that a right one is among the first ``k``."""
        return hit_probability(self.n_better, self.n_tied, self.n_level, k=k)

    def rank(self) -> np.ndarray:
        """Return the expected rank (n,) of the first right one, from 1."""
        return self.n_better + (self.n_tied + self.n_level + 1.0) / (self.n_level + 1.0)

    def reciprocal_rank(self) -> np.ndarray:
        """Return the expected 1 / rank (n,)."""
        return expected_reciprocal(self.n_better, self.n_tied, self.n_level)

    def chance_hits(self, k: int) -> np.ndarray:
        """Return :meth:`hits` of a random order of all candidates."""
        wrong = self.n_candidates - self.n_right
        return hit_probability(np.zeros_like(wrong), wrong, self.n_right, k=k)

    def chance_reciprocal_rank(self) -> np.ndarray:
        """Return :meth:`reciprocal_rank` of a random order of all candidates."""
        wrong = self.n_candidates - self.n_right
        return expected_reciprocal(np.zeros_like(wrong), wrong, self.n_right)

    def chance_median_rank(self) -> float:
        """Return the median over queries and random orders of all candidates."""
        wrong = self.n_candidates - self.n_right
        sizes, counts = np.unique(np.stack([wrong, self.n_right]), axis=1, return_counts=True)
        share = np.zeros(int(wrong.max()) + 1)
        for (t, m), count in zip(sizes.T.tolist(), counts.tolist(), strict=True):
            share[: t + 1] += count * _first_place(t, m)
        reached = np.cumsum(share) / len(self)
        # Half a query's share of slack: 0.5 reached but for rounding is reached.
        slack = 0.5 / len(self) * 1e-6
        return float((np.argmax(reached >= 0.5 - slack) + np.argmax(reached > 0.5 + slack)) / 2 + 1)


def joined(parts: list[FirstRanks]) -> FirstRanks:
    """Put the queries of several parts behind each other."""
    names = FirstRanks.__dataclass_fields__
    return FirstRanks(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def hit_probability(
    n_better: np.ndarray, n_tied: np.ndarray, n_level: np.ndarray, *, k: int
) -> np.ndarray:
    """Return P(b + X <= k) for each query, (n,) float64; see the module."""
    missed = np.ones(len(n_better))
    for j in range(k):
        # Steps beyond k - b do not count, and those beyond t have already made it zero.
        factor = np.maximum(n_tied - j, 0) / np.maximum(n_tied + n_level - j, 1)
        missed = np.where(j < k - n_better, missed * factor, missed)
    return np.where(n_better < k, 1.0 - missed, 0.0)


def expected_reciprocal(
    n_better: np.ndarray, n_tied: np.ndarray, n_level: np.ndarray
) -> np.ndarray:
    """Return E[1 / (b + X)] for each query, (n,) float64; see the module."""
    triples, which = np.unique(np.stack([n_better, n_tied, n_level]), axis=1, return_inverse=True)
    found = np.empty(triples.shape[1])
    for column, (b, t, m) in enumerate(triples.T.tolist()):
        found[column] = _first_place(t, m) @ (1.0 / (b + np.arange(1, t + 2)))
    return found[which.reshape(-1)]


def _first_place(t: int, m: int) -> np.ndarray:
    """Return P(X = x) for x = 1 to t + 1, (t + 1,) float64."""
    places = np.arange(t, dtype=np.float64)
    beyond = np.r_[1.0, np.cumprod((t - places) / (t + m - places)), 0.0]
    return beyond[:-1] - beyond[1:]
