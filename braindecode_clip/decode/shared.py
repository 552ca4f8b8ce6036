"""A decoder for one subject that starts from what other subjects have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from braindecode_clip.decode.folds import held_out_rows
from braindecode_clip.decode.ridge import ALPHAS, RidgeDecoder
from braindecode_clip.decode.shared_space import (
    SharedSpace,
    fit_tuning,
    invert,
    principal_directions,
    tuning_moment,
    tuning_prior,
)


class SharedDecoder(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Linear map of a subject's voxels into a shared space, and a common head to the embedding.

    The map is the mean of three, each scaled to equal spread of its held-out predictions:
    ridge on the subject's own trials; the inverse of an encoding model whose prior was learned
    on other subjects (:mod:`braindecode_clip.decode.shared_space`), which needs least data;
    and the same with a prior learned on the subject's own trials, which needs no other
    subject to be alike. The head divides coordinate k by ``variance_k / mean variance + ρ``,
    so that the few directions in which all pictures differ most do not decide every rank, and
    carries it back into the embedding. A map for each subject and a common head are MindEye2's
    idea (Scotti et al. 2024, arXiv:2403.11207); everything is linear and closed-form here.

    Parameters
    ----------
    space : SharedSpace, optional
        Learned on other subjects. None: the subject stands alone, with the two maps of its
        own.
    n_components : int, default 128
        Most dimensions of the space that is learned on the subject's own trials.
    alphas : sequence of float
        Penalties of ridge; see :class:`RidgeDecoder`.
    cv : int, default 5
        Inner folds of the held-out predictions.
    whitening : float above 0, default 1
        ρ; the larger, the less the coordinates are equalised.
    residual_weight : float in [0, 1), default 0.1
        How much of the covariance of the encoding model's residuals is trusted.

    Attributes
    ----------
    coef_ : ndarray (n_voxels, n_dims)
        Map and head in one.
    intercept_ : ndarray (n_dims,)
    alpha_ : ndarray (n_components,)
        Ridge penalty of every coordinate.
    out_of_fold_ : ndarray (n_samples, n_dims)
        Predictions by models fitted without the row's fold; the shared space stays.
    n_features_in_ : int

    Notes
    -----
    With n rows and p voxels an inner fold costs two eigendecompositions and solves n × n, and
    products n² p.
    """

    def __init__(
        self,
        space: SharedSpace | None = None,
        *,
        n_components: int = 128,
        alphas: Iterable[float] = ALPHAS,
        cv: Any = 5,
        whitening: float = 1.0,
        residual_weight: float = 0.1,
    ) -> None:
        self.space = space
        self.n_components = n_components
        self.alphas = alphas
        self.cv = cv
        self.whitening = whitening
        self.residual_weight = residual_weight

    def fit(self, X: Any, Y: Any, groups: Any = None) -> SharedDecoder:
        """Fit the maps and their held-out predictions.

        Parameters
        ----------
        X : array-like (n_samples, n_voxels) float
        Y : array-like (n_samples, n_dims) float
        groups : array-like (n_samples,), optional
            Rows of one group are held out together.

        Raises
        ------
        ValueError
            For NaN, mismatched lengths, or folds that do not fit.
        DataError
            If the targets do not vary.
        """
        X, Y = validate_data(
            self,
            X,
            Y,
            dtype=[np.float64, np.float32],
            multi_output=True,
            y_numeric=True,
            ensure_min_samples=4,
        )
        if Y.ndim == 1:
            raise ValueError("Y has one axis: targets of shape (n_samples, n_dims) are needed.")
        own = learn_space([X], [Y], n_components=self.n_components)
        space = own if self.space is None else self.space
        mean = space.mean
        ridge = RidgeDecoder(self.alphas, cv=self.cv, out_of_fold=True)
        ridge.fit(X, space.coordinates(Y).astype(X.dtype), groups=groups)
        head = self._head(space)
        maps = [(ridge.coef_ @ head, ridge.intercept_ @ head), *self._prior_maps(X, Y)]
        held = np.full((len(maps), *Y.shape), np.nan)
        held[0] = ridge.out_of_fold_ @ head
        for rows in held_out_rows(self.cv, len(X), groups=groups, answers=Y):
            rest = np.setdiff1d(np.arange(len(X)), rows)
            for i, (coef, intercept) in enumerate(self._prior_maps(X[rest], Y[rest]), start=1):
                held[i, rows] = X[rows] @ coef + intercept
        # Each map shrinks in a way of its own, which must not decide how much it counts.
        shares = [1 / (len(maps) * _spread(part)) for part in held]
        self.coef_ = sum(w * c for w, (c, _) in zip(shares, maps, strict=True)).astype(X.dtype)
        constant = sum(w * b for w, (_, b) in zip(shares, maps, strict=True))
        self.intercept_ = (mean + constant).astype(X.dtype)
        self.out_of_fold_ = (mean + np.tensordot(shares, held, axes=1)).astype(X.dtype)
        self.alpha_ = ridge.alpha_
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict; (n_samples, n_dims)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return X @ self.coef_ + self.intercept_

    def _prior_maps(self, X: np.ndarray, Y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Invert the encoding model under the subject's own prior and under the shared one."""
        spaces = [learn_space([X], [Y], n_components=self.n_components)]
        if self.space is not None:
            spaces.append(self.space)
        maps = []
        for space in spaces:
            Z = space.coordinates(Y)
            tuning = fit_tuning(X, Z, space.tuning)
            coef, intercept = invert(tuning, space.variance, residual_weight=self.residual_weight)
            head = self._head(space)
            maps.append((coef @ head, (intercept + Z.mean(axis=0)) @ head))
        return maps

    def _head(self, space: SharedSpace) -> np.ndarray:
        """Return the map from shared coordinates to the embedding; (n_components, n_dims)."""
        return space.basis.T / (space.variance / space.variance.mean() + self.whitening)[:, None]


def learn_space(
    X: Sequence[np.ndarray],
    Y: Sequence[np.ndarray],
    *,
    n_components: int,
    own: np.ndarray | None = None,
) -> SharedSpace:
    """Learn the shared space on subjects.

    Parameters
    ----------
    X : sequence of ndarray (n_samples, n_voxels)
        Training responses, subject by subject; numbers of rows and voxels may differ.
    Y : sequence of ndarray (n_samples, n_dims)
        Embeddings of the pictures that they saw.
    n_components : int
        Most dimensions of the space.
    own : ndarray (n_samples, n_dims), optional
        Training targets of a further subject, which is to be decoded: they count for the
        directions of the embedding, not for the tuning.
    """
    pooled = [*Y] if own is None else [*Y, own]
    mean, basis, variance = principal_directions(pooled, n_components=n_components)
    moments = [
        tuning_moment(x, (np.asarray(y, dtype=np.float64) - mean) @ basis)
        for x, y in zip(X, Y, strict=True)
    ]
    return SharedSpace(mean, basis, variance, tuning_prior(moments))


def _spread(predicted: np.ndarray) -> float:
    """Return the root mean square around the mean of the rows that were held out."""
    known = predicted[~np.isnan(predicted).any(axis=1)]
    size = float(np.sqrt(np.square(known - known.mean(axis=0)).mean()))
    return size if size > 0 else 1.0
