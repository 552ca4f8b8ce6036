"""The command: what it writes, and one message for every kind of bad input."""

import numpy as np
import pandas as pd
import pytest

from braindecode_clip.artifacts import Betas, Signals, VoxelSpace
from braindecode_clip.betas import estimate_single_trials
from braindecode_clip.cli.main import main
from braindecode_clip.io.hdf5 import load_artifact, read_provenance, save_artifact
from braindecode_clip.provenance import Provenance


@pytest.fixture
def run_files(tmp_path, make_run):
    """Write signals and events of a run; return a function that calls the command."""
    data, events, _ = make_run(n_volumes=100, n_trials=8, n_voxels=6)
    # The artefact says that nothing was regressed out, so that raw data are right here.
    signals = Signals(
        data=data.astype(np.float32),
        mean=data.mean(axis=0).astype(np.float32),
        regressors=np.zeros((100, 0), np.float32),
        space=VoxelSpace(
            np.eye(4), np.array([3, 2, 1]), np.argwhere(np.ones((3, 2, 1))).astype(np.int32)
        ),
        tr_s=2.0,
        first_volume_s=4.0,
        subject="01",
        session="02",
        run="03",
        unit="raw",
        sd=data.std(axis=0, ddof=1).astype(np.float32),
        volumes=pd.DataFrame(
            {"framewise_displacement": np.nan, "dvars": np.nan, "censored": [False] * 100}
        ),
    )
    save_artifact(
        tmp_path / "signals.h5",
        signals,
        Provenance(stage="preprocess", options={}, inputs={}, seed=None, code_digest="0"),
    )
    events["onset"] += 4.0

    def call(table=events, *, options="", name="events.tsv"):
        table.to_csv(tmp_path / name, sep="\t", index=False, na_rep="n/a")
        arguments = ["--signals", tmp_path / "signals.h5", "--events", tmp_path / name]
        arguments += ["--out", tmp_path / "betas.h5", "--options", options]
        return main(["betas", *map(str, arguments)])

    call.events, call.signals, call.out = events, signals, tmp_path / "betas.h5"
    return call


def test_what_is_written(run_files):
    events = run_files.events.assign(stimulus_id=[f"{i:02d}" for i in range(8)])
    assert run_files(events, options="{method: lsa, hrf: glover}") == 0
    betas = load_artifact(run_files.out, Betas)
    expected = estimate_single_trials(
        run_files.signals.data,
        events,
        tr_s=2.0,
        method="lsa",
        hrf="glover",
        high_pass_hz=None,
        first_volume_s=4.0,
    )
    np.testing.assert_array_equal(betas.data, expected.data)
    assert betas.data.dtype == np.float32
    assert betas.trials["stimulus_id"].tolist() == [f"{i:02d}" for i in range(8)]
    labels = betas.trials[["subject", "session", "run"]].drop_duplicates().to_numpy().tolist()
    assert labels == [["01", "02", "03"]]
    np.testing.assert_array_equal(betas.space.ijk, run_files.signals.space.ijk)
    assert betas.info["method"] == "lsa"
    assert betas.info["unit"] == "raw"
    provenance = read_provenance(run_files.out)
    assert provenance["options"]["hrf"] == "glover"
    assert sorted(provenance["inputs"]) == ["events.tsv", "signals.h5"]


def test_bad_input_leaves_one_message_and_the_earlier_result(run_files, capsys):
    assert run_files() == 0
    before = run_files.out.read_bytes()
    events = run_files.events
    unnamed = events.drop(columns="trial_type")
    cases = [
        (events.assign(onset=events["onset"] + 500.0), "", "8 of 8 events begin after the last"),
        (events.assign(onset=events["onset"] - 60.0), "", "of 8 events begin before the run"),
        (events.drop(columns="duration"), "", "column 'duration' is missing"),
        (pd.concat([events, events.iloc[:1]]), "", "2 trials share their onset and duration"),
        (unnamed, "", "neither 'trial_type' nor 'stimulus_id'"),
        (events, "{methods: lss}", "Did you mean 'method'?"),
        (events, "{hrf: gamma}", "'hrf': got 'gamma'"),
    ]
    capsys.readouterr()
    for table, options, message in cases:
        assert run_files(table, options=options) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("error:") == 1
        assert "Traceback" not in error
        assert run_files.out.read_bytes() == before


def test_a_file_of_another_kind_is_refused(run_files, capsys, tmp_path):
    (tmp_path / "signals.h5").write_text("no HDF5")
    assert run_files() == 1
    assert "is no readable HDF5 file" in capsys.readouterr().err
    assert not run_files.out.exists()
