"""Ridge through a bottleneck: on principal components, and of reduced rank."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from braindecode_clip.decode.closed_form import ClosedFormDecoder, TrainingData
from braindecode_clip.decode.grams import mean_of_folds
from braindecode_clip.decode.ridge import ALPHAS
from braindecode_clip.decode.spectrum import (
    column_gram,
    cross_products,
    eigh,
    eigh_without,
    row_gram,
)
from braindecode_clip.decode.tables import VoxelTable, column_means

#: Default numbers of components, and default ranks, to choose from.
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class PrincipalAxes:
    """The principal axes of some rows, with the targets on them; all in float64.

    Parameters
    ----------
    X : ndarray (n_samples, n_voxels)
    Y : ndarray (n_samples, n_targets)

    Attributes
    ----------
    values : ndarray (m,)
        Squared singular values of the centred rows, descending, those above rounding alone.
    projected : ndarray (m, n_targets)
        ``Uᵀ Yc``, with the left singular vectors U.
    x_mean, y_mean : ndarray
    """

    def __init__(self, X: np.ndarray, Y: np.ndarray) -> None:
        self.x_mean, self.y_mean = column_means(X, root=None), column_means(Y, root=None)
        centred = Y - self.y_mean
        self.by_rows = len(X) <= X.shape[1]
        self.table = VoxelTable(X, mean=self.x_mean, root=None)
        if self.by_rows:
            constant = np.full(len(X), len(X) ** -0.5)
            values, vectors = eigh_without(row_gram(self.table), constant)
        else:
            cross = cross_products(self.table, centred.T)
            values, vectors = eigh(column_gram(self.table))
        size = np.finfo(np.float64).eps * max(X.shape)
        kept = np.flatnonzero(values > size * values.max(initial=0))[::-1]
        self.values = values[kept]
        self.vectors = vectors[:, kept]
        if self.by_rows:
            self.projected = self.vectors.T @ centred
            self.vectors /= np.sqrt(self.values)
        else:
            self.projected = (cross @ self.vectors).T / np.sqrt(self.values)[:, None]

    def scores(self, X: np.ndarray) -> np.ndarray:
        """Return the coordinates of rows on the axes; (n_samples, m)."""
        if not self.by_rows:
            return (X - self.x_mean) @ self.vectors
        products = np.zeros((len(X), self.table.shape[0]))
        for part, block in self.table.columns():
            products += (X[:, part] - self.x_mean[part]) @ block.T
        return products @ self.vectors

    def in_voxels(self, weights: np.ndarray) -> np.ndarray:
        """Return weights on the axes (m, n) as weights of voxels (n_voxels, n)."""
        if not self.by_rows:
            return self.vectors @ weights
        dual = self.vectors @ weights
        found = np.empty((self.table.shape[1], weights.shape[1]))
        for part, block in self.table.columns():
            found[part] = block.T @ dual
        return found

    def ridge(self, alpha: float | np.ndarray) -> np.ndarray:
        """Return ridge weights on the axes; (m, n_targets) for one penalty or one a target."""
        values = self.values[:, None]
        return np.sqrt(values) / (values + alpha) * self.projected

    def directions(self, alpha: float) -> np.ndarray:
        """Return the directions of the embedding that ridge fits best, in columns; (n_targets, m').

        Right singular vectors of the fitted values of the ridge problem with its penalty rows,
        ``[X; √α I] B``, by their singular values.
        """
        fitted = np.sqrt(self.values / (self.values + alpha))[:, None] * self.projected
        return np.linalg.svd(fitted, full_matrices=False)[2].T


class _OnAxes(ClosedFormDecoder):
    """Weights that were found on principal axes, kept as weights of voxels."""

    def _store(self, axes: PrincipalAxes, weights: np.ndarray, dtype: np.dtype) -> None:
        coef = axes.in_voxels(weights)
        self.coef_ = coef.astype(dtype, copy=False)
        self.intercept_ = (axes.y_mean - axes.x_mean @ coef).astype(dtype)

    def _store_held(self, held: np.ndarray, folds: list[np.ndarray], dtype: np.dtype) -> None:
        self.out_of_fold_ = self._shaped(mean_of_folds(held, folds).astype(dtype, copy=False))


class PCARidgeDecoder(_OnAxes):
    """Ridge regression on principal components of the voxels.

    Components are fitted on the training rows of every fold alone. Their number, the same for
    all targets, minimises the sum of the targets' held-out errors, each relative to its
    variance and at its best penalty; the penalties are chosen for every target.

    Parameters
    ----------
    n_components : int or sequence of int, default 1, 2, 5, ... 1000
        Numbers of components to choose from; a number above the rank means all.
    alphas : sequence of float, default 20 from 1 to 10⁷ in equal ratios
    cv : int, splitter or iterable of (train, test), default 5
        As in :class:`~braindecode_clip.decode.RidgeDecoder`.
    out_of_fold : bool, default False
        Keep the predictions of every row by the model fitted without its fold.

    Attributes
    ----------
    n_components_ : int
    alpha_ : ndarray (n_targets,)
    coef_ : ndarray (n_voxels, n_targets)
        For voxels, components multiplied out.
    intercept_ : ndarray (n_targets,)
    cv_mse_ : ndarray (n_alphas, n_targets)
        At the chosen number of components.
    components_mse_ : ndarray (n_numbers, n_targets)
        Held-out error of every number of components at the best penalty.
    out_of_fold_ : ndarray (n_samples, n_targets) or (n_samples,)
        With ``out_of_fold=True``.
    n_features_in_ : int
    """

    def __init__(
        self,
        n_components: Any = SIZES,
        alphas: Iterable[float] = ALPHAS,
        cv: Any = 5,
        *,
        out_of_fold: bool = False,
    ) -> None:
        self.n_components = n_components
        self.alphas = alphas
        self.cv = cv
        self.out_of_fold = out_of_fold

    def _fit(self, data: TrainingData) -> None:
        X, Y, alphas, folds = data.X, data.Y, data.alphas, data.folds
        sizes = check_sizes(self.n_components, "n_components")
        errors = np.zeros((len(sizes), len(alphas), Y.shape[1]))
        parts = []
        for rows in folds:
            axes, scores = _held_out_scores(X, Y, rows)
            parts.append((axes, scores))
            for a, alpha in enumerate(alphas):
                predicted, start = np.tile(axes.y_mean, (len(rows), 1)), 0
                weights = axes.ridge(alpha)
                for s, size in enumerate(sizes):
                    predicted += scores[:, start:size] @ weights[start:size]
                    start = size
                    errors[s, a] += np.square(Y[rows] - predicted).sum(axis=0)
        errors /= sum(map(len, folds))
        self.components_mse_ = errors.min(axis=1)
        chosen = int((self.components_mse_ / data.variances()).mean(axis=1).argmin())
        size = sizes[chosen]
        self.cv_mse_ = errors[chosen]
        self.alpha_ = alphas[self.cv_mse_.argmin(axis=0)]
        axes = PrincipalAxes(X, Y)
        self.n_components_ = int(min(size, len(axes.values)))
        weights = axes.ridge(self.alpha_)
        weights[size:] = 0
        self._store(axes, weights, X.dtype)
        if self.out_of_fold:
            held = np.zeros(Y.shape)
            for rows, (axes, scores) in zip(folds, parts, strict=True):
                held[rows] += axes.y_mean + scores[:, :size] @ axes.ridge(self.alpha_)[:size]
            self._store_held(held, folds, X.dtype)


class ReducedRankDecoder(_OnAxes):
    r"""Ridge regression whose map from voxels to embedding has a given rank.

    It minimises :math:`\|Y - X B - 1 b^\top\|^2 + α \|B\|^2` over all B of rank r: ridge's
    solution, projected on the r directions of the embedding that it fits best (Mukherjee &
    Zhu, Statistical Analysis and Data Mining 2011, https://doi.org/10.1002/sam.10138). Rank
    and penalty, the same for all targets, have the smallest squared error over all held-out
    rows and targets.

    Parameters
    ----------
    ranks : int or sequence of int, default 1, 2, 5, ... 1000
        Ranks to choose from; a number above what the data allow means no limit.
    alphas : sequence of float, default 20 from 1 to 10⁷ in equal ratios
    cv : int, splitter or iterable of (train, test), default 5
        As in :class:`~braindecode_clip.decode.RidgeDecoder`.
    out_of_fold : bool, default False
        Keep the predictions of every row by the model fitted without its fold.

    Attributes
    ----------
    rank_ : int
    alpha_ : float
    coef_ : ndarray (n_voxels, n_targets)
    intercept_ : ndarray (n_targets,)
    cv_mse_ : ndarray (n_ranks, n_alphas)
        Mean over held-out rows and targets.
    out_of_fold_ : ndarray (n_samples, n_targets) or (n_samples,)
        With ``out_of_fold=True``.
    n_features_in_ : int
    """

    def __init__(
        self,
        ranks: Any = SIZES,
        alphas: Iterable[float] = ALPHAS,
        cv: Any = 5,
        *,
        out_of_fold: bool = False,
    ) -> None:
        self.ranks = ranks
        self.alphas = alphas
        self.cv = cv
        self.out_of_fold = out_of_fold

    def _fit(self, data: TrainingData) -> None:
        X, Y, alphas, folds = data.X, data.Y, data.alphas, data.folds
        ranks = check_sizes(self.ranks, "ranks")
        parts = [_held_out_scores(X, Y, rows) for rows in folds]
        errors = np.zeros((len(ranks), len(alphas)))
        for rows, (axes, scores) in zip(folds, parts, strict=True):
            truth = Y[rows] - axes.y_mean
            for a, alpha in enumerate(alphas):
                directions = axes.directions(alpha)
                predicted = scores @ (axes.ridge(alpha) @ directions)
                # Directions are orthonormal, so each takes its own share off the error.
                gains = (predicted * (2 * truth @ directions - predicted)).sum(axis=0)
                reached = np.concatenate([[0.0], np.cumsum(gains)])
                kept = np.minimum(ranks, len(gains))
                errors[:, a] += np.square(truth).sum() - reached[kept]
        self.cv_mse_ = errors / (sum(map(len, folds)) * Y.shape[1])
        r, a = np.unravel_index(self.cv_mse_.argmin(), errors.shape)
        self.alpha_ = float(alphas[a])
        axes = PrincipalAxes(X, Y)
        weights, self.rank_ = _reduced(axes, self.alpha_, ranks[r])
        self._store(axes, weights, X.dtype)
        if self.out_of_fold:
            held = np.zeros(Y.shape)
            for rows, (axes, scores) in zip(folds, parts, strict=True):
                held[rows] += axes.y_mean + scores @ _reduced(axes, self.alpha_, ranks[r])[0]
            self._store_held(held, folds, X.dtype)


def check_sizes(sizes: Any, name: str) -> np.ndarray:
    """Return numbers of components or ranks in ascending order, or raise ValueError."""
    values = np.unique(np.atleast_1d(np.asarray(sizes)))
    if values.dtype.kind not in "iu" or not len(values) or (values < 1).any():
        raise ValueError(f"'{name}' must be one or more whole numbers from 1, got {sizes!r}.")
    return values


def _held_out_scores(
    X: np.ndarray, Y: np.ndarray, rows: np.ndarray
) -> tuple[PrincipalAxes, np.ndarray]:
    """Return the axes of all rows but these, and the coordinates of these on them."""
    kept = np.ones(len(X), dtype=bool)
    kept[rows] = False
    axes = PrincipalAxes(X[kept], Y[kept])
    return axes, axes.scores(X[rows])


def _reduced(axes: PrincipalAxes, alpha: float, rank: int) -> tuple[np.ndarray, int]:
    """Return weights on the axes of this rank at most (m, n_targets), and the rank."""
    directions = axes.directions(alpha)[:, :rank]
    return axes.ridge(alpha) @ directions @ directions.T, directions.shape[1]
