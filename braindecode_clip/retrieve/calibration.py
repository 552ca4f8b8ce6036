"""Conformal sets of candidates for the test samples, calibrated fold by fold."""

from __future__ import annotations

from typing import Any

import numpy as np

from braindecode_clip.artifacts import Embeddings, Ledger, Predictions
from braindecode_clip.config.retrieve import CandidateSetsConfig
from braindecode_clip.logs import get_logger
from braindecode_clip.retrieve.candidate_sets import (
    candidate_sets,
    conformal_threshold,
    one_for_each,
    pair_similarities,
)
from braindecode_clip.similarity import SimilarityKind

logger = get_logger(__name__)


def add_candidate_sets(
    table: np.ndarray,
    true_index: np.ndarray,
    predictions: Predictions,
    training: Predictions,
    embeddings: Embeddings,
    *,
    sets: CandidateSetsConfig,
    similarity: SimilarityKind,
    ledger: Ledger,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Calibrate on held-out training predictions and say which candidates are in the sets.

    One sample of each training stimulus counts, the first: its samples are not independent.

    Parameters
    ----------
    table : ndarray (n_queries, n_gallery) float32
        Uncorrected similarities.
    true_index : ndarray (n_queries,) int64
    predictions, training : Predictions
    embeddings : Embeddings
    sets : CandidateSetsConfig
    similarity : str
    ledger : Ledger
        Takes down what the thresholds were calibrated on.

    Returns
    -------
    columns : dict
        set_size (int64), in_set (bool: the true one is), abstained (bool); (n_queries,) each.
    facts : dict
        coverage, max_size, n_calibration and threshold of each fold, covered and answered (shares
        of the test samples), median_size.
    """
    folds = predictions.fold.astype(str)
    threshold = np.empty(len(folds))
    facts: dict[str, Any] = {"coverage": sets.coverage, "max_size": sets.max_size, "folds": {}}
    for fold in np.unique(folds):
        own = np.flatnonzero(training.fold.astype(str) == fold)
        own = own[one_for_each(training.stimulus_id[own])]
        ledger.add("thresholds of candidate sets", training, own, fold=str(fold))
        true = embeddings.vectors[embeddings.rows(training.stimulus_id[own])]
        scores = pair_similarities(training.vectors[own], true, similarity=similarity)
        limit = conformal_threshold(scores, sets.coverage)
        threshold[folds == fold] = limit
        known = np.isfinite(limit)
        if not known:
            logger.warning(
                "fold %s: %d calibration stimuli are too few for a coverage of %g; the sets hold "
                "every candidate",
                fold,
                len(own),
                sets.coverage,
            )
        facts["folds"][fold] = {
            "n_calibration": len(own),
            "threshold": float(limit) if known else None,
        }
    found = candidate_sets(table, threshold, max_size=sets.max_size)
    inside = found.members[np.arange(len(table)), true_index]
    facts["covered"] = float(inside.mean())
    facts["median_size"] = float(np.median(found.size))
    facts["answered"] = float(1.0 - found.abstained.mean())
    columns = {"set_size": found.size, "in_set": inside, "abstained": found.abstained}
    return columns, facts
