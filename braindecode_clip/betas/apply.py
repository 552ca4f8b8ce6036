"""A run's design applied to its signals: every voxel by the operator that it needs.

Voxels differ in their response of the library and in their autocorrelation. All voxels with
the same pair share an operator, so the work is one matrix product for each group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from braindecode_clip.betas.autocorrelation import BIN, LIBRARY_BIN, binned, lag_one
from braindecode_clip.betas.design import RunDesign, check_finite
from braindecode_clip.betas.operators import TrialOperator
from braindecode_clip.betas.shrinkage import shrunken
from braindecode_clip.nuisance import project_out
from braindecode_clip.threads import run_blocks

#: Voxels multiplied at a time: the copy that is centred stays small.
BLOCK_VOXELS = 4096


@dataclass(frozen=True)
class VoxelChoices:
    """What differs between the voxels of a run.

    Attributes
    ----------
    hrf_index : ndarray (n_voxels,) int
    rho : ndarray (n_voxels,) float64
        Binned autocorrelation; 0 for ordinary least squares.
    penalty, mean_response : ndarray (n_voxels,) or None
        See :class:`braindecode_clip.artifacts.Tuning`; None for least squares.
    """

    hrf_index: np.ndarray
    rho: np.ndarray
    penalty: np.ndarray | None = None
    mean_response: np.ndarray | None = None

    def groups(self) -> Iterator[tuple[int, float, np.ndarray | slice]]:
        """Yield (hrf_index, rho, voxels) in blocks of voxels that share an operator."""
        n_voxels = len(self.hrf_index)
        if not np.ptp(self.hrf_index) and not np.ptp(self.rho):
            # All alike: slices, which copy nothing.
            for start in range(0, n_voxels, BLOCK_VOXELS):
                block = slice(start, min(start + BLOCK_VOXELS, n_voxels))
                yield int(self.hrf_index[0]), float(self.rho[0]), block
            return
        order = np.lexsort((self.rho, self.hrf_index))
        changes = (np.diff(self.hrf_index[order]) != 0) | (np.diff(self.rho[order]) != 0)
        for members in np.split(order, np.flatnonzero(changes) + 1):
            first = members[0]
            for start in range(0, len(members), BLOCK_VOXELS):
                block = np.sort(members[start : start + BLOCK_VOXELS])
                yield int(self.hrf_index[first]), float(self.rho[first]), block


def estimate_autocorrelation(
    design: RunDesign, signals: np.ndarray, hrf_index: np.ndarray, censored: np.ndarray
) -> np.ndarray:
    """Return the lag-1 coefficient (n_voxels,) of every voxel, binned.

    The residuals are those of the model with every trial for LSA, and of the model with all
    trials as one regressor for LSS, since each of its models has hardly more columns.
    """
    rho = np.empty(signals.shape[1])
    bases: dict[int, np.ndarray] = {}
    choices = VoxelChoices(hrf_index, np.zeros(len(hrf_index)))
    for index, _, voxels in choices.groups():
        if index not in bases:
            full = design.saturated(index) if design.method == "lsa" else design.joined(index)
            bases[index] = full.astype(signals.dtype)
        basis = bases[index]
        block = signals[:, voxels] - signals[:, voxels].mean(axis=0)
        rho[voxels] = lag_one(block - basis @ (basis.T @ block), censored)
    return binned(rho, BIN if len(design.columns) == 1 else LIBRARY_BIN)


def apply_design(design: RunDesign, signals: np.ndarray, choices: VoxelChoices) -> np.ndarray:
    """Return the responses (n_trials, n_voxels) in the dtype of the signals.

    Parameters
    ----------
    design : RunDesign
    signals : ndarray (n_volumes, n_voxels) float32 or float64
    choices : VoxelChoices

    Raises
    ------
    DataError
        When voxels hold NaN or infinity.
    """
    result = np.empty((len(design.trials), signals.shape[1]), dtype=signals.dtype)
    # Made here, one after another: threads would all make the first one.
    groups = list(choices.groups())
    known = {key: design.operator(*key) for key in dict.fromkeys(group[:2] for group in groups)}
    weights = {key: operator.weights.astype(signals.dtype) for key, operator in known.items()}

    def apply(group: tuple[int, float, np.ndarray | slice]) -> None:
        index, rho, voxels = group
        own = signals[:, voxels]
        with np.errstate(invalid="ignore"):
            # The operator does not see a constant, and float32 keeps its digits without it: any
            # number near the mean serves, such as the middle volume, past the steady state.
            block = own - own[len(own) // 2]
            if choices.penalty is None:
                result[:, voxels] = weights[index, rho] @ block
            else:
                result[:, voxels] = _shrunken_block(
                    design, known[index, rho], index, voxels, block, choices
                )

    run_blocks(apply, groups)
    # NaN or infinity at any volume reaches every trial, be its weight 0.
    check_finite(result[0])
    return result


def _shrunken_block(
    design: RunDesign,
    operator: TrialOperator,
    hrf_index: int,
    voxels: np.ndarray | slice,
    block: np.ndarray,
    choices: VoxelChoices,
) -> np.ndarray:
    rows = operator.rows.astype(block.dtype)
    mean = choices.mean_response[voxels].astype(block.dtype)
    common = rows @ design.columns[hrf_index, :, :, 0].sum(axis=1).astype(block.dtype)
    projected = rows @ block - common[:, None] * mean
    penalty = choices.penalty[voxels].astype(np.float64) * design.scale(hrf_index)
    return shrunken(operator, projected, penalty, mean)


def average_trials(
    average: Callable[[float], np.ndarray], signals: np.ndarray, rho: np.ndarray
) -> np.ndarray:
    """Return the window averages (n_trials, n_voxels) in the dtype of the signals.

    The level of a voxel goes apart from its fluctuations: a mean of 1000 would cost float32
    three of its seven digits.

    Parameters
    ----------
    average : callable
        From an autocorrelation to the weights (n_trials, n_volumes).
    signals : ndarray (n_volumes, n_voxels) float32 or float64
    rho : ndarray (n_voxels,)
        Binned autocorrelation.

    Raises
    ------
    DataError
        When voxels hold NaN or infinity.
    """
    level = np.empty(signals.shape[1], dtype=signals.dtype)
    parts = []
    known: dict[float, np.ndarray] = {}
    with np.errstate(invalid="ignore"):
        for _, value, voxels in VoxelChoices(np.zeros(len(rho), np.int16), rho).groups():
            if value not in known:
                known = {value: average(value)}
            weights = known[value]
            level[voxels] = signals[:, voxels].mean(axis=0)
            part = weights.astype(signals.dtype) @ (signals[:, voxels] - level[voxels])
            part += weights.sum(axis=1, keepdims=True).astype(signals.dtype) * level[voxels]
            parts.append((voxels, part))
    check_finite(level)
    result = np.empty((len(parts[0][1]), signals.shape[1]), dtype=signals.dtype)
    for voxels, part in parts:
        result[:, voxels] = part
    return result


def explained_variance(
    design: RunDesign, signals: np.ndarray, betas: np.ndarray, hrf_index: np.ndarray
) -> np.ndarray:
    """Return the share of variance (n_voxels,) float32 that the responses explain.

    ``1 - |y - sum_j x_j beta_j|^2 / |y|^2`` with the nuisance projected out of the signals y
    and of the regressors x_j; 0 for voxels without variance.
    """
    r2 = np.zeros(signals.shape[1], dtype=np.float32)
    parts: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    choices = VoxelChoices(hrf_index, np.zeros(len(hrf_index)))
    for index, _, voxels in choices.groups():
        if index not in parts:
            basis = design.basis(index)
            columns = project_out(basis, design.columns[index, :, :, 0])
            parts = {index: (basis.astype(signals.dtype), columns.astype(signals.dtype))}
        basis, columns = parts[index]
        block = signals[:, voxels] - signals[:, voxels].mean(axis=0)
        block -= basis @ (basis.T @ block)
        total = np.einsum("ij,ij->j", block, block, dtype=np.float64)
        block -= columns @ betas[:, voxels]
        rest = np.einsum("ij,ij->j", block, block, dtype=np.float64)
        r2[voxels] = np.where(total > 0, 1.0 - rest / np.where(total > 0, total, 1.0), 0.0)
    return r2
