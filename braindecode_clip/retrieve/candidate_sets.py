r"""Sets of candidates that hold the true one with a stated probability, or no answer.

Split conformal prediction (Vovk, Gammerman & Shafer 2005; Angelopoulos & Bates, Foundations and
Trends in Machine Learning 2023, section 1): with the similarity of prediction and true vector on
n held-out calibration samples, :math:`s_1 \ge \dots \ge s_n`, the set of a new prediction is
every candidate with a similarity of at least

.. math:: t = s_{(\lceil (n + 1) c \rceil)}

Where the new sample is exchangeable with the calibration samples, the set holds the true
candidate with probability c at least (and at most c + 1 / (n + 1) without ties), whatever the
decoder and the gallery are. That is coverage on average over samples, not for each stimulus.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from braindecode_clip.errors import ConfigError, DataError
from braindecode_clip.products.scaled import ScaledGallery
from braindecode_clip.similarity import SimilarityKind, check_vectors


@dataclass(frozen=True)
class CandidateSets:
    """Which candidates may be the true one.

    Attributes
    ----------
    members : ndarray (n_queries, n_gallery) bool
    size : ndarray (n_queries,) int64
    abstained : ndarray (n_queries,) bool
        The set is empty, or larger than allowed: no answer is given.
    """

    members: np.ndarray
    size: np.ndarray
    abstained: np.ndarray


def pair_similarities(
    predicted: np.ndarray, true: np.ndarray, *, similarity: SimilarityKind = "cosine"
) -> np.ndarray:
    """Compare each prediction with its own true vector.

    Parameters
    ----------
    predicted, true : array (n, n_dims)
    similarity : {"cosine", "correlation", "euclidean"}

    Returns
    -------
    ndarray (n,) float32
        The numbers that :func:`braindecode_clip.similarity.similarity_matrix` has for them.
    """
    predicted, true = check_vectors(predicted, true)
    if len(predicted) != len(true):
        raise DataError(f"got {len(predicted)} predictions for {len(true)} true vectors.")
    gallery = ScaledGallery(true, similarity=similarity, offset=None, device="cpu")
    rows = np.arange(len(true))
    return gallery.scorer(predicted).exact(rows, rows)


def conformal_threshold(scores: np.ndarray, coverage: float) -> float:
    """Return the similarity that a candidate needs.

    Parameters
    ----------
    scores : array (n,)
        Similarity of the prediction with the true vector, one for each held-out calibration
        stimulus: never of the test set, and one a stimulus, since samples of the same stimulus
        are not independent.
    coverage : float
        Share of true candidates that the sets shall hold, above 0 and below 1.

    Returns
    -------
    float
        Minus infinity, so that every candidate is in the set, where n is below
        coverage / (1 - coverage): fewer samples can't promise it.

    Raises
    ------
    ConfigError
        A coverage that is none.
    DataError
        No scores, or NaN.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if not 0 < coverage < 1:
        raise ConfigError(f"coverage: got {coverage}, expected a share above 0 and below 1.")
    if scores.ndim != 1 or not len(scores) or np.isnan(scores).any():
        raise DataError(
            f"calibration: got {scores.shape} scores with {int(np.isnan(scores).sum())} NaN, "
            "expected one number for each held-out stimulus."
        )
    # Rounding may lift a whole number by an ulp, and ceil would make it the next.
    place = int(np.ceil(np.round((len(scores) + 1) * coverage, 9)))
    if place > len(scores):
        return float("-inf")
    return float(np.sort(scores)[::-1][place - 1])


def candidate_sets(
    similarity: np.ndarray, threshold: float | np.ndarray, *, max_size: int | None = None
) -> CandidateSets:
    """Take the candidates that reach the threshold.

    Parameters
    ----------
    similarity : array (n_queries, n_gallery)
        Uncorrected: of the kind that the threshold was calibrated with.
    threshold : float, or array (n_queries,)
        From :func:`conformal_threshold`; one for each query where folds have their own.
    max_size : int, optional
        Abstain where more candidates than this are in the set. Abstaining is no part of the
        guarantee: among the answers that are given, coverage may be higher or lower.

    Returns
    -------
    CandidateSets
    """
    limits = np.broadcast_to(np.asarray(threshold, dtype=np.float64), len(similarity))
    members = similarity >= limits[:, None]
    size = np.count_nonzero(members, axis=1)
    abstained = size == 0
    if max_size is not None:
        abstained |= size > max_size
    return CandidateSets(members, size, abstained)


def one_for_each(ids: np.ndarray) -> np.ndarray:
    """Return the first row of every distinct id, in order; (n_distinct,) int64."""
    return np.sort(np.unique(np.asarray(ids).astype(str), return_index=True)[1])
