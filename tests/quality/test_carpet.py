"""The carpet against the same steps done voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest

from braindecode_clip.quality.carpet import BLOCK_VOXELS, CARPET_SD, STEPS, make_carpet


def naive_carpet(data, n_rows):
    data = data.astype(float)
    used = [v for v in range(data.shape[1]) if np.ptp(data[:, v]) > 0]
    scores = {v: (data[:, v] - data[:, v].mean()) / data[:, v].std(ddof=1) for v in used}
    shared = np.mean(list(scores.values()), axis=0)
    correlation = {v: np.corrcoef(scores[v], shared)[0, 1] for v in used}
    order = sorted(used, key=lambda v: -correlation[v])
    n_rows = min(n_rows, len(used))
    rows = []
    for place in range(n_rows):
        own = [v for i, v in enumerate(order) if i * n_rows // len(order) == place]
        mean = np.mean([scores[v] for v in own], axis=0)
        rows.append((mean - mean.mean()) / mean.std(ddof=1))
    return np.array(rows), correlation


@pytest.mark.parametrize(("n_voxels", "n_rows"), [(2 * BLOCK_VOXELS + 77, 50), (31, 50), (40, 7)])
def test_rows_are_ordered_averaged_and_scaled(n_voxels, n_rows):
    rng = np.random.default_rng(3)
    shared = rng.normal(size=(60, 1)) * rng.uniform(-0.5, 1.5, n_voxels)
    data = (1000 + shared + rng.normal(size=(60, n_voxels))).astype(np.float32)
    data[:, [0, n_voxels // 2]] = 7.0
    carpet, row_of, correlation = make_carpet(data, n_rows=n_rows)
    expected, by_voxel = naive_carpet(data, n_rows)
    assert carpet.dtype == np.int8 and carpet.shape == expected.shape
    # Rounding to a step may fall to either side; nothing is further off than that.
    np.testing.assert_allclose(carpet / STEPS, expected.clip(-2, 2), atol=0.5 / STEPS + 1e-6)
    assert set(np.flatnonzero(row_of < 0)) == {0, n_voxels // 2}
    assert np.isnan(correlation[[0, n_voxels // 2]]).all()
    for voxel, value in by_voxel.items():
        assert correlation[voxel] == pytest.approx(value, abs=1e-9)
    sizes = np.bincount(row_of[row_of >= 0])
    assert sizes.max() - sizes.min() <= 1


def test_a_spike_of_all_voxels_is_a_stripe():
    rng = np.random.default_rng(4)
    data = rng.normal(size=(80, 500)).astype(np.float32)
    data[31] += 6.0
    carpet, _, _ = make_carpet(data, n_rows=100)
    assert (carpet[:, 31] == CARPET_SD * STEPS).all()
    assert np.abs(np.delete(carpet, 31, axis=1)).mean() < 1.2 * STEPS


def test_the_run_is_not_copied():
    import tracemalloc

    data = np.random.default_rng(5).normal(size=(100, 60_000)).astype(np.float32)
    tracemalloc.start()
    make_carpet(data, n_rows=50)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < data.nbytes / 3


def test_nothing_varies():
    carpet, row_of, correlation = make_carpet(np.full((9, 5), 3.0))
    assert carpet.shape == (0, 9) and (row_of == -1).all() and np.isnan(correlation).all()
