"""``braindecode-clip tune`` and ``betas --tuning`` on real files."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from braindecode_clip.artifacts import Betas, Signals, Tuning, VoxelSpace
from braindecode_clip.betas import estimate_subject
from braindecode_clip.cli.main import main
from braindecode_clip.io.hdf5 import load_artifact, open_artifact, read_provenance, save_artifact
from braindecode_clip.provenance import Provenance

FULL = "{method: lsa, hrf: library, noise_regressors: auto, shrinkage: ridge}"
SHAPE = (6, 5, 4)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Write the signals, events and stimulus table of a subject with three runs."""
    folder = tmp_path_factory.mktemp("tune")
    rng = np.random.default_rng(51)
    space = VoxelSpace(np.eye(4), np.array(SHAPE), np.argwhere(np.ones(SHAPE)).astype(np.int32))
    signals, events = [], []
    for run in ("01", "02", "03"):
        onsets = np.arange(6.0, 180.0, 6.0)
        table = pd.DataFrame(
            {
                "onset": onsets,
                "duration": 2.0,
                "trial_type": "picture",
                "stimulus_id": [f"s{i:02d}" for i in rng.permutation(len(onsets))],
            }
        )
        data = rng.normal(size=(100, 120)).astype(np.float32)
        data[:, :60] += np.sin(2 * np.pi * np.arange(100) / 3.0)[:, None].astype(np.float32)
        data -= data.mean(axis=0)
        volumes = pd.DataFrame(
            {
                "framewise_displacement": np.nan,
                "dvars": np.nan,
                "std_dvars": np.nan,
                "censored": [False] * 100,
            }
        )
        artefact = Signals(
            data=data,
            mean=np.full(120, 1000, np.float32),
            regressors=np.zeros((100, 0), np.float32),
            space=space,
            tr_s=2.0,
            first_volume_s=0.0,
            subject="07",
            session="",
            run=run,
            unit="raw",
            sd=data.std(axis=0),
            volumes=volumes,
        )
        provenance = Provenance(
            stage="preprocess", options={}, inputs={}, seed=None, code_digest="0"
        )
        save_artifact(folder / f"run-{run}_signals.h5", artefact, provenance)
        table.to_csv(folder / f"run-{run}_events.tsv", sep="\t", index=False)
        signals.append(data)
        events.append(table)
    stimuli = pd.DataFrame({"stimulus_id": [f"s{i:02d}" for i in range(29)]})
    stimuli["split"] = np.where(np.arange(29) % 4 == 0, "test", "train")
    stimuli.to_csv(folder / "stimuli.tsv", sep="\t", index=False)
    return folder, signals, events


def call(folder, *, options=FULL, runs=("01", "02", "03"), stimuli=True, events=None):
    arguments = []
    for run in runs:
        arguments += ["--signals", folder / f"run-{run}_signals.h5"]
    for run in events or runs:
        arguments += ["--events", folder / f"run-{run}_events.tsv"]
    if stimuli:
        arguments += ["--stimuli", folder / "stimuli.tsv"]
    arguments += ["--out", folder / "sub-07_tuning.h5", "--options", options]
    return main(["tune", *map(str, arguments)])


def test_the_file_holds_the_choices_and_what_they_saw(study):
    folder, signals, events = study
    assert call(folder) == 0
    found = load_artifact(folder / "sub-07_tuning.h5", Tuning)
    stimuli = pd.read_csv(folder / "stimuli.tsv", sep="\t")
    train = set(stimuli.loc[stimuli["split"] == "train", "stimulus_id"])
    assert set(found.seen) == train
    record = read_provenance(folder / "sub-07_tuning.h5")
    assert record["stage"] == "tune" and record["options"]["stimuli_seen"] == sorted(train)
    assert len(record["inputs"]) == 7
    _, expected = estimate_subject(
        signals,
        events,
        tr_s=2.0,
        high_pass_hz=None,
        seen=train,
        method="lsa",
        hrf="library",
        noise_regressors="auto",
        shrinkage="ridge",
    )
    np.testing.assert_array_equal(found.hrf_index, expected.hrf_index)
    np.testing.assert_array_equal(found.penalty, expected.penalty)
    for name, values in (("r2", found.r2), ("penalty", found.penalty)):
        image = nib.load(folder / f"sub-07_{name}.nii.gz")
        np.testing.assert_allclose(np.asarray(image.dataobj)[tuple(found.space.ijk.T)], values)
    peaks = np.asarray(nib.load(folder / "sub-07_peak.nii.gz").dataobj)
    assert 3.5 < peaks.min() < peaks.max() < 8.0


def test_the_betas_use_them(study, tmp_path):
    folder, signals, events = study
    assert call(folder, stimuli=False) == 0
    arguments = [
        "--signals",
        folder / "run-02_signals.h5",
        "--events",
        folder / "run-02_events.tsv",
    ]
    arguments += ["--tuning", folder / "sub-07_tuning.h5", "--out", tmp_path / "betas.h5"]
    assert main(["betas", *map(str, arguments), "--options", FULL]) == 0
    found = load_artifact(tmp_path / "betas.h5", Betas)
    expected, _ = estimate_subject(
        signals,
        events,
        tr_s=2.0,
        high_pass_hz=None,
        use_labels=False,
        method="lsa",
        hrf="library",
        noise_regressors="auto",
        shrinkage="ridge",
    )
    # The noise regressors went through float32.
    np.testing.assert_allclose(found.data, expected[1].data, atol=1e-4)
    assert found.info["tuning"]["penalties_by"] == "likelihood"
    assert found.r2.shape == (120,)
    assert len(read_provenance(tmp_path / "betas.h5")["inputs"]) == 3


def test_arrays_may_stay_in_the_file(study):
    folder, signals, _ = study
    with open_artifact(folder / "run-01_signals.h5", Signals, lazy=("data",)) as run:
        assert not isinstance(run.data, np.ndarray)
        np.testing.assert_array_equal(run.data[:, 7:12], signals[0][:, 7:12])
        assert isinstance(run.mean, np.ndarray)


class TestBadInput:
    def test_betas_without_the_tuning(self, study, tmp_path, capsys):
        folder, _, _ = study
        arguments = ["--signals", folder / "run-02_signals.h5"]
        arguments += ["--events", folder / "run-02_events.tsv", "--out", tmp_path / "betas.h5"]
        assert main(["betas", *map(str, arguments), "--options", FULL]) == 1
        assert "Run `tune` first and give its file (--tuning)" in capsys.readouterr().err
        assert not (tmp_path / "betas.h5").exists()

    def test_a_run_that_was_not_tuned(self, study, tmp_path, capsys):
        folder, _, _ = study
        assert call(folder, runs=("01", "02"), options=FULL.replace("auto", "2")) == 0
        arguments = ["--signals", folder / "run-03_signals.h5"]
        arguments += ["--events", folder / "run-03_events.tsv", "--out", tmp_path / "betas.h5"]
        arguments += ["--tuning", folder / "sub-07_tuning.h5", "--options"]
        assert main(["betas", *map(str, arguments), FULL.replace("auto", "2")]) == 1
        assert "no noise regressors for ses- run-03" in capsys.readouterr().err

    def test_signals_without_their_events(self, study, capsys):
        folder, _, _ = study
        assert call(folder, events=("01", "02")) == 1
        assert "3 files of signals and 2 of events" in capsys.readouterr().err

    def test_a_table_that_names_no_split(self, study, tmp_path, capsys):
        folder, _, _ = study
        table = pd.read_csv(folder / "stimuli.tsv", sep="\t").drop(columns="split")
        path = folder / "stimuli.tsv"
        before = path.read_bytes()
        try:
            table.to_csv(path, sep="\t", index=False)
            assert call(folder) == 1
        finally:
            path.write_bytes(before)
        assert "lacks the column split" in capsys.readouterr().err
