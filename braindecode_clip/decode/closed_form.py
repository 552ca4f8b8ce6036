"""What the decoders that are fitted in closed form share: checks, folds, linear prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from braindecode_clip.decode.folds import held_out_rows
from braindecode_clip.decode.grams import checked_data
from braindecode_clip.decode.ridge import check_alphas


@dataclass(frozen=True)
class TrainingData:
    """The checked arguments of a fit.

    Attributes
    ----------
    X : ndarray (n_samples, n_voxels) float32 or float64
    Y : ndarray (n_samples, n_targets) float
    alphas : ndarray (n_alphas,) float64
        Penalties, positive.
    folds : list of ndarray
        Held-out rows of every fold.
    """

    X: np.ndarray
    Y: np.ndarray
    alphas: np.ndarray
    folds: list[np.ndarray]

    def variances(self) -> np.ndarray:
        """Return the variance of every target, 1 where it is 0; (n_targets,) float64."""
        spread = self.Y.var(axis=0, dtype=np.float64)
        return np.where(spread == 0, 1.0, spread)


class ClosedFormDecoder(MultiOutputMixin, RegressorMixin, BaseEstimator, ABC):
    """A ridge decoder whose settings are chosen by exact K-fold.

    A kind has the parameters ``alphas``, ``cv`` and ``out_of_fold`` and says in :meth:`_fit` how
    it is fitted; prediction is linear unless it has its own :meth:`_predict`.
    """

    alphas: Any
    cv: Any
    out_of_fold: bool

    def fit(self, X: Any, Y: Any, groups: Any = None) -> Self:
        """Choose all settings by the error of held-out rows, and fit on all rows.

        Parameters
        ----------
        X : array-like (n_samples, n_voxels) float
        Y : array-like (n_samples, n_targets) or (n_samples,) float
        groups : array-like (n_samples,), optional
            Rows of one group are held out together.

        Raises
        ------
        ValueError
            For NaN, mismatched lengths, penalties that are not positive, and other parameters
            out of their range.
        """
        X, Y, self._one_target = checked_data(self, X, Y)
        folds = held_out_rows(self.cv, len(X), groups=groups, answers=Y)
        self._fit(TrainingData(X, Y, check_alphas(self.alphas), folds))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict; (n_samples, n_targets), or (n_samples,) when Y had one axis."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return self._shaped(self._predict(X))

    @abstractmethod
    def _fit(self, data: TrainingData) -> None:
        """Set the attributes of a fitted decoder."""

    def _predict(self, X: np.ndarray) -> np.ndarray:
        """Return (n_samples, n_targets)."""
        return X @ self.coef_ + self.intercept_

    def _shaped(self, predicted: np.ndarray) -> np.ndarray:
        """Return predictions of all targets in the shape that Y had."""
        return predicted[:, 0] if self._one_target else predicted
