"""A linear decoder that starts at ridge and goes on under a contrastive loss."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from braindecode_clip.decode.cross_fit import can_cross_fit, cross_fitted, inner_cv
from braindecode_clip.decode.descent import Descent, Settings
from braindecode_clip.decode.folds import held_out_rows
from braindecode_clip.decode.ridge import ALPHAS, RidgeDecoder
from braindecode_clip.decode.row_labels import stimulus_numbers
from braindecode_clip.decode.row_space import RowSpace
from braindecode_clip.decode.targets import Shape, flattened
from braindecode_clip.decode.training import Store
from braindecode_clip.logs import get_logger

logger = get_logger(__name__)

#: Temperatures among which the first one is chosen, and at which held-out rows are judged.
TEMPERATURES = tuple(float(tau) for tau in np.geomspace(0.01, 1, 15))


class ContrastiveDecoder(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Linear decoder under a symmetric InfoNCE, started at the ridge solution.

    Predictions and targets, both less the training mean of the targets, are compared by
    cosine; the loss asks every prediction for its own target among those of the batch and
    every target for its own prediction. Repeats of a stimulus are no negatives of each other.
    The weights start at those of :class:`~braindecode_clip.decode.RidgeDecoder` and stop at
    the epoch that is best on held-out groups: inner folds are trained side by side, the epoch
    with the smallest mean held-out loss is chosen (0 is ridge itself), and all rows are
    trained for so many epochs. One gain, of least squared error on the held-out predictions,
    gives the length back that a cosine leaves open.

    Everything happens in the space that the training rows span
    (:mod:`braindecode_clip.decode.row_space`), where with n rows there are n - 1 numbers for
    each target instead of one for each voxel; nothing is lost, as ridge weights and gradients
    lie in it.

    Parameters
    ----------
    alphas, cv
        Of the ridge start; the inner folds also choose the epoch, and are those of the
        cross-fit.
    loss : {"infonce", "softclip"}, default "infonce"
    temperature : float or None, default None
        At the start; None takes the one that suits ridge's out-of-fold predictions best.
    learn_temperature : bool, default True
        InfoNCE alone: SoftCLIP, whose answers depend on the temperature, keeps the first one.
    noise : float, default 1
        Gaussian noise on the inputs while training, in units of what ridge implies: a penalty
        α is noise of variance α / n on every voxel (Bishop 1995, doi:10.1162/neco.1995.7.1.108),
        for every target its own. Without it (0) few trials are overfitted at once.
    decay : float, default 0
        Pull towards the ridge weights: AdamW's decoupled decay of the deviation from them;
        with L-BFGS ``decay/2 · ‖W - W_ridge‖² / ‖W_ridge‖²`` is added to the loss.
    optimizer : {"adamw", "lbfgs"}, default "adamw"
        L-BFGS takes all rows at each step, with noise that is drawn once.
    learning_rate : float, default 0.03
        Of AdamW, in units of the root mean square of the ridge weights.
    batch_size : int or None, default None
        Rows of a step; None takes all.
    cross_fit : bool, default True
        Make ``out_of_fold_`` with decoders of the other folds, whose inner folds choose
        penalties, epoch, temperature and gain. Costs one fit for each fold; False is free
        and optimistic.
    max_epochs : int, default 40
        Most epochs (L-BFGS: iterations).
    patience : int, default 10
        Epochs without a smaller held-out loss after which the search ends.
    n_components : int or None, default None
        Work in so many principal components of the training rows; None keeps all.
    pooled : bool, default False
        For token targets compare the mean over tokens, not the tokens in a row.
    random_state : int, RandomState or None, default None
    device : {"auto", "cpu", "cuda"}, default "auto"

    Attributes
    ----------
    coef_ : ndarray (n_voxels, n_targets)
    intercept_ : ndarray (n_targets,)
    alpha_ : ndarray (n_targets,)
        Penalties of the start.
    at_edge_ : ndarray (n_targets,) bool
        As in :class:`~braindecode_clip.decode.RidgeDecoder`.
    temperature_ : float
        At the end.
    best_epoch_ : int
        Epochs trained; 0 where ridge was best.
    validation_loss_ : list of float
        Mean held-out InfoNCE before training and after every epoch, each at the temperature
        that suits it best, since predictions do not depend on it.
    out_of_fold_ : ndarray (n_samples, n_targets) or (n_samples,)
        Predictions of every row by a decoder fitted without its fold. Without ``cross_fit``: by
        weights fitted without its fold, which however had a part in the choice of penalties,
        epoch and gain.
    cross_fitted_ : bool
        Which of the two it is. Never with fewer than two groups left without a fold.
    n_features_in_ : int

    Notes
    -----
    With one target, or two rows a fold, cosines say nothing, and the ridge solution is
    returned. Targets of shape (n_samples, n_tokens, n_dims) are flattened; the loss is on the
    flattened vector or, with ``pooled``, on its mean over tokens. Memory: about 4 + 3 (cv + 1)
    arrays of r × n_targets float32, with r the rows or ``n_components``: choose the latter for
    many tokens.
    """

    def __init__(
        self,
        alphas: Iterable[float] = ALPHAS,
        cv: Any = 5,
        *,
        loss: str = "infonce",
        temperature: float | None = None,
        learn_temperature: bool = True,
        noise: float = 1.0,
        decay: float = 0.0,
        optimizer: str = "adamw",
        learning_rate: float = 0.03,
        batch_size: int | None = None,
        cross_fit: bool = True,
        max_epochs: int = 40,
        patience: int = 10,
        n_components: int | None = None,
        pooled: bool = False,
        random_state: Any = None,
        device: str = "auto",
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.loss = loss
        self.temperature = temperature
        self.learn_temperature = learn_temperature
        self.noise = noise
        self.decay = decay
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.cross_fit = cross_fit
        self.max_epochs = max_epochs
        self.patience = patience
        self.n_components = n_components
        self.pooled = pooled
        self.random_state = random_state
        self.device = device

    def fit(
        self,
        X: Any,
        Y: Any,
        groups: Any = None,
        stimuli: Any = None,
        *,
        store: Store | None = None,
    ) -> ContrastiveDecoder:
        """Fit ridge, choose the number of epochs, and train.

        Parameters
        ----------
        X : array-like (n_samples, n_voxels) float
        Y : array-like (n_samples, n_targets), (n_samples,) or (n_samples, n_tokens, n_dims)
        groups : array-like (n_samples,), optional
            Rows of one group are held out together.
        stimuli : array-like (n_samples,), optional
            Rows of one stimulus are no negatives of each other; by default all differ.
        store : Store, optional
            Keeps what the folds of the cross-fit predict, and takes up what it holds. It must
            belong to these data, options and seed.

        Returns
        -------
        ContrastiveDecoder
            Itself.

        Raises
        ------
        ValueError
            As :class:`~braindecode_clip.decode.RidgeDecoder`.
        """
        Y, self._shape = flattened(Y)
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
        Y = Y.reshape(len(Y), -1)
        groups = None if groups is None else np.asarray(groups)
        folds = held_out_rows(self.cv, len(X), groups=groups, answers=Y)
        splits = [(np.setdiff1d(np.arange(len(X)), rows), rows) for rows in folds]
        labels = stimulus_numbers(stimuli, len(X))
        rng = check_random_state(self.random_state)
        held = self._fit_all(X, Y, splits=splits, labels=labels, rng=rng)
        self.cross_fitted_ = self.cross_fit and can_cross_fit(
            folds, len(X), groups=groups, what="contrastive"
        )
        if self.cross_fitted_:
            seeds = rng.randint(np.iinfo(np.int32).max, size=len(folds))

            def fit(fold: int, train: np.ndarray, _: Store | None) -> ContrastiveDecoder:
                options = self.get_params(deep=False) | {
                    "cross_fit": False,
                    "cv": inner_cv(self.cv, folds, train=train, groups=groups),
                    "random_state": int(seeds[fold]),
                }
                return type(self)(**options).fit(
                    X[train],
                    self._shape.restore(Y[train]),
                    groups=None if groups is None else groups[train],
                    stimuli=labels[train],
                )

            held = cross_fitted(X, Y, folds=folds, fit=fit, store=store, what="contrastive")
        self.out_of_fold_ = self._shape.restore(held.astype(X.dtype))
        return self

    def _fit_all(
        self,
        X: np.ndarray,
        Y: np.ndarray,
        *,
        splits: list[tuple[np.ndarray, np.ndarray]],
        labels: np.ndarray,
        rng: np.random.RandomState,
    ) -> np.ndarray:
        """Choose the epoch and train on all rows; return what the folds held out at it."""
        ridge = RidgeDecoder(self.alphas, splits, out_of_fold=True).fit(X, Y)
        self.alpha_, self.at_edge_ = ridge.alpha_, ridge.at_edge_
        space = RowSpace(X, n_components=self.n_components)
        settings = self._settings(ridge.alpha_, self._shape)
        start = self._first_temperature(ridge.out_of_fold_, Y, labels=labels, settings=settings)
        seed = int(rng.randint(np.iinfo(np.int32).max))

        def descent(rows: np.ndarray) -> Descent:
            return Descent(
                space.scores[rows],
                Y[rows],
                labels=labels[rows],
                tau=start,
                settings=settings,
                seed=seed,
            )

        held = self._search(space.scores, Y, labels=labels, splits=splits, descent=descent)
        if self.best_epoch_ == 0:
            self.temperature_ = start
            self.coef_, self.intercept_ = ridge.coef_, ridge.intercept_
            return ridge.out_of_fold_
        final = descent(np.arange(len(X)))
        for _ in range(self.best_epoch_):
            final.epoch()
        self.temperature_ = final.temperature
        y_mean = Y.mean(axis=0, dtype=np.float64)
        gain = _gain(held, Y, y_mean)
        self.coef_ = (gain * space.weights(final.weights())).astype(X.dtype, copy=False)
        self.intercept_ = (y_mean - space.mean @ self.coef_).astype(X.dtype)
        return y_mean + gain * (held - y_mean)

    def predict(self, X: Any) -> np.ndarray:
        """Predict; targets in the shape that Y had in ``fit``."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return self._shape.restore(X @ self.coef_ + self.intercept_)

    def _settings(self, alpha: np.ndarray, shape: Shape) -> Settings:
        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return Settings(
            alpha=alpha,
            loss=self.loss,
            learn_temperature=self.learn_temperature and self.loss == "infonce",
            noise=self.noise,
            decay=self.decay,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            n_tokens=shape.n_tokens,
            pooled=self.pooled,
            device=device,
        )

    def _first_temperature(
        self, held: np.ndarray, Y: np.ndarray, *, labels: np.ndarray, settings: Settings
    ) -> float:
        if self.temperature is not None:
            return self.temperature
        mean = Y.mean(axis=0)
        held = held.reshape(Y.shape)
        known = ~np.isnan(held).any(axis=1)
        losses = settings.losses_at(
            TEMPERATURES, (held - mean)[known], (Y - mean)[known], labels=labels[known]
        )
        return TEMPERATURES[int(np.argmin(losses))]

    def _search(
        self,
        scores: np.ndarray,
        Y: np.ndarray,
        *,
        labels: np.ndarray,
        splits: list[tuple[np.ndarray, np.ndarray]],
        descent: Any,
    ) -> np.ndarray:
        """Train the folds side by side; return the held-out predictions of the best epoch."""
        runs = [descent(train) for train, _ in splits]
        # One target has no direction, and neither has a fold of two rows.
        trainable = Y.shape[1] > 1 and min(len(train) for train, _ in splits) > 2
        self.validation_loss_: list[float] = []
        held = np.zeros(Y.shape, dtype=np.float64)
        self.best_epoch_ = 0
        for epoch in range(self.max_epochs + 1 if trainable else 1):
            total, count = np.zeros(Y.shape), np.zeros((len(Y), 1))
            losses = []
            for run, (_, rows) in zip(runs, splits, strict=True):
                if epoch:
                    run.epoch()
                predicted = run.predict(scores[rows])
                total[rows] += predicted
                count[rows] += 1
                losses.append(
                    min(
                        run.settings.losses_at(
                            TEMPERATURES,
                            predicted - run.y_mean,
                            Y[rows] - run.y_mean,
                            labels=labels[rows],
                        )
                    )
                )
            sizes = [len(rows) for _, rows in splits]
            self.validation_loss_.append(float(np.average(losses, weights=sizes)))
            best = self.validation_loss_[self.best_epoch_]
            if epoch == 0 or self.validation_loss_[-1] < best:
                self.best_epoch_ = epoch
                with np.errstate(invalid="ignore"):
                    held = total / count
            elif epoch - self.best_epoch_ >= self.patience:
                break
        logger.debug("contrastive: best epoch %d", self.best_epoch_)
        return held


def _gain(held: np.ndarray, Y: np.ndarray, y_mean: np.ndarray) -> float:
    known = ~np.isnan(held).any(axis=1)
    deviation = held[known] - y_mean
    power = float(np.square(deviation).sum())
    along = float((deviation * (Y[known] - y_mean)).sum())
    return max(along, 0.0) / power if power else 0.0
