"""One prediction for each picture or category, and the embeddings that it is compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from braindecode_clip.artifacts import Embeddings, Predictions
from braindecode_clip.errors import DataError


@dataclass(frozen=True)
class Averages:
    """Mean predictions and the vectors of their candidates.

    Attributes
    ----------
    names : ndarray (n,) str
        Of the pictures or categories, sorted.
    predicted : ndarray (n, n_dims)
    gallery : ndarray (n_gallery, n_dims)
        Candidate i is the true one of prediction i; others stand behind them.
    """

    names: np.ndarray
    predicted: np.ndarray
    gallery: np.ndarray


def picture_averages(predictions: Predictions, embeddings: Embeddings) -> Averages:
    """Average the predictions of every test picture, each weighing as many repeats as it has.

    Raises
    ------
    DataError
        Tokens with several samples a picture, whose mean would not fit in memory.
    """
    shown = predictions.stimulus_id.astype(str)
    names, labels = np.unique(shown, return_inverse=True)
    gallery = embeddings.vectors[embeddings.rows(names)]
    if len(names) == len(shown):
        order = np.argsort(labels)
        return Averages(names, predictions.vectors[order], gallery)
    if len(predictions.vectors.shape) == 3:
        raise DataError(
            "the targets are tokens and a picture has several samples: set "
            "`retrieve.average_predictions`"
        )
    weights = predictions.n_repeats.astype(np.float64)
    return Averages(names, _means(predictions.vectors, labels, weights), gallery)


def category_averages(
    predictions: Predictions, embeddings: Embeddings, categories: dict[str, str]
) -> tuple[Averages, int]:
    """Average predictions of test pictures, and embeddings of all pictures, by category.

    Parameters
    ----------
    predictions, embeddings
    categories : dict
        Stimulus to category; those without one are left out.

    Returns
    -------
    averages : Averages
        Test categories first, then all others that have an embedding.
    n_trained : int
        Test categories with training pictures.
    """
    shown = np.array([categories.get(str(name), "") for name in predictions.stimulus_id])
    embedded = np.array([categories.get(str(name), "") for name in embeddings.ids])
    names = np.unique(shown[shown != ""])
    others = np.setdiff1d(embedded[embedded != ""], names)
    order = np.concatenate([names, others])
    kept = np.flatnonzero(shown != "")
    predicted = _means(
        predictions.vectors[kept],
        np.searchsorted(names, shown[kept]),
        predictions.n_repeats[kept].astype(np.float64),
    )
    rows = np.flatnonzero(embedded != "")
    place = {name: i for i, name in enumerate(order)}
    gallery = _means(
        embeddings.vectors[rows], np.array([place[name] for name in embedded[rows]]), None
    )
    trained = {categories.get(str(name), "") for name in predictions.train_ids}
    return Averages(names, predicted, gallery), len(trained & set(names.tolist()))


def _means(vectors: np.ndarray, labels: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Return the weighted mean of every label's vectors, (n_labels, n_dims) float64."""
    weights = np.ones(len(labels)) if weights is None else weights
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(labels.max() + 1))
    sums = np.add.reduceat(np.asarray(vectors, np.float64)[order] * weights[order, None], starts)
    return sums / np.add.reduceat(weights[order], starts)[:, None]
