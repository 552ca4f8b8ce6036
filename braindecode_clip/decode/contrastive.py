"""A linear decoder whose penalty, head and, if asked for, weights are fitted under InfoNCE."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from braindecode_clip.decode.cross_fit import can_cross_fit, cross_fitted, inner_cv
from braindecode_clip.decode.direction import Direction, DirectionSearch, Embedded, Judge
from braindecode_clip.decode.folds import held_out_rows
from braindecode_clip.decode.ridge import ALPHAS, RidgeDecoder, check_alphas
from braindecode_clip.decode.row_labels import stimulus_numbers
from braindecode_clip.decode.row_space import RowSpace
from braindecode_clip.decode.targets import Shape, flattened
from braindecode_clip.logs import get_logger

if TYPE_CHECKING:
    from braindecode_clip.decode.descent import Settings
    from braindecode_clip.decode.training import Store

logger = get_logger(__name__)


class ContrastiveDecoder(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Linear decoder under a symmetric InfoNCE, started at ridge.

    InfoNCE asks every prediction for its own target among those of other rows and every target
    for its own prediction. On held-out predictions of the training rows it chooses

    1. one ridge penalty for all targets, and how much the leading directions of the embedding
       are flattened (:mod:`braindecode_clip.decode.direction`), or
       :class:`~braindecode_clip.decode.RidgeDecoder` itself, where nothing of that is better;
    2. with ``max_epochs`` above 0, the number of epochs for which all weights go on from there
       by gradient descent: inner folds are trained side by side, the epoch with the smallest
       mean held-out loss is taken (0 is the start), and all rows are trained for so many epochs.

    So held-out InfoNCE is never above that of ridge. Repeats of a stimulus are no negatives of
    each other. One gain, of least squared error on the held-out predictions, gives the length
    back that a cosine leaves open.

    On simulated subjects the first step identifies better than ridge, and the second, which
    takes many times longer, adds nothing (``benchmarks/decoders.py``): it is off by default. It
    happens in the space that the training rows span
    (:mod:`braindecode_clip.decode.row_space`), where with n rows there are n - 1 numbers for
    each target instead of one for each voxel; nothing is lost, as ridge weights and gradients
    lie in it.

    Parameters
    ----------
    alphas, cv
        Penalties to choose from, and the inner folds, which also choose the flattening and the
        epoch, and are those of the cross-fit.
    loss : {"infonce", "softclip"}, default "infonce"
        Of the epochs. What is held out is judged by InfoNCE.
    temperature : float or None, default None
        At the start of the epochs; None takes the one that suits the held-out predictions best.
    learn_temperature : bool, default True
        InfoNCE alone: SoftCLIP, whose answers depend on the temperature, keeps the first one.
    noise : float, default 1
        Gaussian noise on the inputs while training, in units of what ridge implies: a penalty
        α is noise of variance α / n on every voxel (Bishop 1995, doi:10.1162/neco.1995.7.1.108),
        for every target its own. Without it (0) few trials are overfitted at once.
    decay : float, default 0
        Pull towards the weights of the start: AdamW's decoupled decay of the deviation from
        them; with L-BFGS ``decay/2 · ‖W - W_0‖² / ‖W_0‖²`` is added to the loss.
    optimizer : {"adamw", "lbfgs"}, default "adamw"
        L-BFGS takes all rows at each step, with noise that is drawn once.
    learning_rate : float, default 0.03
        Of AdamW, in units of the root mean square of the weights of the start.
    batch_size : int or None, default None
        Rows of a step; None takes all.
    cross_fit : bool, default True
        Make ``out_of_fold_`` with decoders of the other folds, whose inner folds choose penalty,
        flattening, epoch, temperature and gain. Costs one fit for each fold; False is free and
        optimistic.
    max_epochs : int, default 0
        Most epochs (L-BFGS: iterations).
    patience : int, default 10
        Epochs without a smaller held-out loss after which the search ends.
    n_components : int or None, default None
        Train in so many principal components of the training rows; None keeps all.
    pooled : bool, default False
        For token targets compare the mean over tokens, not the tokens in a row.
    random_state : int, RandomState or None, default None
    device : {"auto", "cpu", "cuda"}, default "auto"
        Of the epochs.

    Attributes
    ----------
    coef_ : ndarray (n_voxels, n_targets)
    intercept_ : ndarray (n_targets,)
    alpha_ : ndarray (n_targets,)
        Penalties of the start.
    flattening_ : float
        s of the start; 0 leaves the embedding's directions as they are.
    at_edge_ : ndarray (n_targets,) bool
        The penalty is the smallest or largest on offer; where ridge itself was best, as in
        :class:`~braindecode_clip.decode.RidgeDecoder`.
    ridge_loss_, start_loss_ : float
        Held-out InfoNCE of ridge and of what was chosen in step 1, at the temperatures that suit
        them best; NaN where one target or very few rows leave nothing to identify.
    temperature_ : float
        At the end.
    best_epoch_ : int
        Epochs trained; 0 where the start was best.
    validation_loss_ : list of float
        Mean held-out InfoNCE before training and after every epoch; empty without epochs.
    out_of_fold_ : ndarray (n_samples, n_targets) or (n_samples,)
        Predictions of every row by a decoder fitted without its fold. Without ``cross_fit``: by
        weights fitted without its fold, which however had a part in the directions of the
        embedding and in the choice of penalty, flattening, epoch and gain.
    cross_fitted_ : bool
        Which of the two it is. Never with fewer than two groups left without a fold.
    n_features_in_ : int

    Notes
    -----
    With one target, or two rows a fold, cosines say nothing, and the ridge solution is
    returned. Targets of shape (n_samples, n_tokens, n_dims) are flattened; the loss is on the
    flattened vector or, with ``pooled``, on its mean over tokens. Without ``cross_fit`` step 1
    takes 2 to 4 times the time of ridge. Memory with epochs: about 4 + 3 (cv + 1) arrays of
    r × n_targets float32, with r the rows or ``n_components``: choose the latter for many tokens.
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
        max_epochs: int = 0,
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
        """Fit ridge, choose the start and the number of epochs, and train.

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
        labels = stimulus_numbers(stimuli, len(X))
        random = check_random_state(self.random_state)
        self._fit_all(X, Y, folds=folds, labels=labels, random=random)
        self.cross_fitted_ = self.cross_fit and can_cross_fit(
            folds, len(X), groups=groups, what="contrastive"
        )
        if self.cross_fitted_:
            seeds = random.randint(np.iinfo(np.int32).max, size=len(folds))

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
            self.out_of_fold_ = held.astype(self.out_of_fold_.dtype)
        self.out_of_fold_ = self._shape.restore(self.out_of_fold_)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict; targets in the shape that Y had in ``fit``."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return self._shape.restore(X @ self.coef_ + self.intercept_)

    @property
    def stopping_rows(self) -> np.ndarray | None:
        """Rows that chose the epoch, (n_samples,) bool; None without epochs."""
        return self._stopping

    def _fit_all(
        self,
        X: np.ndarray,
        Y: np.ndarray,
        *,
        folds: list[np.ndarray],
        labels: np.ndarray,
        random: np.random.RandomState,
    ) -> None:
        """Choose start and epoch and train on all rows; keep what the folds held out."""
        splits = [(np.setdiff1d(np.arange(len(X)), rows), rows) for rows in folds]
        seeds = random.randint(np.iinfo(np.int32).max, size=2)
        self._start_at_ridge(RidgeDecoder(self.alphas, splits, out_of_fold=True).fit(X, Y))
        # One target has no direction, and neither has a fold of two rows.
        if Y.shape[1] < 2 or min(len(train) for train, _ in splits) <= 2:
            return
        embedded = Embedded(Y, shape=self._shape, pooled=self.pooled)
        if not embedded.coordinates.shape[1]:
            return
        found = self._choose_start(
            X, Y, embedded=embedded, folds=folds, labels=labels, seed=seeds[0]
        )
        if self.max_epochs:
            self._go_on(
                X, Y, embedded=embedded, splits=splits, labels=labels, found=found, seed=seeds[1]
            )

    def _start_at_ridge(self, ridge: RidgeDecoder) -> None:
        self.alpha_, self.at_edge_, self.flattening_ = ridge.alpha_, ridge.at_edge_, 0.0
        self.coef_, self.intercept_ = ridge.coef_, ridge.intercept_
        self.out_of_fold_ = ridge.out_of_fold_
        self.ridge_loss_ = self.start_loss_ = self.temperature_ = float("nan")
        self.best_epoch_ = 0
        self._stopping: np.ndarray | None = None
        self.validation_loss_: list[float] = []

    def _choose_start(
        self,
        X: np.ndarray,
        Y: np.ndarray,
        *,
        embedded: Embedded,
        folds: list[np.ndarray],
        labels: np.ndarray,
        seed: int,
    ) -> Direction:
        """Take what identifies best on held-out rows: ridge, or one of the family."""
        rows, rng = np.unique(np.concatenate(folds)), np.random.default_rng(seed)
        judge = Judge(labels, rows=rows, rng=rng)
        alphas = check_alphas(self.alphas)
        search = DirectionSearch(X, embedded, alphas=alphas, folds=folds, dtype=X.dtype)
        ridge, flattened_ridge = search.best_of_ridge(judge)
        found = min(ridge, flattened_ridge, search.best(judge), key=lambda item: item.loss)
        self.ridge_loss_, self.start_loss_ = ridge.loss, found.loss
        self.temperature_, self.flattening_ = 1 / found.scale, found.flattening
        if found.alpha is not None:
            self.alpha_ = np.full(Y.shape[1], found.alpha)
            ends = (search.alphas[0], search.alphas[-1])
            self.at_edge_ = np.full(Y.shape[1], len(search.alphas) > 1 and found.alpha in ends)
            held = found.held @ embedded.basis.T.astype(np.float64)
            self._keep(search.coefficients(found), held + embedded.mean, Y, mean=search.mean)
        elif found.flattening:
            coef = embedded.flattened(self.coef_, found.flattening)
            held = embedded.flattened(self.out_of_fold_ - embedded.mean, found.flattening)
            self._keep(coef, held + embedded.mean, Y, mean=search.mean)
        return found

    def _go_on(
        self,
        X: np.ndarray,
        Y: np.ndarray,
        *,
        embedded: Embedded,
        splits: list[tuple[np.ndarray, np.ndarray]],
        labels: np.ndarray,
        found: Direction,
        seed: int,
    ) -> None:
        """Train all weights for the number of epochs that is best on held-out rows."""
        # The start alone should not wait for torch.
        from braindecode_clip.decode.descent import Descents

        space = RowSpace(X, n_components=self.n_components)
        flatten = None
        if found.flattening:
            flatten = (embedded.basis, embedded.gains(found.flattening))
        descents = Descents(
            space.scores,
            Y,
            labels=labels,
            settings=self._settings(self._shape, flatten),
            seed=seed,
            tau=self.temperature,
            held=self.out_of_fold_,
        )
        held, self.validation_loss_ = descents.search(
            splits, max_epochs=self.max_epochs, patience=self.patience
        )
        self.best_epoch_ = int(np.argmin(self.validation_loss_))
        self._stopping = np.isin(np.arange(len(X)), np.concatenate([h for _, h in splits]))
        logger.debug("contrastive: best epoch %d", self.best_epoch_)
        if self.best_epoch_ == 0:
            return
        final = descents.trained(np.arange(len(X)), n_epochs=self.best_epoch_)
        self.temperature_ = final.temperature
        self._keep(space.weights(final.weights()), held, Y, mean=space.mean)

    def _keep(self, coef: np.ndarray, held: np.ndarray, Y: np.ndarray, *, mean: np.ndarray) -> None:
        """Store weights and held-out predictions, with the gain of least squared error."""
        dtype = np.result_type(coef.dtype, self.coef_.dtype)
        y_mean = Y.mean(axis=0, dtype=np.float64)
        gain = _gain(held, Y, y_mean)
        self.coef_ = (gain * coef).astype(self.coef_.dtype, copy=False)
        self.intercept_ = (y_mean - mean @ self.coef_).astype(dtype)
        self.out_of_fold_ = (y_mean + gain * (held - y_mean)).astype(dtype)

    def _settings(self, shape: Shape, flatten: tuple[np.ndarray, np.ndarray] | None) -> Settings:
        import torch

        from braindecode_clip.decode.descent import Settings

        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return Settings(
            alpha=self.alpha_,
            flatten=flatten,
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


def _gain(held: np.ndarray, Y: np.ndarray, y_mean: np.ndarray) -> float:
    known = ~np.isnan(held).any(axis=1)
    deviation = held[known] - y_mean
    power = float(np.square(deviation).sum())
    along = float((deviation * (Y[known] - y_mean)).sum())
    return max(along, 0.0) / power if power else 0.0
