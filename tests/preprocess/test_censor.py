"""Censoring: which volumes go, and that cleaning is then that of the others alone."""

import numpy as np
import pandas as pd
import pytest
from nilearn.interfaces.fmriprep.load_confounds_scrub import optimize_scrub
from nilearn.signal import clean

from braindecode_clip.config.preprocess import CensorConfig, PreprocessConfig
from braindecode_clip.errors import DataError
from braindecode_clip.preprocess import clean_run
from braindecode_clip.preprocess.censor import choose_censored, describe_volumes

EPS32 = np.finfo(np.float32).eps
NILEARN = {"zscore": "zscore_sample", "percent": "psc", "raw": None}
ROUNDINGS = 8
N_VOLUMES = 131


@pytest.fixture
def data(space):
    rng = np.random.default_rng(20)
    drift = rng.normal(size=(N_VOLUMES, 61)).cumsum(axis=0)
    values = rng.uniform(400, 1600, 61) + 9 * rng.normal(size=(N_VOLUMES, 61)) + drift
    values[[0, 17, 60, 61, 130]] += 400.0
    return values.astype(np.float32)


@pytest.fixture
def table():
    rng = np.random.default_rng(21)
    table = pd.DataFrame(rng.normal(size=(N_VOLUMES, 3)).cumsum(axis=0), columns=["a", "b", "c"])
    displacement = rng.uniform(0, 0.4, N_VOLUMES)
    displacement[[17, 60, 61, 130]] = [0.9, 2.0, 0.51, 0.8]
    displacement[0] = np.nan
    standardized = rng.uniform(0.8, 1.3, N_VOLUMES)
    standardized[[0, 17, 90]] = [np.nan, 4.0, 1.6]
    return table.assign(framewise_displacement=displacement, std_dvars=standardized)


def config(**options):
    return PreprocessConfig(**({"confounds": ("a", "b", "c")} | options))


def volumes_above(rows, n_volumes=40):
    """Return the table of a run whose displacement is large in some volumes."""
    displacement = np.where(np.isin(np.arange(n_volumes), rows), 1.0, 0.1)
    return pd.DataFrame({"framewise_displacement": displacement, "std_dvars": np.nan})


class TestWhichVolumes:
    def test_either_measure_and_never_what_is_unknown(self, data, table):
        volumes = describe_volumes(data, table)
        chosen = {
            name: np.flatnonzero(choose_censored(volumes, CensorConfig(**options))).tolist()
            for name, options in {
                "none": {},
                "fd": {"fd_mm": 0.5},
                "dvars": {"dvars": 1.5},
                "both": {"fd_mm": 0.5, "dvars": 1.5},
            }.items()
        }
        assert chosen == {
            "none": [],
            "fd": [17, 60, 61, 130],
            "dvars": [17, 90],
            "both": [17, 60, 61, 90, 130],
        }

    def test_neighbours_and_the_ends_of_the_run(self):
        config = CensorConfig(fd_mm=0.5, n_before=1, n_after=2)
        found = np.flatnonzero(choose_censored(volumes_above([0, 20, 39]), config))
        assert found.tolist() == [0, 1, 2, 19, 20, 21, 22, 38, 39]

    @pytest.mark.parametrize("min_segment", [1, 2, 5, 9])
    def test_short_segments_go_as_nilearns_do(self, min_segment):
        rng = np.random.default_rng(3)
        for _ in range(50):
            rows = np.flatnonzero(rng.uniform(size=60) < 0.1)
            config = CensorConfig(fd_mm=0.5, min_segment=min_segment, max_share=0.999)
            found = choose_censored(volumes_above(rows, 60), config)
            expected = optimize_scrub(rows, 60, min_segment) if len(rows) else rows
            np.testing.assert_array_equal(np.flatnonzero(found), expected)

    def test_without_the_columns_both_measures_are_computed(self, data, table):
        rng = np.random.default_rng(4)
        names = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
        motion = pd.DataFrame(rng.normal(size=(N_VOLUMES, 6)) / 100, columns=names)
        found = describe_volumes(data[5:], motion, dummy_scans=5)
        step = np.abs(np.diff(motion.to_numpy(), axis=0)) @ [1, 1, 1, 50, 50, 50]
        np.testing.assert_allclose(found["framewise_displacement"], step[4:], rtol=1e-12)
        change = np.sqrt((np.diff(data[5:].astype(np.float64), axis=0) ** 2).mean(axis=1))
        np.testing.assert_allclose(found["std_dvars"][1:], change / np.median(change), rtol=1e-6)
        censored = choose_censored(found, CensorConfig(dvars=3.0))
        # A jump is a change into the odd volume and one out of it.
        assert np.flatnonzero(censored).tolist() == [12, 13, 55, 57, 125]

    def test_an_unknown_measure_is_an_error_that_says_what_is_missing(self, data, table):
        volumes = describe_volumes(data, None)
        with pytest.raises(DataError, match=r"run 2: censor.fd_mm is 0.5, but the framewise_disp"):
            choose_censored(volumes, CensorConfig(fd_mm=0.5, dvars=1.5), where="run 2")

    def test_too_many_are_an_error_and_many_a_warning(self, caplog):
        volumes = volumes_above(range(0, 40, 4))
        with pytest.raises(DataError, match=r"20 of 40 volumes \(50%\) .* share of 0.3 .*10 with"):
            choose_censored(volumes, CensorConfig(fd_mm=0.5, n_after=1, max_share=0.3))
        assert choose_censored(volumes, CensorConfig(fd_mm=0.5)).sum() == 10
        assert "10 of 40 volumes (25%) are censored" in caplog.text


@pytest.mark.parametrize("unit", ["zscore", "percent", "raw"])
@pytest.mark.parametrize("high_pass_hz", [None, 0.01])
def test_kept_volumes_equal_nilearns(data, space, table, unit, high_pass_hz):
    censor = {"fd_mm": 0.5, "dvars": 1.5, "n_after": 1, "min_segment": 5}
    options = config(standardize=unit, high_pass_hz=high_pass_hz, censor=censor)
    ours = clean_run(data, space=space, tr_s=2.0, confounds=table, config=options)
    censored = ours.volumes["censored"].to_numpy()
    kept = np.flatnonzero(~censored)
    assert np.flatnonzero(censored).tolist() == [17, 18, 60, 61, 62, 90, 91, 130]
    expected = clean(
        data.astype(np.float64),
        t_r=2.0,
        detrend=False,
        standardize=NILEARN[unit],
        filter="cosine" if high_pass_hz else False,
        high_pass=high_pass_hz,
        confounds=table[["a", "b", "c"]].to_numpy(),
        sample_mask=kept,
    )
    atol = ROUNDINGS * EPS32 * np.abs(expected).max()
    np.testing.assert_allclose(ours.data[kept], expected, rtol=0, atol=atol)
    level = data[kept].astype(np.float64).mean(axis=0) if unit == "raw" else np.zeros(61)
    np.testing.assert_allclose(ours.data[censored], np.tile(level, (8, 1)), rtol=EPS32, atol=0)
    np.testing.assert_allclose(ours.mean, data[kept].mean(axis=0, dtype=np.float64), rtol=EPS32)
    sd = data[kept].astype(np.float64).std(axis=0, ddof=1)
    np.testing.assert_allclose(ours.sd, sd, rtol=2 * EPS32)


def test_the_regressors_are_the_whole_space_that_left(data, space, table):
    """One regression with a column for every censored volume leaves what censoring leaves."""
    rng = np.random.default_rng(5)
    moved = table.assign(framewise_displacement=np.where(rng.uniform(size=N_VOLUMES) < 0.45, 1, 0))
    options = config(standardize="raw", censor={"fd_mm": 0.5, "max_share": 0.9})
    ours = clean_run(data, space=space, tr_s=2.0, confounds=moved, config=options)
    censored = ours.volumes["censored"].to_numpy()
    assert censored.sum() > 50
    design = np.column_stack([np.ones(N_VOLUMES), ours.regressors.astype(np.float64)])
    assert np.linalg.matrix_rank(design) == design.shape[1] == 1 + 3 + 5 + censored.sum()
    left = data - design @ np.linalg.lstsq(design, data.astype(np.float64), rcond=None)[0]
    np.testing.assert_allclose(
        ours.data[~censored] - ours.mean, left[~censored], atol=ROUNDINGS * EPS32 * 1600
    )
    # Nothing at all is left of a censored volume, though the columns are float32.
    assert np.abs(left[censored]).max() < 1e-10
    assert (ours.data[censored] == ours.mean).all()


def test_without_censoring_nothing_changes(data, space, table):
    plain = clean_run(data, space=space, tr_s=2.0, confounds=table, config=config())
    options = config(censor={"fd_mm": 50.0, "min_segment": 20})
    ours = clean_run(data, space=space, tr_s=2.0, confounds=table, config=options)
    np.testing.assert_array_equal(ours.data, plain.data)
    np.testing.assert_array_equal(ours.regressors, plain.regressors)
    assert not ours.volumes["censored"].any()


def test_too_few_kept_volumes_for_the_regressors(data, space, table):
    moved = table.assign(framewise_displacement=np.where(np.arange(N_VOLUMES) < 122, 1.0, 0.0))
    options = config(censor={"fd_mm": 0.5, "max_share": 0.99}, high_pass_hz=0.01)
    with pytest.raises(DataError, match="8 independent confounds and drifts leave nothing of 9"):
        clean_run(data, space=space, tr_s=2.0, confounds=moved, config=options)
