r"""What the same decoder would score without noise: infinitely many repeats of each stimulus.

Noise as measured between repeats is added to the predictions in several amounts, and what it does
to a score is extrapolated back to none at all (SIMEX: Cook & Stefanski, J. American Statistical
Association 89:1314, 1994). With :math:`1 + \lambda` times the noise, a distance d' or a
correlation r obeys, exactly in the Gaussian case,

.. math:: d'^{-2} = a + b (1 + \lambda), \qquad r^{-2} = a' + b' (1 + \lambda)

so a line through the inverse squares gives the score at :math:`\lambda = -1`. The line of the
pairwise score says by how much d' grows, and top-k follows with the same growth, for its own line
is a lot less certain. It is a first-order answer: in simulations it is below what the decoder
reaches without noise rather than above, the more so the noisier the trials.
"""

from __future__ import annotations

import numpy as np

from braindecode_clip.artifacts import Embeddings, Predictions, Retrieval
from braindecode_clip.evaluate.ceiling_dprime import (
    dprime_of_hits,
    dprime_of_pairwise,
    hit_rate,
    pairwise_rate,
)
from braindecode_clip.evaluate.ceiling_signal import Signal
from braindecode_clip.metrics import count_better, ranks
from braindecode_clip.resampling.bootstrap import resample, weighted_mean
from braindecode_clip.similarity import similarity_matrix

#: Noise added, in units of that of the predictions.
ADDED = (0.0, 0.5, 1.0, 2.0)
#: Inverse square of the largest distance that is told apart from one without end.
LEAST_INVERSE = 1 / 144
#: Numbers of similarities that all draws may make.
MAX_NUMBERS = 2**26
Found = dict[str, tuple[float, float, float]]


def noise_free_ranks(
    retrieval: Retrieval,
    predictions: Predictions,
    embeddings: Embeddings,
    signal: Signal,
    *,
    top_k: tuple[int, ...],
    inverse_n: np.ndarray,
    clusters: np.ndarray,
    confidence: float,
    n_bootstrap: int,
    rng: np.random.Generator,
) -> Found:
    """Extrapolate top-k and pairwise scores of one retrieval.

    Parameters
    ----------
    retrieval : Retrieval
        Of similarities without correction or re-ranking, among embedded candidates.
    predictions, embeddings
        As for :func:`braindecode_clip.evaluate.evaluate`.
    signal : Signal
    top_k : tuple of int
    inverse_n : ndarray (n_queries,)
        Noise variance of each row in units of a single trial's.
    clusters : ndarray (n_queries,)
        What the bootstrap draws.
    confidence, n_bootstrap, rng
        Percentile intervals; the noise itself is taken as known.

    Returns
    -------
    dict
        Metric to (value, low, high).
    """
    forth = retrieval.direction == "brain_to_image"
    ids = retrieval.gallery_ids.astype(str)
    gallery = embeddings.vectors[embeddings.rows(ids)]
    shown = predictions.stimulus_id.astype(str)
    distractors = ids != shown[:, None]
    n_others = distractors.sum(axis=1)
    # Distances are looked up for one size, so every query must have it.
    ks = [k for k in top_k if k <= n_others.min()] if np.ptp(n_others) == 0 else []
    n_draws = int(np.clip(MAX_NUMBERS // (len(ADDED) * len(shown) * len(ids)), 2, 24))
    levels = []
    for added in ADDED:
        total = 0.0
        for _ in range(n_draws if added else 1):
            noisy = predictions.vectors + _noise(signal, added * inverse_n, rng)
            table = similarity_matrix(
                noisy, gallery, similarity=retrieval.info.get("similarity", "cosine")
            )
            table = table if forth else table.T
            better, tied = count_better(table, retrieval.true_index, distractors=distractors)
            rank = ranks(better, tied)
            total = total + np.stack([*(rank <= k for k in ks), 1 - (rank - 1) / n_others], axis=1)
        levels.append(total / (n_draws if added else 1))
    hits = np.concatenate(levels, axis=1)
    drawn = resample(weighted_mean(hits), clusters, n_bootstrap=n_bootstrap, rng=rng).bootstrap
    drawn = np.concatenate([hits.mean(axis=0)[None], drawn]).reshape(-1, len(ADDED), len(ks) + 1)
    pool, found = int(n_others[0]) + 1, {}
    distance = dprime_of_pairwise(drawn[:, :, -1])
    growth = _growth(distance)
    found["pairwise"] = _summary(pairwise_rate(distance[:, 0] * growth), confidence)
    for place, k in enumerate(ks):
        own = dprime_of_hits(drawn[:, 0, place], k=k, pool=pool)
        # Below chance nothing grows.
        values = np.where(own > 0, hit_rate(own * growth, k=k, pool=pool), drawn[:, 0, place])
        found[f"top_{k}"] = _summary(np.where(np.isfinite(growth), values, np.nan), confidence)
    return {name: item for name, item in found.items() if np.isfinite(item).all()}


def noise_free_correlation(
    predictions: Predictions,
    targets: np.ndarray,
    signal: Signal,
    *,
    inverse_n: np.ndarray,
    clusters: np.ndarray,
    confidence: float,
    n_bootstrap: int,
) -> Found:
    """Extrapolate the mean correlation over dimensions; in closed form, nothing is drawn.

    ``targets`` (n_queries, n_dims) are those of every row. Noise adds to the variance of a
    prediction and leaves its covariance with the target.
    """
    p = predictions.vectors.astype(np.float64)
    t = targets.astype(np.float64) - targets.mean(axis=0, dtype=np.float64)
    p -= p.mean(axis=0)
    rng = np.random.default_rng(0)

    def statistic(weights: np.ndarray) -> np.ndarray:
        n = weights.sum(axis=1, keepdims=True)
        of_p, of_t = weights @ p / n, weights @ t / n
        both = weights @ (p * t) / n - of_p * of_t
        var_t = weights @ t**2 / n - of_t**2
        var_p = weights @ p**2 / n - of_p**2
        noise = signal.noise * (weights @ inverse_n / n[:, 0])[:, None]
        kept = (var_t.min(axis=0) > 0) & (var_p.min(axis=0) > 0)
        if not kept.any():
            return np.full((len(weights), len(ADDED)), np.nan)
        columns = [
            (both / np.sqrt(np.where(kept, var_t * (var_p + a * noise), 1)))[:, kept].mean(axis=1)
            for a in ADDED
        ]
        return np.stack(columns, axis=1)

    drawn = resample(statistic, clusters, n_bootstrap=n_bootstrap, rng=rng).bootstrap
    drawn = np.concatenate([statistic(np.ones((1, len(p)))), drawn])
    if not np.isfinite(drawn).all():
        # Few samples: of some resamples no dimension varies.
        return {}
    item = _summary(np.clip(drawn[:, 0] * _growth(drawn), -1.0, 1.0), confidence)
    return {"correlation_mean": item} if np.isfinite(item).all() else {}


def _noise(signal: Signal, variance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw noise of the measured covariance, ``variance`` times, (n_queries, n_dims)."""
    weights = rng.standard_normal((len(variance), len(signal.residuals)))
    return np.sqrt(variance)[:, None] * (weights @ signal.residuals)


def _growth(distance: np.ndarray) -> np.ndarray:
    """Return by what factor a distance (n, n_levels) grows where noise is taken away, (n,).

    At least 1: more noise cannot help. NaN where a distance is not above chance, since its
    inverse square says nothing.
    """
    amount = 1.0 + np.array(ADDED)
    design = np.linalg.pinv(np.stack([np.ones_like(amount), amount], axis=1))
    above = (distance > 0).all(axis=1)
    inverse = np.where(above[:, None], distance, 1.0) ** -2.0
    # A line that ends at or below 0 means a distance beyond measure.
    start = np.clip(inverse @ design[0], LEAST_INVERSE, np.maximum(inverse[:, 0], LEAST_INVERSE))
    return np.where(above, np.maximum(np.sqrt(inverse[:, 0] / start), 1.0), np.nan)


def _summary(values: np.ndarray, confidence: float) -> tuple[float, float, float]:
    """Return value (the first) and percentile interval; NaN where too many are unknown."""
    known = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(values[0]) or len(known) < 0.9 * (len(values) - 1):
        return float("nan"), float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(values[0]), float(min(low, values[0])), float(max(high, values[0]))
