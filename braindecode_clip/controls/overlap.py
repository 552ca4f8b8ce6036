"""How near the test pictures lie to the training pictures in embedding space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from braindecode_clip.artifacts import Embeddings, Fold
from braindecode_clip.similarity import similarity_blocks

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def nearest_cosines(
    queries: np.ndarray, gallery: np.ndarray, *, itself: bool = False
) -> np.ndarray:
    """Return the cosine of every query with its nearest candidate, (n_queries,) float32.

    Parameters
    ----------
    queries, gallery : ndarray (n, n_dims)
    itself : bool
        The gallery is the queries: nobody is its own neighbour.
    """
    nearest = np.empty(len(queries), dtype=np.float32)
    for part, block in similarity_blocks(queries, gallery):
        if itself:
            rows = np.arange(len(block))
            block[rows, rows + part.start] = -np.inf
        nearest[part] = block.max(axis=1)
    return nearest


def overlap(
    folds: Sequence[Fold], embeddings: Embeddings, *, near_duplicate: float
) -> dict[str, Any]:
    """Compare test-to-train with train-to-train neighbours.

    Parameters
    ----------
    folds : sequence of Fold
        Without a test stimulus in train; at least two training stimuli each.
    embeddings : Embeddings
    near_duplicate : float
        Cosine from which two pictures count as near duplicates.

    Returns
    -------
    dict
        n_test, n_train (distinct stimuli, summed over folds); ``test_to_train`` and
        ``train_to_train`` (quantiles of the cosine with the nearest training picture, and with
        the nearest other one); ``mean_percentile`` (mean share of training pictures whose
        nearest other one is less similar, ties one half: .5 when the test pictures lie among
        the training pictures as these among themselves); ``train_nearer`` (share of test
        pictures with a training picture nearer than any other test picture) and
        ``train_nearer_expected`` (the same if train and test were drawn alike: n_train /
        (n_train + n_test - 1)); ``near_duplicates`` (share), ``near_duplicate_ids`` and
        ``threshold``.
    """
    to_train, among_train, percentile, nearer, expected, doubles = [], [], [], [], [], []
    for fold in folds:
        train, test = np.unique(fold.train.stimulus_id), np.unique(fold.test.stimulus_id)
        known = embeddings.vectors[embeddings.rows(train)]
        shown = embeddings.vectors[embeddings.rows(test)]
        own = nearest_cosines(shown, known)
        among = np.sort(nearest_cosines(known, known, itself=True))
        below = np.searchsorted(among, own, side="left")
        up_to = np.searchsorted(among, own, side="right")
        percentile.append((below + up_to) / 2 / len(among))
        if len(test) > 1:
            nearer.append(own > nearest_cosines(shown, shown, itself=True))
            expected.append(np.full(len(test), len(train) / (len(train) + len(test) - 1)))
        doubles += test[own >= near_duplicate].astype(str).tolist()
        to_train.append(own)
        among_train.append(among)
    tested, trained = np.concatenate(to_train), np.concatenate(among_train)
    return {
        "n_test": len(tested),
        "n_train": len(trained),
        "test_to_train": _quantiles(tested),
        "train_to_train": _quantiles(trained),
        "mean_percentile": float(np.concatenate(percentile).mean()),
        "train_nearer": float(np.concatenate(nearer).mean()) if nearer else None,
        "train_nearer_expected": float(np.concatenate(expected).mean()) if nearer else None,
        "near_duplicates": len(doubles) / len(tested),
        "near_duplicate_ids": doubles,
        "threshold": near_duplicate,
    }


def _quantiles(values: np.ndarray) -> dict[str, float]:
    found = np.quantile(values.astype(np.float64), QUANTILES)
    return {f"q{100 * q:g}": float(value) for q, value in zip(QUANTILES, found, strict=True)}
