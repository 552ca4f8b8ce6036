"""Motion against known parameters, on volumes that were computed moved, not resampled."""

import numpy as np
import pandas as pd
import pytest

from braindecode_clip.config.preprocess import PreprocessConfig
from braindecode_clip.config.realign import RealignConfig
from braindecode_clip.errors import ConfigError, DataError
from braindecode_clip.nuisance import framewise_displacement
from braindecode_clip.preprocess import choose_confounds, rigid
from braindecode_clip.preprocess.realign import brain_mask, realign_run
from braindecode_clip.preprocess.realign_confounds import confounds_of, describe_confounds
from braindecode_clip.preprocess.rigid import (
    ReferenceImage,
    estimate_motion,
    rigid_matrix,
    rigid_parameters,
    undo_motion,
)

SHAPE, VOXEL_MM = (34, 38, 22), (4.0, 3.8, 4.6)


@pytest.fixture(scope="module")
def moved(moving_head):
    """Return a run of six volumes, its affine, its known parameters."""
    parameters = moving_head.known_motion(6, seed=21)
    affine = moving_head.oblique_affine(SHAPE, VOXEL_MM)
    return moving_head.moving_run(parameters, SHAPE, affine, seed=22), affine, parameters


@pytest.fixture(scope="module")
def realigned(simpleitk, moved):
    volumes, affine, _ = moved
    config = RealignConfig(slice_timing=False, reference="first")
    return realign_run(volumes, affine, tr_s=2.0, config=config)


def test_known_motion_is_found_in_mm_and_radians(moved, realigned):
    _, _, known = moved
    error = np.abs(realigned.parameters - known)
    # What a user may rely on; it comes out five times better.
    assert error[:, :3].max() < 0.05
    assert np.rad2deg(error[:, 3:].max()) < 0.05
    assert np.abs(known[:, :3]).max() > 1.5 and np.rad2deg(np.abs(known[:, 3:]).max()) > 1.5


def test_the_corrected_run_is_as_still_as_its_noise(moved, realigned, moving_head):
    volumes, affine, known = moved
    still = moving_head.moved_head(known[0], SHAPE, affine)

    def distance(run):
        return np.sqrt(np.square((run - still)[2:, realigned.brain]).mean())

    # Motion changed the voxels five times as much as noise did; of that nothing is left.
    assert distance(volumes) > 5 * moving_head.NOISE
    assert distance(realigned.volumes) < 1.2 * moving_head.NOISE


def test_a_positive_shift_is_to_the_right_whatever_the_grid(simpleitk, moving_head):
    """The signs do not depend on the storage order of the axes."""
    known = np.array([np.zeros(6), [1.2, -0.7, 0.5, 0.02, -0.015, 0.01]])
    affine = moving_head.oblique_affine(SHAPE, VOXEL_MM)
    run = moving_head.moving_run(known, SHAPE, affine, seed=3)
    # The same run with its first axis stored the other way round, and two axes swapped.
    turned = run[:, ::-1].swapaxes(2, 3)
    stored = affine.copy()
    stored[:3, 3] += stored[:3, 0] * (SHAPE[0] - 1)
    stored[:3, 0] *= -1
    stored[:, [1, 2]] = stored[:, [2, 1]]
    found = []
    for volumes, grid in ((run, affine), (turned, stored)):
        reference = ReferenceImage(volumes[0], grid)
        mask = brain_mask(reference)
        found.append(estimate_motion(volumes[1:], grid, reference=reference, mask=mask)[0])
    np.testing.assert_allclose(found[0], known[1], atol=0.02)
    np.testing.assert_allclose(found[1], found[0], atol=0.005)


def test_a_run_on_another_grid_comes_onto_the_references(simpleitk, moving_head):
    """Another session: the head lies elsewhere, and the slices are tilted otherwise."""
    rest = np.zeros((1, 6))
    affine = moving_head.oblique_affine(SHAPE, VOXEL_MM)
    reference = ReferenceImage(moving_head.moving_run(rest, SHAPE, affine, seed=1)[0], affine)
    known = np.array([[6.0, -5.0, 4.0, 0.06, -0.05, 0.07]])
    other_shape = (36, 35, 25)
    other = moving_head.oblique_affine(other_shape, (3.9, 4.2, 4.1), tilt_deg=(0.0, 4.0, 3.0))
    run = np.repeat(moving_head.moving_run(known, other_shape, other, seed=2), 2, axis=0)
    config = RealignConfig(slice_timing=False)
    done = realign_run(run, other, tr_s=2.0, config=config, reference=reference)
    assert done.volumes.shape == (2, *SHAPE)
    assert done.reference is reference
    np.testing.assert_allclose(done.parameters[0, :3], known[0, :3], atol=0.05)
    np.testing.assert_allclose(done.parameters[0, 3:], known[0, 3:], atol=np.deg2rad(0.05))


def test_the_mean_reference_is_less_noisy_than_a_volume(simpleitk, moved, moving_head):
    volumes, affine, known = moved
    config = RealignConfig(slice_timing=False, reference="mean")
    done = realign_run(volumes, affine, tr_s=2.0, config=config)
    # It stands where the middle volume does.
    still = moving_head.moved_head(known[3], SHAPE, affine)
    noise = (done.reference.volume - still)[done.brain].std()
    assert noise < 0.75 * moving_head.NOISE
    np.testing.assert_allclose(done.parameters[3], np.zeros(6), atol=0.02)


def test_slices_are_shifted_before_the_head_is_moved_back(moved, realigned):
    from braindecode_clip.preprocess.slice_timing import shift_slices

    volumes, affine, _ = moved
    times_s = np.linspace(0, 1.9, SHAPE[2])
    config = RealignConfig(reference="first", slice_time_ref=0.25)
    done = realign_run(volumes, affine, tr_s=2.0, config=config, slice_times_s=times_s)
    # The motion is that of the volumes as acquired.
    raw = realigned.parameters
    np.testing.assert_array_equal(done.parameters, raw)
    shifted = shift_slices(volumes, times_s, axis=2, tr_s=2.0, reference_s=0.5)
    expected = undo_motion(shifted, affine, raw, reference=done.reference)
    np.testing.assert_array_equal(done.volumes, expected)


def test_parameters_and_matrix_are_each_others_inverse():
    parameters = np.array([1.5, -2.0, 0.3, 0.05, -0.02, 0.09])
    centre = np.array([3.0, -40.0, 12.0])
    matrix = rigid_matrix(parameters, centre)
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-15)
    # The centre moves by the translation alone.
    np.testing.assert_allclose(matrix[:3, :3] @ centre + matrix[:3, 3], centre + parameters[:3])
    np.testing.assert_allclose(rigid_parameters(matrix, centre), parameters, atol=1e-14)


def test_slice_timing_alone_needs_no_extra_and_moves_nothing(moved, monkeypatch):
    volumes, affine, _ = moved
    monkeypatch.setitem(__import__("sys").modules, "SimpleITK", None)
    config = RealignConfig(motion=False)
    done = realign_run(volumes, affine, tr_s=2.0, config=config, slice_times_s=np.ones(SHAPE[2]))
    assert done.parameters is None
    np.testing.assert_allclose(done.volumes, volumes, rtol=1e-5)
    with pytest.raises(ConfigError, match=r"pip install 'braindecode-clip\[motion\]'"):
        rigid.load_simpleitk()


def test_too_few_slices_and_a_volume_without_a_brain_are_told(simpleitk, moved):
    volumes, affine, _ = moved
    config = RealignConfig(slice_timing=False)
    with pytest.raises(DataError, match=r"an axis of 2 voxels; .* Set 'motion: false'"):
        realign_run(volumes[..., 8:10], affine, tr_s=2.0, config=config)
    with pytest.raises(DataError, match="no brain is found"):
        realign_run(np.zeros_like(volumes), affine, tr_s=2.0, config=config)
    far = affine.copy()
    far[0, 3] += 900
    reference = ReferenceImage(volumes[0], affine)
    with pytest.raises(DataError, match="covers 0% of the reference's brain"):
        realign_run(volumes, far, tr_s=2.0, config=config, reference=reference)


class TestConfounds:
    def test_columns_are_fmripreps_and_the_defaults_find_theirs(self):
        rng = np.random.default_rng(6)
        parameters = rng.normal(0, 0.1, (9, 6))
        table = confounds_of(rng.normal(800, 10, (9, 30)).astype(np.float32), parameters)
        motion = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
        endings = ["", "_derivative1", "_power2", "_derivative1_power2"]
        wanted = {name + ending for name in [*motion, "global_signal"] for ending in endings}
        assert set(table) == wanted | {"framewise_displacement", "dvars", "std_dvars"}
        first = table.iloc[0]
        assert {name for name in table if np.isnan(first[name])} == {
            name for name in table if "derivative1" in name
        } | {"framewise_displacement", "dvars", "std_dvars"}
        assert not table.iloc[1:].isna().to_numpy().any()
        chosen = choose_confounds(table, PreprocessConfig().confounds)
        np.testing.assert_array_equal(chosen.to_numpy(), parameters)
        np.testing.assert_array_equal(
            table["framewise_displacement"], framewise_displacement(parameters)
        )
        change = np.diff(parameters[:, 4])
        np.testing.assert_allclose(table["rot_y_derivative1_power2"][1:], change**2)
        assert set(describe_confounds(table)) == set(table)

    def test_standardized_dvars_is_one_for_noise_and_ignores_the_gain(self):
        rng = np.random.default_rng(7)
        noise = np.zeros((300, 400))
        for k in range(1, 300):
            noise[k] = 0.4 * noise[k - 1] + rng.normal(size=400)
        signals = 900 + noise * rng.uniform(5, 6, 400)
        signals[:, 3] = 500.0
        table = confounds_of(signals, None)
        assert table["std_dvars"].median() == pytest.approx(1, abs=0.02)
        scaled = confounds_of(7.5 * signals, None)
        for name in ("dvars", "std_dvars"):
            np.testing.assert_allclose(scaled[name], table[name], rtol=1e-9)
        varying = np.delete(signals, 3, axis=1) * 1000 / np.median(signals)
        expected = np.sqrt(np.square(np.diff(varying, axis=0)).mean(axis=1))
        np.testing.assert_allclose(table["dvars"][1:], expected)
        assert isinstance(table, pd.DataFrame) and "trans_x" not in table


def test_a_config_that_does_nothing_is_refused():
    with pytest.raises(ValueError, match="both false"):
        RealignConfig(motion=False, slice_timing=False)
