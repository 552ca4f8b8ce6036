"""Permutation of the true labels: the null distribution of every score.

The labels move as :mod:`braindecode_clip.evaluate.exchange` says. With unit "stimulus" they are
exchanged among test stimuli that were shown equally often, and all repeats of a stimulus move
together; with unit "run" they are exchanged within each run (or session).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from braindecode_clip.artifacts import Retrieval
from braindecode_clip.errors import DataError
from braindecode_clip.evaluate.scores import Score
from braindecode_clip.metrics import rank_matrix

#: Ranks gathered at a time; 2**18 float64 (2 MiB) stay in a core's cache.
CHUNK_NUMBERS = 2**18


def can_permute(
    labels: np.ndarray, groups: np.ndarray, unit: str, *, strata: np.ndarray | None = None
) -> bool:
    """Tell whether there is any other arrangement of the labels."""
    if unit == "stimulus":
        return bool((np.bincount(_strata(labels, strata)) > 1).any())
    return any(len(np.unique(labels[groups == group])) > 1 for group in np.unique(groups))


def _strata(labels: np.ndarray, strata: np.ndarray | None) -> np.ndarray:
    """Return ``strata``; without them, stimuli with equally many samples are alike."""
    return np.bincount(labels) if strata is None else strata


def permuted_labels(
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    unit: str,
    n_permutations: int,
    rng: np.random.Generator,
    chunk: int,
    strata: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Yield permuted labels in chunks.

    Parameters
    ----------
    labels : int array (n_queries,)
        Stimulus of each query, 0 to n_stimuli - 1.
    groups : array (n_queries,)
        Run (or session) of each query; unit "run" exchanges within them.
    unit : {"stimulus", "run"}
    n_permutations : int
    rng : Generator
    chunk : int
        Permutations at a time.
    strata : int array (n_stimuli,), optional
        Unit "stimulus" exchanges within them; by default stimuli with equally many queries.

    Yields
    ------
    ndarray (at most chunk, n_queries) int64
    """
    n_stimuli = int(labels.max()) + 1
    alike = _strata(labels, strata) if unit == "stimulus" else groups
    parts = [np.flatnonzero(alike == name) for name in np.unique(alike)]
    for start in range(0, n_permutations, chunk):
        size = min(chunk, n_permutations - start)
        moved = np.tile(np.arange(n_stimuli) if unit == "stimulus" else labels, (size, 1))
        for part in parts:
            moved[:, part] = rng.permuted(moved[:, part], axis=1)
        yield moved[:, labels] if unit == "stimulus" else moved


@dataclass(frozen=True)
class RankTable:
    """The rank of every query under every label that it could have had.

    Attributes
    ----------
    rank : ndarray (n_stimuli, n_queries) float64
    n_distractors : ndarray (n_stimuli, n_queries) float64
    labels : ndarray (n_queries,) int64
        The true labels.
    stimuli : ndarray (n_stimuli,) str
    shared_columns : bool
        Ranks still count the other queries of the same label as distractors, since which they
        are depends on the permutation; :meth:`under` takes them out.
    """

    rank: np.ndarray
    n_distractors: np.ndarray
    labels: np.ndarray
    stimuli: np.ndarray
    shared_columns: bool

    def under(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ranks and numbers of distractors (n_permutations, n_queries) under labels."""
        n_queries = self.rank.shape[1]
        flat = labels * n_queries + np.arange(n_queries)
        rank = self.rank.ravel()[flat]
        if self.shared_columns:
            self._leave_out_own(rank, labels)
        lowest = self.n_distractors.min()
        if lowest == self.n_distractors.max():
            return rank, np.full(n_queries, lowest)
        return rank, self.n_distractors.ravel()[flat]

    def _leave_out_own(self, rank: np.ndarray, labels: np.ndarray) -> None:
        # Permuting within runs keeps the number of queries of each label, so the queries of a
        # label form a rectangle: permutations by members.
        for label in range(len(self.stimuli)):
            rows, members = np.nonzero(labels == label)
            rows, members = rows.reshape(len(labels), -1), members.reshape(len(labels), -1)
            own = rank[rows, members]
            above = (own[:, None, :] < own[:, :, None]).sum(axis=2)
            level = (own[:, None, :] == own[:, :, None]).sum(axis=2) - 1
            rank[rows, members] = own - above - level / 2.0

    @property
    def chunk(self) -> int:
        """Number of permutations to look at in one go."""
        most = int(np.bincount(self.labels).max()) if self.shared_columns else 1
        return max(1, CHUNK_NUMBERS // (len(self.labels) * most))


def rank_table(retrieval: Retrieval, unit: str) -> RankTable:
    """Build the table of a retrieval.

    Parameters
    ----------
    retrieval : Retrieval
    unit : {"stimulus", "run"}

    Raises
    ------
    DataError
        The table does not give back the ranks in ``retrieval.queries``.
    """
    stimuli, labels = np.unique(
        retrieval.queries["stimulus_id"].to_numpy().astype(str), return_inverse=True
    )
    if retrieval.direction == "brain_to_image":
        position = {str(name): i for i, name in enumerate(retrieval.gallery_ids)}
        columns = np.array([position[name] for name in stimuli])
        rank = rank_matrix(retrieval.similarity)[:, columns].T.astype(np.float64)
        others = np.full(rank.shape, len(retrieval.gallery_ids) - 1.0)
        table = RankTable(rank, others, labels, stimuli, shared_columns=False)
    else:
        table = _image_to_brain_table(retrieval.similarity, labels, stimuli, unit)
    rank, _ = table.under(labels[None, :])
    stored = retrieval.queries["rank"].to_numpy(dtype=np.float64)
    if not np.array_equal(rank[0], stored):
        raise DataError(
            f"{retrieval.direction}: the ranks of {int((rank[0] != stored).sum())} queries differ "
            "from those that the similarities beside them give. Re-run `retrieve`."
        )
    return table


def _image_to_brain_table(
    similarity: np.ndarray, labels: np.ndarray, stimuli: np.ndarray, unit: str
) -> RankTable:
    counts = np.bincount(labels)
    first = np.unique(labels, return_index=True)[1]
    pictures = similarity[first]
    rank = rank_matrix(pictures).astype(np.float64)
    shared = unit == "run" and bool((counts > 1).any())
    if shared:
        others = np.repeat((len(labels) - counts)[:, None].astype(float), len(labels), axis=1)
    else:
        # The repeats of a stimulus stay together whatever label they get.
        for label in np.flatnonzero(counts > 1):
            own = np.flatnonzero(labels == label)
            rank[:, own] -= rank_matrix(pictures[:, own]) - 1.0
        others = np.tile(len(labels) - counts[labels].astype(float), (len(stimuli), 1))
    return RankTable(rank, others, labels, stimuli, shared_columns=shared)


def null_scores(
    table: RankTable,
    scores: list[Score],
    groups: np.ndarray,
    *,
    unit: str,
    n_permutations: int,
    rng: np.random.Generator,
    strata: np.ndarray | None = None,
) -> np.ndarray:
    """Return the scores under permuted labels, (n_permutations, n_scores) float64."""
    chunks = permuted_labels(
        table.labels,
        groups,
        unit=unit,
        n_permutations=n_permutations,
        rng=rng,
        chunk=table.chunk,
        strata=strata,
    )
    found = []
    for labels in chunks:
        rank, n_distractors = table.under(labels)
        found.append(np.stack([score.value(rank, n_distractors) for score in scores], axis=1))
    return np.concatenate(found)


def null_histogram(value: float, null: np.ndarray, *, n_bins: int = 40) -> dict[str, Any]:
    """Return a distribution under permutation in a few numbers, to draw it.

    Returns
    -------
    dict
        value, null_mean, null_high (95th percentile), centres and counts: of every score where
        there are at most ``n_bins`` different ones, else of as many equal bins.
    """
    centres, counts = np.unique(np.round(null, 12), return_counts=True)
    if len(centres) > n_bins:
        counts, edges = np.histogram(null, bins=n_bins)
        centres = (edges[1:] + edges[:-1]) / 2
    return {
        "value": value,
        "null_mean": float(null.mean()),
        "null_high": float(np.quantile(null, 0.95)),
        "centres": centres.tolist(),
        "counts": counts.tolist(),
    }


def p_value(value: float, null: np.ndarray, *, sign: int = 1) -> float:
    """Return (1 + number of permutations at least as good) / (1 + n_permutations).

    One-sided towards better scores; the identity counts as one permutation (Phipson & Smyth
    2010), so p is never 0.

    Parameters
    ----------
    value : float
    null : ndarray (n_permutations,)
    sign : {1, -1}
        -1 when less is better.
    """
    # Sums of the same numbers in another order differ in the last bits: those are equal.
    slack = 1e-9 * max(abs(value), 1e-300)
    at_least = np.count_nonzero(sign * null >= sign * value - slack)
    return (1 + at_least) / (1 + len(null))
