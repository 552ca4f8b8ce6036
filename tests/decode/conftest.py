"""Small voxel sets with a known relation to unit-norm embeddings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from fitted_records import with_voxel_records

from braindecode_clip.artifacts import Embeddings, Fold, Samples, VoxelSet, VoxelSpace

FINGERPRINT = {"name": "toy", "weights_sha256": "ab12", "preprocessing": {"size": 64}}


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


class Toy:
    """Pictures with attributes, their embeddings, and voxels that respond to the attributes.

    The embeddings share a mean direction, as CLIP's do; responses are tanh tunings with noise
    that voxels share in part.
    """

    def __init__(self, *, n_pictures=200, n_voxels=150, n_dims=32, noise=2.0, seed=0):
        rng = self.rng = np.random.default_rng(seed)
        attributes = rng.standard_normal((n_pictures, 12)) * np.linspace(2, 0.5, 12)
        features = np.hstack([attributes, np.tanh(attributes @ rng.standard_normal((12, 12)) / 3)])
        vectors = features @ rng.standard_normal((24, n_dims)) / 5
        vectors[:, 0] += 1.5 * np.linalg.norm(vectors, axis=1).mean()
        self.vectors = unit(vectors)
        self.signal = features @ rng.standard_normal((24, n_voxels))
        self.signal /= self.signal.std(axis=0)
        self.shared = rng.standard_normal((5, n_voxels))
        self.noise = noise
        self.ids = np.array([f"pic-{i:03d}" for i in range(n_pictures)])

    def responses(self, pictures, *, repeats=1):
        """Mean response to every picture over repeats; (n, n_voxels) float32."""
        total = 0
        for _ in range(repeats):
            own = self.rng.standard_normal((len(pictures), self.signal.shape[1]))
            common = self.rng.standard_normal((len(pictures), 5)) @ self.shared / 2
            total = total + self.signal[pictures] + self.noise * (own + common)
        return (total / repeats).astype(np.float32)

    def samples(self, pictures, *, group, repeats=1):
        return Samples(
            data=self.responses(pictures, repeats=repeats),
            stimulus_id=self.ids[pictures],
            group=np.asarray(group, dtype=str),
            n_repeats=np.full(len(pictures), repeats),
        )

    def embeddings(self):
        return Embeddings(self.ids, self.vectors, modality="image", fingerprint=dict(FINGERPRINT))


def make_set(folds, *, unit="stimulus", n_voxels):
    """Wrap folds of (name, train, test) into a voxel set whose voxels are all kept."""
    index = np.arange(n_voxels)
    space = VoxelSpace(
        affine=np.eye(4),
        shape=np.array([n_voxels, 2, 1]),
        ijk=np.stack([index, 0 * index, 0 * index], axis=1).astype(np.int32),
    )
    voxels = VoxelSet(
        subject="01",
        roi="visual",
        split="toy",
        unit=unit,
        folds=tuple(
            Fold(
                name=name,
                train=train,
                test=test,
                voxel_index=index,
                mean=np.zeros(n_voxels, np.float32),
                sd=np.ones(n_voxels, np.float32),
                seen=np.unique(train.stimulus_id),
            )
            for name, train, test in folds
        ),
        space=space,
        reliability=np.full(n_voxels, np.nan, np.float32),
        ncsnr=np.full(n_voxels, np.nan, np.float32),
        noise_ceiling=np.full(n_voxels, np.nan, np.float32),
        table=pd.DataFrame({"fold": [name for name, _, _ in folds]}),
    )
    return with_voxel_records(voxels)


def rank_of_true(predicted, gallery):
    """1-based ranks by cosine; row i of the predictions belongs to row i of the gallery."""
    similarity = unit(predicted) @ gallery.T
    return 1 + (similarity > np.diag(similarity)[:, None]).sum(axis=1)


@pytest.fixture
def toy():
    return Toy()


@pytest.fixture
def make_toy():
    """Return the class, for a toy of other sizes."""
    return Toy


@pytest.fixture
def make_voxel_set():
    return make_set


@pytest.fixture
def ranks():
    return rank_of_true


@pytest.fixture
def picture_set(toy):
    """160 pictures once in 8 runs for training, 40 other pictures three times for testing."""
    train = np.arange(160)
    return make_set(
        [
            (
                "all",
                toy.samples(train, group=[f"run-{i // 20}" for i in train]),
                toy.samples(np.arange(160, 200), group=["run-0"] * 40, repeats=3),
            )
        ],
        n_voxels=150,
    )
