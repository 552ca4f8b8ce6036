"""One row of the table: a score with its chance, interval and p-value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from braindecode_clip.artifacts import Predictions
from braindecode_clip.config.evaluate import EvaluateConfig
from braindecode_clip.evaluate.exchange import Exchange, make_clusters, make_exchange
from braindecode_clip.evaluate.permutation import can_permute, p_value
from braindecode_clip.resampling.bootstrap import Resamples, interval

LABELS = ("subject", "roi", "split", "encoder", "decoder", "gallery")


@dataclass(frozen=True)
class Design:
    """Which test samples belong together, and so how they are drawn and exchanged.

    Attributes
    ----------
    unit : str
        "stimulus" or "run", of the split.
    stimuli : ndarray (n_stimuli,) str
        Sorted.
    labels : ndarray (n_samples,) int64
        Position of each sample's stimulus.
    groups : ndarray (n_samples,) str
        Runs.
    clusters : ndarray (n_samples,)
        What the bootstrap draws as one.
    drawn : str
        Name of the clusters, e.g. "stimuli".
    exchange : Exchange
        How a permutation moves the labels.
    """

    unit: str
    stimuli: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    clusters: np.ndarray
    drawn: str
    exchange: Exchange

    @classmethod
    def of(cls, predictions: Predictions, options: EvaluateConfig | None = None) -> Design:
        """Read it off the predictions, as ``options.exchange`` and ``options.resample`` say."""
        stimuli, labels = np.unique(predictions.stimulus_id.astype(str), return_inverse=True)
        groups, repeats = predictions.group.astype(str), predictions.n_repeats
        return cls.made(predictions.unit, stimuli, labels, groups, repeats, options=options)

    @classmethod
    def made(
        cls,
        unit: str,
        stimuli: np.ndarray,
        labels: np.ndarray,
        groups: np.ndarray,
        n_repeats: np.ndarray | None = None,
        *,
        options: EvaluateConfig | None = None,
    ) -> Design:
        """Make one of samples with these numbers of repeats (n_samples,), or one each."""
        options = options or EvaluateConfig()
        n_repeats = np.ones(len(labels), dtype=int) if n_repeats is None else n_repeats
        clusters, drawn = make_clusters(labels, groups, unit=unit, kind=options.resample)
        exchange = make_exchange(
            labels,
            groups,
            n_repeats,
            unit=unit,
            kind=options.exchange,
            unequal_repeats=options.exchange_unequal,
        )
        return cls(unit, stimuli, labels, groups, clusters, drawn, exchange)

    @property
    def permutable(self) -> bool:
        """Tell whether the labels have another arrangement."""
        how = self.exchange
        return can_permute(self.labels, how.groups, how.unit, strata=how.strata)


@dataclass(frozen=True)
class Measured:
    """A score before its statistics.

    Attributes
    ----------
    name : str
    value, chance : float
    fallback : (low, high) or None
        Interval where the bootstrap says nothing.
    sign : int
        -1 when less is better.
    definition : str
    """

    name: str
    value: float
    chance: float
    fallback: tuple[float, float] | None
    sign: int
    definition: str


def make_rows(
    measured: Sequence[Measured],
    resamples: Resamples,
    null: np.ndarray | None,
    *,
    design: Design,
    options: EvaluateConfig,
    labels: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Join scores with their statistics.

    Parameters
    ----------
    measured : sequence of Measured
    resamples : Resamples
        Columns in the order of ``measured``.
    null : ndarray (n_permutations, n_scores) or None
        Scores under permuted labels; None where nothing can be permuted.
    design : Design
    options : EvaluateConfig
    labels : mapping
        Columns that all rows share.
    """
    rows = []
    for place, score in enumerate(measured):
        low, high, method = interval(
            score.value, resamples, place, confidence=options.confidence, fallback=score.fallback
        )
        row = {
            "metric": score.name,
            "value": score.value,
            "chance": score.chance,
            "null_mean": None if null is None else float(null[:, place].mean()),
            "ci_low": low,
            "ci_high": high,
            "ci_method": method,
            "confidence": options.confidence,
            "p": None if null is None else p_value(score.value, null[:, place], sign=score.sign),
            "n_permutations": 0 if null is None else len(null),
            "permuted": design.exchange.description,
            "n": len(design.labels),
            "n_unit": "brain samples",
            "n_resampled": resamples.n_clusters,
            "resampled": design.drawn,
            "ceiling": None,
            "definition": score.definition,
        }
        rows.append({**labels, **row})
    return rows


def without_nan(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Replace NaN and infinity, which JSON does not know, by None."""
    return [
        {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in row.items()
        }
        for row in rows
    ]
