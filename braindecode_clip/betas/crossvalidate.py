"""How well the responses of other runs predict a run, for each voxel.

In every run the expected signal is a common response to all trials plus what the conditions
that come in several runs add to it,

    y_r = G_r b + noise,    G_r = (s_r, X_r C_r),

with s_r the summed regressors of the trials and C_r the trials of every condition, drifts and
other nuisance projected out. b is fitted to all other runs, the conditions' part under a ridge
penalty, and the error is that of its prediction of run r. Where no condition comes in two runs,
the common response is all there is to predict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from braindecode_clip.nuisance import project_out

#: Penalty on the conditions, in multiples of their mean squared norm in one run: that of a
#: signal-to-noise ratio of a third. Between 1 and 10 it hardly matters.
CONDITION_PENALTY = 3.0

#: Conditions that are told apart at most: those that come in most runs.
MAX_CONDITIONS = 400


@dataclass(frozen=True)
class Conditions:
    """Which trial of which run shows which of the conditions that come in several runs.

    Attributes
    ----------
    matrices : tuple of ndarray (n_trials, n_conditions) float64
        One for each run; a row of zeros for a trial of no such condition.
    names : ndarray (n_conditions,) str
    """

    matrices: tuple[np.ndarray, ...]
    names: np.ndarray


def repeated_conditions(labels: Sequence[np.ndarray]) -> Conditions:
    """Find the labels that come in at least two runs; at most 400 of them.

    Parameters
    ----------
    labels : sequence of ndarray (n_trials,) str
        One for each run; "" names nothing.
    """
    per_run = [np.unique(run[run != ""]) for run in labels]
    names, counts = np.unique(np.concatenate(per_run), return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MAX_CONDITIONS]
    names = np.sort(names[order][counts[order] > 1])
    # One condition for all trials is the common response once more.
    names = names if len(names) > 1 else names[:0]
    matrices = tuple((run[:, None] == names[None, :]).astype(np.float64) for run in labels)
    return Conditions(matrices, names)


def run_columns(columns: np.ndarray, conditions: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Return G (n_volumes, 1 + n_conditions) of a run.

    Parameters
    ----------
    columns : ndarray (n_volumes, n_trials)
    conditions : ndarray (n_trials, n_conditions)
    basis : ndarray (n_volumes, rank)
        Orthonormal nuisance.
    """
    return project_out(basis, np.column_stack([columns.sum(axis=1), columns @ conditions]))


class LeaveOneRunOut:
    """Prediction of every run from the others, for one set of columns.

    Parameters
    ----------
    fitted : sequence of ndarray (n_volumes, 1 + n_conditions)
        G of every run for the fit.
    predicted : sequence of ndarray, optional
        G of every run for the prediction; that of the fit by default.
    """

    def __init__(
        self, fitted: Sequence[np.ndarray], predicted: Sequence[np.ndarray] | None = None
    ) -> None:
        predicted = fitted if predicted is None else predicted
        grams = [g.T @ g for g in fitted]
        total = np.sum(grams, axis=0)
        size = np.trace(total[1:, 1:]) / max(len(total) - 1, 1) / len(grams)
        penalty = np.diag(np.r_[0.0, np.full(len(total) - 1, CONDITION_PENALTY * size)])
        # A trifle on the diagonal, for runs in which nothing is left of the common response.
        penalty += np.eye(len(total)) * 1e-9 * np.trace(total)
        self.n_columns = len(total)
        # A run holds few of the conditions: only their columns and weights matter there.
        self.active = [np.flatnonzero(np.abs(g).max(axis=0) > 0) for g in predicted]
        self.fitted = [
            g[:, own].astype(np.float32) for g, own in zip(fitted, self.active, strict=True)
        ]
        self.predicted = [
            g[:, own].astype(np.float32) for g, own in zip(predicted, self.active, strict=True)
        ]
        self.solvers = [
            np.linalg.inv(total - gram + penalty)[own].astype(np.float32)
            for gram, own in zip(grams, self.active, strict=True)
        ]
        self.test_grams = [g.T @ g for g in self.predicted]

    def gain(
        self, signals: Sequence[np.ndarray], tested: Sequence[np.ndarray] | None = None
    ) -> np.ndarray:
        """Return by how much the predictions lower the squared error, summed over runs.

        Parameters
        ----------
        signals : sequence of ndarray (n_volumes, n_voxels) float32
            Every run without the nuisance of the fit.
        tested : sequence of ndarray, optional
            Every run without the nuisance of the prediction; the same by default.

        Returns
        -------
        ndarray (n_voxels,) float64
            ``sum_r |y_r|^2 - |y_r - G_r b|^2``; negative where the predictions do harm.
        """
        n_voxels = signals[0].shape[1]
        products = [g.T @ y for g, y in zip(self.fitted, signals, strict=True)]
        total = np.zeros((self.n_columns, n_voxels), np.float32)
        for own, product in zip(self.active, products, strict=True):
            total[own] += product
        gain = np.zeros(n_voxels)
        for r, (own, solver) in enumerate(zip(self.active, self.solvers, strict=True)):
            total[own] -= products[r]
            weights = solver @ total
            total[own] += products[r]
            target = products[r] if tested is None else self.predicted[r].T @ tested[r]
            gain += 2.0 * np.einsum("ij,ij->j", weights, target, dtype=np.float64)
            gain -= np.einsum("ij,ij->j", weights, self.test_grams[r] @ weights, dtype=np.float64)
        return gain
