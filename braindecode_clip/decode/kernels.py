"""Kernel ridge regression: cosine and Gaussian kernels, penalties by exact K-fold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from braindecode_clip.decode.closed_form import ClosedFormDecoder, TrainingData
from braindecode_clip.decode.grams import (
    GramRoute,
    centre,
    held_out_predictions,
    in_working_precision,
    mean_squared_errors,
)
from braindecode_clip.decode.ridge import check_alphas
from braindecode_clip.decode.tables import column_means

#: Default penalties: a kernel's values are at most 1, so its eigenvalues add up to n_samples.
KERNEL_ALPHAS = tuple(float(alpha) for alpha in np.logspace(-4, 3, 20))
#: Default widths of the Gaussian kernel, as multiples of the median heuristic's gamma.
SCALES = (0.03, 0.1, 0.3, 1.0)
KernelName = Literal["cosine", "rbf"]


class KernelRidgeDecoder(ClosedFormDecoder):
    r"""Ridge regression in the space of a kernel, one penalty for every target.

    For target t it minimises :math:`\sum_i (y_{it} - f(x_i) - b)^2 + α_t \|f\|_K^2` with an
    unpenalised intercept b. Penalties have the smallest mean squared error over all held-out
    rows; the residuals are exact and come from one eigendecomposition for each kernel
    (:class:`braindecode_clip.decode.grams.GramRoute`).

    Parameters
    ----------
    kernel : {"cosine", "rbf"}, default "cosine"
        ``xᵀz / (‖x‖ ‖z‖)``, or ``exp(-γ ‖x - z‖²)``.
    alphas : sequence of float, default 20 from 10⁻⁴ to 10³ in equal ratios
    cv : int, splitter or iterable of (train, test), default 5
        As in :class:`~braindecode_clip.decode.RidgeDecoder`.
    scales : sequence of float, default 0.03, 0.1, 0.3, 1
        For "rbf": values of γ to choose from, as multiples of 1 / median ‖x_i - x_j‖² over the
        pairs of training rows (the median heuristic). One is chosen for all targets together,
        by the sum of their errors relative to their variances.
    out_of_fold : bool, default False
        Keep the predictions of every row by the model fitted without its fold.

    Attributes
    ----------
    alpha_ : ndarray (n_targets,)
    gamma_ : float or None
        γ of the Gaussian kernel.
    rows_ : ndarray (n_samples, n_voxels)
        The training rows: a prediction compares with them.
    dual_coef_ : ndarray (n_samples, n_targets)
    intercept_ : ndarray (n_targets,)
    cv_mse_ : ndarray (n_alphas, n_targets)
    best_score_ : ndarray (n_targets,)
        Negative mean squared held-out error of the chosen penalty.
    out_of_fold_ : ndarray (n_samples, n_targets) or (n_samples,)
        With ``out_of_fold=True``.
    n_features_in_ : int

    Notes
    -----
    The median distance is taken over all training rows, held-out ones of the inner folds
    among them; it sees no target.
    """

    def __init__(
        self,
        kernel: KernelName = "cosine",
        alphas: Iterable[float] = KERNEL_ALPHAS,
        cv: Any = 5,
        *,
        scales: Iterable[float] = SCALES,
        out_of_fold: bool = False,
    ) -> None:
        self.kernel = kernel
        self.alphas = alphas
        self.cv = cv
        self.scales = scales
        self.out_of_fold = out_of_fold

    def _fit(self, data: TrainingData) -> None:
        if self.kernel not in ("cosine", "rbf"):
            raise ValueError(f"'kernel' is {self.kernel!r}, expected 'cosine' or 'rbf'.")
        X, Y = data.X, data.Y
        y_mean = column_means(Y, root=None)
        gammas: list[float | None] = [None]
        if self.kernel == "rbf":
            gammas = list(median_gamma(X) * check_alphas(self.scales))
        spread = data.variances()

        def compute(dtype: np.dtype) -> float:
            targets = np.ascontiguousarray((Y - y_mean).T, dtype=dtype)
            lowest = np.inf
            for gamma in gammas:
                gram = kernel_matrix(X, X, gamma=gamma)
                route = GramRoute(
                    centre(gram), targets=targets, alphas=data.alphas, folds=data.folds
                )
                errors = mean_squared_errors(route)
                loss = float((errors.min(axis=0) / spread).mean())
                if loss < lowest:
                    lowest = loss
                    self._keep(route, errors, gram=gram, gamma=gamma, y_mean=y_mean)
            return lowest

        in_working_precision(X.dtype, compute)
        self.rows_ = X.copy()
        self.dual_coef_ = self.dual_coef_.astype(X.dtype, copy=False)
        self.intercept_ = self.intercept_.astype(X.dtype, copy=False)

    def _keep(
        self,
        route: GramRoute,
        errors: np.ndarray,
        *,
        gram: np.ndarray,
        gamma: float | None,
        y_mean: np.ndarray,
    ) -> None:
        best = errors.argmin(axis=0)
        self.alpha_ = route.alphas[best]
        self.gamma_ = None if gamma is None else float(gamma)
        self.cv_mse_ = errors
        self.best_score_ = -errors.min(axis=0)
        self.dual_coef_ = route.dual_at(best)
        # The columns add up to 0, so centring the new row's kernel values only moves the mean.
        self.intercept_ = y_mean - gram.mean(axis=0) @ self.dual_coef_
        if self.out_of_fold:
            held = held_out_predictions(route, best) + y_mean.astype(route.targets.dtype)
            self.out_of_fold_ = self._shaped(held)

    def _predict(self, X: np.ndarray) -> np.ndarray:
        return predict_from_rows(
            X, self.rows_, gamma=self.gamma_, dual_coef=self.dual_coef_, intercept=self.intercept_
        )


def predict_from_rows(
    X: np.ndarray,
    rows: np.ndarray,
    *,
    gamma: float | None,
    dual_coef: np.ndarray,
    intercept: np.ndarray,
) -> np.ndarray:
    """Predict with the arrays of a fitted :class:`KernelRidgeDecoder`; (n_samples, n_targets)."""
    values = kernel_matrix(X, rows, gamma=gamma)
    return (values @ dual_coef + intercept).astype(X.dtype)


def kernel_matrix(X: np.ndarray, rows: np.ndarray, *, gamma: float | None) -> np.ndarray:
    """Compare every row of X with every training row.

    Parameters
    ----------
    X : ndarray (n_samples, n_voxels)
    rows : ndarray (n_rows, n_voxels)
    gamma : float or None
        Of the Gaussian kernel; None is the cosine kernel.

    Returns
    -------
    ndarray (n_samples, n_rows) float64
    """
    if gamma is None:
        return _unit(X) @ _unit(rows).T
    return np.exp(-gamma * squared_distances(X, rows))


def squared_distances(X: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return ``‖x_i - z_j‖²``; (n_samples, n_rows) float64, at least 0."""
    # A common shift changes no distance, and without it the squares would cancel.
    mean = column_means(rows, root=None)
    left, right = X - mean, rows - mean
    squares = np.einsum("ij,ij->i", left, left)[:, None] + np.einsum("ij,ij->i", right, right)
    return np.maximum(squares - 2 * left @ right.T, 0)


def median_gamma(X: np.ndarray) -> float:
    """Return 1 / median squared distance between two rows; 1 where all rows are equal."""
    distances = squared_distances(X, X)[np.triu_indices(len(X), k=1)]
    middle = float(np.median(distances))
    return 1 / middle if middle > 0 else 1.0


def _unit(rows: np.ndarray) -> np.ndarray:
    """Scale every row to length 1, in float64; a row of zeros stays."""
    rows = rows.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)
