"""A voxel set whose informative voxels are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from braindecode_clip.artifacts import Embeddings, Fold, Samples, VoxelSet, VoxelSpace

SHAPE, N_DIMS = (4, 3, 5), 3


@pytest.fixture
def make_voxels() -> Callable[..., tuple[VoxelSet, Embeddings]]:
    """Return a function that makes voxels, the first ``n_informative`` driven by the target."""

    def make(
        n_informative: int = 6, *, n_train: int = 80, n_test: int = 20, n_folds: int = 1
    ) -> tuple[VoxelSet, Embeddings]:
        rng = np.random.default_rng(0)
        n_voxels = 24
        n_stimuli = n_train + n_test
        vectors = rng.standard_normal((n_stimuli, N_DIMS))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        ids = np.array([f"stim-{i:03d}" for i in range(n_stimuli)])
        data = 0.6 * rng.standard_normal((n_stimuli, n_voxels))
        data[:, :n_informative] += 2 * vectors @ rng.standard_normal((N_DIMS, n_informative))
        data = ((data - data.mean(0)) / data.std(0)).astype(np.float32)

        def samples(index: np.ndarray, voxel_index: np.ndarray) -> Samples:
            return Samples(
                data=data[np.ix_(index, voxel_index)],
                stimulus_id=ids[index],
                group=np.full(len(index), "run-1"),
                n_repeats=np.ones(len(index), dtype=np.int64),
            )

        folds = []
        for k in range(n_folds):
            order = np.roll(np.arange(n_stimuli), k * n_test)
            kept = np.arange(k, n_voxels - 2)
            folds.append(
                Fold(
                    name=f"fold-{k}",
                    train=samples(order[n_test:], kept),
                    test=samples(order[:n_test], kept),
                    voxel_index=kept,
                    mean=np.zeros(len(kept), dtype=np.float32),
                    sd=np.ones(len(kept), dtype=np.float32),
                    seen=ids[order[n_test:]],
                )
            )
        ijk = np.argwhere(np.ones(SHAPE, dtype=bool))[5 : 5 + n_voxels].astype(np.int32)
        affine = np.diag([-3.0, 3.0, 4.0, 1.0])
        affine[:3, 3] = [40, -20, 7]
        reliability = np.linspace(-0.1, 0.9, n_voxels).astype(np.float32)
        reliability[3] = np.nan
        voxels = VoxelSet(
            subject="01",
            roi="v",
            split="stimulus",
            unit="stimulus",
            folds=tuple(folds),
            space=VoxelSpace(affine, np.array(SHAPE), ijk),
            reliability=reliability,
            ncsnr=reliability.astype(np.float32),
            noise_ceiling=(100 * reliability**2).astype(np.float32),
            table=pd.DataFrame({"what": ["trials"], "n": [n_stimuli]}),
        )
        return voxels, Embeddings(ids, vectors.astype(np.float32), "image", {"model": "tiny"})

    return make
