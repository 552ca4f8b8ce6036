"""Every warning: raised by the planted fault alone, and by nothing in a clean run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from braindecode_clip.quality import describe_run
from braindecode_clip.quality.advice import as_sentence


def kinds(quality) -> list[str]:
    return quality.warnings["kind"].tolist()


def sentence(quality) -> str:
    (row,) = quality.warnings.to_dict("records")
    return as_sentence(row)


def test_a_clean_run_warns_of_nothing(signals, betas):
    quality = describe_run(signals, betas)
    assert kinds(quality) == [] and quality.level is None


def test_high_mean_motion(signals, betas):
    moved = signals.volumes.assign(
        framewise_displacement=signals.volumes["framewise_displacement"] + 0.45
    )
    quality = describe_run(replace(signals, volumes=moved), betas)
    assert kinds(quality) == ["motion"] and quality.level == "problem"
    mean = moved["framewise_displacement"].mean()
    assert f"mean displacement {mean:.2f} mm" in sentence(quality)
    assert "censor these volumes" in sentence(quality)


@pytest.mark.parametrize(("n_moved", "warned"), [(29, False), (30, True)])
def test_motion_in_many_volumes(signals, betas, n_moved, warned):
    # 149 volumes have a displacement, 20 % of them are 29.8.
    displacement = np.full(150, 0.05)
    displacement[0] = np.nan
    displacement[40 : 40 + n_moved] = 0.51
    moved = signals.volumes.assign(framewise_displacement=displacement)
    quality = describe_run(replace(signals, volumes=moved), betas)
    assert kinds(quality) == ["motion"] * warned
    if warned:
        assert "20 % of volumes above 0.5 mm" in sentence(quality)


def test_too_few_volumes_for_trials_and_regressors(build):
    make_signals, make_betas = build
    quality = describe_run(make_signals(n_volumes=52), make_betas(last_s=60.0))
    assert kinds(quality) == ["few_volumes"] and quality.level == "warning"
    assert "52 volumes less 9 confounds and drifts and 23 trials leave 19" in sentence(quality)
    quality = describe_run(make_signals(n_volumes=53), make_betas(last_s=60.0))
    assert kinds(quality) == []
    quality = describe_run(make_signals(n_volumes=33), make_betas(last_s=40.0))
    assert kinds(quality) == ["few_volumes"] and quality.level == "problem"


def test_too_many_regressors(signals, betas):
    many = np.linalg.qr(np.random.default_rng(1).normal(size=(150, 75)))[0].astype(np.float32)
    quality = describe_run(replace(signals, regressors=many), betas)
    assert kinds(quality) == ["few_volumes"]
    assert "cleaning takes 50 % of them" in sentence(quality)
    quality = describe_run(replace(signals, regressors=many[:, :74]), betas)
    assert kinds(quality) == []


@pytest.mark.parametrize(
    ("info", "level"),
    [
        ({"vif_median": 5.1, "vif_max": 9.0}, "problem"),
        ({"vif_median": 1.5, "vif_max": 412.0}, "warning"),
    ],
)
def test_collinear_trials(signals, build, info, level):
    betas = build[1](info=info)
    quality = describe_run(signals, betas)
    assert kinds(quality) == ["collinear"] and quality.level == level
    assert f"{info['vif_max']:.3g} in the worst" in sentence(quality)
    gap = betas.trials["onset"].diff().min()
    assert f"onsets {gap:.3g} s apart at the closest" in sentence(quality)
    assert "method: lss" in sentence(quality)


def test_overlap_does_not_matter_where_responses_are_shrunk(signals, build):
    info = {"vif_median": 80.0, "vif_max": 412.0}
    assert kinds(describe_run(signals, build[1](info=info))) == ["collinear"]
    assert kinds(describe_run(signals, build[1](info=info | {"shrinkage": "ridge"}))) == []


def test_many_censored_volumes(signals, betas):
    censored = signals.volumes.assign(censored=np.arange(150) < 31)
    quality = describe_run(replace(signals, volumes=censored), betas)
    assert kinds(quality) == ["censored"]
    assert "31 of 150 volumes, 21 %" in sentence(quality)


def test_low_tsnr(signals, betas):
    quality = describe_run(replace(signals, sd=signals.mean / 19.5), betas)
    assert kinds(quality) == ["tsnr"] and "tSNR 19.5 in the median voxel" in sentence(quality)
    assert kinds(describe_run(replace(signals, sd=signals.mean / 20.5), betas)) == []


def test_constant_voxels(signals, betas):
    signals.data[:, [1, 5, 8]] = 0.0
    quality = describe_run(signals, betas)
    assert kinds(quality) == ["constant"] and "3 of 97 voxels" in sentence(quality)


def test_a_last_trial_that_is_barely_seen(signals, build):
    betas = build[1]()
    # The run ends at 3 + 150 x 1.5 = 228 s.
    late = betas.trials.assign(onset=[*betas.trials["onset"][:-1], 224.5])
    quality = describe_run(signals, replace(betas, trials=late))
    assert kinds(quality) == ["late"]
    assert "the last at 224.5 s, 3.5 s before it" in sentence(quality)
    early = betas.trials.assign(onset=[*betas.trials["onset"][:-1], 223.0])
    assert kinds(describe_run(signals, replace(betas, trials=early))) == []


def test_unknown_motion_is_a_note(signals, betas):
    unknown = signals.volumes.assign(framewise_displacement=np.nan)
    quality = describe_run(replace(signals, volumes=unknown), betas)
    assert kinds(quality) == ["unknown_motion"] and quality.level == "note"
    assert "rot_z" in sentence(quality)


def test_what_the_estimation_warned_of_is_passed_on(signals, build):
    betas = build[1](info={"warnings": ["3 trials share their onset."]})
    quality = describe_run(signals, betas)
    assert kinds(quality) == ["betas"]
    assert sentence(quality).count(".") == 1 and "3 trials share their onset;" in sentence(quality)


def test_the_most_urgent_comes_first(build):
    make_signals, make_betas = build
    signals = make_signals(n_volumes=52)
    signals.data[:, 0] = 0.0
    unknown = signals.volumes.assign(framewise_displacement=np.nan)
    betas = make_betas(last_s=60.0, info={"vif_median": 80.0})
    quality = describe_run(replace(signals, volumes=unknown), betas)
    assert quality.warnings["level"].tolist() == ["problem", "warning", "warning", "note"]
    assert kinds(quality) == ["collinear", "few_volumes", "constant", "unknown_motion"]
