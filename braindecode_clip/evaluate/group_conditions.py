"""One subject, ROI, decoder and direction: its scores, for each sample and under permutation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from braindecode_clip.artifacts import Retrieval
from braindecode_clip.checks import Problems, some
from braindecode_clip.config.group import GroupConfig
from braindecode_clip.errors import DataError
from braindecode_clip.evaluate.group_labels import Exchange, shared_null
from braindecode_clip.evaluate.permutation import rank_table
from braindecode_clip.evaluate.scores import identification_scores
from braindecode_clip.seeds import make_rng

#: What tells the conditions of a job apart, and what they must agree in.
KEYS = ("subject", "roi", "decoder", "direction")
SHARED = ("split", "encoder", "gallery")


@dataclass(frozen=True)
class Condition:
    """The scores of one subject, ROI, decoder and direction.

    Attributes
    ----------
    subject, roi, decoder, direction : str
    metrics : tuple of str
        Scores of which more is better.
    per_query : ndarray (n_queries, n_metrics) float64
    chance : ndarray (n_metrics,) float64
    null : ndarray (n_permutations, n_metrics) float64 or None
        None where the labels have no other arrangement.
    """

    subject: str
    roi: str
    decoder: str
    direction: str
    metrics: tuple[str, ...]
    per_query: np.ndarray
    chance: np.ndarray
    null: np.ndarray | None

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from the others."""
        return tuple(getattr(self, name) for name in KEYS)

    def values(self, metric: str) -> np.ndarray:
        """Return a score of every sample (n_queries,)."""
        return self.per_query[:, self.metrics.index(metric)]

    def value(self, metric: str) -> float:
        """Return a score: the mean over samples."""
        return float(self.values(metric).mean())

    def null_of(self, metric: str) -> np.ndarray | None:
        """Return a score under permutation (n_permutations,)."""
        return None if self.null is None else self.null[:, self.metrics.index(metric)]


def measure(
    retrieval: Retrieval, exchange: Exchange, *, options: GroupConfig, seed: int
) -> Condition:
    """Score one retrieval, for each sample and under the permutations that all share.

    Parameters
    ----------
    retrieval : Retrieval
    exchange : Exchange
        Made from the samples of all subjects.
    options : GroupConfig
    seed : int
        The study's.

    Raises
    ------
    DataError
        Samples that are not those that the subject has elsewhere.
    """
    subject, roi, decoder = (str(retrieval.info.get(key, "")) for key in KEYS[:3])
    table = rank_table(retrieval, exchange.unit)
    item_of, label_of = exchange.item_of[subject], exchange.label_of[subject]
    if not np.array_equal(table.labels, label_of[item_of]):
        raise DataError(
            f"subject {subject}, ROI {roi}, decoder {decoder}, {retrieval.direction}: other test "
            "samples than in the subject's first file. Re-run `decode` and `retrieve` for all ROIs "
            "and decoders of the split."
        )
    rank, others = (
        np.broadcast_to(part, (1, len(item_of)))[0] for part in table.under(table.labels[None])
    )
    # Ranks say the same as pairwise, turned round.
    scores = [
        score
        for score in identification_scores(options.top_k, others)
        if score.is_mean and score.sign == 1 and score.name != "percentile_rank"
    ]
    null = None
    if exchange.permutable(subject):
        null = shared_null(
            table,
            scores,
            exchange,
            subject,
            n_permutations=options.n_permutations,
            rng=make_rng(seed, "group", "labels"),
        )
    return Condition(
        subject,
        roi,
        decoder,
        retrieval.direction,
        tuple(score.name for score in scores),
        np.stack([score.per_query(rank, others) for score in scores], axis=1).astype(float),
        np.array([score.chance(others) for score in scores]),
        null,
    )


class Conditions:
    """All conditions of a job, complete: every subject, ROI, decoder and direction.

    Attributes
    ----------
    names : dict of str to list of str
        The names of each of :data:`KEYS`, in the order in which they came.
    """

    def __init__(self, found: Iterable[Condition]) -> None:
        self._by_key: dict[tuple[str, ...], Condition] = {}
        problems = Problems("group")
        for condition in found:
            if condition.key in self._by_key:
                problems.add(f"given twice: {_said(condition.key)}.")
            self._by_key[condition.key] = condition
        self.names = {
            name: list(dict.fromkeys(key[i] for key in self._by_key)) for i, name in enumerate(KEYS)
        }
        for key in self.keys():
            if key not in self._by_key:
                problems.add(
                    f"missing: {_said(key)}. Every subject needs every ROI and decoder; run "
                    "`retrieve` for it, or leave the ROI or decoder out for all."
                )
        problems.raise_if_any()

    def keys(self) -> list[tuple[str, ...]]:
        """Return every combination of the names."""
        grid: list[tuple[str, ...]] = [()]
        for name in KEYS:
            grid = [(*key, value) for key in grid for value in self.names[name]]
        return grid

    def __getitem__(self, key: tuple[str, ...]) -> Condition:
        return self._by_key[key]

    def of_subject(self, subject: str) -> list[Condition]:
        """Return the conditions of a subject, in order."""
        return [self._by_key[key] for key in self.keys() if key[0] == subject]

    def over_subjects(self, roi: str, decoder: str, direction: str) -> list[Condition]:
        """Return one condition for each subject."""
        return [self._by_key[s, roi, decoder, direction] for s in self.names["subject"]]

    def metrics(self, direction: str) -> list[str]:
        """Return the scores that every condition of a direction has."""
        chosen = [c for c in self._by_key.values() if c.direction == direction]
        return [m for m in chosen[0].metrics if all(m in c.metrics for c in chosen)]


def _said(key: Sequence[str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(KEYS, key, strict=True))


def shared_labels(infos: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """Return split, encoder and gallery of a job's files.

    Raises
    ------
    DataError
        They differ, or there are none.
    """
    problems = Problems("group")
    if not infos:
        problems.add("got no retrievals.")
    labels = {}
    for name in SHARED:
        found = sorted({str(info.get(name, "")) for info in infos})
        labels[name] = found[0] if found else ""
        if len(found) > 1:
            problems.add(f"expected files of one {name}, got {some(found)}. Call it for each.")
    problems.raise_if_any()
    return labels
