"""Ridge regression with a penalty for every target, chosen by exact K-fold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.model_selection import GroupKFold, KFold, check_cv
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from braindecode_clip.decode.leave_out import (
    NotPositiveError,
    Route,
    choose_route,
)
from braindecode_clip.decode.spectrum import column_means
from braindecode_clip.logs import get_logger

logger = get_logger(__name__)

#: Default penalties: twenty from 1 to 10^7.
ALPHAS = tuple(float(alpha) for alpha in np.logspace(0, 7, 20))
#: Bytes of held-out residuals that are alive at one time.
RESIDUAL_BYTES = 2**23
#: A penalty at the end of the grid matters where the target is predicted at all (R²).
EDGE_R2 = 0.01
#: Share of such targets above which the grid is called too narrow.
EDGE_SHARE = 0.25


class RidgeDecoder(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Ridge regression from voxels to embeddings, one penalty for every target.

    For target t it minimises ``‖y_t - X w - b‖² + α_t ‖w‖²``, the objective of
    scikit-learn's ``Ridge(alpha)`` with an unpenalised intercept. ``α_t`` is the penalty with
    the smallest mean squared error over all held-out rows together (rows, not folds, have
    equal weight). The held-out residuals are exact, those of refitted models, and come from
    one eigendecomposition (:mod:`braindecode_clip.decode.leave_out`).

    Parameters
    ----------
    alphas : sequence of float, default 20 from 1 to 10⁷ in equal ratios
        Penalties to choose from, above 0. ``α`` has the scale of the eigenvalues of
        ``Xᵀ X``: for z-scored voxels these add up to n_samples · n_voxels.
    cv : int, splitter or iterable of (train, test), default 5
        An int means scikit-learn's ``KFold(cv)``, unshuffled, or ``GroupKFold(cv)`` where
        ``fit`` is given groups. In every split the training part must be all rows that are
        not held out.
    out_of_fold : bool, default False
        Keep the predictions of every row by the model fitted without its fold.

    Attributes
    ----------
    alpha_ : ndarray (n_targets,)
        Penalty of every target; the first in ``alphas`` where several are equally good.
    coef_ : ndarray (n_voxels, n_targets)
    intercept_ : ndarray (n_targets,)
    cv_mse_ : ndarray (n_alphas, n_targets)
        Mean squared error over the held-out rows.
    best_score_ : ndarray (n_targets,)
        Negative mean squared error of the chosen penalty.
    at_edge_ : ndarray (n_targets,) bool
        The best penalty is the smallest or largest on offer, and the target is predicted
        with a cross-validated R² above 0.01: a wider grid may do better.
    out_of_fold_ : ndarray (n_samples, n_targets) or (n_samples,)
        With ``out_of_fold=True``; NaN for a row that no fold holds out, the mean where
        several do.
    n_features_in_ : int

    Notes
    -----
    The Gram matrix, its decomposition and the weights are computed in float64, the held-out
    residuals of the grid in the dtype of X (in float64 too, should a penalty be so small
    that float32 cannot tell it from none).

    Scaling X inside the folds is not part of this: scale beforehand, run by run or with the
    statistics of the whole training set.

    With n rows, p voxels, t targets and m = min(n, p) the working memory is about
    4 m² + 2 n t float64 numbers besides blocks of about 32 MB.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((60, 200))
    >>> Y = X[:, :3] + 0.1 * rng.standard_normal((60, 3))
    >>> RidgeDecoder(alphas=[1.0, 10.0], cv=3).fit(X, Y).coef_.shape
    (200, 3)
    """

    def __init__(
        self,
        alphas: Iterable[float] = ALPHAS,
        cv: Any = 5,
        *,
        out_of_fold: bool = False,
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.out_of_fold = out_of_fold

    def fit(self, X: Any, Y: Any, groups: Any = None) -> RidgeDecoder:
        """Choose the penalties and fit the weights.

        Parameters
        ----------
        X : array-like (n_samples, n_voxels) float
        Y : array-like (n_samples, n_targets) or (n_samples,) float
        groups : array-like (n_samples,), optional
            Rows of one group are held out together: runs, or repeats of one stimulus.

        Returns
        -------
        RidgeDecoder
            Itself.

        Raises
        ------
        ValueError
            For NaN, mismatched lengths, penalties that are not positive, or folds whose
            training part is not the complement of the test part.
        """
        X, Y = validate_data(
            self,
            X,
            Y,
            dtype=[np.float64, np.float32],
            multi_output=True,
            y_numeric=True,
            ensure_min_samples=2,
        )
        Y = np.asarray(Y, dtype=Y.dtype if Y.dtype.kind == "f" else np.float64)
        self._one_target = Y.ndim == 1
        Y = Y.reshape(len(Y), -1)
        alphas = check_alphas(self.alphas)
        folds = held_out_rows(self.cv, X, Y=Y, groups=groups)
        x_mean, y_mean = column_means(X), column_means(Y)
        route_type = choose_route(
            *X.shape, fold_sizes=[len(rows) for rows in folds], n_alphas=len(alphas)
        )
        dtypes = [np.float32, np.float64] if X.dtype == np.float32 else [np.float64]
        for dtype in map(np.dtype, dtypes):
            targets = np.ascontiguousarray((Y - y_mean).T, dtype=dtype)
            route = route_type(X, x_mean, targets=targets, alphas=alphas, folds=folds)
            try:
                errors = _squared_errors(route)
                break
            except NotPositiveError:
                if dtype == np.float64:
                    raise ValueError(
                        f"the smallest penalty, {alphas.min():g}, is lost in the rounding of "
                        f"the data: leave it out of 'alphas'."
                    ) from None
        best = errors.argmin(axis=0)
        self._store(route, best=best, errors=errors, alphas=alphas, n_held=sum(map(len, folds)))
        self.coef_ = route.coefficients_at(best).astype(X.dtype, copy=False)
        self.intercept_ = (y_mean - x_mean @ self.coef_).astype(X.dtype)
        self._warn_of_edges(targets, alphas)
        if self.out_of_fold:
            held = _held_out_predictions(route, best, y_mean)
            self.out_of_fold_ = held[:, 0] if self._one_target else held
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict; (n_samples, n_targets), or (n_samples,) when Y had one axis."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        predicted = X @ self.coef_ + self.intercept_
        return predicted[:, 0] if self._one_target else predicted

    def _store(
        self, route: Route, *, best: np.ndarray, errors: np.ndarray, alphas: np.ndarray, n_held: int
    ) -> None:
        self.alpha_ = alphas[best]
        self.cv_mse_ = errors / n_held
        self.best_score_ = -self.cv_mse_[best, np.arange(len(best))]

    def _warn_of_edges(self, targets: np.ndarray, alphas: np.ndarray) -> None:
        spread = np.einsum("tn,tn->t", targets, targets) / targets.shape[1]
        predicted = -self.best_score_ < (1 - EDGE_R2) * spread
        ends = (alphas.min(), alphas.max())
        self.at_edge_ = predicted & np.isin(self.alpha_, ends)
        if len(alphas) > 1 and self.at_edge_.mean() > EDGE_SHARE:
            logger.warning(
                "ridge: the best penalty of %d of %d targets lies at the end of the grid "
                "(%g to %g): widen 'alphas'.",
                self.at_edge_.sum(),
                len(targets),
                *ends,
            )


def check_alphas(alphas: Any) -> np.ndarray:
    """Return the penalties as a float64 vector, or raise ValueError."""
    values = check_array(np.atleast_1d(np.asarray(alphas, dtype=np.float64)), ensure_2d=False)
    if values.ndim != 1 or (values <= 0).any():
        raise ValueError(f"'alphas' must be one or more numbers above 0, got {alphas!r}.")
    return values


def held_out_rows(cv: Any, X: np.ndarray, *, Y: np.ndarray, groups: Any) -> list[np.ndarray]:
    """Return the held-out rows of every fold.

    Raises
    ------
    ValueError
        When the training part of a fold is not the complement of its test part.
    """
    if isinstance(cv, int | np.integer):
        cv = KFold(int(cv)) if groups is None else GroupKFold(int(cv))
    folds = []
    for train, test in check_cv(cv).split(X, Y, groups):
        held = np.zeros(len(X), dtype=bool)
        held[test] = True
        kept = np.zeros(len(X), dtype=bool)
        kept[train] = True
        if not (kept ^ held).all() or held.all() or not held.any():
            raise ValueError(
                "every fold of 'cv' must train on exactly the rows that it does not test, got "
                f"{kept.sum()} training and {held.sum()} test rows of {len(X)}, "
                f"{(kept & held).sum()} of them in both. Use KFold, GroupKFold, LeaveOneOut "
                "or a list of such pairs."
            )
        folds.append(np.flatnonzero(held))
    return folds


def _squared_errors(route: Route) -> np.ndarray:
    """Sum the squared held-out residuals of all folds; (n_alphas, n_targets) float64."""
    total = np.zeros((len(route.alphas), len(route.targets)))
    for fold, rows in enumerate(route.folds):
        row_bytes = len(rows) * len(route.alphas) * route.targets.dtype.itemsize
        total += route.squared_errors(fold, block=max(16, RESIDUAL_BYTES // row_bytes))
    return total


def _held_out_predictions(route: Route, best: np.ndarray, y_mean: np.ndarray) -> np.ndarray:
    """Return the mean held-out prediction of every row; (n_samples, n_targets)."""
    dtype = route.targets.dtype
    total = np.zeros(route.targets.shape[::-1], dtype=dtype)
    count = np.zeros((len(total), 1), dtype=dtype)
    for fold, rows in enumerate(route.folds):
        total[rows] += (route.targets[:, rows] - route.errors_at(fold, best)).T
        count[rows] += 1
    with np.errstate(invalid="ignore"):
        return total / count + y_mean.astype(dtype)
