"""Out-of-fold predictions by models that never saw the rows, not even to stop by them.

A model that is stopped early looks at the rows that it holds out: it keeps the epoch that
predicts them best. Its predictions of just these rows are therefore better than those of new
rows. Cross-fitting trains it once more for every fold, on the other rows alone, where it holds
out rows of its own to stop by.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from braindecode_clip.logs import get_logger

if TYPE_CHECKING:
    from braindecode_clip.decode.training import Store

logger = get_logger(__name__)


class Fitted(Protocol):
    """What predicts."""

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Predict (n, n_voxels)."""


def cross_fitted(
    X: np.ndarray,
    Y: np.ndarray,
    *,
    folds: Sequence[np.ndarray],
    fit: Callable[[int, np.ndarray, Store | None], Fitted],
    store: Store | None = None,
    what: str = "",
) -> np.ndarray:
    """Predict the rows of every fold by a model of the others.

    A model predicts deviations from the mean of its training targets. They are set on the mean
    of all rows, the same for every fold: the mean of the other rows lies away from the targets
    of the fold, which would put the scores of noise below chance.

    Parameters
    ----------
    X : ndarray (n_samples, n_voxels)
    Y : ndarray (n_samples, n_targets)
    folds : sequence of ndarray
        Held-out rows. A row in several gets the mean of its predictions, one in none NaN.
    fit : callable
        Fits on some rows: takes the number of the fold, the rows to train on, and a store of
        its own or None.
    store : Store, optional
        Keeps the predictions of every finished fold, and what ``fit`` keeps in the meantime.
    what : str
        Name of the model in the log.

    Returns
    -------
    ndarray (n_samples, n_targets) float64
    """
    total, count = np.zeros(Y.shape), np.zeros((len(X), 1))
    mean = Y.mean(axis=0, dtype=np.float64)
    for number, held in enumerate(folds):
        start = time.monotonic()
        train = np.setdiff1d(np.arange(len(X)), held)
        part = store.part(f"cross-fit-{number}") if store else None
        found = part.load("predicted") if part else None
        if found:
            predicted = found[0]["predicted"]
        else:
            inner = part.part("fit") if part else None
            predicted = fit(number, train, inner).predict(X[held]).reshape(len(held), -1)
            if part and inner:
                part.save("predicted", {"predicted": predicted}, {})
                inner.remove()
        total[held] += predicted - Y[train].mean(axis=0, dtype=np.float64) + mean
        count[held] += 1
        taken = "found" if found else f"{time.monotonic() - start:.1f} s"
        logger.info("%s: cross-fit fold %d of %d (%s)", what, number + 1, len(folds), taken)
    with np.errstate(invalid="ignore"):
        return total / count


def out_of_fold_by(estimator: Any) -> str:
    """Name how the ``out_of_fold_`` of a fitted decoder was made.

    Returns
    -------
    {"cross_fit", "stopping_rows", "cross_validation"}
        - cross_fit: by models that had no part in them, their choices included;
        - stopping_rows: the rows chose the epoch of the model that predicts them;
        - cross_validation: closed forms, and contrastive decoders without epochs that are not
          cross-fitted: the rows are not trained on, but all folds together, the scored one among
          them, choose the penalties, so that it is slightly optimistic beside cross_fit.
    """
    if not hasattr(estimator, "cross_fitted_"):
        return "cross_validation"
    if estimator.cross_fitted_:
        return "cross_fit"
    return "stopping_rows" if estimator.max_epochs else "cross_validation"


def can_cross_fit(folds: Sequence[np.ndarray], n_rows: int, *, groups: Any, what: str) -> bool:
    """Whether without any one fold two groups are left, to train on and to stop by.

    Parameters
    ----------
    folds : sequence of ndarray
        Held-out rows.
    n_rows : int
    groups : ndarray (n_rows,) or None
        None: every row is a group.
    what : str
        Name of the model in the warning that is logged where the answer is no.
    """
    groups = np.arange(n_rows) if groups is None else np.asarray(groups)
    left = [len(np.unique(np.delete(groups, held))) for held in folds]
    if min(left) >= 2:
        return True
    logger.warning(
        "%s: %d group of training rows is left without a fold, and 2 are needed to train and to "
        "stop, so that out-of-fold predictions are of the rows that chose the epoch, and "
        "optimistic. Use more runs or stimuli, or more folds.",
        what,
        min(left),
    )
    return False


def inner_cv(cv: Any, folds: Sequence[np.ndarray], *, train: np.ndarray, groups: Any) -> Any:
    """Return what splits the training rows of a fold once more.

    Parameters
    ----------
    cv : int or any splitter of scikit-learn
    folds : sequence of ndarray
        Held-out rows that it gave.
    train : ndarray (n_train,) int
        The rows, in rising order.
    groups : ndarray (n_samples,) or None

    Returns
    -------
    int or list of (ndarray, ndarray)
        A number of folds, at most the groups; for a splitter, its other folds, or 2 where it has
        none.
    """
    if isinstance(cv, int | np.integer):
        return min(int(cv), len(train) if groups is None else len(np.unique(groups[train])))
    places = np.arange(len(train))
    parts = [np.flatnonzero(np.isin(train, held)) for held in folds]
    splits = [(np.setdiff1d(places, part), part) for part in parts if 0 < len(part) < len(train)]
    return splits or 2
