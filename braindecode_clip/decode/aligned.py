"""A decoder trained on the trials of all subjects, carried into one space by functional alignment.

The maps into that space are found on training stimuli that all subjects saw
(:mod:`braindecode_clip.decode.align`); all their other training trials follow them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from braindecode_clip.decode.align import common_means, hyperalign, procrustes
from braindecode_clip.decode.row_space import ridge_in

Method = Literal["procrustes", "hyperalignment"]


@dataclass(frozen=True)
class Trials:
    """Training trials of one subject.

    Attributes
    ----------
    subject : str
    X : ndarray (n_samples, n_voxels)
    Y : ndarray (n_samples, n_dims)
    stimuli : ndarray (n_samples,) str
    """

    subject: str
    X: np.ndarray
    Y: np.ndarray
    stimuli: np.ndarray

    def without(self, stimuli: np.ndarray) -> Trials:
        """Leave the trials of some stimuli out."""
        keep = ~np.isin(self.stimuli, stimuli)
        return Trials(self.subject, self.X[keep], self.Y[keep], self.stimuli[keep])


def dealt_folds(
    subjects: Sequence[Trials], *, n_folds: int, groups: np.ndarray | None
) -> list[np.ndarray]:
    """Deal the first subject's groups to folds, those with shared stimuli evenly.

    A fold that held all shared stimuli would leave none to align on.

    Parameters
    ----------
    subjects : sequence of Trials
    n_folds : int
    groups : ndarray (n_samples,) or None
        Rows that are held out together; None: the rows of a stimulus.

    Returns
    -------
    list of ndarray
        Held-out rows of every fold.
    """
    first, *others = subjects
    shared = np.all([np.isin(first.stimuli, item.stimuli) for item in others], axis=0)
    names = first.stimuli if groups is None else np.asarray(groups)
    unique, member = np.unique(names, return_inverse=True)
    holds_shared = np.bincount(member, weights=shared) > 0
    place = np.empty(len(unique), dtype=int)
    place[np.argsort(~holds_shared, kind="stable")] = np.arange(len(unique)) % n_folds
    return [np.flatnonzero(place[member] == fold) for fold in range(n_folds)]


@dataclass(frozen=True)
class AlignedTrials:
    """Trials of all subjects in the space of the first, and the way into it.

    Attributes
    ----------
    to_common : ndarray (n_voxels, k) float64
        Of the first subject.
    mean : ndarray (n_voxels,) float64
        Of the first subject, taken off before.
    X : ndarray (n_all, k) float64
    Y : ndarray (n_all, n_dims)
    n_shared : int
        Stimuli that the maps were found on.
    """

    to_common: np.ndarray
    mean: np.ndarray
    X: np.ndarray
    Y: np.ndarray
    n_shared: int


def align_trials(subjects: Sequence[Trials], *, method: Method, n_components: int) -> AlignedTrials:
    """Carry the trials of several subjects into one space.

    With ``procrustes`` every other subject is rotated into the first one's responses to the shared
    stimuli; with ``hyperalignment`` all are, the first included, into a common space. Either has
    at most as many dimensions as there are shared stimuli, less one.

    Parameters
    ----------
    subjects : sequence of Trials
        The one to be decoded first.
    method : {"procrustes", "hyperalignment"}
    n_components : int
        Most dimensions of the common space.

    Raises
    ------
    DataError
        Fewer than three training stimuli are shared by all.
    """
    shared = common_means(
        [item.X for item in subjects],
        [item.stimuli for item in subjects],
        names=[item.subject for item in subjects],
        # Whoever gathers the trials leaves tested stimuli out of all of them.
        test_ids=(),
    )
    most = min(n_components, len(shared[0]) - 1, *(part.shape[1] for part in shared))
    means = [part.mean(axis=0) for part in shared]
    if method == "hyperalignment":
        maps: Sequence[np.ndarray] = hyperalign(shared, n_components=most).maps
    else:
        _, _, axes = np.linalg.svd(shared[0] - means[0], full_matrices=False)
        own = axes[:most].T
        wanted = (shared[0] - means[0]) @ own
        maps = [own, *(_rotation(part, wanted) for part in shared[1:])]
    carried = [
        (np.asarray(item.X, dtype=np.float64) - mean) @ way
        for item, mean, way in zip(subjects, means, maps, strict=True)
    ]
    return AlignedTrials(
        to_common=maps[0],
        mean=means[0],
        X=np.concatenate(carried),
        Y=np.concatenate([item.Y for item in subjects]),
        n_shared=len(shared[0]),
    )


def aligned_maps(
    trials: AlignedTrials, targets: np.ndarray, *, alphas: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Fit ridge on the trials of all subjects together, at each of several penalties.

    Parameters
    ----------
    trials : AlignedTrials
    targets : ndarray (n_all, n_components)
        Coordinates of ``trials.Y``.
    alphas : ndarray (n_alphas,)

    Returns
    -------
    list of (ndarray (n_voxels, n_components), ndarray (n_components,))
        Weights of the first subject's voxels, and intercept, for each penalty.
    """
    x_mean, y_mean = trials.X.mean(axis=0), targets.mean(axis=0)
    found = []
    for alpha in alphas:
        inner = ridge_in(
            trials.X - x_mean,
            targets - y_mean,
            alpha=np.full(targets.shape[1], alpha),
            dtype=np.float64,
        )
        coef = trials.to_common @ inner
        found.append((coef, y_mean - x_mean @ inner - trials.mean @ coef))
    return found


def _rotation(responses: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the best map with orthonormal columns from voxels to ``wanted``; (n_voxels, k).

    Found among the few directions that the responses span, where the time is that of small
    matrices; what lies beyond them has nothing to do with the shared stimuli.
    """
    centred = responses - responses.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    # Centred rows span one dimension less than there are rows.
    span = axes[: min(len(responses) - 1, len(axes))].T
    return span @ procrustes(centred @ span, wanted)
