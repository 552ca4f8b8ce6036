"""Identification among the test stimuli, sample by sample, and its intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from braindecode_clip import metrics
from braindecode_clip.artifacts import Embeddings
from braindecode_clip.resampling.bootstrap import interval, resample, weighted_mean, wilson_of_mean
from braindecode_clip.similarity import SimilarityKind, similarity_matrix

DIRECTIONS = ("brain_to_image", "image_to_brain")
METRICS = ("top_1", "pairwise")
#: What verdicts are made of: it has no floor, and a tie counts one half.
JUDGED = ("brain_to_image", "pairwise")

#: (direction, metric) to a score for each test sample, (n_samples,) float64.
PerSample = Mapping[tuple[str, str], np.ndarray]


def identify(
    predicted: np.ndarray,
    embeddings: Embeddings,
    stimulus_id: np.ndarray,
    *,
    similarity: SimilarityKind = "cosine",
) -> dict[tuple[str, str], np.ndarray]:
    """Score every sample among the test stimuli, in both directions.

    As ``retrieve`` and ``evaluate`` do with the gallery of test stimuli: from brain to image
    each sample ranks the distinct test stimuli; from image to brain the stimulus of each sample
    ranks that sample among the samples of other stimuli. Ties have their mean rank.

    Parameters
    ----------
    predicted : ndarray (n_samples, n_dims)
    embeddings : Embeddings
    stimulus_id : ndarray (n_samples,) str
        At least two different ones.
    similarity : {"cosine", "correlation"}

    Returns
    -------
    dict
        (direction, metric) to (n_samples,) float64: 1 or 0 for "top_1", the share of
        distractors that are less similar for "pairwise".
    """
    names, labels = np.unique(np.asarray(stimulus_id).astype(str), return_inverse=True)
    gallery = embeddings.vectors[embeddings.rows(names)]
    forth = similarity_matrix(predicted, gallery, similarity=similarity)
    back = np.ascontiguousarray(forth.T[labels])
    others = labels[None, :] != labels[:, None]
    tables = {
        "brain_to_image": (forth, labels, None, np.full(len(labels), len(names) - 1)),
        "image_to_brain": (back, np.arange(len(labels)), others, others.sum(axis=1)),
    }
    found = {}
    for direction, (table, true, distractors, n_distractors) in tables.items():
        rank = metrics.ranks(*metrics.count_better(table, true, distractors=distractors))
        found[direction, "top_1"] = (rank <= 1).astype(np.float64)
        found[direction, "pairwise"] = 1.0 - (rank - 1.0) / n_distractors
    return found


def chance(stimulus_id: np.ndarray) -> dict[tuple[str, str], float]:
    """Return what a guess scores: 1 / candidates for "top_1", one half for "pairwise"."""
    _, labels, counts = np.unique(stimulus_id, return_inverse=True, return_counts=True)
    candidates = {
        "brain_to_image": np.full(len(labels), len(counts)),
        "image_to_brain": len(labels) - counts[labels] + 1,
    }
    found = {(d, "top_1"): metrics.chance_top_k(1, n) for d, n in candidates.items()}
    return found | {(d, "pairwise"): 0.5 for d in candidates}


@dataclass(frozen=True)
class Intervals:
    """Makes intervals by bootstrap of whole stimuli or runs.

    Attributes
    ----------
    clusters : ndarray (n_samples,)
        What is drawn as one.
    n_bootstrap : int
    confidence : float
    rng : Generator
    """

    clusters: np.ndarray
    n_bootstrap: int
    confidence: float
    rng: np.random.Generator

    def mean(
        self, values: np.ndarray, *, limits: tuple[float, float] = (0.0, 1.0)
    ) -> tuple[float, float, float]:
        """Return mean, low and high of the values (n_samples,) within their limits."""
        value = float(np.mean(values))
        drawn = resample(
            weighted_mean(np.asarray(values)[:, None]),
            self.clusters,
            n_bootstrap=self.n_bootstrap,
            rng=self.rng,
        )
        fallback = wilson_of_mean(value, limits, drawn.n_clusters, confidence=self.confidence)
        low, high, _ = interval(value, drawn, 0, confidence=self.confidence, fallback=fallback)
        return value, low, high

    def rows(
        self,
        control: str,
        decoder: str,
        values: PerSample,
        levels: Mapping[tuple[str, str], float],
        *,
        real: PerSample | None = None,
    ) -> list[dict[str, Any]]:
        """Return a row for each direction and metric, beside the score that it is held against.

        Parameters
        ----------
        control, decoder : str
        values : mapping
            From :func:`identify`.
        levels : mapping
            From :func:`chance`.
        real : mapping, optional
            Scores of the same samples; ``difference`` is real - control, paired by sample.
        """
        rows = []
        for (direction, metric), own in values.items():
            value, low, high = self.mean(own)
            row = {"control": control, "decoder": decoder, "direction": direction}
            row |= {"metric": metric, "value": value, "ci_low": low, "ci_high": high}
            row |= {"chance": levels[direction, metric], "n": len(own)}
            row |= {"n_drawn": len(np.unique(self.clusters))}
            names = ("difference", "difference_low", "difference_high")
            apart = (None, None, None)
            if real is not None:
                apart = self.mean(real[direction, metric] - own, limits=(-1.0, 1.0))
            rows.append(row | dict(zip(names, apart, strict=True)))
        return rows
