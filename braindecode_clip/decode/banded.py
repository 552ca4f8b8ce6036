"""Banded ridge: a weight for every group of voxels and a penalty, for every target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import column_or_1d

from braindecode_clip.decode.closed_form import ClosedFormDecoder, TrainingData
from braindecode_clip.decode.downdate import Route, choose_route
from braindecode_clip.decode.grams import (
    GramRoute,
    held_out_predictions,
    in_working_precision,
    mean_squared_errors,
)
from braindecode_clip.decode.leave_out import DualRoute
from braindecode_clip.decode.ridge import ALPHAS
from braindecode_clip.decode.spectrum import row_gram
from braindecode_clip.decode.tables import VoxelTable, column_means

#: Concentrations of the Dirichlet draws: all over the simplex, and near its corners.
CONCENTRATIONS = (1.0, 0.1)


class BandedRidgeDecoder(ClosedFormDecoder):
    r"""Ridge regression with a weight for every band of voxels, chosen for every target.

    With weights γ on the simplex, target t is fitted by ridge with penalty :math:`α_t` on
    columns multiplied by :math:`\sqrt{γ_b}`: band b has the penalty :math:`α_t / γ_b`. Pairs
    (γ, α) are compared by their mean squared error over all held-out rows, which is exact and
    takes one eigendecomposition for each γ, of :math:`\sum_b γ_b K_b`
    (Dupré la Tour et al., NeuroImage 2022, https://doi.org/10.1016/j.neuroimage.2022.119728,
    random search).

    Parameters
    ----------
    bands : array-like (n_voxels,), optional
        Label of each voxel's band; one band by default, which is plain ridge.
    alphas : sequence of float, default 20 from 1 to 10⁷ in equal ratios
    cv : int, splitter or iterable of (train, test), default 5
        As in :class:`~braindecode_clip.decode.RidgeDecoder`.
    n_weights : int, default 50
        Weightings that are tried: equal weights, each band alone, then random ones
        (:func:`sample_weights`).
    out_of_fold : bool, default False
        Keep the predictions of every row by the model fitted without its fold.
    random_state : int, RandomState or None, default None
        Draws the weightings.

    Attributes
    ----------
    bands_ : ndarray (n_bands,)
        Labels in the order of the weights.
    weights_ : ndarray (n_bands, n_targets)
        Chosen weights, with sum 1.
    alpha_ : ndarray (n_targets,)
    coef_ : ndarray (n_voxels, n_targets)
        For the columns as given.
    intercept_ : ndarray (n_targets,)
    cv_mse_ : ndarray (n_alphas, n_targets)
        Held-out error at the chosen weights.
    weights_mse_ : ndarray (n_weights, n_targets)
        Held-out error of every weighting at its best penalty.
    best_score_ : ndarray (n_targets,)
        Negative mean squared held-out error of the chosen pair.
    out_of_fold_ : ndarray (n_samples, n_targets) or (n_samples,)
        With ``out_of_fold=True``.
    n_features_in_ : int

    Notes
    -----
    Memory, where rows are not many more than voxels: (n_bands + 4) n_samples² float64 numbers.
    """

    def __init__(
        self,
        bands: Any = None,
        alphas: Iterable[float] = ALPHAS,
        cv: Any = 5,
        *,
        n_weights: int = 50,
        out_of_fold: bool = False,
        random_state: Any = None,
    ) -> None:
        self.bands = bands
        self.alphas = alphas
        self.cv = cv
        self.n_weights = n_weights
        self.out_of_fold = out_of_fold
        self.random_state = random_state

    def _fit(self, data: TrainingData) -> None:
        X, Y = data.X, data.Y
        labels = np.zeros(X.shape[1], int) if self.bands is None else column_or_1d(self.bands)
        if len(labels) != X.shape[1]:
            raise ValueError(f"'bands' has {len(labels)} labels for {X.shape[1]} voxels.")
        self.bands_, band = np.unique(labels, return_inverse=True)
        weights = sample_weights(
            len(self.bands_), self.n_weights, rng=check_random_state(self.random_state)
        )
        y_mean = column_means(Y, root=None)

        def compute(dtype: np.dtype) -> None:
            targets = np.ascontiguousarray((Y - y_mean).T, dtype=dtype)
            routes = WeightedRoutes(X, band, alphas=data.alphas, folds=data.folds)
            self._search(routes, weights, targets=targets)
            self._refit(routes, weights, targets=targets)

        in_working_precision(X.dtype, compute)
        self.coef_ = self.coef_.astype(X.dtype, copy=False)
        self.intercept_ = (y_mean - column_means(X, root=None) @ self.coef_).astype(X.dtype)
        if self.out_of_fold:
            self.out_of_fold_ = self._shaped(self._held + y_mean.astype(self._held.dtype))
        del self._held, self._chosen

    def _search(self, routes: WeightedRoutes, weights: np.ndarray, *, targets: np.ndarray) -> None:
        """Find weighting and penalty of every target; the first where several are equally good."""
        n_targets = len(targets)
        self._chosen = np.zeros(n_targets, dtype=int)
        self.weights_mse_ = np.empty((len(weights), n_targets))
        lowest = np.full(n_targets, np.inf)
        self.cv_mse_ = np.empty((len(routes.alphas), n_targets))
        for i, weighting in enumerate(weights):
            errors = mean_squared_errors(routes.at(weighting, targets))
            self.weights_mse_[i] = errors.min(axis=0)
            better = self.weights_mse_[i] < lowest
            lowest[better] = self.weights_mse_[i, better]
            self.cv_mse_[:, better] = errors[:, better]
            self._chosen[better] = i
        self.weights_ = weights[self._chosen].T
        self.alpha_ = routes.alphas[self.cv_mse_.argmin(axis=0)]
        self.best_score_ = -lowest

    def _refit(self, routes: WeightedRoutes, weights: np.ndarray, *, targets: np.ndarray) -> None:
        """Fit the targets of every chosen weighting together."""
        best = self.cv_mse_.argmin(axis=0)
        self.coef_ = np.empty((len(routes.band), len(targets)))
        self._held = np.full(targets.shape[::-1], np.nan, dtype=targets.dtype)
        for i in np.unique(self._chosen):
            own = np.flatnonzero(self._chosen == i)
            route = routes.at(weights[i], targets[own])
            for part, block in routes.coefficients(route, weights[i], best[own]):
                self.coef_[part, own] = block
            if self.out_of_fold:
                self._held[:, own] = held_out_predictions(route, best[own])


class WeightedRoutes:
    """Leave-fold-out solvers for any weights of the bands of one voxel matrix.

    Parameters
    ----------
    X : ndarray (n_samples, n_voxels)
    band : ndarray (n_voxels,) int
        Position of each voxel's band.
    alphas : ndarray (n_alphas,)
    folds : sequence of ndarray
    """

    def __init__(
        self, X: np.ndarray, band: np.ndarray, *, alphas: np.ndarray, folds: list[np.ndarray]
    ) -> None:
        self.X, self.band, self.alphas, self.folds = X, band, alphas, folds
        self.mean = column_means(X, root=None)
        self.route = choose_route(
            *X.shape, fold_sizes=[len(rows) for rows in folds], n_alphas=len(alphas)
        )
        # Gram matrices add up over bands, so each is computed once for all weights.
        self.grams = None
        if self.route is DualRoute:
            parts = [band == b for b in range(band.max() + 1)]
            self.grams = [
                row_gram(VoxelTable(X[:, part], mean=self.mean[part], root=None)) for part in parts
            ]

    def at(self, weighting: np.ndarray, targets: np.ndarray) -> GramRoute | Route:
        """Return the solver at these weights (n_bands,), of targets (n_targets, n_samples)."""
        if self.grams is not None:
            gram = np.zeros_like(self.grams[0])
            for weight, own in zip(weighting, self.grams, strict=True):
                gram += weight * own
            return GramRoute(gram, targets=targets, alphas=self.alphas, folds=self.folds)
        root = np.sqrt(weighting)[self.band]
        route = self.route(
            VoxelTable(self.X * root, mean=self.mean * root, root=None),
            direction=np.full(len(self.X), len(self.X) ** -0.5),
            alphas=self.alphas,
            folds=self.folds,
            dtype=targets.dtype,
        )
        route.load(targets)
        return route

    def coefficients(
        self, route: GramRoute | Route, weighting: np.ndarray, best: np.ndarray
    ) -> Iterator[tuple[Any, np.ndarray]]:
        """Yield blocks of voxels with their weights, for the columns as they are."""
        factor = weighting[self.band][:, None]
        if not isinstance(route, GramRoute):
            for part, weights in route.coefficients_at(best):
                rows = np.arange(*part.indices(len(factor)))
                yield rows[:, None], np.sqrt(factor[part]) * weights
            return
        dual = route.dual_at(best)
        for part, block in VoxelTable(self.X, mean=self.mean, root=None).columns():
            yield np.arange(*part.indices(len(factor)))[:, None], factor[part] * (block.T @ dual)


def sample_weights(n_bands: int, n_weights: int, *, rng: np.random.RandomState) -> np.ndarray:
    """Draw weightings of bands: equal weights, each band alone, then Dirichlet draws.

    Concentrations 1 and 0.1 take turns, so that draws lie all over the simplex and near its
    corners.

    Returns
    -------
    ndarray (n_weights, n_bands) float64
        At least one; every row adds up to 1.
    """
    if n_weights < 1:
        raise ValueError(f"'n_weights' is {n_weights}, expected 1 or more.")
    if n_bands == 1:
        return np.ones((1, 1))
    fixed = [np.full((1, n_bands), 1 / n_bands), np.eye(n_bands)]
    drawn = [
        rng.dirichlet(np.full(n_bands, CONCENTRATIONS[i % len(CONCENTRATIONS)]))
        for i in range(max(0, n_weights - 1 - n_bands))
    ]
    return np.vstack([*fixed, *drawn])[:n_weights]
