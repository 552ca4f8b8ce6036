"""Corrections for hubs, applied fold by fold in both directions."""

from __future__ import annotations

from typing import Any

import numpy as np

from braindecode_clip.artifacts import Embeddings, Ledger, Predictions
from braindecode_clip.checks import Problems, differences, some
from braindecode_clip.config.retrieve import CorrectionConfig
from braindecode_clip.errors import DataError, LeakageError
from braindecode_clip.retrieve.hubness import hub_offsets
from braindecode_clip.similarity import SimilarityKind


def describe(correction: CorrectionConfig | None) -> dict[str, Any]:
    """Say for a result's ``info`` how it was corrected; nothing without a correction."""
    if correction is None:
        return {}
    transductive = correction.statistics == "test"
    source = "test predictions (transductive)" if transductive else "held-out training predictions"
    return {
        "correction": f"{correction.method}{', transductive' if transductive else ''}",
        "correction_statistics": source,
        "transductive": transductive,
    }


def check_training(
    training: Predictions | None, predictions: Predictions, embeddings: Embeddings | None
) -> Predictions:
    """Refuse training predictions that are missing, of another decoder, or of test stimuli.

    Raises
    ------
    DataError
        Missing, of another encoder or number of dimensions, without a fold of the test, or of
        stimuli without an embedding.
    LeakageError
        A fold's training predictions hold one of its test stimuli, where stimuli are held out.
    """
    if training is None:
        raise DataError(
            "retrieve: corrections from training predictions and candidate sets need what the "
            "decoder predicted of held-out training samples. Pass --decoder and --voxels, or "
            "choose `statistics: test`, which is transductive."
        )
    problems = Problems("retrieve: the training predictions do not fit")
    parts = differences(predictions.fingerprint, training.fingerprint)
    if parts:
        problems.add(f"they are of another encoder; predictions != training in {'; '.join(parts)}.")
    if training.vectors.shape[1] != predictions.vectors.shape[1]:
        problems.add(
            f"they have {training.vectors.shape[1]} dimensions, the predictions "
            f"{predictions.vectors.shape[1]}."
        )
    absent = np.setdiff1d(predictions.fold.astype(str), training.fold.astype(str))
    if len(absent):
        problems.add(f"they lack the folds {some(absent.tolist())}.")
    for key in ("subject", "roi"):
        got, want = training.info.get(key), predictions.info.get(key)
        if got is not None and want is not None and got != want:
            problems.add(f"they are of {key} {got}, the predictions of {want}.")
    problems.raise_if_any()
    if embeddings is not None:
        embeddings.rows(np.unique(training.stimulus_id))
    if predictions.unit == "stimulus":
        _refuse_test_stimuli(training, predictions)
    return training


def _refuse_test_stimuli(training: Predictions, predictions: Predictions) -> None:
    problems = Problems("retrieve")
    for fold in np.unique(predictions.fold.astype(str)):
        both = np.intersect1d(
            training.stimulus_id[training.fold.astype(str) == fold].astype(str),
            predictions.stimulus_id[predictions.fold.astype(str) == fold].astype(str),
        )
        if len(both):
            problems.add(
                f"fold '{fold}': {len(both)} test stimuli are among the training predictions: "
                f"{some(both.tolist())}. Statistics of test stimuli may not be fitted."
            )
    problems.raise_if_any(LeakageError)


def correct_table(
    table: np.ndarray,
    predictions: Predictions,
    embeddings: Embeddings,
    pictures: np.ndarray,
    *,
    direction: str,
    correction: CorrectionConfig,
    training: Predictions | None,
    similarity: SimilarityKind,
    ledger: Ledger,
) -> np.ndarray:
    """Take the offsets of the candidates off a table of similarities.

    Parameters
    ----------
    table : ndarray (n_queries, n_candidates) float32
    predictions : Predictions
        Queries of "brain_to_image", candidates of "image_to_brain".
    embeddings : Embeddings
    pictures : ndarray (n, n_dims)
        Candidates of "brain_to_image"; pictures shown in the test for "image_to_brain".
    direction : str
    correction : CorrectionConfig
    training : Predictions or None
        References of "train": its predictions for pictures, the pictures of its stimuli for brain
        samples, each fold for itself.
    similarity : str
    ledger : Ledger
        Takes down what the offsets were estimated from.

    Returns
    -------
    ndarray (n_queries, n_candidates) float32
    """
    settings = {
        "method": correction.method,
        "k": correction.k,
        "temperature": correction.temperature,
        "similarity": similarity,
    }
    if correction.statistics == "test":
        if direction == "brain_to_image":
            offset = hub_offsets(predictions.vectors, pictures, **settings)
        else:
            offset = hub_offsets(pictures, predictions.vectors, **settings)
        ledger.add(
            "hubness statistics",
            predictions,
            labels_used=False,
            transductive=True,
            reason="similarities of the whole test set, without labels",
        )
        return (table - offset).astype(np.float32)
    assert training is not None
    result = np.empty_like(table)
    folds = predictions.fold.astype(str)
    for fold in np.unique(folds):
        own = training.fold.astype(str) == fold
        rows = np.flatnonzero(folds == fold)
        ledger.add("hubness statistics", training, own, fold=str(fold))
        if direction == "brain_to_image":
            offset = hub_offsets(training.vectors[own], pictures, **settings)
            result[rows] = table[rows] - offset
        else:
            shown = embeddings.rows(np.unique(training.stimulus_id[own].astype(str)))
            offset = hub_offsets(embeddings.vectors[shown], predictions.vectors[rows], **settings)
            result[:, rows] = table[:, rows] - offset
    return result
