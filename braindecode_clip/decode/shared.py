"""A decoder for one subject that starts from what other subjects have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from braindecode_clip.decode.aligned import (
    Method,
    Trials,
    align_trials,
    aligned_maps,
    dealt_folds,
)
from braindecode_clip.decode.blend import blend
from braindecode_clip.decode.direction import DirectionSearch, Embedded, Judge
from braindecode_clip.decode.folds import held_out_rows
from braindecode_clip.decode.grams import mean_of_folds
from braindecode_clip.decode.ridge import ALPHAS, check_alphas
from braindecode_clip.decode.row_labels import stimulus_numbers
from braindecode_clip.decode.shared_space import (
    SharedSpace,
    fit_tuning,
    invert,
    principal_directions,
    tuning_moment,
    tuning_prior,
)
from braindecode_clip.decode.targets import Shape

#: Values of ρ that are averaged over by default.
WHITENING = (1.0, 3.0, 10.0)
#: Seeds the blocks of distractors, which there is one of up to 256 stimuli.
BLOCK_SEED = 0
#: Weights (n_voxels, n_components) and intercept (n_components,) of a map.
Map = tuple[np.ndarray, np.ndarray]


class SharedDecoder(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Linear map of a subject's voxels into a shared space, and a common head to the embedding.

    The map is a mean of several:

    - ``own_ridge``: ridge on the subject's own trials, with the penalty for all coordinates that
      identifies held-out rows best (:mod:`braindecode_clip.decode.direction`);
    - ``own_prior``: the inverse of an encoding model whose prior was learned on the subject's
      own trials (:mod:`braindecode_clip.decode.shared_space`);
    - ``shared_prior``: the same with a prior learned on other subjects, which needs least data;
    - ``aligned``, where asked for: ridge on the trials of all subjects, carried into one space
      by functional alignment (:mod:`braindecode_clip.decode.aligned`).

    How much each counts, held-out InfoNCE decides (:mod:`braindecode_clip.decode.blend`), as it
    does on the head, which divides coordinate k by ``variance_k / mean variance + ρ``, so that
    the few directions in which all pictures differ most do not decide every rank, and carries
    it back into the embedding. A map for each subject and a common head are MindEye2's idea
    (Scotti et al. 2024, arXiv:2403.11207); everything is linear and closed-form here.

    Parameters
    ----------
    space : SharedSpace, optional
        Learned on other subjects. None: the subject stands alone, with the maps of its own.
    n_components : int, default 128
        Most dimensions of the space that is learned on the subject's own trials, and of the
        aligned space.
    alphas : sequence of float
        Penalties of the ridges to choose from.
    cv : int, default 5
        Inner folds of the held-out predictions.
    whitening : sequence of float above 0, default (1, 3, 10)
        Values of ρ; the larger, the less the coordinates are equalised.
    residual_weight : float in [0, 1), default 0.1
        How much of the covariance of the encoding model's residuals is trusted.
    alignment : {"none", "procrustes", "hyperalignment"}, default "none"
        Needs ``others`` and ``stimuli`` in ``fit``, and training stimuli that all subjects saw.

    Attributes
    ----------
    coef_ : ndarray (n_voxels, n_dims)
        Map and head in one.
    intercept_ : ndarray (n_dims,)
    alpha_ : ndarray (1,) or (2,)
        Penalty of ``own_ridge``, and of ``aligned``.
    shares_ : dict of str to float
        How much each map counts.
    whitening_ : float
        Mean ρ.
    n_shared_stimuli_ : int
        That the alignment was found on.
    out_of_fold_ : ndarray (n_samples, n_dims)
        Predictions by models fitted without the row's fold; the shared space stays. What is
        aligned is aligned anew without the fold's stimuli, in any subject, with folds of its own
        that shared stimuli are dealt to evenly.
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
        whitening: Sequence[float] = WHITENING,
        residual_weight: float = 0.1,
        alignment: Method | str = "none",
    ) -> None:
        self.space = space
        self.n_components = n_components
        self.alphas = alphas
        self.cv = cv
        self.whitening = whitening
        self.residual_weight = residual_weight
        self.alignment = alignment

    def fit(
        self,
        X: Any,
        Y: Any,
        groups: Any = None,
        stimuli: Any = None,
        others: Sequence[Trials] = (),
        subject: str = "new",
    ) -> SharedDecoder:
        """Fit the maps, their held-out predictions and their mean.

        Parameters
        ----------
        X : array-like (n_samples, n_voxels) float
        Y : array-like (n_samples, n_dims) float
        groups : array-like (n_samples,), optional
            Rows of one group are held out together.
        stimuli : array-like (n_samples,), optional
            Repeats of a stimulus are averaged before they are identified; by default all differ.
        others : sequence of Trials
            Training trials of other subjects, to be aligned.
        subject : str
            Label of this one, for messages.

        Raises
        ------
        ValueError
            For NaN, mismatched lengths, folds that do not fit, or an alignment without others.
        DataError
            If the targets do not vary, or too few stimuli are shared.
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
        if self.alignment != "none" and (stimuli is None or not len(others)):
            raise ValueError("alignment needs 'stimuli' and the trials of 'others'.")
        own = learn_space([X], [Y], n_components=self.n_components)
        space = own if self.space is None else self.space
        folds = held_out_rows(self.cv, len(X), groups=groups, answers=Y)
        judge = Judge(
            stimulus_numbers(stimuli, len(X)),
            rows=np.unique(np.concatenate(folds)),
            rng=np.random.default_rng(BLOCK_SEED),
        )
        maps, held, alpha = self._ridge_map(X, Y, space=space, folds=folds, judge=judge)
        fitted, predicted, self.alpha_ = {"own_ridge": maps}, {"own_ridge": held}, [alpha]
        self._add_priors(fitted, predicted, X, Y, space=space, folds=folds)
        self.n_shared_stimuli_ = 0
        if self.alignment != "none":
            first = Trials(subject, X, Y, np.asarray(stimuli).astype(str))
            dealt = dealt_folds([first, *others], n_folds=len(folds), groups=groups)
            maps, held, alpha = self._aligned_map(
                [first, *others], space=space, folds=dealt, judge=judge
            )
            fitted["aligned"], predicted["aligned"] = maps, held
            self.alpha_.append(alpha)
        self.alpha_ = np.array(self.alpha_)
        found = blend(
            list(predicted.values()), Y, space=space, judge=judge, whitenings=self.whitening
        )
        self.shares_ = dict(zip(fitted, map(float, found.shares), strict=True))
        self.whitening_ = found.whitening
        parts = list(zip(found.gains, fitted.values(), predicted.values(), strict=True))
        back = space.basis.T
        self.coef_ = (sum(coef * g for g, (coef, _), _ in parts) @ back).astype(X.dtype)
        constant = sum(intercept * g for g, (_, intercept), _ in parts) @ back
        self.intercept_ = (space.mean + constant).astype(X.dtype)
        total = sum(part * g for g, _, part in parts)
        self.out_of_fold_ = (space.mean + total @ back).astype(X.dtype)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict; (n_samples, n_dims)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return X @ self.coef_ + self.intercept_

    def _ridge_map(
        self,
        X: np.ndarray,
        Y: np.ndarray,
        *,
        space: SharedSpace,
        folds: list[np.ndarray],
        judge: Judge,
    ) -> tuple[Map, np.ndarray, float]:
        """Return the map by ridge of the own trials, its held-out coordinates, and the penalty."""
        embedded = Embedded(Y, shape=Shape(tuple(Y.shape[1:])), pooled=False)
        alphas = check_alphas(self.alphas)
        search = DirectionSearch(X, embedded, alphas=alphas, folds=folds, dtype=X.dtype)
        best = search.best_penalty(judge)
        coef = search.coefficients(best).astype(np.float64) @ space.basis
        held = best.held @ embedded.basis.T.astype(np.float64) + embedded.mean
        intercept = space.coordinates(embedded.mean) - search.mean @ coef
        return (coef, intercept), space.coordinates(held), float(best.alpha or 0.0)

    def _add_priors(
        self,
        fitted: dict[str, Map],
        predicted: dict[str, np.ndarray],
        X: np.ndarray,
        Y: np.ndarray,
        *,
        space: SharedSpace,
        folds: list[np.ndarray],
    ) -> None:
        """Add the inverses of encoding models under the subject's own prior and the shared one."""
        maps = self._prior_maps(X, Y, space)
        fitted |= maps
        inner = [np.setdiff1d(np.arange(len(X)), rows) for rows in folds]
        refitted = [self._prior_maps(X[rest], Y[rest], space) for rest in inner]
        for name in maps:
            predicted[name] = _held_out(X, folds, [part[name] for part in refitted])

    def _prior_maps(self, X: np.ndarray, Y: np.ndarray, space: SharedSpace) -> dict[str, Map]:
        used = {"own_prior": learn_space([X], [Y], n_components=self.n_components)}
        if self.space is not None:
            used["shared_prior"] = self.space
        maps = {}
        for name, prior in used.items():
            Z = prior.coordinates(Y)
            tuning = fit_tuning(X, Z, prior.tuning)
            coef, intercept = invert(tuning, prior.variance, residual_weight=self.residual_weight)
            turn = prior.basis.T @ space.basis
            centre = space.coordinates(prior.mean)
            maps[name] = (coef @ turn, (intercept + Z.mean(axis=0)) @ turn + centre)
        return maps

    def _aligned_map(
        self,
        subjects: list[Trials],
        *,
        space: SharedSpace,
        folds: list[np.ndarray],
        judge: Judge,
    ) -> tuple[Map, np.ndarray, float]:
        """Return the map by ridge of all subjects' trials, and the rest as :meth:`_ridge_map`."""
        first, alphas = subjects[0], np.sort(check_alphas(self.alphas))

        def fitted(parts: list[Trials]) -> list[Map]:
            trials = align_trials(parts, method=self.alignment, n_components=self.n_components)
            self.n_shared_stimuli_ = trials.n_shared
            return aligned_maps(trials, space.coordinates(trials.Y), alphas=alphas)

        refitted = [
            fitted([item.without(np.unique(first.stimuli[rows])) for item in subjects])
            for rows in folds
        ]
        truth = space.coordinates(first.Y)
        held, losses = [], []
        for position in range(len(alphas)):
            held.append(_held_out(first.X, folds, [maps[position] for maps in refitted]))
            losses.append(judge.loss_of(held[-1], truth))
        best = int(np.argmin(losses))
        return fitted(subjects)[best], held[best], float(alphas[best])


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


def _held_out(X: np.ndarray, folds: Sequence[np.ndarray], maps: Sequence[Map]) -> np.ndarray:
    """Return the mean held-out coordinates of every row; NaN where no fold holds it out."""
    total = np.zeros((len(X), maps[0][0].shape[1]))
    for rows, (coef, intercept) in zip(folds, maps, strict=True):
        total[rows] += X[rows] @ coef + intercept
    return mean_of_folds(total, folds)
