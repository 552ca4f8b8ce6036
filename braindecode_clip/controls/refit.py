"""The reference decoder fitted again: without a cluster, on shuffled pairs, and a constant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from braindecode_clip.artifacts import Embeddings, Fold, Samples, VoxelSet
from braindecode_clip.config.decode import RidgeConfig
from braindecode_clip.decode import decode


def refit(
    voxels: VoxelSet, embeddings: Embeddings, *, decoder: RidgeConfig, seed: int
) -> np.ndarray:
    """Fit the decoder and return its predictions of the test rows, (n_samples, n_dims)."""
    predictions, _ = decode(voxels, embeddings, config=decoder, seed=seed)
    return predictions.vectors


def constant(voxels: VoxelSet, embeddings: Embeddings) -> np.ndarray:
    """Predict the mean of each fold's training targets for all its test rows."""
    parts = []
    for fold in voxels.folds:
        targets = embeddings.vectors[embeddings.rows(fold.train.stimulus_id)]
        mean = targets.mean(axis=0, dtype=np.float64)
        parts.append(np.tile(mean, (len(fold.test.data), 1)))
    return np.concatenate(parts)


def shuffled(voxels: VoxelSet, rng: np.random.Generator) -> VoxelSet:
    """Give the training rows the stimuli of other rows.

    Where stimuli are held out, stimuli exchange their names, so that the rows of one stay
    together; where runs are held out, rows exchange their names within each run, or among all
    runs where a run holds one stimulus alone.
    """
    folds = []
    for fold in voxels.folds:
        ids = fold.train.stimulus_id.astype(str)
        if voxels.unit == "stimulus":
            names, labels = np.unique(ids, return_inverse=True)
            ids = rng.permutation(names)[labels]
        else:
            ids = _within(ids, fold.train.group.astype(str), rng)
        folds.append(replace(fold, train=replace(fold.train, stimulus_id=ids)))
    return replace(voxels, folds=tuple(folds))


def _within(ids: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    parts = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    if all(len(np.unique(ids[rows])) == 1 for rows in parts):
        return rng.permutation(ids)
    mixed = ids.copy()
    for rows in parts:
        mixed[rows] = rng.permutation(ids[rows])
    return mixed


def cluster_labels(
    fold: Fold, embeddings: Embeddings, *, n_clusters: int, seed: int
) -> dict[str, int]:
    """Cluster a fold's training and test pictures by k-means on centred embeddings.

    Returns
    -------
    dict of str to int
        The cluster of every picture.
    """
    from sklearn.cluster import KMeans

    train = np.unique(fold.train.stimulus_id.astype(str))
    names = np.union1d(train, fold.test.stimulus_id.astype(str))
    vectors = embeddings.vectors[embeddings.rows(names)].astype(np.float64)
    vectors -= embeddings.vectors[embeddings.rows(train)].mean(axis=0, dtype=np.float64)
    model = KMeans(n_clusters, n_init=4, random_state=seed % 2**32)
    return dict(zip(names.tolist(), model.fit_predict(vectors).tolist(), strict=True))


def without_clusters(
    voxels: VoxelSet,
    clusters: list[dict[str, int]],
    *,
    matched: np.random.Generator | None = None,
) -> tuple[VoxelSet, np.ndarray]:
    """Split every fold by cluster: test pictures of one, training pictures without it.

    Parameters
    ----------
    voxels : VoxelSet
        Of unit "stimulus".
    clusters : list of dict
        From :func:`cluster_labels`, one for each fold.
    matched : Generator, optional
        Leave out as many training pictures drawn at random instead of the cluster's.

    Returns
    -------
    voxels : VoxelSet
        A fold for each fold and cluster that has test pictures. Selection and scaling of voxels
        stay those of the whole training part.
    rows : ndarray (n_samples,) int64
        Row of the original test samples for each row of the new ones.
    """
    folds, rows, start = [], [], 0
    for fold, labels in zip(voxels.folds, clusters, strict=True):
        train, test = (
            np.array([labels[name] for name in part.stimulus_id.astype(str)])
            for part in (fold.train, fold.test)
        )
        names, index = np.unique(fold.train.stimulus_id.astype(str), return_inverse=True)
        for cluster in np.unique(test):
            out = train == cluster
            if matched is not None:
                n_out = len(np.unique(index[out]))
                out = np.isin(index, matched.choice(len(names), n_out, replace=False))
            own = np.flatnonzero(test == cluster)
            folds.append(
                replace(
                    fold,
                    name=f"{fold.name}, cluster {cluster}",
                    train=rows_of(fold.train, np.flatnonzero(~out)),
                    test=rows_of(fold.test, own),
                )
            )
            rows.append(start + own)
        start += len(test)
    return replace(voxels, folds=tuple(folds)), np.concatenate(rows)


def rows_of(samples: Samples, rows: np.ndarray) -> Samples:
    """Return some rows of samples."""
    return Samples(
        data=samples.data[rows],
        stimulus_id=samples.stimulus_id[rows],
        group=samples.group[rows],
        n_repeats=samples.n_repeats[rows],
    )
