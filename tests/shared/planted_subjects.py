"""Subjects whose decoder is known to be honest, or known to know clusters alone."""

from __future__ import annotations

import numpy as np
import pandas as pd

from braindecode_clip.artifacts import Embeddings, Fold, Samples, VoxelSet, VoxelSpace
from braindecode_clip.config.controls import ControlsConfig
from braindecode_clip.config.decode import RidgeConfig
from braindecode_clip.decode import decode

FINGERPRINT = {"name": "planted"}
FAST = ControlsConfig(n_clusters=6, n_matched=2, n_bootstrap=400)


def embeddings_of(vectors, prefix="pic"):
    ids = np.array([f"{prefix}-{i:03d}" for i in range(len(vectors))])
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = (vectors / lengths).astype(np.float32)
    return Embeddings(ids, unit, modality="image", fingerprint=dict(FINGERPRINT))


def voxel_set(parts, *, unit="stimulus"):
    """Wrap (name, train, test) with samples of (data, ids, groups)."""
    n_voxels = parts[0][1][0].shape[1]
    index = np.arange(n_voxels)
    ijk = np.stack([index, 0 * index, 0 * index], axis=1).astype(np.int32)
    space = VoxelSpace(affine=np.eye(4), shape=np.array([n_voxels, 1, 1]), ijk=ijk)

    def samples(part):
        data, ids, groups = part
        return Samples(data.astype(np.float32), ids, groups, np.ones(len(ids), np.int64))

    folds = tuple(
        Fold(
            name,
            samples(train),
            samples(test),
            index,
            np.zeros(n_voxels, np.float32),
            np.ones(n_voxels, np.float32),
            np.unique(train[1]),
        )
        for name, train, test in parts
    )
    unknown = np.full(n_voxels, np.nan, np.float32)
    labels = {"subject": "01", "roi": "visual", "split": "planted", "unit": unit}
    return VoxelSet(
        **labels,
        folds=folds,
        space=space,
        reliability=unknown,
        ncsnr=unknown,
        noise_ceiling=unknown,
        table=pd.DataFrame(),
    )


def predicted(voxels, embeddings, name="ridge"):
    config = RidgeConfig(name=name)
    return decode(voxels, embeddings, config=config, seed=1, encoder="planted")


def planted(kind, *, seed=0, n_train=150, n_test=48, n_voxels=70, n_dims=24):
    """A subject of one fold.

    "clusters": voxels answer to which of six clusters a picture is of, and to nothing else.
    "linear": voxels are a linear map of the embedding, which has no clusters.
    """
    rng = np.random.default_rng(seed)
    n = n_train + n_test
    if kind == "clusters":
        which = rng.permutation(np.arange(n) % 6)
        centres = rng.standard_normal((6, n_dims))
        vectors = centres[which] + 0.3 * rng.standard_normal((n, n_dims))
        signal = rng.standard_normal((6, n_voxels))[which]
    else:
        vectors = rng.standard_normal((n, n_dims))
        signal = vectors @ rng.standard_normal((n_dims, n_voxels)) / np.sqrt(n_dims)
    data = signal + 0.3 * rng.standard_normal((n, n_voxels))
    embeddings = embeddings_of(vectors)
    groups = np.array([f"run-{i % 4}" for i in range(n)])
    train, test = slice(0, n_train), slice(n_train, n)
    parts = [("all", *((data[rows], embeddings.ids[rows], groups[rows]) for rows in (train, test)))]
    return voxel_set(parts), embeddings


def categories_in_runs(unit):
    """Five categories that come again in each of four runs: runs or categories held out in turn."""
    rng = np.random.default_rng(5)
    embeddings = embeddings_of(rng.standard_normal((5, 12)), prefix="name")
    signal = rng.standard_normal((5, 30))
    runs = np.repeat([f"run-{i}" for i in range(4)], 5)
    ids = np.tile(embeddings.ids, 4)
    data = np.tile(signal, (4, 1)) + 0.5 * rng.standard_normal((20, 30))
    held_out = runs if unit == "run" else ids
    parts = [
        (
            str(name),
            *((data[rows], ids[rows], runs[rows]) for rows in (held_out != name, held_out == name)),
        )
        for name in np.unique(held_out)
    ]
    return voxel_set(parts, unit=unit), embeddings
