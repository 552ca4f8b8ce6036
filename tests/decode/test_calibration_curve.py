"""The first runs of a subject, and the command that scores a decoder after them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from braindecode_clip.cli.main import main
from braindecode_clip.decode.first_runs import first_runs, runs_in_order
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


def test_command_writes_a_curve(picture_set, toy, make_voxel_set, tmp_path, capsys):
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
    table, figure = tmp_path / "curve.tsv", tmp_path / "curve.png"
    command = [
        "calibration-curve",
        str(tmp_path / "new.h5"),
        "--embeddings",
        str(tmp_path / "e.h5"),
    ]
    command += ["--trial-s", "3", "--points", "3", "--n-bootstrap", "200", "--out", str(table)]
    command += ["--options", "{n_components: 12}", "--out-figure", str(figure)]
    assert main([*command, "--other", str(tmp_path / "other.h5")]) == 0
    found = pd.read_csv(table, sep="\t")
    assert found["n_runs"].unique().tolist() == [1, 4, 8]
    assert found["minutes"].unique().tolist() == [1.0, 4.0, 8.0]
    assert (found["ci_low"] <= found["value"]).all() and (found["value"] <= found["ci_high"]).all()
    pairs = found[found["metric"] == "pairwise"].set_index(["decoder", "n_runs"])["value"]
    assert pairs["ridge", 8] > pairs["ridge", 1]
    np.testing.assert_allclose(
        pairs["shared - ridge", 4], pairs["shared", 4] - pairs["ridge", 4], atol=1e-9
    )
    assert figure.read_bytes().startswith(b"\x89PNG")
    # The same subject twice is nobody else.
    assert main([*command, "--other", str(tmp_path / "new.h5")]) == 1
    assert "two or more different subjects" in capsys.readouterr().err
