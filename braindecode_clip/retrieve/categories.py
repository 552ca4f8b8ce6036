"""Scores of categories: of their candidates, the mean or the best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from braindecode_clip.errors import ConfigError, DataError

CategoryScore = Literal["mean", "max"]


def category_scores(
    similarity: np.ndarray, categories: Sequence[str], *, score: CategoryScore = "mean"
) -> tuple[np.ndarray, np.ndarray]:
    """Score every category by the similarities of its candidates.

    Parameters
    ----------
    similarity : array (n_queries, n_gallery)
    categories : sequence of str (n_gallery,)
        Category of every candidate; empty (or NaN) for candidates without one. With one
        candidate a category, such as its encoded name, its score is that similarity.
    score : {"mean", "max"}
        Over a category's candidates. "max" favours categories with many candidates.

    Returns
    -------
    names : ndarray (n_categories,) str
        Sorted.
    scores : ndarray (n_queries, n_categories) float32

    Raises
    ------
    ConfigError
        Unknown score.
    DataError
        Another number of categories than of candidates, or none.
    """
    if score not in get_args(CategoryScore):
        raise ConfigError(f"score: got {score!r}, expected one of {get_args(CategoryScore)}.")
    similarity = np.asarray(similarity)
    labels = np.array(["" if name is None or name != name else str(name) for name in categories])
    if similarity.ndim != 2 or similarity.shape[1] != len(labels):
        raise DataError(
            f"categories: got {len(labels)} for similarities of shape {similarity.shape}; one is "
            "needed for each candidate."
        )
    names = np.unique(labels[labels != ""])
    if not len(names):
        raise DataError("categories: no candidate has one.")
    scores = np.empty((len(similarity), len(names)), dtype=np.float32)
    for column, name in enumerate(names):
        part = similarity[:, labels == name].astype(np.float64)
        scores[:, column] = part.mean(axis=1) if score == "mean" else part.max(axis=1)
    return names, scores
