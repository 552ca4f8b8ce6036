"""The commands on surfaces and grayordinates, up to the ROI's voxels."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import surface_files as files

from braindecode_clip.artifacts import Betas, Signals, VoxelSet
from braindecode_clip.cli.main import main
from braindecode_clip.io.hdf5 import load_artifact

N_COLUMNS = len(files.brain_models())
N_VOLUMES = 60
NO_CONFOUNDS = "{confounds: []}"


@pytest.fixture
def series():
    return np.random.default_rng(4).normal(100, 8, size=(N_VOLUMES, N_COLUMNS)).astype(np.float32)


@pytest.fixture
def call(tmp_path):
    def call(bold, *more, out="s.h5", run="1", options=NO_CONFOUNDS):
        arguments = [part for path in bold for part in ("--bold", path)]
        arguments += ["--subject", "01", "--run", run, "--options", options, *more]
        return main(["preprocess", *map(str, arguments), "--out", str(tmp_path / out)])

    return call


@pytest.fixture
def hemispheres(tmp_path):
    """Return both hemispheres of a run; the first three vertices of the left are no cortex."""
    rng = np.random.default_rng(5)
    paths = []
    for side, n in files.SIZES.items():
        data = rng.normal(100, 8, size=(N_VOLUMES, n)).astype(np.float32)
        if side == "L":
            data[:, :3] = np.nan
        paths.append(files.write_gifti(tmp_path / f"r_hemi-{side}_bold.func.gii", data))
    return paths


def test_grayordinates_are_cleaned_as_voxels_are(tmp_path, series, call):
    cifti = files.write_cifti_run(tmp_path / "r.dtseries.nii", series, tr_s=2.0)
    assert call([cifti]) == 0
    signals = load_artifact(tmp_path / "s.h5", Signals)
    volume = nib.Nifti1Image(series.T.reshape(N_COLUMNS, 1, 1, -1), np.eye(4))
    volume.header["pixdim"][4] = 2.0
    volume.header.set_xyzt_units("mm", "sec")
    nib.save(volume, tmp_path / "v.nii")
    nib.save(nib.Nifti1Image(np.ones((N_COLUMNS, 1, 1), np.uint8), np.eye(4)), tmp_path / "m.nii")
    assert call([tmp_path / "v.nii"], "--mask", tmp_path / "m.nii", out="v.h5") == 0
    expected = load_artifact(tmp_path / "v.h5", Signals)
    np.testing.assert_array_equal(signals.data, expected.data)
    assert signals.tr_s == 2.0 and not signals.space.is_volume
    assert signals.space.n_vertices == {files.LEFT: 37, files.RIGHT: 41}


def test_hemispheres_without_a_mask_leave_the_medial_wall_out(tmp_path, hemispheres, call):
    assert call(hemispheres, "--tr-s", "2") == 0
    signals = load_artifact(tmp_path / "s.h5", Signals)
    assert signals.data.shape == (N_VOLUMES, 34 + 41)
    assert signals.space.place(0) == "CORTEX_LEFT vertex 3"


@pytest.mark.parametrize(
    ("more", "options", "message"),
    [
        (("--tr-s", "2"), "{confounds: [], fwhm_mm: 4}", "surfaces, which are not smoothed"),
        ((), NO_CONFOUNDS, "no repetition time. Give it: --tr-s"),
        (("--tr-s", "2", "--mask", "m.nii"), NO_CONFOUNDS, "but m.nii is a volume"),
        (("--tr-s", "2", "--mask", "hemi-L_all.shape.gii"), NO_CONFOUNDS, "vertex 0)"),
    ],
)
def test_bad_input_is_one_message(
    tmp_path, hemispheres, call, capsys, monkeypatch, more, options, message
):
    monkeypatch.chdir(tmp_path)
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4)), "m.nii")
    files.write_gifti(tmp_path / "hemi-L_all.shape.gii", np.ones((1, 37), np.float32))
    assert call(hemispheres, *more, options=options) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and error.count("error:") == 1


def test_constant_vertices_are_named(tmp_path, series, call, capsys):
    series[:, 5] = 3.0
    files.write_cifti_run(tmp_path / "r.dtseries.nii", series)
    assert call([tmp_path / "r.dtseries.nii"]) == 1
    error = capsys.readouterr().err
    assert "1 of 73 voxels are constant" in error and "(first: CORTEX_LEFT vertex 7)" in error


def write_runs(tmp_path, series, call):
    """Clean two runs of six trials, one response each, and write them as betas."""
    events = pd.DataFrame({"onset": np.arange(6) * 12.0, "duration": 2.0})
    events["trial_type"] = events["stimulus_id"] = [f"p{i}" for i in range(6)]
    events.to_csv(tmp_path / "e.tsv", sep="\t", index=False)
    for run in ("1", "2"):
        bold = files.write_cifti_run(tmp_path / f"r{run}.dtseries.nii", series, tr_s=2.0)
        assert call([bold], out=f"s{run}.h5", run=run) == 0
        names = {"signals": f"s{run}.h5", "events": "e.tsv", "out": f"b{run}.h5"}
        assert main(["betas", *(f"--{key}={tmp_path / name}" for key, name in names.items())]) == 0


def choose(tmp_path, *roi):
    options = [
        "--split={name: runs, scheme: leave_one_run_out}",
        "--options={label: trial_type}",
        "--roi=r",
    ]
    betas = [str(tmp_path / f"b{run}.h5") for run in "12"]
    masks = [f"--roi-mask={path}" for path in roi]
    return main(["voxels", *betas, *masks, *options, f"--out={tmp_path / 'v.h5'}"])


def test_a_region_of_grayordinates(tmp_path, series, call, capsys):
    write_runs(tmp_path, series, call)
    chosen = np.random.default_rng(8).random(N_COLUMNS) > 0.5
    roi = files.write_cifti_mask(tmp_path / "roi.dscalar.nii", chosen)
    assert choose(tmp_path, roi) == 0
    voxels = load_artifact(tmp_path / "v.h5", VoxelSet)
    brain = load_artifact(tmp_path / "b1.h5", Betas).space
    assert voxels.space.same_columns(brain.subset(np.flatnonzero(chosen)))
    # A region of two hemispheres in GIFTI chooses the same vertices of CIFTI data.
    halves = []
    for side, name in (("L", files.LEFT), ("R", files.RIGHT)):
        own = chosen & (brain.structure == name)
        inside = np.zeros((1, files.SIZES[side]), np.float32)
        inside[0, brain.ijk[own, 0]] = 1
        halves.append(files.write_gifti(tmp_path / f"hemi-{side}_roi.shape.gii", inside))
    assert choose(tmp_path, *halves) == 0
    cortex = np.flatnonzero(chosen & (brain.structure != files.THALAMUS))
    assert load_artifact(tmp_path / "v.h5", VoxelSet).space.same_columns(brain.subset(cortex))
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4)), tmp_path / "roi.nii")
    capsys.readouterr()
    assert choose(tmp_path, tmp_path / "roi.nii") == 1
    assert "Give a mask of the same kind as the BOLD runs" in capsys.readouterr().err
    files.write_gifti(tmp_path / "hemi-L_other.shape.gii", np.ones((1, 99), np.float32))
    assert choose(tmp_path, tmp_path / "hemi-L_other.shape.gii") == 1
    assert "CORTEX_LEFT with 99 vertices, the responses have" in capsys.readouterr().err
