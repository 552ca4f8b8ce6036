"""The space that the training rows span: where linear decoders of few trials live.

Ridge weights and every gradient of a loss of linear predictions are combinations of training
rows. With n rows and p voxels, n ≪ p, they have r ≤ n - 1 coordinates in an orthonormal basis
V of that space: W = V B, predictions X W = (X V) B, and ‖W‖ = ‖B‖.
"""

from __future__ import annotations

import numpy as np

from braindecode_clip.decode.spectrum import column_gram, eigh, eigh_without, row_gram
from braindecode_clip.decode.tables import VoxelTable, column_means

#: Directions of less than this share of the largest eigenvalue are rounding.
SMALLEST = 1e-12
#: Float64 numbers of weights that are alive at one time.
BLOCK_NUMBERS = 2**24


class RowSpace:
    """An orthonormal basis of the centred training rows, by decreasing variance.

    Parameters
    ----------
    X : ndarray (n_samples, n_voxels) float32 or float64
        Kept, not copied.
    n_components : int, optional
        Keep only so many directions (principal components); all by default, which loses
        nothing.

    Attributes
    ----------
    mean : ndarray (n_voxels,) float64
    scores : ndarray (n_samples, r) float64
        Coordinates of the centred rows.
    """

    def __init__(self, X: np.ndarray, *, n_components: int | None = None) -> None:
        self._X = X
        self.mean = column_means(X, root=None)
        self._by_rows = len(X) <= X.shape[1]
        table = VoxelTable(X, mean=self.mean, root=None)
        if self._by_rows:
            constant = np.full(len(X), len(X) ** -0.5)
            values, vectors = eigh_without(row_gram(table), constant)
        else:
            values, vectors = eigh(column_gram(table))
        kept = np.flatnonzero(values > SMALLEST * max(values[-1], np.finfo(float).tiny))[::-1]
        kept = kept[: n_components or len(kept)]
        vectors = vectors[:, kept]
        if self._by_rows:
            root = np.sqrt(values[kept])
            self.scores = vectors * root
            self._vectors = vectors / root
        else:
            self._vectors = vectors
            self.scores = X @ vectors - self.mean @ vectors

    def weights(self, B: np.ndarray) -> np.ndarray:
        """Return ``V B``; (n_voxels, n_targets) in the dtype of X."""
        inner = self._vectors @ B
        if not self._by_rows:
            return inner.astype(self._X.dtype)
        # The columns of the vectors are orthogonal to the constant: X needs no centring.
        return self._X.T @ inner.astype(self._X.dtype)


def ridge_in(
    scores: np.ndarray, Y: np.ndarray, *, alpha: np.ndarray, dtype: type = np.float32
) -> np.ndarray:
    """Solve ridge with a penalty for every target on centred rows and targets.

    Parameters
    ----------
    scores : ndarray (n, r) float64
    Y : ndarray (n, n_targets)
    alpha : ndarray (n_targets,)
    dtype : type
        Of the result.

    Returns
    -------
    ndarray (r, n_targets)
        Computed in float64, some targets at a time.
    """
    values, vectors = eigh(scores.T @ scores)
    weights = np.empty((scores.shape[1], Y.shape[1]), dtype=dtype)
    step = max(1, BLOCK_NUMBERS // max(scores.shape))
    for start in range(0, Y.shape[1], step):
        part = slice(start, start + step)
        projected = vectors.T @ (scores.T @ Y[:, part])
        filtered = projected / (np.maximum(values, 0)[:, None] + alpha[part])
        weights[:, part] = vectors @ filtered
    return weights
