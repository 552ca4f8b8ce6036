"""The first runs of a subject, and the command that scores a decoder after them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from braindecode_clip.artifacts import Signals, VoxelSpace
from braindecode_clip.cli.main import main
from braindecode_clip.decode.first_runs import first_runs, minutes_of_runs, runs_in_order
from braindecode_clip.errors import DataError
from braindecode_clip.io.hdf5 import save_artifact
from braindecode_clip.provenance import Provenance


def test_first_runs_keep_their_rows_and_scale_them_anew(picture_set):
    assert runs_in_order(picture_set)[:2] == ["run-0", "run-1"]
    part = first_runs(picture_set, 2)
    before, after = picture_set.folds[0], part.folds[0]
    np.testing.assert_array_equal(after.train.stimulus_id, before.train.stimulus_id[:40])
    np.testing.assert_allclose(after.train.data.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(after.train.data.std(axis=0), 1, atol=1e-5)
    # The scaling that is told gives the responses back.
    for old, new in (
        (before.train.data[:40], after.train.data),
        (before.test.data, after.test.data),
    ):
        np.testing.assert_allclose(
            new * after.sd + after.mean, old * before.sd + before.mean, atol=1e-4
        )
    np.testing.assert_array_equal(after.seen, before.seen)


def test_an_average_over_runs_is_there_once_its_last_run_is(picture_set):
    fold = picture_set.folds[0]
    group = fold.train.group.copy().astype("<U20")
    group[:] = "run-5"
    group[3], group[9] = "run-0+run-2", "run-1"
    train = dataclasses.replace(fold.train, group=group)
    voxels = dataclasses.replace(picture_set, folds=(dataclasses.replace(fold, train=train),))
    assert runs_in_order(voxels) == ["run-0", "run-1", "run-2", "run-5"]
    kept = [first_runs(voxels, n).folds[0].train.stimulus_id.tolist() for n in (2, 3)]
    assert kept == [["pic-009"], ["pic-003", "pic-009"]]
    with pytest.raises(DataError, match="the first 1 runs"):
        first_runs(voxels, 1)


def test_minutes_are_those_of_the_runs_or_of_the_trials(picture_set):
    runs = runs_in_order(picture_set)
    durations = {run: 100.0 + 7 * i for i, run in enumerate(runs)} | {"run-99": 1e6}
    found = minutes_of_runs(picture_set, trial_s=None, durations_s=durations)
    expected = np.cumsum([100.0 + 7 * i for i in range(len(runs))]) / 60
    np.testing.assert_allclose(found, expected)
    fold = picture_set.folds[0]
    found = minutes_of_runs(picture_set, trial_s=3.0, durations_s=None)
    in_run = [fold.train.n_repeats[fold.train.group == run].sum() for run in runs]
    np.testing.assert_allclose(found, np.cumsum(in_run) * 3 / 60)
    del durations[runs[2]], durations[runs[4]]
    with pytest.raises(DataError, match=f"no duration of '{runs[2]}', '{runs[4]}', of 8"):
        minutes_of_runs(picture_set, trial_s=None, durations_s=durations)


def write_signals(folder, runs, *, subject, record):
    """Write runs of unequal lengths, the first with dropped volumes; return seconds by name."""
    seconds = {}
    for i, run in enumerate(runs):
        n = 60 + 5 * i
        save_artifact(
            folder / f"{subject}-{run}.h5",
            Signals(
                data=np.zeros((n, 3), np.float32),
                mean=np.ones(3, np.float32),
                regressors=np.zeros((n, 1), np.float32),
                space=VoxelSpace(
                    np.eye(4),
                    np.array([3, 1, 1]),
                    np.argwhere(np.ones((3, 1, 1))).astype(np.int32),
                ),
                tr_s=2.0,
                first_volume_s=8.0 if i == 0 else 0.0,
                subject=subject,
                session="",
                run=run.removeprefix("run-"),
                unit="zscore",
                sd=np.ones(3, np.float32),
                volumes=pd.DataFrame(
                    {"framewise_displacement": 0.0, "dvars": 0.0, "censored": False},
                    index=range(n),
                ),
            ),
            record,
        )
        seconds[run] = 2.0 * n + (8.0 if i == 0 else 0.0)
    return seconds


@pytest.fixture
def files(picture_set, toy, make_voxel_set, tmp_path):
    record = Provenance("test", {"name": "toy"}, {}, None, "")
    other = make_voxel_set(
        [
            (
                "all",
                toy.samples(np.arange(100), group=[f"run-{i // 20}" for i in range(100)]),
                toy.samples(np.arange(160, 200), group=["run-0"] * 40),
            )
        ],
        n_voxels=150,
    )
    sets = {"new": picture_set, "other": dataclasses.replace(other, subject="02")}
    for name, item in sets.items():
        save_artifact(tmp_path / f"{name}.h5", item, record)
    save_artifact(tmp_path / "e.h5", toy.embeddings(), record)
    command = ["calibration-curve", str(tmp_path / "new.h5")]
    command += ["--embeddings", str(tmp_path / "e.h5"), "--n-bootstrap", "200"]
    command += ["--options", "{n_components: 12}", "--out", str(tmp_path / "curve.tsv")]
    return tmp_path, command, record


def test_command_writes_a_curve_from_0_minutes_on(files, picture_set, capsys):
    folder, command, record = files
    seconds = write_signals(folder, runs_in_order(picture_set), subject="01", record=record)
    for run in seconds:
        command += ["--signals", str(folder / f"01-{run}.h5")]
    figure = folder / "curve.png"
    command += ["--points", "3", "--out-figure", str(figure)]
    assert main([*command, "--other", str(folder / "other.h5")]) == 0
    found = pd.read_csv(folder / "curve.tsv", sep="\t")
    wanted = {"subject", "decoder", "minutes", "n_runs", "metric", "value"}
    wanted |= {"low", "high", "chance", "n"}
    assert wanted <= set(found.columns)
    assert found["n_runs"].unique().tolist() == [0, 1, 4, 8]
    total = np.cumsum(list(seconds.values())) / 60
    np.testing.assert_allclose(found["minutes"].unique(), [0, *total[[0, 3, 7]]], atol=1e-4)
    assert (found["low"] <= found["value"]).all() and (found["value"] <= found["high"]).all()
    blank = found[(found["n_runs"] == 0) & found["chance"].notna()]
    assert sorted(blank["decoder"].unique()) == ["ridge", "shared"]
    # Every picture is tested once, so that one ranking for all is chance to the digit.
    np.testing.assert_allclose(blank["value"], blank["chance"], atol=1e-9)
    pairs = found[found["metric"] == "pairwise"].set_index(["decoder", "n_runs"])["value"]
    assert pairs["ridge", 8] > pairs["ridge", 1]
    np.testing.assert_allclose(
        pairs["shared - ridge", 4], pairs["shared", 4] - pairs["ridge", 4], atol=1e-9
    )
    assert figure.read_bytes().startswith(b"\x89PNG")
    # The end of the curve is the last run that fits.
    limit = ["--other", str(folder / "other.h5"), "--max-minutes", f"{total[4] + 0.1:.3f}"]
    assert main([*command, *limit]) == 0
    found = pd.read_csv(folder / "curve.tsv", sep="\t")
    assert found["n_runs"].unique().tolist() == [0, 1, 3, 5]


def test_command_refuses_what_it_cannot_count(files, picture_set, capsys):
    folder, command, record = files
    other = ["--other", str(folder / "other.h5")]
    assert main([*command, *other]) == 1
    assert "either --signals of every run or --trial-s" in capsys.readouterr().err
    (folder / "curve.tsv").write_text("before")
    write_signals(folder, ["run-0"], subject="77", record=record)
    assert main([*command, *other, "--signals", str(folder / "77-run-0.h5")]) == 1
    assert "expected the runs of sub-" in capsys.readouterr().err
    # The same subject twice is nobody else.
    assert main([*command, "--trial-s", "3", "--other", str(folder / "new.h5")]) == 1
    message = capsys.readouterr().err
    assert "two or more different subjects" in message and "Traceback" not in message
    assert (folder / "curve.tsv").read_text() == "before"
