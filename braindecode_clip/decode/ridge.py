"""Ridge regression with a penalty for every target, chosen by exact K-fold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from braindecode_clip.decode.downdate import DowndateRoute
from braindecode_clip.decode.factors import NotPositiveError
from braindecode_clip.decode.folds import held_out_rows
from braindecode_clip.decode.pole_route import PoleRoute, UnsuitableError
from braindecode_clip.decode.ridge_torch import pick_device
from braindecode_clip.decode.routes import AnyRoute, held_out_predictions, list_routes
from braindecode_clip.decode.tables import (
    TargetTable,
    VoxelTable,
    column_means,
    is_streamed,
    slices,
)
from braindecode_clip.logs import get_logger
from braindecode_clip.threads import small_work

logger = get_logger(__name__)

#: Default penalties: twenty from 1 to 10^7.
ALPHAS = tuple(float(alpha) for alpha in np.logspace(0, 7, 20))
#: Bytes of targets and their projections that are alive at one time.
TARGET_BYTES = 2**29
#: A penalty at the end of the grid matters where the target is predicted at all (R²).
EDGE_R2 = 0.01
#: Share of such targets above which the grid is called too narrow.
EDGE_SHARE = 0.25


class RidgeDecoder(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Ridge regression from voxels to embeddings, one penalty for every target.

    For target t it minimises ``‖y_t - X w - b‖² + α_t ‖w‖²``, the objective of
    scikit-learn's ``Ridge(alpha)`` with an unpenalised intercept. ``α_t`` is the penalty with
    the smallest mean squared error over all held-out rows together (rows, not folds, have
    equal weight). The held-out residuals are those of refitted models; they come from one
    eigendecomposition (:mod:`braindecode_clip.decode.leave_out`) or, for many rows in float32, from
    Cholesky factors at a few poles (:mod:`braindecode_clip.decode.pole_route`).

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
    validation : {"kfold", "loo", "gcv"}, default "kfold"
        What chooses the penalty: the folds of ``cv``; leave-one-out; or generalised
        cross-validation (Golub, Heath & Wahba, 1979). The latter two know no groups: where a
        stimulus repeats they reward its repeats, and a warning says so. Out-of-fold predictions
        come from ``cv`` in any case.
    alpha_groups : None, "all" or array-like (n_targets,), default None
        None: a penalty for every target. "all": one for all. Labels: one for all targets of a
        label (the tokens of an embedding, say). Shared penalties have the smallest sum of
        errors, so targets count by their variance.
    fit_intercept : bool, default True
        False: nothing is centred.
    device : {"cpu", "auto", "cuda", "torch"}, default "cpu"
        cpu: NumPy. cuda: Cholesky factors through torch on the GPU; auto: this where there is
        one. torch: the same code as on the GPU, on the CPU.
    n_targets_batch : int, optional
        Targets worked on at a time; by default as many as fit 512 MB.

    Attributes
    ----------
    alpha_ : ndarray (n_targets,)
        Penalty of every target; the first in ``alphas`` where several are equally good.
    coef_ : ndarray (n_voxels, n_targets)
        Or the array that was passed to ``fit`` as ``coef_out``.
    intercept_ : ndarray (n_targets,)
    cv_mse_ : ndarray (n_alphas, n_targets)
        Mean squared error over the held-out rows, weighted by the sample weights.
    best_score_ : ndarray (n_targets,)
        Negative mean squared error of the chosen penalty.
    at_edge_ : ndarray (n_targets,) bool
        The best penalty is the smallest or largest on offer, and the target is predicted
        with a cross-validated R² above 0.01: a wider grid may do better.
    out_of_fold_ : ndarray of the shape of y
        With ``out_of_fold=True``; NaN for a row that no fold holds out or of weight 0, the mean
        where several do. Or the array that was passed to ``fit`` as ``held_out``.
    n_features_in_ : int

    Notes
    -----
    The Gram matrix, its decomposition and the weights are computed in float64, the held-out
    residuals of the grid in the dtype of X (in float64 too, should a penalty be so small
    that float32 cannot tell it from none). With a float32 X of 500 rows or more and no fewer
    voxels, all large products are in float32, the largest eigenvalues apart, wherever the smallest
    eigenvalue plus penalty loses less than 1e-4 to it and twelve poles serve the grid; predictions
    are then within 1e-4 standard deviations of those in float64.

    Scaling X inside the folds is not part of this: scale beforehand, run by run or with the
    statistics of the whole training set.

    With n rows, p voxels and m = min(n, p) the working memory is about 4 m² float64 numbers,
    512 MB of targets and blocks of about 32 MB. X and Y are read in blocks where they are
    arrays of a file (an HDF5 data set, ``numpy.memmap``), in float16 too.

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
        validation: Literal["kfold", "loo", "gcv"] = "kfold",
        alpha_groups: Any = None,
        fit_intercept: bool = True,
        device: Literal["auto", "cpu", "cuda", "torch"] = "cpu",
        n_targets_batch: int | None = None,
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.out_of_fold = out_of_fold
        self.validation = validation
        self.alpha_groups = alpha_groups
        self.fit_intercept = fit_intercept
        self.device = device
        self.n_targets_batch = n_targets_batch

    def fit(
        self,
        X: Any,
        y: Any,
        groups: Any = None,
        sample_weight: Any = None,
        coef_out: Any = None,
        held_out: Any = None,
    ) -> RidgeDecoder:
        """Choose the penalties and fit the weights.

        Parameters
        ----------
        X : array-like (n_samples, n_voxels) float
        y : array-like (n_samples, n_targets), (n_samples, n_tokens, n_dims) or (n_samples,)
            Float. Three axes are n_tokens · n_dims targets in C order; ``predict`` gives three
            axes back.
        groups : array-like (n_samples,), optional
            Rows of one group are held out together: runs, or repeats of one stimulus.
        sample_weight : array-like (n_samples,) or float, optional
            Not below 0. A weight of k (a mean of k repeats) is the same as the row k times.
        coef_out : array-like (n_voxels, n_targets), optional
            Where to write weights that memory cannot hold: an HDF5 data set, or anything that
            takes ``[voxels, targets] = block``, one block of targets after another.
        held_out : array-like (n_samples, n_targets), optional
            The same for out-of-fold predictions; those of a block follow its weights.

        Returns
        -------
        RidgeDecoder
            Itself.

        Raises
        ------
        ValueError
            For NaN, mismatched lengths, penalties that are not positive, folds whose
            training part is not the complement of the test part, or an unknown option.
        """
        X, Y = self._checked(X, y)
        self._one_target, self._tail = len(Y.shape) == 1, tuple(Y.shape[1:])
        Y = Y.reshape(-1, 1) if self._one_target else Y
        alphas = check_alphas(self.alphas)
        root = self._root(X, sample_weight)
        targets = TargetTable(Y, root=root, centred=self.fit_intercept)
        labels = check_alpha_groups(self.alpha_groups, targets.n_targets)
        answers = Y if isinstance(Y, np.ndarray) and Y.ndim == 2 else None
        folds = held_out_rows(self.cv, X.shape[0], groups=groups, answers=answers)
        self._check_validation(groups)
        mean = column_means(X, root=root) if self.fit_intercept else np.zeros(X.shape[1])
        table = VoxelTable(X, mean=mean, root=root)
        with small_work(float(min(X.shape)) ** 2 * max(X.shape)):
            return self._fit(
                table, targets, alphas=alphas, labels=labels, folds=folds, out=(coef_out, held_out)
            )

    def _fit(
        self,
        table: VoxelTable,
        targets: TargetTable,
        *,
        alphas: np.ndarray,
        labels: np.ndarray | None,
        folds: list[np.ndarray],
        out: tuple[Any, Any],
    ) -> RidgeDecoder:
        """Choose penalties and fit weights by the first route that serves."""
        root, dtype = table.root, table.working_dtype
        n_batch = self.n_targets_batch or _batch(table.shape, dtype)
        attempts = list_routes(
            table.shape,
            n_targets=None if self.n_targets_batch else targets.n_targets,
            fold_sizes=[len(rows) for rows in folds] if self.validation == "kfold" else None,
            n_alphas=len(alphas),
            dtype=dtype,
            device=pick_device(self.device),
        )
        direction = table.direction if self.fit_intercept else None
        for kind, work in attempts:
            parts = targets.parts(targets.n_targets if kind is PoleRoute else n_batch)
            try:
                route = kind(table, direction=direction, alphas=alphas, folds=folds, dtype=work)
                errors, spread = self._all_errors(route, targets, parts=parts, dtype=work)
                break
            except UnsuitableError:
                continue
            except NotPositiveError:
                if work == np.float64:
                    raise ValueError(
                        f"the smallest penalty, {alphas.min():g}, is lost in the rounding of "
                        f"the data: leave it out of 'alphas'."
                    ) from None
        best = _choose(errors, labels)
        weights = np.ones(table.shape[0]) if root is None else np.square(root)
        held = np.concatenate(folds) if self.validation == "kfold" else slice(None)
        self.alpha_ = alphas[best]
        self.cv_mse_ = errors / weights[held].sum()
        self.best_score_ = -self.cv_mse_[best, np.arange(len(best))]
        self._warn_of_edges(spread / weights.sum(), alphas)
        self._fit_weights(route, targets, best=best, parts=parts, dtype=dtype, work=work, out=out)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict; (n_samples, n_targets), or the axes that y had."""
        check_is_fitted(self)
        X = self._checked_voxels(X)
        if isinstance(X, np.ndarray) and isinstance(self.coef_, np.ndarray):
            predicted = X @ self.coef_ + self.intercept_
        else:
            predicted = np.concatenate([block for _, block in self._blocks(X, 4096)], axis=1)
        return predicted.reshape(X.shape[0], *self._tail)

    def predict_blocks(self, X: Any, n_batch: int = 4096) -> Iterator[tuple[slice, np.ndarray]]:
        """Predict some targets at a time, reading no more of the weights than these need.

        Parameters
        ----------
        X : array-like (n_samples, n_voxels)
        n_batch : int, default 4096
            Number of targets in a block.

        Yields
        ------
        slice
            Which targets, tokens flattened.
        ndarray (n_samples, n_block)
        """
        check_is_fitted(self)
        yield from self._blocks(self._checked_voxels(X), n_batch)

    def _blocks(self, X: Any, n_batch: int) -> Iterator[tuple[slice, np.ndarray]]:
        for start in range(0, len(self.intercept_), n_batch):
            part = slice(start, start + n_batch)
            weights = np.asarray(self.coef_[:, part])
            rows = slices(X.shape[0], bytes_each=8 * X.shape[1])
            blocks = [np.asarray(X[each]).astype(weights.dtype) @ weights for each in rows]
            yield part, np.concatenate(blocks) + self.intercept_[part]

    def _checked_voxels(self, X: Any) -> Any:
        if not is_streamed(X):
            return validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        if len(X.shape) != 2 or X.shape[1] != self.n_features_in_:
            raise ValueError(f"X has shape {X.shape}, expected {self.n_features_in_} columns.")
        return X

    def _checked(self, X: Any, Y: Any) -> tuple[Any, Any]:
        """Validate what lies in memory; of what is read in blocks, shapes and types."""
        if not is_streamed(Y) and len(getattr(Y, "shape", ())) == 3:
            Y = check_array(Y, allow_nd=True, dtype=[np.float64, np.float32])
        elif not is_streamed(Y) and not is_streamed(X):
            X, Y = validate_data(
                self,
                X,
                Y,
                dtype=[np.float64, np.float32],
                multi_output=True,
                y_numeric=True,
                ensure_min_samples=2,
            )
            return X, np.asarray(Y, dtype=Y.dtype if Y.dtype.kind == "f" else np.float64)
        elif not is_streamed(Y):
            Y = check_array(Y, ensure_2d=False, dtype=[np.float64, np.float32])
        if is_streamed(X):
            if len(X.shape) != 2 or X.shape[0] < 2 or X.dtype.kind != "f":
                raise ValueError(f"X must be two axes of floats, got {X.shape} {X.dtype}.")
            self.n_features_in_ = int(X.shape[1])
        else:
            X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        check_consistent_length(X, Y)
        return X, Y[()] if len(Y.shape) == 1 else Y

    def _root(self, X: Any, sample_weight: Any) -> np.ndarray | None:
        """Return the roots of the sample weights, or None for equal ones."""
        if sample_weight is None:
            return None
        placeholder = np.empty((X.shape[0], 1))
        weights = _check_sample_weight(
            sample_weight, placeholder, dtype=np.float64, ensure_non_negative=True
        )
        return np.sqrt(weights)

    def _check_validation(self, groups: Any) -> None:
        if self.validation not in ("kfold", "loo", "gcv"):
            raise ValueError(f"'validation' must be kfold, loo or gcv, got {self.validation!r}.")
        if self.validation != "kfold" and groups is not None:
            logger.warning(
                "ridge: validation '%s' does not hold rows of one group out together; repeats of "
                "a stimulus help to predict one another. Use 'kfold' where they repeat.",
                self.validation,
            )

    def _all_errors(
        self,
        route: AnyRoute,
        targets: TargetTable,
        *,
        parts: list[slice],
        dtype: np.dtype,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the summed errors (n_alphas, n_targets) and squares (n_targets,) of all."""
        errors = np.empty((len(route.alphas), targets.n_targets))
        spread = np.empty(targets.n_targets)
        for part in parts:
            block, _ = targets.read(part, dtype)
            spread[part] = np.einsum("tn,tn->t", block, block)
            route.load(block)
            del block
            if isinstance(route, DowndateRoute) or self.validation == "kfold":
                errors[:, part] = route.fold_errors()
            elif self.validation == "loo":
                errors[:, part] = route.leave_one_out_errors()
            else:
                errors[:, part] = route.generalised_errors()
        return errors, spread

    def _fit_weights(
        self,
        route: AnyRoute,
        targets: TargetTable,
        *,
        best: np.ndarray,
        parts: list[slice],
        dtype: np.dtype,
        work: np.dtype,
        out: tuple[Any, Any],
    ) -> None:
        """Fit the weights, and predict the held-out rows, at the chosen penalties."""
        shape = (route.table.shape[1], targets.n_targets)
        coef, held = out
        if coef is not None and tuple(coef.shape) != shape:
            raise ValueError(f"'coef_out' has shape {coef.shape}, expected {shape}.")
        self.coef_ = np.empty(shape, dtype=dtype) if coef is None else coef
        if isinstance(route, PoleRoute) and not self.out_of_fold:
            route.forget_folds()
        intercept = np.empty(targets.n_targets)
        if self.out_of_fold and held is None:
            held = np.empty((route.table.shape[0], targets.n_targets), dtype)
        for part in parts:
            block, mean = targets.read(part, work)
            if len(parts) > 1:
                route.load(block)
            intercept[part] = mean
            for voxels, weights in route.coefficients_at(best[part]):
                kept = weights.astype(dtype, copy=False)
                self.coef_[voxels, part] = kept
                intercept[part] -= route.table.mean[voxels] @ kept
            if self.out_of_fold:
                held[:, part] = held_out_predictions(route, block, best[part]) + mean
        self.intercept_ = intercept.astype(dtype)
        if self.out_of_fold:
            in_memory = out[1] is None
            self.out_of_fold_ = held.reshape(len(held), *self._tail) if in_memory else held

    def _warn_of_edges(self, spread: np.ndarray, alphas: np.ndarray) -> None:
        predicted = -self.best_score_ < (1 - EDGE_R2) * spread
        ends = (alphas.min(), alphas.max())
        self.at_edge_ = predicted & np.isin(self.alpha_, ends)
        if len(alphas) > 1 and self.at_edge_.mean() > EDGE_SHARE:
            logger.warning(
                "ridge: the best penalty of %d of %d targets lies at the end of the grid "
                "(%g to %g): widen 'alphas'.",
                self.at_edge_.sum(),
                len(spread),
                *ends,
            )


def check_alphas(alphas: Any) -> np.ndarray:
    """Return the penalties as a float64 vector, or raise ValueError."""
    values = check_array(np.atleast_1d(np.asarray(alphas, dtype=np.float64)), ensure_2d=False)
    if values.ndim != 1 or (values <= 0).any():
        raise ValueError(f"'alphas' must be one or more numbers above 0, got {alphas!r}.")
    return values


def check_alpha_groups(alpha_groups: Any, n_targets: int) -> np.ndarray | None:
    """Return the number of every target's group (n_targets,), or None for a group each."""
    if alpha_groups is None:
        return None
    if isinstance(alpha_groups, str) and alpha_groups == "all":
        return np.zeros(n_targets, dtype=int)
    labels = np.asarray(alpha_groups)
    if labels.shape != (n_targets,):
        raise ValueError(
            f"'alpha_groups' must be None, 'all' or a label for each of {n_targets} targets, got "
            f"an array of shape {labels.shape}."
        )
    return np.unique(labels, return_inverse=True)[1]


def _choose(errors: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """Return the position of every target's penalty; (n_targets,)."""
    if labels is None:
        return errors.argmin(axis=0)
    summed = np.zeros((labels.max() + 1, len(errors)))
    np.add.at(summed, labels, errors.T)
    return summed.argmin(axis=1)[labels]


def _batch(shape: tuple[int, int], dtype: np.dtype) -> int:
    """Return how many targets fit: centred, projected, and both again in float64."""
    return max(256, TARGET_BYTES // (sum(shape) * (16 + 2 * dtype.itemsize)))
