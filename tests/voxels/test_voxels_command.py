import nibabel as nib
import numpy as np
import pytest

from braindecode_clip.artifacts import VoxelSet
from braindecode_clip.cli.main import main
from braindecode_clip.io.hdf5 import load_artifact, read_provenance, save_artifact
from braindecode_clip.provenance import Provenance

STIMULUS = "{name: stimulus, scheme: stimulus}"


@pytest.fixture
def files(tmp_path, world):
    record = Provenance(stage="betas", options={}, inputs={}, seed=None, code_digest="")
    betas = []
    for i, item in enumerate(world.betas()):
        betas.append(tmp_path / f"run-{i}.h5")
        save_artifact(betas[-1], item, record)
    table = world.stimuli.copy()
    for name in table["image"]:
        (tmp_path / name).write_bytes(name.encode())
    stimuli = tmp_path / "stimuli.tsv"
    table.to_csv(stimuli, sep="\t", index=False)
    mask = tmp_path / "roi.nii.gz"
    volume = world.roi.to_volume(np.ones(world.roi.n_voxels)).astype(np.uint8)
    nib.save(nib.Nifti1Image(volume, world.roi.affine), mask)
    return {"betas": betas, "roi-mask": mask, "stimuli": stimuli, "out": tmp_path / "voxels.h5"}


def run(files, *more, split=STIMULUS):
    flags = [
        text for key, path in files.items() if key != "betas" for text in (f"--{key}", str(path))
    ]
    betas = [str(path) for path in files["betas"]]
    return main(["voxels", *betas, "--roi", "toy", "--split", split, *flags, *more])


def test_writes_the_voxels(files, capsys):
    assert run(files, "--options", "{average_train: true}") == 0
    found = load_artifact(files["out"], VoxelSet)
    assert found.folds[0].train.data.shape == (9, 7)
    record = read_provenance(files["out"])
    assert record["options"]["voxels"]["average_train"] is True
    assert record["options"]["split"]["name"] == "stimulus"
    assert set(record["inputs"]) == {
        *(path.name for path in files["betas"]),
        "roi.nii.gz",
        "stimuli.tsv",
    }
    assert "2 of 9 voxels of toy lie outside the brain" in capsys.readouterr().err


def test_needs_no_stimulus_table_by_run(files):
    del files["stimuli"]
    assert run(files, split="{name: run, scheme: leave_one_run_out}") == 0
    assert len(load_artifact(files["out"], VoxelSet).folds) == 3


def fails(files, capsys, *more, **options):
    """Run, expect code 1, one message, and the earlier result untouched."""
    files["out"].write_text("earlier result")
    assert run(files, *more, **options) == 1
    assert files["out"].read_text() == "earlier result"
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert error.count("error:") == 1
    return error


def test_same_picture_in_train_and_test(files, capsys):
    folder = files["stimuli"].parent
    (folder / "u.png").write_bytes((folder / "f.png").read_bytes())
    assert "'f = u'" in fails(files, capsys)


def test_same_stimulus_in_train_and_test(files, capsys):
    text = files["stimuli"].read_text()
    files["stimuli"].write_text(f"{text}a\ta.png\ttest\n")
    assert "as train and as test: 'a'" in fails(files, capsys)


def test_stimulus_without_a_row(files, capsys):
    lines = files["stimuli"].read_text().splitlines()
    files["stimuli"].write_text("\n".join(line for line in lines if not line.startswith("g\t")))
    assert "lacks 1 of 13 stimuli that were shown: 'g'" in fails(files, capsys)


def test_empty_roi(files, capsys, world):
    volume = np.zeros((4, 3, 2), np.uint8)
    nib.save(nib.Nifti1Image(volume, world.roi.affine), files["roi-mask"])
    assert "mask is empty" in fails(files, capsys)
    volume[0, 0] = 1
    nib.save(nib.Nifti1Image(volume, world.roi.affine), files["roi-mask"])
    assert "the ROI is empty" in fails(files, capsys)


def test_roi_of_another_grid(files, capsys):
    nib.save(nib.Nifti1Image(np.ones((4, 3, 2), np.uint8), np.eye(4)), files["roi-mask"])
    error = fails(files, capsys)
    assert "shape (4, 3, 2), affine [[1.0" in error
    assert "[[3.0" in error


@pytest.mark.parametrize(
    ("flag", "text", "message"),
    [
        ("--options", "{normalize: run}", "Did you mean 'normalise'?"),
        ("--options", "{reliability: {minimum: 0.1}}", "unknown key 'reliability.minimum'"),
        ("--options", "{scale: percent}", "'scale': got 'percent'"),
        ("--split", "{name: x, scheme: random}", "'scheme': got 'random'"),
    ],
)
def test_bad_options(files, capsys, flag, text, message):
    assert message in fails(files, capsys, flag, text)
