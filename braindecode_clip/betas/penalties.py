"""The ridge penalty of every voxel, over all runs of a subject."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from braindecode_clip.betas.operators import TrialOperator, lsa_operator, lss_operator
from braindecode_clip.betas.shrinkage import (
    Likelihood,
    penalty_grid,
    repeat_losses,
    repeat_targets,
    shrunken,
)
from braindecode_clip.betas.tuned_run import TunedRun, voxel_blocks
from braindecode_clip.config.betas import BetasConfig
from braindecode_clip.nuisance import project_out

#: Trials with repeats in other runs that a choice by repeats needs at the least.
MIN_REPEATED = 12


def choose_penalties(
    runs: Sequence[TunedRun], hrf_index: np.ndarray, *, config: BetasConfig
) -> tuple[np.ndarray, np.ndarray, str]:
    """Choose the penalty of every voxel.

    Parameters
    ----------
    runs : sequence of TunedRun
        With seen trials.
    hrf_index : ndarray (n_voxels,)
    config : BetasConfig

    Returns
    -------
    mean_response : ndarray (n_voxels,) float32
    penalty : ndarray (n_voxels,) float32
        In multiples of the mean squared norm of a trial's regressor.
    by : str
        "repeats" or "likelihood".
    """
    penalties = penalty_grid(config.tune.n_shrinkages)
    labels = np.concatenate([run.labels for run in runs])
    number = np.repeat(np.arange(len(runs)), [len(run.labels) for run in runs])
    trials, averaging = repeat_targets(labels, number.astype(str))
    by_repeats = len(trials) >= MIN_REPEATED
    n_voxels = runs[0].n_voxels
    mean_response, penalty = np.zeros(n_voxels, np.float32), np.zeros(n_voxels, np.float32)
    models: dict[int, list[_RunModel]] = {}
    for block in voxel_blocks(n_voxels):
        signals = [run.cleaned(block) for run in runs]
        for index in np.unique(hrf_index[block]):
            if index not in models:
                models[index] = [_RunModel(run, int(index), config=config) for run in runs]
            mine = np.flatnonzero(hrf_index[block] == index)
            own = [s[:, mine] for s in signals]
            mean = _common_response(models[index], own)
            if by_repeats:
                betas = _betas(models[index], own, mean, penalties)
                best = repeat_losses(betas, trials=trials, averaging=averaging).argmin(axis=0)
            else:
                best = _likeliest(models[index], runs, own, mean, penalties)
            mean_response[block.start + mine] = mean
            penalty[block.start + mine] = penalties[best]
    return mean_response, penalty, "repeats" if by_repeats else "likelihood"


class _RunModel:
    """The regressors of the seen trials of a run, nuisance projected out, and the operator."""

    def __init__(self, run: TunedRun, hrf_index: int, *, config: BetasConfig) -> None:
        self.columns = project_out(run.basis, run.columns[hrf_index])
        self.common = self.columns.sum(axis=1)
        self.scale = float(np.square(self.columns).sum(axis=0).mean())
        self.operator = _operator(run, run.columns[hrf_index], config=config)
        self.rows = self.operator.rows.astype(np.float32)

    def without_mean(self, signals: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """Return ``y - S m``."""
        return signals - np.outer(self.common, mean).astype(signals.dtype)


def _operator(run: TunedRun, columns: np.ndarray, *, config: BetasConfig) -> TrialOperator:
    shared = {"contrast": np.ones((len(run.labels), 1)), "nuisance": run.basis, "names": run.names}
    if config.method == "lsa":
        return lsa_operator(columns[..., None], **shared)
    return lss_operator(
        columns[..., None],
        conditions=run.conditions,
        by_condition=config.others == "by_condition",
        **shared,
    )


def _common_response(models: Sequence[_RunModel], signals: Sequence[np.ndarray]) -> np.ndarray:
    """Return the least-squares response (n_voxels,) that all trials of all runs share."""
    projected = sum(m.common @ s.astype(np.float64) for m, s in zip(models, signals, strict=True))
    return projected / max(sum(float(m.common @ m.common) for m in models), 1e-300)


def _betas(
    models: Sequence[_RunModel],
    signals: Sequence[np.ndarray],
    mean: np.ndarray,
    penalties: np.ndarray,
) -> list[np.ndarray]:
    """Return the responses (n_trials of all runs, n_voxels) under every penalty."""
    projected = [m.rows @ m.without_mean(s, mean) for m, s in zip(models, signals, strict=True)]
    return [
        np.concatenate(
            [
                shrunken(m.operator, rows, penalty * m.scale, mean)
                for m, rows in zip(models, projected, strict=True)
            ]
        )
        for penalty in penalties
    ]


def _likeliest(
    models: Sequence[_RunModel],
    runs: Sequence[TunedRun],
    signals: Sequence[np.ndarray],
    mean: np.ndarray,
    penalties: np.ndarray,
) -> np.ndarray:
    likelihood = Likelihood(penalties, len(mean))
    for model, run, block in zip(models, runs, signals, strict=True):
        likelihood.add(
            model.columns, model.without_mean(block, mean), n_nuisance=run.basis.shape[1]
        )
    return likelihood.best()
