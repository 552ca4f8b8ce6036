r"""The scores of an ideal observer who knows what every candidate evokes.

In units of the noise, candidate j evokes the signal :math:`s_j \sim N(0, \Lambda)` and a row that
averages n trials is :math:`x = s_i + e,\; e \sim N(0, 1/n)`. Ranking by likelihood then gives the
best expected top-k and pairwise score of all rankings (candidates being equally likely), so no
decoder with outputs of this signal-to-noise ratio exceeds it but by luck.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from braindecode_clip.evaluate.ceiling_signal import eigenvalues
from braindecode_clip.metrics import expected_top_k

#: Candidates are drawn at least so many, whatever the gallery's size.
MIN_POOL = 3000
#: Pairs of query and candidate in one simulation.
MAX_PAIRS = 2**24


class Observer:
    """Draws signals and noise once, and scores them for any signal-to-noise ratio.

    Parameters
    ----------
    n_components : int
    n_others : int
        Distractors in the gallery.
    inverse_n : float
        Noise variance of a row in units of a single trial's: mean of 1 / repeats.
    n_queries : int
        Simulated; fewer for large galleries.
    rng : Generator
    """

    def __init__(
        self,
        n_components: int,
        n_others: int,
        *,
        inverse_n: float,
        n_queries: int,
        rng: np.random.Generator,
    ) -> None:
        self.n_others = n_others
        self.inverse_n = inverse_n
        n_pool = max(MIN_POOL, n_others)
        n_queries = max(50, min(n_queries, MAX_PAIRS // n_pool))
        shape = (n_queries + n_pool, n_components)
        self._signals = rng.standard_normal(shape, dtype=np.float32)
        self._noise = rng.standard_normal(shape, dtype=np.float32)
        self._ranks = rng.random(n_queries)
        self._n_queries = n_queries

    def scores(
        self,
        total: float,
        width: float,
        *,
        direction: str,
        top_k: tuple[int, ...],
        n_below: int = 0,
    ) -> Mapping[str, float]:
        """Return the scores for a sum and width of the eigenvalues.

        Parameters
        ----------
        total, width : float
            See :class:`~braindecode_clip.evaluate.ceiling_signal.Signal`.
        direction : {"brain_to_image", "image_to_brain"}
        top_k : tuple of int
        n_below : int
            More distractors, which the observer knows to be wrong.

        Returns
        -------
        dict
            Metric to score: top_k for each k, pairwise, mean_rank, median_rank,
            mean_reciprocal_rank, percentile_rank.
        """
        n_pool = len(self._signals) - self._n_queries
        if total <= 0:
            guess = np.round((np.arange(self._n_queries) + 0.5) / self._n_queries * n_pool)
            return self._summary(guess.astype(np.int64), n_pool, top_k, n_below)
        spectrum = eigenvalues(total, width, self._signals.shape[1]).astype(np.float32)
        return self._summary(self._better(spectrum, direction), n_pool, top_k, n_below)

    def _better(self, spectrum: np.ndarray, direction: str) -> np.ndarray:
        """Count the drawn candidates that beat the true one, for every query."""
        signals = self._signals * np.sqrt(spectrum)
        rows = signals + self._noise * np.float32(np.sqrt(self.inverse_n))
        n = self._n_queries
        if direction == "brain_to_image":
            offset = (signals**2).sum(axis=1)
            queries, own, pool = rows[:n], signals[:n], signals[n:]
        else:
            # Which row is it? Likely under this signal, and unlikely under the others.
            g = np.float32(self.inverse_n)
            offset = (rows**2 * (1 - g / (spectrum + g))).sum(axis=1)
            queries, own, pool = signals[:n], rows[:n], rows[n:]
        # Squared distances less what is the same for all candidates of a query.
        threshold = offset[:n] - 2 * (queries * own).sum(axis=1)
        left = np.column_stack([queries, np.ones(n, np.float32)])
        right = np.column_stack([-2 * pool, offset[n:]])
        return np.count_nonzero(left @ right.T < threshold[:, None], axis=1)

    def _summary(
        self, better: np.ndarray, n_pool: int, top_k: tuple[int, ...], n_below: int
    ) -> dict[str, float]:
        d, share = self.n_others, better / n_pool
        found = {
            f"top_{k}": float(
                expected_top_k(better, np.zeros_like(better), n_pool, k=k, pool=d + 1).mean()
                if k <= d
                else 1.0
            )
            for k in top_k
            if k <= d + n_below
        }
        some = np.maximum(share, 1e-12)
        # Of a binomial number of better ones, E 1 / (1 + B) in closed form.
        reciprocal = -np.expm1((d + 1) * np.log1p(-np.minimum(some, 1 - 1e-12))) / ((d + 1) * some)
        drawn = np.floor(d * share + self._ranks)
        return {
            **found,
            "pairwise": float(1 - share.mean() * d / (d + n_below)),
            "mean_rank": float(1 + d * share.mean()),
            "median_rank": float(1 + np.median(drawn)),
            "mean_reciprocal_rank": float(reciprocal.mean()),
            "percentile_rank": float(1 - (0.5 + d * share.mean()) / (d + n_below + 1)),
        }
