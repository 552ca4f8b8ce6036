"""Pairwise identification of every row, and intervals over stimuli or runs."""

from __future__ import annotations

import numpy as np

from braindecode_clip.artifacts import VoxelSet
from braindecode_clip.metrics import count_better, ranks
from braindecode_clip.similarity import similarity_blocks

#: Training stimuli that out-of-fold predictions are told apart from, at most.
MAX_GALLERY = 3000


def mean_of_known(shares: np.ndarray) -> float:
    """Return the mean without NaN; chance where nothing could be told apart."""
    known = shares[~np.isnan(shares)]
    return float(known.mean()) if len(known) else 0.5


def pairwise_shares(
    predicted: np.ndarray,
    targets: np.ndarray,
    stimulus_id: np.ndarray,
    *,
    max_gallery: int | None = None,
) -> np.ndarray:
    """Return the share of other stimuli that each prediction resembles less than its own.

    Similarity is the cosine; a tie counts one half (2AFC, chance 0.5).

    Parameters
    ----------
    predicted, targets : ndarray (n_samples, n_dims)
    stimulus_id : ndarray (n_samples,) str
        Rows of one stimulus have one target, which stands once in the gallery.
    max_gallery : int, optional
        Of more stimuli, so many at equal steps are taken.

    Returns
    -------
    ndarray (n_samples,) float64
        NaN for a row without prediction, for a stimulus that is left out of the gallery, and
        where there is no other stimulus.
    """
    shares = np.full(len(predicted), np.nan)
    names, first, index = np.unique(stimulus_id, return_index=True, return_inverse=True)
    if len(names) < 2:
        return shares
    kept = np.arange(len(names))
    if max_gallery is not None and len(names) > max_gallery:
        kept = np.linspace(0, len(names) - 1, max_gallery).astype(int)
    place = np.full(len(names), -1)
    place[kept] = np.arange(len(kept))
    known = np.flatnonzero((place[index] >= 0) & ~np.isnan(predicted).any(axis=1))
    # A vector of zeros has no direction: all candidates tie.
    shares[known] = 0.5
    rows = known[np.any(predicted[known] != 0, axis=1)]
    gallery, own = targets[first[kept]], place[index[rows]]
    for part, similarity in similarity_blocks(predicted[rows], gallery):
        rank = ranks(*count_better(similarity, own[part]))
        shares[rows[part]] = 1 - (rank - 1) / (len(kept) - 1)
    return shares


def clusters_of(voxels: VoxelSet) -> np.ndarray:
    """Return what the bootstrap draws, for every test row: its stimulus, or its run."""
    name = "stimulus_id" if voxels.unit == "stimulus" else "group"
    return np.concatenate([getattr(fold.test, name) for fold in voxels.folds])


def cluster_means(
    values: np.ndarray, clusters: np.ndarray, *, n_bootstrap: int, rng: np.random.Generator
) -> np.ndarray:
    """Return bootstrap means of rows that are drawn by cluster.

    Parameters
    ----------
    values : ndarray (n_samples, n_scores)
        Scores of the same rows beside each other, for paired differences.
    clusters : ndarray (n_samples,)
        Stimulus or run of each row.
    n_bootstrap : int
    rng : Generator

    Returns
    -------
    ndarray (n_bootstrap, n_scores) float64
    """
    names, index = np.unique(clusters, return_inverse=True)
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, index, values)
    sizes = np.bincount(index).astype(float)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_bootstrap)
    return (drawn @ sums) / (drawn @ sizes)[:, None]
