"""A residual multilayer perceptron with early stopping, as a scikit-learn regressor."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from braindecode_clip.decode.cross_fit import can_cross_fit, cross_fitted
from braindecode_clip.decode.folds import held_out_rows
from braindecode_clip.decode.network import ResidualMLP, run_network
from braindecode_clip.decode.row_labels import stimulus_numbers
from braindecode_clip.decode.targets import flattened
from braindecode_clip.decode.training import Plan, Rows, Store, Training, averaged, run_training


class MLPDecoder(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Average of residual networks, each stopped early on another part of the training set.

    A member projects the standardised voxels to ``hidden`` units, applies residual blocks
    (LayerNorm, GELU, dropout) and a linear head (:mod:`braindecode_clip.decode.network`). It
    trains with AdamW and a one-cycle schedule, keeps the state of its best epoch on the
    groups that it holds out, and is scaled by the gain of least squared error on them, since
    contrastive and cosine losses leave the length of a prediction open.

    Parameters
    ----------
    hidden : int, default 256
    n_blocks : int, default 1
    dropout, input_dropout : float, default 0.5
        Shares of hidden units and of voxels dropped while training.
    contrastive, cosine, mse : float, default 1, 0, 0
        Weights of the losses (:func:`braindecode_clip.decode.network.loss_of`), all on targets
        that are centred on their training mean. With one target only ``mse`` is defined and
        is used.
    temperature : float, default 0.1
        Of the contrastive loss.
    temperature_end : float or None, default None
        Of the contrastive loss in the last epoch, reached on half a cosine; None keeps it.
    mixco_share : float, default 0
        Share of the epochs, from the first, in which inputs are mixed and the contrastive
        loss is BiMixCo. Scotti et al. (2023): a third, then SoftCLIP from 0.004 to 0.0075.
    mixco_beta, mixco_temperature : float, default 0.15, 0.006
        Of BiMixCo.
    learning_rate : float, default 2e-3
        Peak of the schedule.
    weight_decay : float, default 0.01
    batch_size : int, default 128
        Rows of a step; at most a quarter of the training rows.
    max_epochs : int, default 50
    patience : int, default 12
        Epochs without a better validation loss after which a member stops.
    validation : float, default 0.125
        Share of the groups that a member holds out.
    n_members : int, default 3
    cross_fit : bool, default True
        Make ``out_of_fold_`` with models of the other folds, as many members each. Costs
        ``cv`` further fits; False is free and optimistic.
    cv : int or splitter, default 5
        Folds of the cross-fit; a number is cut to that of the groups.
    repeats : {"all", "draw", "average"}, default "all"
        Rows of one stimulus in training: all in every epoch, one drawn for each epoch, or
        their average.
    ema : float, default 0
        Decay of a moving average of the weights for a step, which is then checked and kept; 0
        keeps the weights themselves.
    precision : {"float32", "bfloat16"}, default "float32"
        Of the factors of the first layer's products while training; all else is float32.
    pooled : bool, default False
        For token targets contrast the mean over tokens, not the tokens in a row.
    random_state : int, RandomState or None, default None
        Seeds partition, initial weights, order and dropout. Two fits with one int on one
        machine and number of threads are equal bit for bit (CPU).
    device : {"auto", "cpu", "cuda"}, default "auto"
        Where to train.

    Attributes
    ----------
    arrays_ : dict of str to ndarray float32
        All that a prediction needs: means, scales, and the parameters of every member.
    out_of_fold_ : ndarray (n_samples, n_targets) or (n_samples,)
        Predictions of every row by a model of the same members that was trained and stopped
        without its fold. Without ``cross_fit``: mean prediction of the members that held the row
        out to stop by, NaN where none did.
    cross_fitted_ : bool
        Which of the two it is. Never with fewer than two groups left without a fold.
    history_ : list of dict
        For each member the validation loss of every epoch, the best epoch and its gain.
    n_features_in_ : int

    Notes
    -----
    Targets may have shape (n_samples, n_tokens, n_dims): they are flattened, squared error and
    cosine are those of single tokens, and the contrastive loss is on the flattened vector or,
    with ``pooled``, on the mean over tokens. The early stop takes the loss without mixing, at
    the last temperature. Gains and biases do not decay.

    The rows that a member holds out choose its epoch and its gain. Predictions of these same
    rows are optimistic: with targets of noise they correlate with the targets. Calibration,
    the weights of an ensemble and the choice of a decoder go by ``out_of_fold_``, so that it is
    cross-fitted by default.
    """

    def __init__(
        self,
        hidden: int = 256,
        n_blocks: int = 1,
        *,
        dropout: float = 0.5,
        input_dropout: float = 0.5,
        contrastive: float = 1.0,
        cosine: float = 0.0,
        mse: float = 0.0,
        temperature: float = 0.1,
        temperature_end: float | None = None,
        mixco_share: float = 0.0,
        mixco_beta: float = 0.15,
        mixco_temperature: float = 0.006,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.01,
        batch_size: int = 128,
        max_epochs: int = 50,
        patience: int = 12,
        validation: float = 0.125,
        n_members: int = 3,
        cross_fit: bool = True,
        cv: Any = 5,
        repeats: str = "all",
        ema: float = 0.0,
        precision: str = "float32",
        pooled: bool = False,
        random_state: Any = None,
        device: str = "auto",
    ) -> None:
        self.hidden = hidden
        self.n_blocks = n_blocks
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.contrastive = contrastive
        self.cosine = cosine
        self.mse = mse
        self.temperature = temperature
        self.temperature_end = temperature_end
        self.mixco_share = mixco_share
        self.mixco_beta = mixco_beta
        self.mixco_temperature = mixco_temperature
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.validation = validation
        self.n_members = n_members
        self.cross_fit = cross_fit
        self.cv = cv
        self.repeats = repeats
        self.ema = ema
        self.precision = precision
        self.pooled = pooled
        self.random_state = random_state
        self.device = device

    def fit(
        self,
        X: Any,
        Y: Any,
        groups: Any = None,
        *,
        stimuli: Any = None,
        store: Store | None = None,
    ) -> MLPDecoder:
        """Train the members.

        Parameters
        ----------
        X : array-like (n_samples, n_voxels) float
        Y : array-like (n_samples, n_targets), (n_samples,) or (n_samples, n_tokens, n_dims)
        groups : array-like (n_samples,), optional
            Rows of one group are held out together, to stop by and in the cross-fit; by default
            every row is its own group.
        stimuli : array-like (n_samples,), optional
            What was shown; by default every row is a stimulus of its own.
        store : Store, optional
            Keeps the state of the training, and takes up what it holds: a fit that was killed
            and one that was not end with the same numbers (CPU). It must belong to these
            data, options and seed.

        Returns
        -------
        MLPDecoder
            Itself.

        Raises
        ------
        ValueError
            For NaN, mismatched lengths, or fewer than two groups.
        """
        Y, self._shape = flattened(Y)
        X, Y = validate_data(
            self,
            X,
            Y,
            dtype=np.float32,
            multi_output=True,
            y_numeric=True,
            ensure_min_samples=2,
        )
        Y = Y.reshape(len(Y), -1).astype(np.float64)
        rng = check_random_state(self.random_state)
        labels = stimulus_numbers(stimuli, len(X))
        held_out = self._fit_members(X, Y, groups, labels, rng=rng, store=store)
        groups = None if groups is None else np.asarray(groups)
        folds = self._outer_folds(len(X), groups) if self.cross_fit else []
        self.cross_fitted_ = bool(folds) and can_cross_fit(folds, len(X), groups=groups, what="mlp")
        if self.cross_fitted_:
            seeds = rng.randint(np.iinfo(np.int32).max, size=len(folds))

            def fit(fold: int, train: np.ndarray, inner: Store | None) -> MLPDecoder:
                options = {"cross_fit": False, "random_state": int(seeds[fold])}
                return type(self)(**(self.get_params(deep=False) | options)).fit(
                    X[train],
                    self._shape.restore(Y[train]),
                    groups=None if groups is None else groups[train],
                    stimuli=labels[train],
                    store=inner,
                )

            held_out = cross_fitted(X, Y, folds=folds, fit=fit, store=store, what="mlp")
        self.out_of_fold_ = self._shape.restore(held_out.astype(np.float32))
        return self

    @property
    def trained_rows(self) -> np.ndarray:
        """Rows that any member trained on; (n_samples,) bool."""
        return self._trained

    @property
    def stopping_rows(self) -> np.ndarray:
        """Rows that chose the epoch at which any member stopped, and its state."""
        return self._stopping

    def _outer_folds(self, n_rows: int, groups: np.ndarray | None) -> list[np.ndarray]:
        cv = self.cv
        if isinstance(cv, int | np.integer):
            cv = min(int(cv), n_rows if groups is None else len(np.unique(groups)))
        return held_out_rows(cv, n_rows, groups=groups)

    def _fit_members(
        self,
        X: np.ndarray,
        Y: np.ndarray,
        groups: Any,
        labels: np.ndarray,
        *,
        rng: np.random.RandomState,
        store: Store | None,
    ) -> np.ndarray:
        """Train the members; return what they predict of the rows that they stopped by."""
        part = held_out_parts(len(X), groups, share=self.validation, rng=rng)
        self.arrays_ = _scaling(X, Y)
        inputs = torch.from_numpy(_standardised(X, self.arrays_))
        targets = torch.from_numpy(
            ((Y - self.arrays_["y_mean"]) / self.arrays_["y_scale"]).astype(np.float32)
        )
        rows = Rows(inputs, targets, torch.from_numpy(labels))
        total, count = np.zeros(Y.shape), np.zeros((len(Y), 1))
        self.history_ = []
        self._trained, self._stopping = np.zeros((2, len(X)), dtype=bool)
        for member in range(self.n_members):
            held = part == member % (part.max() + 1)
            seed = int(rng.randint(np.iinfo(np.int32).max))
            arrays, record = self._train_member(
                rows, held=held, seed=seed, store=store, slot=f"member-{member}"
            )
            predicted = run_network(arrays, inputs[held].numpy())
            truth = targets[held].numpy()
            power = float(np.square(predicted).sum())
            # A network that learned nothing must not turn its noise round.
            gain = max(float((predicted * truth).sum()), 0.0) / power if power else 0.0
            total[held] += gain * predicted
            count[held] += 1
            self.arrays_ |= {f"{member}.{name}": value for name, value in arrays.items()}
            self.arrays_[f"{member}.gain"] = np.array([gain], dtype=np.float32)
            self.history_.append(record | {"gain": gain})
        with np.errstate(invalid="ignore"):
            return (total / count) * self.arrays_["y_scale"] + self.arrays_["y_mean"]

    def predict(self, X: Any) -> np.ndarray:
        """Predict in the dtype of X; targets in the shape that Y had in ``fit``."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return self._shape.restore(predict_from_arrays(self.arrays_, X))

    def _train_member(
        self, rows: Rows, *, held: np.ndarray, seed: int, store: Store | None, slot: str
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Train one network; return its arrays at the best epoch, and the history."""
        name = self.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = ResidualMLP(
                rows.inputs.shape[1],
                rows.targets.shape[1],
                hidden=self.hidden,
                n_blocks=self.n_blocks,
                dropout=self.dropout,
                input_dropout=self.input_dropout,
            ).to(name)
            kept = torch.from_numpy(~held)
            self._trained |= ~held
            self._stopping |= held
            train = Rows(rows.inputs[kept], rows.targets[kept], rows.stimuli[kept])
            if self.repeats == "average":
                train = averaged(train)
            check = Rows(rows.inputs[~kept], rows.targets[~kept], rows.stimuli[~kept])
            training = Training(
                network, train=train.to(name), check=check.to(name), plan=self._plan()
            )
            return run_training(training, store=store, slot=slot)

    def _plan(self) -> Plan:
        weights = {"contrastive": self.contrastive, "cosine": self.cosine, "mse": self.mse}
        end = self.temperature if self.temperature_end is None else self.temperature_end
        alone = len(self.arrays_["y_mean"]) == 1
        return Plan(
            weights={"mse": 1.0} if alone else weights,
            temperature=self.temperature,
            temperature_end=end,
            mixco_share=self.mixco_share,
            mixco_beta=self.mixco_beta,
            mixco_temperature=self.mixco_temperature,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            ema=self.ema,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            patience=self.patience,
            draw=self.repeats == "draw",
            bfloat16=self.precision == "bfloat16",
            n_tokens=self._shape.n_tokens,
            pooled=self.pooled,
        )


def predict_from_arrays(arrays: dict[str, np.ndarray], X: np.ndarray) -> np.ndarray:
    """Predict with the arrays of a fitted :class:`MLPDecoder`; (n_samples, n_targets)."""
    inputs = _standardised(X, arrays)
    members = sorted({name.split(".")[0] for name in arrays if name.endswith(".gain")}, key=int)
    total = np.zeros((len(X), len(arrays["y_mean"])))
    for member in members:
        own = {
            name.split(".", 1)[1]: value
            for name, value in arrays.items()
            if name.startswith(f"{member}.") and not name.endswith(".gain")
        }
        total += float(arrays[f"{member}.gain"][0]) * run_network(own, inputs)
    total /= len(members)
    return (total * arrays["y_scale"] + arrays["y_mean"]).astype(X.dtype)


def held_out_parts(
    n_rows: int, groups: Any, *, share: float, rng: np.random.RandomState
) -> np.ndarray:
    """Deal the groups into parts of about a share each; (n_rows,) int from 0.

    Raises
    ------
    ValueError
        With fewer than two groups.
    """
    groups = np.arange(n_rows) if groups is None else column_or_1d(groups)
    if len(groups) != n_rows:
        raise ValueError(f"'groups' has {len(groups)} entries for {n_rows} rows.")
    names, index = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise ValueError(
            f"all {n_rows} rows are of one group, so none can be held out for early stopping: "
            "give at least 2 groups."
        )
    n_parts = min(len(names), max(2, round(1 / share)))
    return (rng.permutation(len(names)) % n_parts)[index]


def _scaling(X: np.ndarray, Y: np.ndarray) -> dict[str, np.ndarray]:
    """Return means and scales; one scale for all targets keeps the geometry of the embedding."""
    mean, sd = X.mean(axis=0, dtype=np.float64), X.std(axis=0, dtype=np.float64)
    y_mean = Y.mean(axis=0)
    y_scale = float(np.sqrt(np.square(Y - y_mean).mean()))
    return {
        "x_mean": mean.astype(np.float32),
        "x_sd": np.where(sd > 0, sd, 1).astype(np.float32),
        "y_mean": y_mean.astype(np.float32),
        "y_scale": np.array([y_scale if y_scale > 0 else 1.0], dtype=np.float32),
    }


def _standardised(X: np.ndarray, arrays: dict[str, np.ndarray]) -> np.ndarray:
    return ((X - arrays["x_mean"]) / arrays["x_sd"]).astype(np.float32)
