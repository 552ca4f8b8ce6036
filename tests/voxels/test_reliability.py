import numpy as np
import pytest

from braindecode_clip.voxels import noise_ceiling, noise_ceiling_snr, split_half_reliability
from braindecode_clip.voxels.reliability import select_reliable


def simulate(n_stimuli, n_repeats, noise_sd, *, seed=0, n_voxels=400):
    rng = np.random.default_rng(seed)
    signal = rng.standard_normal((n_stimuli, n_voxels))
    label = np.tile([f"s{i}" for i in range(n_stimuli)], n_repeats)
    data = np.tile(signal, (n_repeats, 1)) + noise_sd * rng.standard_normal((len(label), n_voxels))
    return data.astype(np.float32), label


def test_reliability_by_its_definition():
    rng = np.random.default_rng(1)
    label = np.array(list("bacadbbcaedcb"))
    data = rng.standard_normal((13, 5)).astype(np.float32)
    odd, even = [], []
    for name in "abcd":
        rows = np.flatnonzero(label == name)
        odd.append(data[rows[0::2]].mean(axis=0))
        even.append(data[rows[1::2]].mean(axis=0))
    found = split_half_reliability(data, label)
    for voxel in range(5):
        r = np.corrcoef(np.array(odd)[:, voxel], np.array(even)[:, voxel])[0, 1]
        expected = 2 * r / (1 + r) if r > -1 / 3 else -1
        assert found[voxel] == pytest.approx(expected, rel=1e-5)
    assert (np.abs(found) <= 1).all()


@pytest.mark.parametrize("n_repeats", [2, 4, 8])
def test_reliability_estimates_that_of_the_mean_of_all_repeats(n_repeats):
    data, label = simulate(200, n_repeats, noise_sd=1.5)
    truth = 1 / (1 + 1.5**2 / n_repeats)
    assert split_half_reliability(data, label).mean() == pytest.approx(truth, abs=0.02)


def test_reliability_of_noise_and_of_nothing():
    rng = np.random.default_rng(2)
    noise = rng.standard_normal((60, 500)).astype(np.float32)
    label = np.tile(np.arange(20).astype(str), 3)
    assert abs(np.median(split_half_reliability(noise, label))) < 0.05
    noise[:, 3] = 5
    assert np.isnan(split_half_reliability(noise, label)).nonzero()[0].tolist() == [3]
    assert np.isnan(split_half_reliability(noise, np.arange(60).astype(str))).all()
    two = np.array(["a", "a", "b", "b", *map(str, range(56))])
    assert np.isnan(split_half_reliability(noise, two)).all()


@pytest.mark.parametrize(("noise_sd", "n"), [(1.0, 1), (2.0, 3), (0.5, 3)])
def test_noise_ceiling_is_the_share_of_signal(noise_sd, n):
    data, label = simulate(300, 3, noise_sd)
    truth = 100 / (1 + noise_sd**2 / n)
    found = noise_ceiling(noise_ceiling_snr(data, label), mean_inverse_n=1 / n)
    assert found.mean() == pytest.approx(truth, abs=1.5)


def test_noise_ceiling_by_the_published_formula():
    data, label = simulate(50, 3, 1.0, n_voxels=7)
    z = (data - data.mean(axis=0)) / data.std(axis=0, ddof=1)
    noise = np.mean([z[label == name].var(axis=0, ddof=1) for name in np.unique(label)], axis=0)
    ncsnr = np.sqrt(np.maximum(1 - noise, 0)) / np.sqrt(noise)
    expected = 100 * ncsnr**2 / (ncsnr**2 + 1 / 3)
    found = noise_ceiling_snr(data, label)
    np.testing.assert_allclose(found, ncsnr, rtol=1e-4)
    np.testing.assert_allclose(noise_ceiling(found, mean_inverse_n=1 / 3), expected, rtol=1e-4)


def test_noise_ceiling_bounds():
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((60, 50)).astype(np.float32)
    noise[:, 0] = 4
    label = np.tile(np.arange(20).astype(str), 3)
    # Signal without noise has no ratio.
    noise[:, 1] = np.tile(np.arange(20), 3)
    found = noise_ceiling_snr(noise, label)
    assert found[0] == 0 and np.isnan(found[1])
    assert (np.delete(found, 1) >= 0).all()
    assert (np.delete(noise_ceiling(found, mean_inverse_n=1), 1) <= 100).all()
    assert np.isnan(noise_ceiling_snr(noise, np.arange(60).astype(str))).all()


def test_selection():
    r = np.array([0.5, np.nan, 0.1, 0.9, 0.5, -0.2])
    assert select_reliable(r, minimum=0.3, top=None).nonzero()[0].tolist() == [0, 3, 4]
    assert select_reliable(r, minimum=None, top=2).nonzero()[0].tolist() == [0, 3]
    assert select_reliable(r, minimum=0.3, top=1).nonzero()[0].tolist() == [3]
    assert select_reliable(r, minimum=None, top=99).sum() == 5
    assert select_reliable(r, minimum=0.95, top=3).sum() == 0
