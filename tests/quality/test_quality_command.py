"""The command: what it writes beside its record, and one message for bad input."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from braindecode_clip.cli.main import main
from braindecode_clip.io.hdf5 import load_artifact, save_artifact
from braindecode_clip.provenance import Provenance
from braindecode_clip.quality import RunQuality, describe_run, tsnr_map

RECORD = Provenance(stage="x", options={}, inputs={}, seed=None, code_digest="0")


@pytest.fixture
def call(tmp_path):
    """Return a function that writes both inputs and calls the command."""

    def run(signals, betas, *, out="run-03_quality.h5"):
        save_artifact(tmp_path / "signals.h5", signals, RECORD)
        save_artifact(tmp_path / "betas.h5", betas, RECORD)
        arguments = ["--signals", tmp_path / "signals.h5", "--betas", tmp_path / "betas.h5"]
        return main(["quality", *map(str, arguments), "--out", str(tmp_path / "out" / out)])

    run.folder = tmp_path / "out"
    return run


def test_what_is_written(call, signals, betas, capfd):
    signals.data[:, 7] = 0.0
    assert call(signals, betas) == 0
    names = {path.name for path in call.folder.iterdir()}
    endings = ("quality.h5", "quality.json", "quality.tsv", "quality.png", "tsnr.nii.gz")
    assert names == {f"run-03_{ending}" for ending in endings}
    expected = describe_run(signals, betas)
    assert load_artifact(call.folder / "run-03_quality.h5", RunQuality).numbers == expected.numbers
    content = json.loads((call.folder / "run-03_quality.json").read_text())
    assert content["numbers"] == expected.numbers and content["run"] == "03"
    (warning,) = content["warnings"]
    assert warning["kind"] == "constant"
    assert warning["sentence"].startswith("sub-01 ses-02 run-03: Constant voxels: 1 of 97 voxels")
    assert content["provenance"]["stage"] == "quality"
    text = (call.folder / "run-03_quality.tsv").read_text()
    (row,) = csv.DictReader(io.StringIO(text), delimiter="\t")
    assert row["subject"] == "01" and row["warnings"] == "constant"
    assert float(row["tsnr_median"]) == expected.numbers["tsnr_median"]
    with Image.open(call.folder / "run-03_quality.png") as image:
        assert image.width > 1000 and image.height > 500
    assert "Constant voxels" in capfd.readouterr().err


def test_the_map_lies_in_the_space_of_the_run(call, signals, betas):
    assert call(signals, betas) == 0
    image = nib.load(call.folder / "run-03_tsnr.nii.gz")
    volume = image.get_fdata(dtype=np.float32)
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(image.affine, signals.space.affine)
    np.testing.assert_array_equal(volume[tuple(signals.space.ijk.T)], tsnr_map(signals))
    assert np.isfinite(volume).sum() == signals.space.n_voxels


def test_same_input_gives_the_same_files(call, signals, betas):
    assert call(signals, betas) == 0
    before = {p.name: p.read_bytes() for p in call.folder.iterdir() if p.suffix != ".h5"}
    assert call(signals, betas) == 0
    assert before == {p.name: p.read_bytes() for p in call.folder.iterdir() if p.suffix != ".h5"}


def test_files_of_two_runs_leave_one_message_and_no_file(call, signals, betas, capsys):
    other = replace(betas, trials=betas.trials.assign(run="04"))
    assert call(signals, other) == 1
    error = capsys.readouterr().err
    assert "betas.h5: are of sub-01 ses-02 run-04" in error and error.count("error:") == 1
    assert "Traceback" not in error and not call.folder.exists()
