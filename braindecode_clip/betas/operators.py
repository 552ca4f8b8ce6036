"""The linear operators that turn the signals of a run into one response for each trial.

An operator W (n_trials, n_volumes) holds everything about the design; the betas of all
voxels are then W @ signals, one matrix product.

With M the projection on the complement of the nuisance space, x_j = M t_j the regressor of
trial j and s = sum_j x_j, the least-squares-separate model of trial j has the two columns
x_j and o_j = s - x_j, and the row of its operator is the first row of their pseudo-inverse,

    w_j = u_j / (u_j . u_j),    u_j = x_j - o_j (x_j . o_j) / (o_j . o_j),

the part of x_j that is orthogonal to o_j over its squared norm. The least-squares-all operator
is the pseudo-inverse of X = (x_1 ... x_n). Where an event has several functions (derivatives,
delays), x_j and o_j are matrices, and the row is a contrast of the pseudo-inverse of u_j.

Both are kept in one form that a ridge penalty fits into,

    W(alpha) = V diag(1 / (lambda + alpha)) R ,

with R = X', rotated to the axes V of X' X and lambda its eigenvalues, for LSA; with the rows
u_j, lambda_j = u_j . u_j and V = 1 for LSS. alpha = 0 is least squares.

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
from braindecode_clip.nuisance import project_out

#: A trial keeps at least this share of its regressor's squared norm, or it counts as
#: explained by other columns. Rounding in float64 leaves about 1e-15.
MIN_SHARE = 1e-10


@dataclass(frozen=True)
class TrialOperator:
    """A linear estimator of every trial.

    Attributes
    ----------
    rows : ndarray (n_rows, n_volumes) float64
        R above.
    eigenvalues : ndarray (n_rows,) float64
        lambda above.
    mixing : ndarray (n_trials, n_rows) float64 or None
        V above; None where it is the identity.
    vif : ndarray (n_trials,) float64
        Variance inflation: variance of the trial's estimate over that of a trial that stands
        alone (its regressor merely centred); 1 at the least.
    """

    rows: np.ndarray
    eigenvalues: np.ndarray
    mixing: np.ndarray | None
    vif: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """The least-squares operator (n_trials, n_volumes)."""
        scaled = self.rows / self.eigenvalues[:, None]
        return scaled if self.mixing is None else self.mixing @ scaled


def lss_operator(
    columns: np.ndarray,
    *,
    contrast: np.ndarray,
    nuisance: np.ndarray,
    conditions: np.ndarray,
    names: list[str],
    by_condition: bool = False,
) -> TrialOperator:
    """Return the operator of least squares separate (LSS).

    Parameters
    ----------
    columns : ndarray (n_volumes, n_trials, n_functions) float64
        Expected response to every trial.
    contrast : ndarray (n_trials, n_functions) float64
        The response to a trial is this combination of its functions' weights.
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
    alone = _variance_alone(columns, contrast)
    remaining = _project(nuisance, columns)
    _check_share(_squared_norms(remaining), _centred_norms(columns), names, _NUISANCE)
    n_volumes, n_trials, _ = columns.shape
    rows, eigenvalues = np.empty((n_trials, n_volumes)), np.empty(n_trials)
    for condition in np.unique(conditions) if by_condition else [None]:
        mine = np.ones(n_trials, bool) if condition is None else conditions == condition
        rest = _sums_of_others(remaining, conditions, condition)
        own = _project(rest, remaining[:, mine]) if rest.shape[1] else remaining[:, mine]
        # The sum over the condition's trials, of which each trial is taken away in turn.
        others = own.sum(axis=1, keepdims=True) - own
        chosen = [name for name, keep in zip(names, mine, strict=True) if keep]
        largest = _centred_norms(columns)[mine]
        if columns.shape[2] == 1:
            unique = _single_rows(own[..., 0], others[..., 0], largest)
            _check_share(_squared_norms(unique), largest, chosen, _TRIALS)
        else:
            unique = _contrast_rows(own, others, largest, contrast=contrast[mine], names=chosen)
        rows[mine], eigenvalues[mine] = unique.T, _squared_norms(unique)
    return TrialOperator(rows, eigenvalues, None, 1.0 / (eigenvalues * alone))


def lsa_operator(
    columns: np.ndarray, *, contrast: np.ndarray, nuisance: np.ndarray, names: list[str]
) -> TrialOperator:
    """Return the operator of least squares all (LSA), one set of regressors for each trial.

    Parameters
    ----------
    columns, contrast, nuisance, names
        As in :func:`lss_operator`.

    Raises
    ------
    DataError
        When trials are collinear, with the trials that take part.
    """
    n_volumes, n_trials, n_functions = columns.shape
    if n_trials * n_functions + nuisance.shape[1] > n_volumes:
        each = "" if n_functions == 1 else f" with {n_functions} regressors each"
        raise DataError(
            f"lsa: {n_trials} trials{each} and {nuisance.shape[1]} nuisance columns do not fit "
            f"into {n_volumes} volumes. Use method 'lss', or fewer confounds."
        )
    alone = _variance_alone(columns, contrast)
    remaining = _project(nuisance, columns)
    _check_share(_squared_norms(remaining), _centred_norms(columns), names, _NUISANCE)
    if (contrast[:, 0] == 1.0).all():
        # Turned so that the first function's weight is the response; the others are nuisance.
        first = remaining[..., :1]
        extra = (remaining[..., 1:] - first * contrast[:, 1:]).reshape(n_volumes, -1)
        left, singular, right = _decompose(extra, first[..., 0], names=names)
        rows = singular[:, None] * left.T
        mixing, eigenvalues = right.T, singular**2
    else:
        flat = remaining.reshape(n_volumes, -1)
        left, singular, right = _decompose(flat[:, :0], flat, names=np.repeat(names, n_functions))
        inverse = (right.T / singular) @ left.T
        estimates = np.einsum("jk,jkt->jt", contrast, inverse.reshape(n_trials, n_functions, -1))
        eigenvalues = 1.0 / np.einsum("ij,ij->i", estimates, estimates)
        rows, mixing = estimates * eigenvalues[:, None], None
    weights = TrialOperator(rows, eigenvalues, mixing, eigenvalues).weights
    vif = np.einsum("ij,ij->i", weights, weights) / alone
    return TrialOperator(rows, eigenvalues, mixing, vif)


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


_NUISANCE = "the confounds and drifts"
_TRIALS = "the other trials"


def _project(basis: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Project a stack of columns (n_volumes, ...)."""
    return project_out(basis, columns.reshape(len(columns), -1)).reshape(columns.shape)


def _squared_norms(columns: np.ndarray) -> np.ndarray:
    """Return the squared norm (n_trials,) of each trial's first function."""
    first = columns if columns.ndim == 2 else columns[..., 0]
    return np.einsum("ij,ij->j", first, first)


def _centred_norms(columns: np.ndarray) -> np.ndarray:
    return _squared_norms(columns - columns.mean(axis=0))


def _variance_alone(columns: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """Return the variance (n_trials,) of every trial's estimate if it stood alone."""
    centred = (columns - columns.mean(axis=0)).transpose(1, 0, 2)
    inverse = np.linalg.pinv(centred, rcond=MIN_SHARE**0.5)
    rows = np.einsum("jk,jkt->jt", contrast, inverse)
    variance = np.einsum("jt,jt->j", rows, rows)
    return np.where(variance > 0, variance, 1.0)


def _single_rows(own: np.ndarray, others: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Return u_j (n_volumes, n_trials) of trials with one function."""
    norm = _squared_norms(others)
    # Others that the other conditions explain wholly (or that do not exist) leave rounding.
    present = norm > MIN_SHARE * largest.max()
    slope = np.where(present, np.sum(own * others, axis=0), 0.0) / np.maximum(norm, 1e-300)
    return own - slope * others


def _contrast_rows(
    own: np.ndarray,
    others: np.ndarray,
    largest: np.ndarray,
    *,
    contrast: np.ndarray,
    names: list[str],
) -> np.ndarray:
    """Return rows (n_volumes, n_trials) whose estimates are the contrast of several functions."""
    left, singular, _ = np.linalg.svd(others.transpose(1, 0, 2), full_matrices=False)
    kept = singular**2 > MIN_SHARE * largest.max()
    left = left * kept[:, None, :]
    stack = own.transpose(1, 0, 2)
    for _ in range(2):
        stack = stack - left @ (left.transpose(0, 2, 1) @ stack)
    left, singular, right = np.linalg.svd(stack, full_matrices=False)
    kept = singular**2 > MIN_SHARE * np.einsum("ijk,ijk->j", own, own)[:, None]
    # Delays after the end of the run are not seen; that matters where the contrast needs them.
    weights = np.where(kept, np.einsum("jrk,jk->jr", right, contrast), 0.0)
    seen = np.einsum("jr,jr->j", weights, weights) / np.einsum("jk,jk->j", contrast, contrast)
    _check_share(
        np.where(seen > 1.0 - MIN_SHARE**0.5, 1.0, 0.0), np.ones(len(seen)), names, _TRIALS
    )
    scaled = weights / np.where(kept, singular, 1.0)
    estimates = np.einsum("jr,jtr->jt", scaled, left)
    return (estimates / np.einsum("jt,jt->j", estimates, estimates)[:, None]).T


def _decompose(
    extra: np.ndarray, columns: np.ndarray, *, names: list[str] | np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the singular value decomposition of columns beside others, all told apart."""
    # Rank is judged on columns of unit norm, all of them together.
    joined = np.column_stack([columns, extra])
    norm = np.linalg.norm(joined, axis=0)
    _, singular, right = np.linalg.svd(joined / np.where(norm > 0, norm, 1), full_matrices=False)
    null = right[singular**2 <= MIN_SHARE]
    if len(null):
        share = np.abs(null[:, : columns.shape[1]])
        involved = np.flatnonzero((share > 0.1 * np.abs(null).max()).any(axis=0))
        who = list(dict.fromkeys(names[i] for i in involved))
        raise DataError(
            f"lsa: {len(who)} trials are collinear, so their responses cannot be told "
            f"apart: {some(who)}. Use method 'lss', or leave one of each pair out."
        )
    if extra.shape[1]:
        columns = project_out(np.linalg.qr(extra)[0], columns)
    return np.linalg.svd(columns, full_matrices=False)


def _sums_of_others(
    remaining: np.ndarray, conditions: np.ndarray, condition: str | None
) -> np.ndarray:
    """Return an orthonormal basis of the summed regressors of the other conditions."""
    if condition is None:
        return np.zeros((len(remaining), 0))
    keep = [c for c in np.unique(conditions) if c != condition]
    if not keep:
        return remaining[:, :0, 0]
    sums = np.column_stack([remaining[:, conditions == c].sum(axis=1) for c in keep])
    left, singular, _ = np.linalg.svd(sums, full_matrices=False)
    return left[:, singular**2 > MIN_SHARE * np.square(sums).sum(axis=0).max()]


def _check_share(remaining: np.ndarray, whole: np.ndarray, names: list[str], by_what: str) -> None:
    lost = np.flatnonzero(remaining <= MIN_SHARE * np.where(whole > 0, whole, 1.0))
    if len(lost):
        raise DataError(
            f"{len(lost)} of {len(names)} trials are fully explained by {by_what}, so their "
            f"responses cannot be estimated: {some([names[i] for i in lost])}. Look for events "
            "that repeat, for trials without volumes after them, and for confounds that follow "
            "the task."
        )
