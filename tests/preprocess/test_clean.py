"""Cleaning against nilearn's signal.clean and NiftiMasker."""

import numpy as np
import pandas as pd
import pytest
from nilearn.maskers import NiftiMasker
from nilearn.signal import clean

from braindecode_clip.config.preprocess import PreprocessConfig
from braindecode_clip.errors import DataError
from braindecode_clip.io.bold import read_bold
from braindecode_clip.io.nifti import read_mask
from braindecode_clip.preprocess import clean_run, intersect_masks
from braindecode_clip.preprocess.smoothing import make_smoother

EPS32 = np.finfo(np.float32).eps
NILEARN = {"zscore": "zscore_sample", "percent": "psc", "raw": None}
#: Roundings of the float32 result, and of float32 input that nilearn centres otherwise.
ROUNDINGS = 8


def config(**options):
    return PreprocessConfig(**({"confounds": ()} | options))


@pytest.fixture
def data(space):
    rng = np.random.default_rng(10)
    drift = rng.normal(size=(97, 61)).cumsum(axis=0)
    return (rng.uniform(400, 1600, 61) + 9 * rng.normal(size=(97, 61)) + drift).astype(np.float32)


@pytest.fixture
def confounds():
    rng = np.random.default_rng(11)
    values = rng.normal(size=(97, 4)).cumsum(axis=0) * [1.0, 1e-3, 50.0, 1.0] + 300.0
    return pd.DataFrame(values, columns=["csf", "rot_x", "white_matter", "global_signal"])


@pytest.mark.parametrize("unit", ["zscore", "percent", "raw"])
@pytest.mark.parametrize("high_pass_hz", [None, 0.01])
@pytest.mark.parametrize("names", [(), ("csf", "rot_x", "white_matter")])
def test_equal_to_nilearn(data, space, confounds, unit, high_pass_hz, names):
    options = {"standardize": unit, "high_pass_hz": high_pass_hz, "confounds": names}
    ours = clean_run(data, space=space, tr_s=2.0, confounds=confounds, config=config(**options))
    expected = clean(
        data.astype(np.float64),
        t_r=2.0,
        detrend=False,
        standardize=NILEARN[unit],
        filter="cosine" if high_pass_hz else False,
        high_pass=high_pass_hz,
        confounds=confounds[list(names)].to_numpy() if names else None,
    )
    assert ours.data.dtype == np.float32
    np.testing.assert_allclose(
        ours.data, expected, rtol=0, atol=ROUNDINGS * EPS32 * np.abs(expected).max()
    )
    np.testing.assert_allclose(ours.mean, data.mean(axis=0, dtype=np.float64), rtol=EPS32)


def test_a_linear_trend_equals_nilearns_detrending(data, space, confounds):
    options = {"polynomial_order": 1, "high_pass_hz": None, "confounds": ("csf",)}
    ours = clean_run(data, space=space, tr_s=2.0, confounds=confounds, config=config(**options))
    expected = clean(
        data.astype(np.float64),
        t_r=2.0,
        detrend=True,
        standardize="zscore_sample",
        confounds=confounds[["csf"]].to_numpy(),
    )
    np.testing.assert_allclose(
        ours.data, expected, rtol=0, atol=ROUNDINGS * EPS32 * np.abs(expected).max()
    )


def test_regressors_are_what_was_taken_away(data, space, confounds):
    options = {"confounds": ("csf", "rot_x"), "standardize": "raw", "dummy_scans": 6}
    before = data.copy()
    ours = clean_run(data, space=space, tr_s=2.0, confounds=confounds, config=config(**options))
    np.testing.assert_array_equal(data, before)
    assert ours.first_volume_s == 12.0
    n_cosines = int(2 * 91 * 2.0 * 0.01)
    assert ours.regressors.shape == (91, 2 + n_cosines)
    design = np.column_stack([np.ones(91), ours.regressors]).astype(np.float64)
    kept = data[6:].astype(np.float64)
    residual = kept - design @ np.linalg.lstsq(design, kept, rcond=None)[0] + kept.mean(axis=0)
    np.testing.assert_allclose(ours.data, residual, rtol=ROUNDINGS * EPS32)
    # The chosen confounds lie in the space, up to the float32 of the regressors.
    chosen = confounds[["csf", "rot_x"]].to_numpy()[6:]
    left = chosen - design @ np.linalg.lstsq(design, chosen, rcond=None)[0]
    assert (left.std(axis=0) < 100 * EPS32 * chosen.std(axis=0)).all()


def test_the_result_may_take_the_memory_of_the_data(data, space):
    expected = clean_run(data.copy(), space=space, tr_s=2.0, config=config())
    ours = clean_run(data, space=space, tr_s=2.0, config=config(), overwrite=True)
    np.testing.assert_array_equal(ours.data, expected.data)
    assert np.shares_memory(ours.data, data)


# nilearn's maskers announce changes of their own defaults.
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("fwhm_mm", [None, 6.0])
def test_a_whole_run_equals_niftimasker(write_run, write_mask, fwhm_mm):
    path, mask = write_run(n_volumes=60), write_mask()
    table = pd.DataFrame({"trans_x": np.random.default_rng(1).normal(size=60).cumsum()})
    masker = NiftiMasker(
        mask,
        smoothing_fwhm=fwhm_mm,
        standardize="zscore_sample",
        t_r=2.0,
        high_pass=0.01,
        clean_args={"filter": "cosine"},
        dtype=np.float64,
    )
    expected = masker.fit_transform(str(path), confounds=table.to_numpy())
    space = read_mask(mask)
    smoother = make_smoother(space.affine, fwhm_mm) if fwhm_mm else None
    data, tr_s = read_bold(path, space, volume_filter=smoother)
    options = config(confounds=("trans_x",), fwhm_mm=fwhm_mm)
    ours = clean_run(data, space=space, tr_s=tr_s, confounds=table, config=options)
    # Smoothed volumes are rounded to float32 around a mean of 100 at an sd of about 1.
    assert np.abs(ours.data - expected).max() < 200 * EPS32
    assert expected.std() > 0.5


class TestVoxelsWithoutSignal:
    def test_constant_voxels_are_an_error_that_says_where(self, data, space):
        data[:, [7, 30]] = [0.0, 811.3]
        first = ", ".join(str(i) for i in space.ijk[7])
        message = rf"run 3: 2 of 61 voxels are constant.*ijk \({first}\).*constant_voxels: zero"
        with pytest.raises(DataError, match=message):
            clean_run(data, space=space, tr_s=2.0, config=config(), where="run 3")

    @pytest.mark.parametrize("unit", ["zscore", "percent", "raw"])
    def test_or_zero_on_demand(self, data, space, unit, caplog):
        expected = clean_run(data, space=space, tr_s=2.0, config=config(standardize=unit))
        data[:, [7, 30]] = [0.0, 811.3]
        options = config(standardize=unit, constant_voxels="zero")
        ours = clean_run(data, space=space, tr_s=2.0, config=options)
        assert (ours.data[:, [7, 30]] == 0).all()
        others = np.setdiff1d(np.arange(61), [7, 30])
        np.testing.assert_array_equal(ours.data[:, others], expected.data[:, others])
        assert "2 of 61 constant voxels set to 0" in caplog.text

    def test_a_voxel_that_the_confounds_explain_is_constant_too(self, data, space, confounds):
        data[:, 5] = 3.0 * confounds["csf"] + 20.0
        options = config(confounds=("csf",))
        with pytest.raises(DataError, match="1 of 61 voxels are constant, or nothing is left"):
            clean_run(data, space=space, tr_s=2.0, confounds=confounds, config=options)

    def test_a_mask_beside_the_brain(self, data, space):
        options = config(constant_voxels="zero")
        with pytest.raises(DataError, match="all 61 voxels are constant"):
            clean_run(np.zeros_like(data), space=space, tr_s=2.0, config=options)

    def test_percent_needs_a_mean(self, data, space):
        data[:, 3] -= data[:, 3].mean() + 5.0
        with pytest.raises(DataError, match="1 of 61 voxels have a mean of 0 or below"):
            clean_run(data, space=space, tr_s=2.0, config=config(standardize="percent"))


def test_too_few_volumes_or_too_many_regressors(data, space, confounds):
    with pytest.raises(DataError, match="97 volumes less 95 dummy scans leave 2"):
        clean_run(data, space=space, tr_s=2.0, config=config(dummy_scans=95))
    many = pd.DataFrame(np.random.default_rng(0).normal(size=(97, 96))).add_prefix("c")
    with pytest.raises(DataError, match="96 independent confounds and drifts leave nothing of 97"):
        clean_run(data, space=space, tr_s=2.0, confounds=many, config=config(confounds=("c*",)))
    with pytest.raises(DataError, match=r"has 96 rows, but .* has 97 volumes"):
        options = config(confounds=("csf",))
        clean_run(data, space=space, tr_s=2.0, confounds=confounds[:-1], config=options)


def test_masks_are_intersected(space):
    first, second = space.subset(np.arange(40)), space.subset(np.arange(25, 61))
    both = intersect_masks([first, second], ["a", "b"])
    np.testing.assert_array_equal(both.ijk, space.ijk[25:40])
    with pytest.raises(DataError, match="no voxel lies in all of a, c"):
        intersect_masks([first, space.subset(np.arange(50, 61))], ["a", "c"])
    moved = type(space)(space.affine + np.eye(4), space.shape, space.ijk)
    with pytest.raises(DataError, match="b lies on another grid than a"):
        intersect_masks([first, moved], ["a", "b"])


def test_every_volume_is_described(data, space, confounds):
    rng = np.random.default_rng(12)
    names = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
    moved = confounds.assign(**dict(zip(names, rng.normal(size=(6, 97)) / 50, strict=True)))
    ours = clean_run(data, space=space, tr_s=2.0, confounds=moved, config=config(dummy_scans=5))
    kept = data[5:].astype(np.float64)
    change = np.sqrt((np.diff(kept, axis=0) ** 2).mean(axis=1))
    np.testing.assert_allclose(ours.volumes["dvars"][1:], change, rtol=1e-6)
    assert np.isnan(ours.volumes["dvars"][0])
    step = np.abs(np.diff(moved[names].to_numpy(), axis=0)) @ [1, 1, 1, 50, 50, 50]
    np.testing.assert_allclose(ours.volumes["framewise_displacement"], step[4:], rtol=1e-12)
    np.testing.assert_allclose(ours.sd, kept.std(axis=0, ddof=1), rtol=1e-6)
    # What the file says counts before what could be computed.
    given = moved.assign(framewise_displacement=np.r_[np.nan, np.arange(96.0)])
    ours = clean_run(data, space=space, tr_s=2.0, confounds=given, config=config())
    np.testing.assert_array_equal(ours.volumes["framewise_displacement"][1:], np.arange(96.0))
