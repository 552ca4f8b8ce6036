"""The command: what it writes, what it says of it, and one message for every mistake."""

import json
import logging
import sys

import nibabel as nib
import numpy as np
import pytest

from braindecode_clip.cli.main import main
from braindecode_clip.config.preprocess import PreprocessConfig
from braindecode_clip.config.realign import RealignConfig
from braindecode_clip.io.tables import read_tsv
from braindecode_clip.preprocess import choose_confounds
from braindecode_clip.preprocess.realign import realign_run

SHAPE, VOXEL_MM = (34, 38, 22), (4.0, 3.8, 4.6)
N_VOLUMES = 4


@pytest.fixture(scope="module")
def raw(tmp_path_factory, moving_head):
    """Return a raw run in BIDS: image, JSON file beside it, JSON file above it."""
    folder = tmp_path_factory.mktemp("raw")
    affine = moving_head.oblique_affine(SHAPE, VOXEL_MM).astype(np.float32).astype(np.float64)
    known = moving_head.known_motion(N_VOLUMES, seed=31)
    volumes = moving_head.moving_run(known, SHAPE, affine, seed=32)
    image = nib.Nifti1Image(np.moveaxis(volumes, 0, -1), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 1.8
    nib.save(image, folder / "sub-01_task-x_run-1_bold.nii")
    beside = {"RepetitionTime": 1.8, "TaskName": "x"}
    (folder / "sub-01_task-x_run-1_bold.json").write_text(json.dumps(beside))
    times = np.linspace(0, 1.7, SHAPE[2]).tolist()
    above = {"SliceTiming": times, "TaskName": "not this"}
    (folder / "task-x_bold.json").write_text(json.dumps(above))
    return folder / "sub-01_task-x_run-1_bold.nii", volumes, affine, np.array(times)


@pytest.fixture
def call(tmp_path, raw):
    def call(*more, outputs=True):
        written = ["--out-bold", tmp_path / "o_bold.nii.gz", "--out-confounds", tmp_path / "o.tsv"]
        arguments = ["--bold", raw[0], *(written if outputs else []), *more]
        return main(["realign", *map(str, arguments)])

    return call


def test_what_is_written(simpleitk, tmp_path, raw, call, caplog):
    path, volumes, affine, times_s = raw
    sidecar = path.with_name("task-x_bold.json")
    logging.getLogger("braindecode_clip").propagate = True
    options = ("--options", "reference: first")
    assert call("--sidecar", sidecar, *options, "--out-reference", tmp_path / "ref.nii.gz") == 0
    expected = realign_run(
        volumes,
        affine,
        tr_s=1.8,
        config=RealignConfig(reference="first"),
        slice_times_s=times_s,
    )
    written = nib.load(tmp_path / "o_bold.nii.gz")
    np.testing.assert_array_equal(written.affine, affine)
    assert written.header.get_zooms()[3] == pytest.approx(1.8)
    found = np.moveaxis(written.get_fdata(), -1, 0)
    # int16 holds 65536 steps of the run's range.
    step = np.ptp(expected.volumes) / 65535
    np.testing.assert_allclose(found, expected.volumes, atol=0.51 * step)
    np.testing.assert_array_equal(nib.load(tmp_path / "ref.nii.gz").get_fdata(), volumes[0])

    record = json.loads((tmp_path / "o_bold.json").read_text())
    assert record["SliceTimingCorrected"] is True and record["StartTime"] == pytest.approx(0.9)
    assert record["TaskName"] == "x" and record["RepetitionTime"] == pytest.approx(1.8)
    assert record["GeneratedBy"][1]["Name"] == "SimpleITK" and record["GeneratedBy"][1]["Version"]
    assert "fMRIPrep is the better way" in record["Description"]

    table = read_tsv(tmp_path / "o.tsv")
    assert (tmp_path / "o.tsv").read_text().splitlines()[1].count("n/a") == 17
    chosen = choose_confounds(table, PreprocessConfig().confounds)
    np.testing.assert_allclose(chosen.to_numpy(), expected.parameters, rtol=1e-12)
    described = json.loads((tmp_path / "o.json").read_text())
    assert described["trans_x"]["Units"] == "mm" and described["rot_z"]["Units"] == "rad"


def test_a_second_run_follows_the_reference_of_the_first(simpleitk, tmp_path, call):
    reference, options = tmp_path / "ref.nii.gz", ("--options", "slice_timing: false")
    assert call(*options, "--out-reference", reference, outputs=False) == 0
    assert not (tmp_path / "o_bold.nii.gz").exists()
    assert call(*options, "--reference", reference, "--out-reference", tmp_path / "r2.nii.gz") == 0
    np.testing.assert_array_equal(
        nib.load(tmp_path / "r2.nii.gz").get_fdata(), nib.load(reference).get_fdata()
    )
    record = json.loads((tmp_path / "o_bold.json").read_text())
    assert record["Sources"] == ["sub-01_task-x_run-1_bold.nii", "ref.nii.gz"]
    assert record["SliceTimingCorrected"] is False and "StartTime" not in record


def test_mistakes_leave_one_message_and_no_file(simpleitk, tmp_path, raw, call, capsys):
    listed = tmp_path / "list.json"
    listed.write_text("[1]")
    cases = [
        ((), "there is no SliceTiming in the run's JSON file. Add it"),
        (("--sidecar", listed), "holds no keys and values"),
        (("--tr-s", "2.5"), "the TR is contradictory"),
        (("--options", "{motion: false, slice_timing: false}"), "both false"),
        (("--options", "motion: false", "--reference", raw[0]), "'motion: false' turns off"),
        (("--reference", raw[0]), "expected one 3-D volume"),
        (("--options", "slices: 3"), "unknown key 'slices'"),
    ]
    for arguments, message in cases:
        assert call(*arguments) == 1, message
        error = capsys.readouterr().err
        assert message in error and "Traceback" not in error
    assert call(outputs=False) == 1
    assert "nothing to write" in capsys.readouterr().err
    assert call("--out-bold", tmp_path / "o.nii.gz", outputs=False) == 1
    assert "belong together" in capsys.readouterr().err
    assert not list(tmp_path.glob("o*"))


def test_without_the_extra_there_is_one_message_with_the_cure(call, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    assert call() == 1
    error = capsys.readouterr().err
    assert "pip install 'braindecode-clip[motion]'" in error and "Traceback" not in error
    assert "fMRIPrep" in error


def test_slice_timing_alone_works_without_the_extra(tmp_path, raw, call, monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    sidecar = raw[0].with_name("task-x_bold.json")
    assert call("--sidecar", sidecar, "--options", "motion: false") == 0
    table = read_tsv(tmp_path / "o.tsv")
    assert "global_signal" in table and "trans_x" not in table
    record = json.loads((tmp_path / "o_bold.json").read_text())
    assert record["MotionCorrected"] is False and len(record["GeneratedBy"]) == 1
