"""Ridge shrinkage of single-trial responses towards the voxel's mean response.

With the voxel's mean response m and S m its part of the signals,

    beta(alpha) = m + V diag(1 / (lambda + alpha)) R (y - S m)

in the form of :class:`braindecode_clip.betas.operators.TrialOperator`. It is the best linear
predictor of responses that scatter around m with variance tau^2 in noise of variance
sigma^2 = alpha tau^2. The penalty is chosen for each voxel in one of two ways.

Repeats: that alpha by which a trial comes nearest to the unshrunk responses to the same
stimulus in other runs,

    sum_i (beta_i(alpha) - mean_j beta_j(0))^2,

which estimates, up to a constant, the squared error to the stimulus' own response, since the
noise of other runs is independent.

Likelihood: the alpha that maximises the probability of the signals under the model above, from
the singular values of the design. It looks at no label.

Hoerl & Kennard (1970), Technometrics 12:55-67. Searle, Casella & McCulloch (1992), Variance
Components, chapter 6.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from braindecode_clip.betas.operators import TrialOperator

#: Range of the penalties, in multiples of the mean squared norm of a trial's regressor.
SMALLEST, GREATEST = 0.03, 30.0


def penalty_grid(number: int) -> np.ndarray:
    """Return 0 and ``number - 1`` penalties at equal ratios."""
    return np.concatenate([[0.0], np.geomspace(SMALLEST, GREATEST, number - 1)])


def shrunken(
    operator: TrialOperator,
    projected: np.ndarray,
    penalty: np.ndarray | float,
    mean: np.ndarray,
) -> np.ndarray:
    """Return beta(alpha) (n_trials, n_voxels).

    Parameters
    ----------
    operator : TrialOperator
    projected : ndarray (n_rows, n_voxels)
        ``R (y - S m)``.
    penalty : float or ndarray (n_voxels,)
        alpha, in the unit of the eigenvalues.
    mean : ndarray (n_voxels,)
        m.
    """
    dtype = projected.dtype
    factor = operator.eigenvalues[:, None] + np.asarray(penalty, dtype=np.float64)
    scaled = projected / factor.astype(dtype)
    if operator.mixing is not None:
        scaled = operator.mixing.astype(dtype) @ scaled
    return scaled + mean.astype(dtype)


def repeat_targets(labels: np.ndarray, run: np.ndarray) -> tuple[np.ndarray, sparse.csr_array]:
    """Return the trials with repeats in other runs, and the mean over these as a matrix.

    Parameters
    ----------
    labels, run : ndarray (n_trials,)
        Stimulus ("" for none) and run of all trials.

    Returns
    -------
    trials : ndarray (n_repeated,) int
    averaging : sparse array (n_repeated, n_trials) float32
        Rows sum to 1.
    """
    pairs = np.array([f"{name}\n{where}" for name, where in zip(labels, run, strict=True)])
    elsewhere = _same(labels, labels != "") - _same(pairs, labels != "")
    counts = np.asarray(elsewhere.sum(axis=1)).ravel()
    trials = np.flatnonzero(counts > 0)
    scale = sparse.diags_array(1.0 / counts[trials])
    return trials, sparse.csr_array(scale @ elsewhere[trials], dtype=np.float32)


def _same(names: np.ndarray, counted: np.ndarray) -> sparse.csr_array:
    """Return which pairs of trials share a name, as 0 and 1."""
    _, code = np.unique(names, return_inverse=True)
    rows = np.flatnonzero(counted)
    shape = (len(names), code.max(initial=0) + 1)
    member = sparse.csr_array((np.ones(len(rows)), (rows, code[rows])), shape=shape)
    return sparse.csr_array(member @ member.T)


def repeat_losses(
    betas: Sequence[np.ndarray], *, trials: np.ndarray, averaging: sparse.csr_array
) -> np.ndarray:
    """Return the loss by repeats (n_penalties, n_voxels).

    Parameters
    ----------
    betas : sequence of ndarray (n_trials, n_voxels)
        One for each penalty, the first of which is 0.
    trials, averaging
        From :func:`repeat_targets`.
    """
    target = averaging @ betas[0]
    return np.array(
        [np.square(beta[trials] - target).sum(axis=0, dtype=np.float64) for beta in betas]
    )


class Likelihood:
    """Log-likelihood of penalties, gathered over runs.

    Parameters
    ----------
    penalties : ndarray (n_penalties,)
        In multiples of the mean squared norm of a regressor.
    n_voxels : int
    """

    def __init__(self, penalties: np.ndarray, n_voxels: int) -> None:
        self.penalties = penalties
        self.squares = np.zeros((len(penalties), n_voxels))
        self.log_determinants = np.zeros(len(penalties))
        self.n_free = 0

    def add(self, columns: np.ndarray, signals: np.ndarray, *, n_nuisance: int) -> None:
        """Add a run.

        Parameters
        ----------
        columns : ndarray (n_volumes, n_trials) float64
            Regressors of the trials, nuisance projected out.
        signals : ndarray (n_volumes, n_voxels)
            ``y - S m``, nuisance projected out.
        n_nuisance : int
            Rank of the nuisance.
        """
        left, singular, _ = np.linalg.svd(columns, full_matrices=False)
        left, singular = left[:, singular > 1e-8], singular[singular > 1e-8]
        scale = np.square(columns).sum(axis=0).mean()
        projected = np.square(left.T.astype(signals.dtype) @ signals, dtype=np.float64)
        rest = np.square(signals).sum(axis=0, dtype=np.float64) - projected.sum(axis=0)
        for i, penalty in enumerate(self.penalties):
            if penalty == 0:
                # Responses of unlimited spread: no proper density.
                self.squares[i] = np.inf
                continue
            spread = 1.0 + singular**2 / (penalty * scale)
            self.squares[i] += (1.0 / spread) @ projected + rest
            self.log_determinants[i] += np.log(spread).sum()
        self.n_free += len(signals) - n_nuisance

    def best(self) -> np.ndarray:
        """Return the index (n_voxels,) of the likeliest penalty."""
        squares = np.maximum(self.squares, 1e-300)
        value = self.n_free * np.log(squares) + self.log_determinants[:, None]
        return value.argmin(axis=0)
