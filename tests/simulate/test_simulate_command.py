"""The commands: a BIDS tree that others can read, the same bytes from the same seed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from braindecode_clip.cli.main import main
from braindecode_clip.config.simulate import ROI_NAMES, SimulateConfig, expected_runs, run_stem
from braindecode_clip.io.hdf5 import load_artifact, read_provenance
from braindecode_clip.simulate.pairs import ScenePairs
from braindecode_clip.simulate.truth import SubjectTruth

OPTIONS = {
    "subjects": ["01", "02"],
    "n_sessions": 1,
    "runs_per_session": 2,
    "n_train_pictures": 20,
    "n_test_pictures": 6,
    "test_repeats": 2,
    "blank_trials_per_run": 2,
    "image_size_px": 64,
    "grid_shape": [12, 14, 10],
}
CONFIG = SimulateConfig(**OPTIONS)


def simulate(root: Path, *, subject: str = "01", options: dict | None = None, seed: int = 9) -> int:
    text = json.dumps(OPTIONS | (options or {}))
    stimuli = str(root / "stimuli/stimuli.tsv")
    arguments = ["--options", text, "--seed", str(seed), "--out", str(root)]
    return main(["simulate", "subject", "--subject", subject, "--stimuli", stimuli, *arguments])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bids")
    text = json.dumps(OPTIONS)
    assert main(["simulate", "stimuli", "--options", text, "--seed", "9", "--out", str(out)]) == 0
    assert simulate(out) == 0
    return out


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_stimuli_table_and_pictures(root: Path) -> None:
    table = pd.read_csv(root / "stimuli/stimuli.tsv", sep="\t", dtype={"shown_to": str})
    assert len(table) == 2 * 20 + 6
    assert table["split"].value_counts().to_dict() == {"train": 40, "test": 6}
    for name in table["image"]:
        with Image.open(root / "stimuli" / name) as picture:
            assert picture.size == (64, 64) and picture.mode == "RGB"
    assert json.loads(table["scene"][0])["objects"][0]["shape"] == table["shape_1"][0]


def test_runs_parse_and_lie_on_the_grid_of_the_masks(root: Path) -> None:
    masks = root / "derivatives/masks/sub-01"
    brain = nib.load(masks / "sub-01_desc-brain_mask.nii.gz")
    inside = np.asarray(brain.dataobj) > 0
    for session, run in expected_runs(CONFIG):
        stem = root / run_stem("01", session, run)
        image = nib.load(f"{stem}_bold.nii.gz")
        assert image.header.get_data_dtype() == np.int16
        assert image.shape[:3] == (12, 14, 10) == brain.shape
        np.testing.assert_array_equal(image.affine, brain.affine)
        assert image.header.get_zooms()[3] == 2.0
        assert image.header.get_xyzt_units() == ("mm", "sec")
        data = image.get_fdata()
        assert (data[inside].mean(axis=-1) > 500).all()
        assert np.abs(data[~inside]).max() < 1
        assert (data[inside].std(axis=-1) > 0).all()
        sidecar = json.loads(Path(f"{stem}_bold.json").read_text())
        assert sidecar["RepetitionTime"] == 2.0 and sidecar["TaskName"] == "scenes"
        events = pd.read_csv(f"{stem}_events.tsv", sep="\t")
        assert list(events) == ["onset", "duration", "trial_type", "stimulus_id"]
        assert (events["onset"] + events["duration"]).max() < image.shape[3] * 2.0
        confounds = pd.read_csv(f"{stem}_desc-confounds_timeseries.tsv", sep="\t")
        assert len(confounds) == image.shape[3]
        assert np.isnan(confounds["framewise_displacement"][0])
        assert not confounds.iloc[1:].isna().any(axis=None)
        meta = json.loads(Path(f"{stem}_desc-confounds_timeseries.json").read_text())
        assert list(meta) == [name for name in confounds if "comp_cor" in name]
        assert {component["Mask"] for component in meta.values()} == {"combined"}
    first_line = Path(f"{stem}_desc-confounds_timeseries.tsv").read_text().splitlines()[1]
    assert "n/a" in first_line.split("\t")


def test_masks_and_anatomy(root: Path) -> None:
    masks = root / "derivatives/masks/sub-01"
    brain = nib.load(masks / "sub-01_desc-brain_mask.nii.gz")
    inside = np.asarray(brain.dataobj) > 0
    for name in ROI_NAMES:
        roi = nib.load(masks / f"sub-01_roi-{name}_mask.nii.gz")
        np.testing.assert_array_equal(roi.affine, brain.affine)
        member = np.asarray(roi.dataobj) > 0
        assert member.any() and not (member & ~inside).any()
    anatomy = nib.load(masks / "sub-01_desc-mean_T1w.nii.gz")
    assert anatomy.shape == (36, 42, 30)
    np.testing.assert_allclose(anatomy.header.get_zooms(), 1.0, rtol=1e-5)


def test_bids_descriptions(root: Path) -> None:
    for folder in ("", "derivatives/masks", "derivatives/truth"):
        about = json.loads((root / folder / "dataset_description.json").read_text())
        assert about["BIDSVersion"] and about["Name"]
    participants = pd.read_csv(root / "participants.tsv", sep="\t")
    assert list(participants["participant_id"]) == ["sub-01", "sub-02"]
    assert (root / "README").is_file()


def test_truth_is_written_with_its_provenance(root: Path) -> None:
    path = root / "derivatives/truth/sub-01_truth.h5"
    truth = load_artifact(path, SubjectTruth)
    ceiling = nib.load(root / "derivatives/truth/sub-01_noiseceiling.nii.gz").get_fdata()
    np.testing.assert_allclose(ceiling[tuple(truth.space.ijk.T)], truth.noise_ceiling, rtol=1e-6)
    assert np.count_nonzero(ceiling) == np.count_nonzero(truth.noise_ceiling)
    assert truth.responses.shape == (26, truth.space.n_voxels)
    record = read_provenance(path)
    assert record["seed"] == 9 and set(record["inputs"]) == {"stimuli.tsv"}
    events = [
        pd.read_csv(f"{root / run_stem('01', *labels)}_events.tsv", sep="\t")
        for labels in expected_runs(CONFIG)
    ]
    shown = pd.concat(events)["stimulus_id"].tolist()
    assert shown == truth.trials["stimulus_id"].tolist()


def test_same_seed_same_bytes_other_seed_other_bytes(root: Path, tmp_path: Path) -> None:
    before = digests(root / "sub-01") | digests(root / "derivatives")
    (tmp_path / "stimuli").symlink_to(root / "stimuli")
    assert simulate(tmp_path) == 0
    again = digests(tmp_path / "sub-01") | digests(tmp_path / "derivatives")
    assert {name: before[name] for name in again} == again
    bold = f"{run_stem('01', '01', '02')}_bold.nii.gz"
    # The gzip header carries no time and no name.
    header = (tmp_path / bold).read_bytes()[:10]
    assert header[:3] == b"\x1f\x8b\x08" and header[3] == 0 and header[4:8] == bytes(4)
    assert simulate(tmp_path, seed=10) == 0
    assert digests(tmp_path / "sub-01") != digests(root / "sub-01")


@pytest.mark.parametrize(
    ("subject", "options", "message"),
    [
        ("03", {}, "not among the subjects"),
        ("01", {"n_train_pictures": 21}, "the options say 21"),
        ("01", {"relability": 0.1}, "Did you mean 'reliability'"),
        ("01", {"reliability": 0.9}, "lengthen trial_s"),
        ("01", {"blank_trials_per_run": 40}, "blank_trials_per_run"),
    ],
)
def test_mistakes_are_named_and_leave_the_files_alone(
    root: Path, capsys: pytest.CaptureFixture, subject: str, options: dict, message: str
) -> None:
    before = digests(root)
    assert simulate(root, subject=subject, options=options) == 1
    assert message in capsys.readouterr().err
    assert digests(root) == before


def test_a_missing_picture_is_named(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "stimuli"
    folder.mkdir()
    for path in (root / "stimuli").iterdir():
        if path.name != "stim-00004.png":
            (folder / path.name).write_bytes(path.read_bytes())
    assert simulate(tmp_path) == 1
    message = capsys.readouterr().err
    assert "stim-00004.png" in message and "Traceback" not in message
    (folder / "stim-00004.png").write_bytes(b"no picture")
    assert simulate(tmp_path) == 1
    assert "no readable picture" in capsys.readouterr().err


def test_scenes_for_training(tmp_path: Path) -> None:
    for name, flags in (("seen", []), ("unseen", ["--held-out"]), ("again", [])):
        arguments = ["--n", "5", "--seed", "4", "--out", str(tmp_path / f"{name}.h5"), *flags]
        assert main(["simulate", "scenes", *arguments]) == 0
    seen, unseen, again = (
        load_artifact(tmp_path / f"{name}.h5", ScenePairs) for name in ("seen", "unseen", "again")
    )
    assert seen.images.shape == (5, 64, 64, 3) and seen.captions.shape == (5, 3)
    np.testing.assert_array_equal(seen.images, again.images)
    assert (seen.images != unseen.images).any()
    assert all(isinstance(text, str) and text for text in seen.captions.ravel())
