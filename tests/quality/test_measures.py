"""Every number against its formula, worked out in float64 without the package."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from braindecode_clip.errors import ArtifactError, DataError
from braindecode_clip.io.hdf5 import load_artifact, save_artifact
from braindecode_clip.provenance import Provenance
from braindecode_clip.quality import RunQuality, describe_run, tsnr_map


def expected_numbers(signals, betas, constant):
    tsnr = pd.Series(signals.mean.astype(float) / signals.sd.astype(float))[~constant]
    fd = signals.volumes["framewise_displacement"].dropna()
    dvars = signals.volumes["dvars"].dropna()
    r2 = pd.Series(betas.r2.astype(float))[~constant]
    onsets = betas.trials["onset"].sort_values()
    n_volumes, n_trials = len(signals.data), len(betas.data)
    return {
        "n_volumes": n_volumes,
        "n_censored": signals.volumes["censored"].sum(),
        "censored_share": signals.volumes["censored"].mean(),
        "n_voxels": signals.data.shape[1],
        "n_constant_voxels": constant.sum(),
        "tsnr_median": tsnr.median(),
        "tsnr_p5": tsnr.quantile(0.05),
        "tsnr_p95": tsnr.quantile(0.95),
        "fd_mean_mm": fd.mean(),
        "fd_median_mm": fd.median(),
        "fd_max_mm": fd.max(),
        "fd_high_share": (fd > 0.5).mean(),
        "dvars_mean": dvars.mean(),
        "dvars_max": dvars.max(),
        "dvars_standardised_max": dvars.max() / dvars.median(),
        "n_regressors": signals.regressors.shape[1],
        "residual_df": n_volumes - 1 - signals.regressors.shape[1] - n_trials,
        "n_trials": n_trials,
        "isi_mean_s": onsets.diff().mean(),
        "isi_min_s": onsets.diff().min(),
        "efficiency": betas.info["efficiency"],
        "vif_median": betas.info["vif_median"],
        "vif_max": betas.info["vif_max"],
        "shrunken": False,
        "r2_median": r2.median(),
        "r2_p95": r2.quantile(0.95),
    }


def test_every_number_is_what_its_formula_says(build, rng_volumes):
    make_signals, make_betas = build
    signals = make_signals(volumes=rng_volumes)
    signals.data[:, [4, 90]] = 0.0
    betas = make_betas(n_trials=17)
    constant = np.isin(np.arange(signals.data.shape[1]), [4, 90])
    found = describe_run(signals, betas).numbers
    expected = expected_numbers(signals, betas, constant)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-6), name


@pytest.fixture
def rng_volumes():
    rng = np.random.default_rng(77)
    volumes = pd.DataFrame(
        {
            "framewise_displacement": rng.gamma(2.0, 0.2, 150),
            "dvars": rng.gamma(20.0, 2.0, 150),
            "censored": rng.uniform(size=150) < 0.1,
        }
    )
    volumes.loc[0, ["framewise_displacement", "dvars"]] = np.nan
    return volumes


def test_events_that_are_no_trials_cost_degrees_of_freedom(signals, build):
    betas = build[1](info={"nuisance_events": ["cue", "answer"]})
    plain = describe_run(signals, build[1]()).numbers["residual_df"]
    assert describe_run(signals, betas).numbers["residual_df"] == plain - 2


def test_volumes_are_on_the_clock_of_the_events(signals, betas):
    volumes = describe_run(signals, betas).volumes
    np.testing.assert_allclose(volumes["time_s"], 3.0 + 1.5 * np.arange(150))
    ratio = volumes["dvars_standardised"].dropna()
    assert ratio.median() == pytest.approx(1.0)
    np.testing.assert_allclose(ratio * volumes["dvars"].median(), volumes["dvars"].dropna())


def test_what_the_betas_do_not_tell_is_not_known(signals, build):
    betas = replace(build[1](n_trials=1), r2=None, info={"method": "average"})
    numbers = describe_run(signals, betas).numbers
    unknown = {name for name, value in numbers.items() if value is None}
    assert unknown == {
        *("efficiency", "vif_median", "vif_max", "r2_median", "r2_p95"),
        *("isi_mean_s", "isi_min_s"),
    }


def test_the_map_is_mean_over_sd(signals):
    sd = signals.sd.copy()
    sd[3] = 0.0
    found = tsnr_map(replace(signals, sd=sd))
    assert found.dtype == np.float32 and np.isnan(found[3])
    rest = np.arange(len(sd)) != 3
    expected = signals.mean.astype(float)[rest] / sd.astype(float)[rest]
    np.testing.assert_allclose(found[rest], expected, rtol=1e-6)


def test_files_of_two_runs_are_refused(signals, build):
    betas = build[1]()
    other = replace(betas, trials=betas.trials.assign(run="04"), data=betas.data[:, :50], r2=None)
    with pytest.raises(DataError) as error:
        describe_run(signals, other, where="b.h5")
    assert "b.h5: 2 problems" in str(error.value)
    assert "of sub-01 ses-02 run-04, the signals of sub-01 ses-02 run-03" in str(error.value)
    assert "have 50 voxels, the signals 97" in str(error.value)


@pytest.mark.parametrize("faulty", [False, True])
def test_it_comes_back_from_a_file_as_it_was(faulty, build, tmp_path):
    make_signals, make_betas = build
    signals = make_signals()
    signals.data[:, 2] = 0.0 if faulty else signals.data[:, 2]
    quality = describe_run(signals, make_betas())
    assert len(quality.warnings) == int(faulty)
    record = Provenance(stage="quality", options={}, inputs={}, seed=None, code_digest="0")
    save_artifact(tmp_path / "q.h5", quality, record)
    back = load_artifact(tmp_path / "q.h5", RunQuality)
    assert back.numbers == quality.numbers and back.name == "sub-01 ses-02 run-03"
    np.testing.assert_array_equal(back.carpet, quality.carpet)
    for table in ("warnings", "volumes", "trials"):
        before, after = getattr(quality, table), getattr(back, table)
        assert before.to_dict("list").keys() == after.to_dict("list").keys()
        pd.testing.assert_frame_equal(after, before, check_dtype=False)


def test_a_broken_record_names_all_problems(signals, betas):
    quality = describe_run(signals, betas)
    with pytest.raises(ArtifactError, match="3 problems") as error:
        replace(
            quality,
            carpet=quality.carpet[:, 1:].astype(np.float32),
            trials=quality.trials.drop(columns="onset"),
        )
    assert "expected (n_rows, 150)" in str(error.value) and "'onset'" in str(error.value)
