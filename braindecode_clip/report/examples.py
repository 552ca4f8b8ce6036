"""Which test samples are shown with their nearest candidates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from braindecode_clip.artifacts import Retrieval


@dataclass(frozen=True)
class Candidate:
    """One candidate: its id, its similarity to the prediction, and whether it is the true one."""

    stimulus_id: str
    similarity: float
    is_true: bool


@dataclass(frozen=True)
class Example:
    """One test sample and its nearest candidates, best first."""

    stimulus_id: str
    group: str
    n_repeats: int
    rank: float
    n_gallery: int
    true_similarity: float
    candidates: tuple[Candidate, ...]


def choose_examples(
    retrieval: Retrieval, *, per_group: int, n_candidates: int
) -> dict[str, list[Example]]:
    """Take the best, the median and the worst test samples by the rank of the true candidate.

    Ties of the rank are ordered by how far the true candidate's similarity lies above the
    best other one, so the choice depends on the numbers alone. With few samples a group
    may be shorter; no sample is shown twice.

    Parameters
    ----------
    retrieval : Retrieval
    per_group : int
        Samples in each group.
    n_candidates : int
        Nearest candidates of each.

    Returns
    -------
    dict of str to list of Example
        Keys best, median, worst; without groups that have no sample.
    """
    n_queries = len(retrieval.queries)
    order = np.lexsort((-_margin(retrieval), retrieval.queries["rank"].to_numpy(dtype=float)))
    size = min(per_group, n_queries // 3 or 1) if per_group else 0
    middle = max(size, (n_queries - size) // 2)
    places = {
        "best": range(size),
        "median": range(middle, min(middle + size, n_queries)),
        "worst": range(max(middle + size, n_queries - size), n_queries),
    }
    return {
        group: [_example(retrieval, int(order[place]), n_candidates) for place in chosen]
        for group, chosen in places.items()
        if len(chosen)
    }


def _margin(retrieval: Retrieval) -> np.ndarray:
    """Similarity of the true candidate minus that of the best other one."""
    rows = np.arange(len(retrieval.queries))
    others = retrieval.similarity.astype(np.float64)
    true = others[rows, retrieval.true_index]
    if others.shape[1] == 1:
        return true
    others[rows, retrieval.true_index] = -np.inf
    return true - others.max(axis=1)


def _example(retrieval: Retrieval, row: int, n_candidates: int) -> Example:
    query = retrieval.queries.iloc[row]
    similarity = retrieval.similarity[row]
    true = int(retrieval.true_index[row])
    # Among equals the true one comes last: a tie is no success.
    nearest = np.lexsort((np.arange(len(similarity)) == true, -similarity))[:n_candidates]
    return Example(
        stimulus_id=str(query["stimulus_id"]),
        group=str(query["group"]),
        n_repeats=int(query.get("n_repeats", 1)),
        rank=float(query["rank"]),
        n_gallery=len(similarity),
        true_similarity=float(similarity[true]),
        candidates=tuple(
            Candidate(str(retrieval.gallery_ids[column]), float(similarity[column]), column == true)
            for column in nearest
        ),
    )


def confusion(retrieval: Retrieval) -> pd.DataFrame:
    """Return how often each candidate came first for each stimulus that was seen.

    Ties share: every candidate of a tie gets its part.

    Returns
    -------
    DataFrame (n_gallery, n_gallery)
        Share of a row's samples (0 to 1), NaN in rows that were never seen.
    """
    names = retrieval.gallery_ids.astype(str)
    first = retrieval.similarity == retrieval.similarity.max(axis=1, keepdims=True)
    weights = first / first.sum(axis=1, keepdims=True)
    table = np.full((len(names), len(names)), np.nan)
    for column in np.unique(retrieval.true_index):
        table[column] = weights[retrieval.true_index == column].mean(axis=0)
    return pd.DataFrame(table, index=names, columns=names)
