"""Linear probe: what a linear classifier reads from frozen vectors, and what its control reads."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from braindecode_clip.checks import Problems, some
from braindecode_clip.clip.class_scores import class_table, score_table
from braindecode_clip.clip.score import table_rows, without_nan
from braindecode_clip.metrics import wilson
from braindecode_clip.similarity import unit_rows

#: Inverse penalties that cross-validation chooses from; vectors have unit norm.
PENALTIES = tuple(10.0**k for k in range(-2, 7))
N_FOLDS = 5
#: Control tasks that are averaged.
N_CONTROLS = 5
_MOST_STEPS = 2000


@dataclass(frozen=True)
class Probe:
    """A linear probe on test pictures that it was not fitted to.

    Attributes
    ----------
    metrics : DataFrame
        As of :func:`~braindecode_clip.clip.class_scores.score_table`: top_1, top_5, mean per
        class, with chance (uniform), n and 95 % interval.
    classes : DataFrame
        As of :func:`~braindecode_clip.clip.class_scores.class_table`.
    chance_majority : float
        Share of the test pictures in the class that is most frequent in training.
    train_accuracy : float
        On the pictures it was fitted to.
    penalty : float
        The inverse penalty C that cross-validation within the training pictures chose.
    at_edge : bool
        Whether that is the smallest or the largest of :data:`PENALTIES`.
    converged : bool
    control_accuracy, control_chance : float
        Mean top-1 of the control tasks, and of their majority class.
    selectivity, selectivity_low, selectivity_high : float
        top_1 less control_accuracy; the ends are those of Wilson's interval of top_1 less the
        same.
    control_types : {"groups", "pictures"}
        What the control's labels are a function of.
    n_train, n_test, n_classes : int
    hits : ndarray (n_test,) bool
        Whether each test picture was given its class.
    """

    metrics: pd.DataFrame
    classes: pd.DataFrame
    chance_majority: float
    train_accuracy: float
    penalty: float
    at_edge: bool
    converged: bool
    control_accuracy: float
    control_chance: float
    selectivity: float
    selectivity_low: float
    selectivity_high: float
    control_types: str
    n_train: int
    n_test: int
    n_classes: int
    hits: np.ndarray

    def record(self) -> dict[str, Any]:
        """Return the fields but ``hits`` for JSON: the tables as rows, the metrics by name."""
        fields = without_nan({k: v for k, v in self.__dict__.items() if k != "hits"})
        metrics, classes = table_rows(self.metrics), table_rows(self.classes)
        fields["metrics"] = {row.pop("metric"): row for row in metrics}
        return {**fields, "classes": classes}


def linear_probe(
    train: np.ndarray,
    train_labels: Sequence[str],
    test: np.ndarray,
    test_labels: Sequence[str],
    *,
    rng: np.random.Generator,
    train_groups: Sequence[str] | None = None,
    test_groups: Sequence[str] | None = None,
    n_bootstrap: int = 1000,
    n_controls: int = N_CONTROLS,
) -> Probe:
    """Fit multinomial logistic regression to vectors and score it on others.

    Parameters
    ----------
    train, test : ndarray (n, n_dims)
        Vectors of pictures; brought to unit norm, in float64.
    train_labels, test_labels : sequence of str (n,)
    rng : Generator
        Of folds, control tasks and bootstrap.
    train_groups, test_groups : sequence of str (n,), optional
        Pictures of one group are in one fold of the cross-validation, and share their label in
        the control tasks; "" for a picture of none.
    n_bootstrap : int
    n_controls : int
        Control tasks that are averaged; 0 leaves them out (NaN).

    Returns
    -------
    Probe

    Raises
    ------
    DataError
        Fewer than two classes, a class with fewer than two training pictures, or test labels
        that training does not know; all at once.

    Notes
    -----
    The inverse penalty is chosen by cross-validated accuracy within the training pictures alone,
    the smallest of the best, and the probe fitted again to all of them. In a control task
    (Hewitt & Liang, EMNLP 2019) every type gets a label at random, as frequent as the true ones,
    and the same probe is fitted and scored: it can only succeed by remembering types. Types are
    groups where some stand in training and test; else every picture is one, and then the control
    says no more than chance does. Its penalty is that of the probe.
    """
    classes = _check(train, train_labels, test, test_labels)
    column = {name: k for k, name in enumerate(classes)}
    y_train, y_test = (
        np.array([column[label] for label in labels], dtype=np.int64)
        for labels in (train_labels, test_labels)
    )
    x_train, x_test = unit_rows(train, name="train"), unit_rows(test, name="test")
    groups = _groups(train_groups, y_train, "train"), _groups(test_groups, y_test, "test")
    penalty = _best_penalty(x_train, y_train, groups[0], rng)
    model, converged = _fit(x_train, y_train, penalty)
    decision, is_true = _decision(model, x_test), np.zeros((len(y_test), len(classes)), dtype=bool)
    is_true[np.arange(len(y_test)), y_test] = True
    metrics = score_table(decision, is_true, rng=rng, n_bootstrap=n_bootstrap)
    hits = np.argmax(decision, axis=1) == y_test
    top_1 = float(hits.mean())
    control, chance, types = _control(
        x_train, y_train, x_test, y_test, groups, penalty, rng, n_controls
    )
    low, high = wilson(top_1, len(y_test))
    return Probe(
        metrics=metrics,
        classes=class_table(decision, is_true, classes),
        chance_majority=float((y_test == np.bincount(y_train).argmax()).mean()),
        train_accuracy=float((model.predict(x_train) == y_train).mean()),
        penalty=penalty,
        at_edge=penalty in (PENALTIES[0], PENALTIES[-1]),
        converged=converged,
        control_accuracy=control,
        control_chance=chance,
        selectivity=top_1 - control,
        selectivity_low=low - control,
        selectivity_high=high - control,
        control_types=types,
        n_train=len(y_train),
        n_test=len(y_test),
        n_classes=len(classes),
        hits=hits,
    )


def _check(
    train: np.ndarray, train_labels: Sequence[str], test: np.ndarray, test_labels: Sequence[str]
) -> list[str]:
    """Return the classes, in the order of the alphabet."""
    problems = Problems("linear probe")
    for name, vectors, labels in (("train", train, train_labels), ("test", test, test_labels)):
        if len(vectors) != len(labels):
            problems.add(f"{len(vectors)} {name} vectors and {len(labels)} labels.")
        if not len(vectors):
            problems.add(f"no {name} pictures.")
    classes, counts = np.unique(np.asarray(train_labels, dtype=str), return_counts=True)
    if len(classes) < 2:
        problems.add(f"training knows {len(classes)} classes, expected two at least.")
    rare = classes[counts < 2]
    if len(rare):
        problems.add(
            f"one training picture alone of {some(rare)}; cross-validation needs two. Add some, "
            "or take the class out."
        )
    unknown = sorted(set(test_labels) - set(classes.tolist()))
    if unknown:
        problems.add(f"test labels that training does not know: {some(unknown)}.")
    problems.raise_if_any()
    return classes.tolist()


def _groups(names: Sequence[str] | None, labels: np.ndarray, part: str) -> np.ndarray:
    """Return a group for each picture; one without has one that no other picture has."""
    given = [""] * len(labels) if names is None else names
    return np.array([name or f"\0{part} {k}" for k, name in enumerate(given)])


def _best_penalty(
    x: np.ndarray, y: np.ndarray, groups: np.ndarray, rng: np.random.Generator
) -> float:
    n_folds = int(min(N_FOLDS, np.bincount(y).min()))
    seed = int(rng.integers(2**31))
    if len(np.unique(groups)) < len(groups):
        folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed).split(x, y, groups)
    else:
        folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(x, y)
    hits = np.zeros(len(PENALTIES))
    for fitted, left in folds:
        if len(np.unique(y[fitted])) < 2:
            continue
        for k, penalty in enumerate(PENALTIES):
            model, _ = _fit(x[fitted], y[fitted], penalty)
            hits[k] += (model.predict(x[left]) == y[left]).sum()
    return PENALTIES[int(np.argmax(hits))]


def _fit(x: np.ndarray, y: np.ndarray, penalty: float) -> tuple[LogisticRegression, bool]:
    model = LogisticRegression(C=penalty, max_iter=_MOST_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y)
    return model, bool(np.max(model.n_iter_) < _MOST_STEPS)


def _decision(model: LogisticRegression, x: np.ndarray) -> np.ndarray:
    """Return a score for each class; scikit-learn gives one column for two classes."""
    scores = model.decision_function(x)
    return np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores


def _control(
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    groups: tuple[np.ndarray, np.ndarray],
    penalty: float,
    rng: np.random.Generator,
    n_controls: int,
) -> tuple[float, float, str]:
    """Return mean accuracy and majority share of control tasks, and their types."""
    names, place = np.unique(np.concatenate(groups), return_inverse=True)
    kind = "groups" if np.isin(groups[1], groups[0]).any() else "pictures"
    if kind == "pictures":
        # Groups that stand on one side alone are no types that a probe could remember.
        names, place = np.arange(len(place)), np.arange(len(place))
    n_train, labels = len(y_train), np.concatenate([y_train, y_test])
    found = []
    for _ in range(n_controls):
        drawn = rng.permutation(labels)[: len(names)][place]
        known = np.unique(drawn[:n_train])
        if len(known) < 2:
            continue
        model, _ = _fit(x_train, drawn[:n_train], penalty)
        truth = drawn[n_train:]
        majority = np.bincount(drawn[:n_train]).argmax()
        found.append(((model.predict(x_test) == truth).mean(), (truth == majority).mean()))
    accuracy, chance = np.mean(found, axis=0) if found else (np.nan, np.nan)
    return float(accuracy), float(chance), kind
