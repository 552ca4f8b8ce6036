"""The words beside the numbers: definitions, and what limits them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from braindecode_clip.artifacts import Predictions, Retrieval
from braindecode_clip.evaluate.exchange import FEW_ARRANGEMENTS
from braindecode_clip.evaluate.rows import Design

#: Below this many clusters an interval is called rough.
FEW_CLUSTERS = 10

DIMENSION_DEFINITIONS = {
    "correlation_mean": "Pearson correlation of predicted and true values over the test samples, "
    "the mean over {n_dims} embedding dimensions; independent of the gallery.",
    "correlation_median": "Pearson correlation of predicted and true values over the test "
    "samples, the median over {n_dims} embedding dimensions; independent of the gallery.",
    "r2_mean": "1 - squared error of the prediction / squared error of the mean of the {against} "
    "targets, the mean over {n_dims} embedding dimensions; 0 is as good as that mean, negative "
    "is worse; independent of the gallery.",
    "r2_median": "1 - squared error of the prediction / squared error of the mean of the "
    "{against} targets, the median over {n_dims} embedding dimensions; 0 is as good as that "
    "mean, negative is worse; independent of the gallery.",
}


def design_notes(
    retrievals: Sequence[Retrieval], predictions: Predictions, *, design: Design
) -> list[str]:
    """Say what the split and the gallery mean for the statistics."""
    notes = []
    n_folds = len(np.unique(predictions.fold))
    n_clusters = len(np.unique(design.clusters))
    where = f"split {predictions.info.get('split', '')}".strip()
    if predictions.unit == "stimulus" and n_folds > 1:
        notes.append(
            f"{where}: the predictions come from {n_folds} decoders, none of which has seen the "
            "stimuli that it is tested on. Labels are exchanged across decoders, which are not "
            "alike, so p is approximate; and each prediction leans towards the training stimuli, "
            "which puts a decoder without any information below chance."
        )
    if predictions.unit == "run":
        notes.append(
            f"{where}: whole runs are held out, and the stimuli tested on were also trained on. "
            "The scores tell known stimuli apart; they say nothing about new ones."
        )
    if predictions.info.get("calibration") == "transductive":
        notes.append(
            f"decoder {predictions.info.get('decoder', '')}: transductive. Its predictions were "
            "standardised with their own mean and spread over the test set, so a trial's score "
            "depends on the other test trials."
        )
    if n_clusters < 2:
        notes.append(f"{where}: all samples belong to one of the {design.drawn}, so no interval.")
    elif n_clusters < FEW_CLUSTERS:
        notes.append(f"{where}: the intervals rest on {n_clusters} {design.drawn} and are rough.")
    notes += _exchange_notes(design, where)
    for retrieval in retrievals:
        if retrieval.info.get("transductive"):
            notes.append(
                f"gallery {retrieval.info.get('gallery', '')}, {retrieval.direction}: "
                f"transductive. The correction for hubs ({retrieval.info['correction']}) was "
                "estimated from the test set, so a trial's score depends on the other test trials."
            )
        if "rerank" in retrieval.info:
            notes.append(_rerank_note(retrieval))
        if "candidate_sets" in retrieval.info:
            notes.append(_sets_note(retrieval))
        n_same = int(retrieval.info.get("n_duplicates", 0))
        if n_same:
            notes.append(
                f"gallery {retrieval.info.get('gallery', '')}: {n_same} candidates have the same "
                "vector as another one. They tie, so none of them can have rank 1."
            )
    return notes


def _exchange_notes(design: Design, where: str) -> list[str]:
    how = design.exchange
    if not design.permutable:
        return [
            f"{where}: no p-values. The labels cannot be exchanged ({how.description}): there is "
            "no other arrangement of them."
        ]
    notes = []
    if how.n_fixed:
        notes.append(
            f"{where}: {how.n_fixed} of {len(how.strata)} test stimuli keep their labels in every "
            f"permutation ({how.description}), which costs power. Where the number of repeats has "
            "nothing to do with what a stimulus shows, `exchange_unequal: true` exchanges all."
        )
    n_arrangements = how.n_arrangements(design.labels)
    if n_arrangements < FEW_ARRANGEMENTS:
        notes.append(
            f"{where}: the labels have {n_arrangements:g} arrangements ({how.description}), so p "
            f"cannot be far below {1 / n_arrangements:.2g}."
        )
    return notes


def _rerank_note(retrieval: Retrieval) -> str:
    facts = retrieval.info["rerank"]
    return (
        f"gallery {retrieval.info.get('gallery', '')}, {retrieval.direction}: the best "
        f"{facts['shortlist']} candidates of each sample were ordered again by the cosine of their "
        f"tokens (encoder {facts['encoder']}, decoder {facts['decoder']}); the true one was among "
        f"them for {facts['true_ordered']:.0%} of {len(retrieval.queries)}. The others keep their "
        "order below, and are listed with their similarity less 3. Scores in smaller galleries "
        "rest on the shortlists of the whole one."
    )


def _sets_note(retrieval: Retrieval) -> str:
    facts, n = retrieval.info["candidate_sets"], len(retrieval.queries)
    limit = facts["max_size"]
    answered = "" if limit is None else f" {facts['answered']:.0%} of them have at most {limit}."
    return (
        f"gallery {retrieval.info.get('gallery', '')}: candidate sets made to hold the true "
        f"stimulus for {facts['coverage']:.0%} of the samples, calibrated on held-out training "
        f"predictions, hold it for {facts['covered']:.0%} of {n}; the median set has "
        f"{facts['median_size']:g} of {len(retrieval.gallery_ids)} candidates.{answered}"
    )


def null_note(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Warn when permuted labels do not score like guesses.

    Predictions may favour the test stimuli over the rest of the gallery whatever was shown,
    for instance when the decoder was trained on those very stimuli; then chance is not what a
    decoder without information reaches.
    """
    (pairwise,) = (row for row in rows if row["metric"] == "pairwise")
    if abs(pairwise["null_mean"] - pairwise["chance"]) <= 0.02:
        return []
    return [
        f"split {pairwise['split']}, gallery {pairwise['gallery']}, "
        f"{pairwise['direction']}: with permuted labels the pairwise score is "
        f"{pairwise['null_mean']:.3f} instead of 0.5, so the predictions prefer or avoid the test "
        "stimuli whatever was shown. Compare the scores with null_mean, as p does, and not with "
        "chance."
    ]
