"""Leave-fold-out errors of ridge regression on any kernel, and what all searches share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from sklearn.utils.validation import validate_data

from braindecode_clip.decode.downdate import Route
from braindecode_clip.decode.factors import NotPositiveError
from braindecode_clip.decode.leave_out import BlockRoute
from braindecode_clip.decode.spectrum import eigh_without

Found = TypeVar("Found")


class GramRoute(BlockRoute):
    """Ridge in the space of a kernel, from one decomposition of its centred Gram matrix.

    With an unpenalised intercept the smoother is that of the centred features, so
    ``A = α (C K C + αI)⁻¹ - 11ᵀ/n`` holds for any positive semi-definite kernel whose values do
    not depend on which rows are held out.

    Parameters
    ----------
    gram : ndarray (n_rows, n_rows) float64
        ``C K C``; overwritten.
    targets : ndarray (n_targets, n_rows)
        Centred; their dtype is that of the residuals.
    alphas : ndarray (n_alphas,)
    folds : sequence of ndarray
        Held-out rows of every fold.
    """

    def __init__(
        self,
        gram: np.ndarray,
        *,
        targets: np.ndarray,
        alphas: np.ndarray,
        folds: Sequence[np.ndarray],
    ) -> None:
        self.alphas, self.folds = alphas, folds
        self.direction = np.full(len(gram), len(gram) ** -0.5)
        self.values, self.vectors = eigh_without(gram, self.direction)
        self.factor = self.vectors.astype(targets.dtype, copy=False)
        filters = (self.values[0] + alphas[:, None]) / (self.values + alphas[:, None])
        self.prepare(filters, base=0.0, sign=1.0)
        self.targets, self.projected = targets, targets @ self.factor

    def coordinates(self) -> np.ndarray:
        """See :meth:`BlockRoute.coordinates`."""
        return self.targets.astype(np.float64, copy=False) @ self.vectors

    def dual_at(self, best: np.ndarray) -> np.ndarray:
        """Return ``(C K C + α_t I)⁻¹ y_t``; (n_rows, n_targets) float64, columns add up to 0."""
        scaled = self.coordinates()
        scaled /= self.values + self.alphas[best, None]
        return self.vectors @ scaled.T


def centre(gram: np.ndarray) -> np.ndarray:
    """Return ``C K C`` with ``C = I - 11ᵀ/n``; (n_rows, n_rows) float64."""
    means = gram.mean(axis=0)
    return gram - means - means[:, None] + means.mean()


def mean_squared_errors(route: GramRoute | Route) -> np.ndarray:
    """Return the mean squared held-out residual; (n_alphas, n_targets) float64."""
    return route.fold_errors() / sum(len(rows) for rows in route.folds)


def held_out_predictions(route: GramRoute | Route, best: np.ndarray) -> np.ndarray:
    """Return centred predictions by the models without a row's fold; (n_rows, n_targets).

    NaN for a row that no fold holds out, the mean where several do.
    """
    total = np.zeros(route.targets.shape[::-1], dtype=route.targets.dtype)
    for rows, errors in zip(route.folds, route.errors_at(best), strict=True):
        total[rows] += (route.targets[:, rows] - errors).T
    return mean_of_folds(total, route.folds)


def mean_of_folds(total: np.ndarray, folds: Sequence[np.ndarray]) -> np.ndarray:
    """Divide sums over folds by the number of folds that hold a row out; NaN for none."""
    count = np.zeros((len(total), 1), dtype=total.dtype)
    for rows in folds:
        count[rows] += 1
    with np.errstate(invalid="ignore"):
        return total / count


def in_working_precision(dtype: np.dtype, compute: Callable[[np.dtype], Found]) -> Found:
    """Compute with residuals in float32, and in float64 where that loses a small penalty.

    Raises
    ------
    ValueError
        When float64 loses it too.
    """
    if dtype == np.float32:
        try:
            return compute(np.dtype(np.float32))
        except NotPositiveError:
            pass
    try:
        return compute(np.dtype(np.float64))
    except NotPositiveError:
        raise ValueError(
            "the smallest penalty is lost in the rounding of the data: leave it out of 'alphas'."
        ) from None


def checked_data(estimator: Any, X: Any, Y: Any) -> tuple[np.ndarray, np.ndarray, bool]:
    """Check X and Y as scikit-learn does.

    Returns
    -------
    X : ndarray (n_samples, n_voxels) float32 or float64
    Y : ndarray (n_samples, n_targets) float
    one_target : bool
        Y had one axis.
    """
    X, Y = validate_data(
        estimator,
        X,
        Y,
        dtype=[np.float64, np.float32],
        multi_output=True,
        y_numeric=True,
        ensure_min_samples=2,
    )
    Y = np.asarray(Y, dtype=Y.dtype if Y.dtype.kind == "f" else np.float64)
    return X, Y.reshape(len(Y), -1), Y.ndim == 1
