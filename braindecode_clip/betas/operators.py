"""The linear operators that turn the signals of a run into one response for each trial.

An operator W (n_trials, n_volumes) holds everything about the design; the betas of all
voxels are then W @ signals, one matrix product.

With M the projection on the complement of the nuisance space, x_j = M t_j the regressor of
trial j and s = sum_j x_j, the least-squares-separate model of trial j has the two columns
x_j and o_j = s - x_j, and the row of its operator is the first row of their pseudo-inverse,

    w_j = ((o_j . o_j) x_j - (x_j . o_j) o_j) / ((x_j . x_j)(o_j . o_j) - (x_j . o_j)^2),

written below as the part of x_j that is orthogonal to o_j over its squared norm. The
least-squares-all operator is the pseudo-inverse of X = (x_1 ... x_n).

References
----------
Mumford, Turner, Ashby & Poldrack (2012), NeuroImage 59:2636-2643, models LS-S and LS-A.
Mumford, Davis & Poldrack (2014), NeuroImage 103:130-138, on nuisance conditions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from braindecode_clip.checks import some
from braindecode_clip.errors import DataError
from braindecode_clip.nuisance import orthonormal_basis, project_out

#: A trial keeps at least this share of its regressor's squared norm, or it counts as
#: explained by other columns. Rounding in float64 leaves about 1e-15.
MIN_SHARE = 1e-10


@dataclass(frozen=True)
class TrialOperator:
    """A linear estimator of every trial.

    Attributes
    ----------
    weights : ndarray (n_trials, n_volumes) float64
    vif : ndarray (n_trials,) float64
        Variance inflation: squared norm of the trial's regressor (centred) over that of its
        part that no other column explains; 1 when the trial stands alone.
    """

    weights: np.ndarray
    vif: np.ndarray


def lss_operator(
    regressors: np.ndarray,
    *,
    nuisance: np.ndarray,
    conditions: np.ndarray,
    names: list[str],
    by_condition: bool = False,
) -> TrialOperator:
    """Return the operator of least squares separate (LSS).

    Parameters
    ----------
    regressors : ndarray (n_volumes, n_trials) float64
        Expected response to every trial.
    nuisance : ndarray (n_volumes, rank) float64
        Orthonormal, the constant included.
    conditions : ndarray (n_trials,) str
        trial_type of every trial; only looked at when ``by_condition``.
    names : list of str
        How messages call the trials.
    by_condition : bool
        The other trials form one regressor for each condition, instead of one in all. A trial
        that is the only one (of its condition) has no regressor of others there.

    Raises
    ------
    DataError
        When a trial is explained by the nuisance or by the other trials.
    """
    centred = _squared_norms(regressors - regressors.mean(axis=0))
    remaining = project_out(nuisance, regressors)
    _check_share(_squared_norms(remaining), centred, names, "the confounds and drifts")
    weights = np.empty((regressors.shape[1], regressors.shape[0]))
    vif = np.empty(regressors.shape[1])
    for condition in np.unique(conditions) if by_condition else [None]:
        mine = np.ones(len(names), bool) if condition is None else conditions == condition
        rest = _sums_of_others(remaining, conditions, condition)
        columns = project_out(rest, remaining[:, mine]) if rest.shape[1] else remaining[:, mine]
        # The sum over the condition's trials, of which each trial is taken away in turn.
        others = columns.sum(axis=1, keepdims=True) - columns
        norm = _squared_norms(others)
        # Others that the other conditions explain wholly (or that do not exist) leave rounding.
        present = norm > MIN_SHARE * centred.max()
        slope = np.where(present, np.sum(columns * others, axis=0), 0.0) / np.maximum(norm, 1e-300)
        unique = columns - slope * others
        share = _squared_norms(unique)
        chosen = [name for name, keep in zip(names, mine, strict=True) if keep]
        _check_share(share, centred[mine], chosen, "the other trials")
        weights[mine] = (unique / share).T
        vif[mine] = centred[mine] / share
    return TrialOperator(weights, vif)


def lsa_operator(
    regressors: np.ndarray, *, nuisance: np.ndarray, names: list[str]
) -> TrialOperator:
    """Return the operator of least squares all (LSA), one regressor for each trial.

    Parameters
    ----------
    regressors, nuisance, names
        As in :func:`lss_operator`.

    Raises
    ------
    DataError
        When trials are collinear, with the trials that take part.
    """
    n_volumes, n_trials = regressors.shape
    if n_trials + nuisance.shape[1] > n_volumes:
        raise DataError(
            f"lsa: {n_trials} trials and {nuisance.shape[1]} nuisance columns do not fit into "
            f"{n_volumes} volumes. Use method 'lss', or fewer confounds."
        )
    centred = _squared_norms(regressors - regressors.mean(axis=0))
    remaining = project_out(nuisance, regressors)
    _check_share(_squared_norms(remaining), centred, names, "the confounds and drifts")
    norm = np.sqrt(_squared_norms(remaining))
    left, singular, right = np.linalg.svd(remaining / norm, full_matrices=False)
    null = right[singular**2 <= MIN_SHARE]
    if len(null):
        involved = np.flatnonzero((np.abs(null) > 0.1 * np.abs(null).max()).any(axis=0))
        raise DataError(
            f"lsa: {len(involved)} trials are collinear, so their responses cannot be told "
            f"apart: {some([names[i] for i in involved])}. Use method 'lss', or leave one of "
            "each pair out."
        )
    inverse = (right.T / singular) @ left.T
    weights = inverse / norm[:, None]
    return TrialOperator(weights, centred * _squared_norms(weights.T))


def window_operator(
    onsets_s: np.ndarray,
    durations_s: np.ndarray,
    *,
    volume_times_s: np.ndarray,
    start_s: float,
    end_after_offset_s: float,
    names: list[str],
    censored: np.ndarray | None = None,
) -> np.ndarray:
    """Return the operator of the mean over a window after each onset.

    A volume at time t belongs to a trial when onset + start <= t <= offset + end and it is not
    ``censored`` (n_volumes,) bool.

    Returns
    -------
    ndarray (n_trials, n_volumes) float64
        Rows sum to 1.

    Raises
    ------
    DataError
        When the window of a trial holds no volume, or censored ones alone.
    """
    # A microsecond of slack, since 15.0 + 22.5 + 4.0 and 11 * 3.7727... must meet as equals.
    begin = onsets_s[:, None] + start_s - 1e-6
    end = (onsets_s + durations_s)[:, None] + end_after_offset_s + 1e-6
    inside = (volume_times_s >= begin) & (volume_times_s <= end)
    count = inside.sum(axis=1)
    if (count == 0).any():
        empty = [names[i] for i in np.flatnonzero(count == 0)]
        raise DataError(
            f"average: the windows of {len(empty)} trials hold no volume: {some(empty)}. A window "
            f"opens {start_s:g} s after the onset and closes {end_after_offset_s:g} s after the "
            f"offset; the last volume is at {volume_times_s[-1]:g} s. Change 'window', or leave "
            "these trials out."
        )
    if censored is not None:
        inside &= ~censored
        count = inside.sum(axis=1)
    if (count == 0).any():
        empty = [names[i] for i in np.flatnonzero(count == 0)]
        raise DataError(
            f"average: all volumes in the windows of {len(empty)} trials are censored: "
            f"{some(empty)}. Leave these trials out, or censor fewer volumes ('preprocess.censor')."
        )
    return inside / count[:, None]


def _sums_of_others(
    remaining: np.ndarray, conditions: np.ndarray, condition: str | None
) -> np.ndarray:
    """Return an orthonormal basis of the summed regressors of the other conditions."""
    if condition is None:
        return np.zeros((len(remaining), 0))
    sums = [remaining[:, conditions == c].sum(axis=1) for c in np.unique(conditions)]
    keep = np.unique(conditions) != condition
    return orthonormal_basis(np.column_stack(sums)[:, keep]) if keep.any() else remaining[:, :0]


def _squared_norms(columns: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->j", columns, columns)


def _check_share(remaining: np.ndarray, whole: np.ndarray, names: list[str], by_what: str) -> None:
    lost = np.flatnonzero(remaining <= MIN_SHARE * np.where(whole > 0, whole, 1.0))
    if len(lost):
        raise DataError(
            f"{len(lost)} of {len(names)} trials are fully explained by {by_what}, so their "
            f"responses cannot be estimated: {some([names[i] for i in lost])}. Look for events "
            "that repeat, for trials without volumes after them, and for confounds that follow "
            "the task."
        )
