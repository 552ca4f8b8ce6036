"""Finding runs in BIDS and fMRIPrep folders, and naming what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from braindecode_clip.config.datasets import BidsConfig
from braindecode_clip.datasets.bids import runs_from_bids
from braindecode_clip.datasets.layout import ENDINGS, embeddings_path, result_path
from braindecode_clip.datasets.sample_sheet import fill_pattern
from braindecode_clip.errors import DataError

MASK = "derivatives/masks/sub-{subject}/sub-{subject}_desc-brain_mask.nii.gz"


def touch(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Subject 02 has two sessions, subject 01 none; confounds for one run only."""
    root = tmp_path / "raw"
    for stem in ("sub-01/func/sub-01_task-a_run-1", "sub-01/func/sub-01_task-b"):
        touch(root / f"{stem}_bold.nii.gz")
        touch(root / f"{stem}_events.tsv")
    for session in ("x", "y"):
        stem = f"sub-02/ses-{session}/func/sub-02_ses-{session}_task-a_run-1"
        touch(root / f"{stem}_bold.nii")
        touch(root / f"{stem}_events.tsv")
    touch(root / "sub-01/func/sub-01_task-a_run-1_desc-confounds_timeseries.tsv")
    for subject in ("01", "02"):
        touch(root / fill_pattern(MASK, subject=subject))
    return root


def test_runs_are_found_and_sorted(raw: Path) -> None:
    runs = runs_from_bids(BidsConfig(root=str(raw), mask=MASK))
    assert [run.name for run in runs] == [
        "sub-01_task-a_run-1",
        "sub-01_task-b_run-01",
        "sub-02_ses-x_task-a_run-1",
        "sub-02_ses-y_task-a_run-1",
    ]
    assert runs[0].confounds is not None and runs[1].confounds is None
    assert Path(runs[2].events).is_file() and Path(runs[2].mask[0]).is_file()


def test_filters(raw: Path) -> None:
    runs = runs_from_bids(BidsConfig(root=str(raw), mask=MASK, task="a", subjects=["02"]))
    assert {run.subject for run in runs} == {"02"} and len(runs) == 2


def test_repetition_time_is_inherited_and_the_nearest_wins(raw: Path) -> None:
    touch(raw / "task-a_bold.json", json.dumps({"RepetitionTime": 2.0}))
    touch(raw / "sub-02/sub-02_task-a_bold.json", json.dumps({"RepetitionTime": 1.5}))
    own = raw / "sub-02/ses-y/func/sub-02_ses-y_task-a_run-1_bold.json"
    touch(own, json.dumps({"RepetitionTime": 1.25}))
    runs = runs_from_bids(BidsConfig(root=str(raw), mask=MASK))
    assert [run.tr_s for run in runs] == [2.0, None, 1.5, 1.25]
    # The same files hold the slice times; every file once, the nearest first.
    assert [Path(name).name for name in runs[3].sidecars] == [
        own.name,
        "sub-02_task-a_bold.json",
        "task-a_bold.json",
    ]


def test_fmriprep_output_with_raw_events(raw: Path, tmp_path: Path) -> None:
    prep = tmp_path / "fmriprep"
    folder = prep / "sub-02/ses-x/func"
    for space in ("T1w", "MNI152NLin6Asym"):
        stem = f"sub-02_ses-x_task-a_run-1_space-{space}"
        touch(folder / f"{stem}_desc-preproc_bold.nii.gz")
        touch(folder / f"{stem}_desc-brain_mask.nii.gz")
    touch(folder / "sub-02_ses-x_task-a_run-1_desc-confounds_timeseries.tsv")
    config = BidsConfig(
        root=str(prep),
        events_root=str(raw),
        space="T1w",
        desc="preproc",
        mask="sub-{subject}/ses-{session}/func/sub-{subject}_ses-{session}_task-{task}_run-{run}"
        "_space-{space}_desc-brain_mask.nii.gz",
    )
    (run,) = runs_from_bids(config)
    assert run.bold[0].endswith("space-T1w_desc-preproc_bold.nii.gz")
    assert run.events == str(raw / "sub-02/ses-x/func/sub-02_ses-x_task-a_run-1_events.tsv")
    assert run.confounds is not None


def test_everything_that_is_missing_comes_in_one_message(raw: Path) -> None:
    (raw / "sub-01/func/sub-01_task-b_events.tsv").unlink()
    (raw / fill_pattern(MASK, subject="02")).unlink()
    with pytest.raises(DataError) as caught:
        runs_from_bids(BidsConfig(root=str(raw), mask=MASK, subjects=["01", "02", "07"]))
    message = str(caught.value)
    assert "4 problems" in message
    assert "sub-01_task-b_bold.nii.gz: no events" in message
    assert message.count("no brain mask") == 2
    assert "'07'" in message


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"root": "nowhere"}, "is no folder"),
        ({"space": "T1w"}, "spaces 'None'"),
        ({"mask": "m_{subjct}.nii"}, "unknown placeholder"),
    ],
)
def test_wrong_settings(raw: Path, change: dict, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        runs_from_bids(BidsConfig(**{"root": str(raw), "mask": MASK, **change}))


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file like"):
        runs_from_bids(BidsConfig(root=str(tmp_path), mask=MASK))


def test_result_names() -> None:
    labels = {
        "roi": "V1",
        "split": "s",
        "encoder": "e",
        "decoder": "d",
        "gallery": "g",
        "search": "words",
    }
    paths = {result_path("r", kind, subject="01", **labels) for kind in ENDINGS}
    assert len(paths) == len(ENDINGS)
    assert "r/voxels/sub-01/sub-01_roi-V1_split-s_voxels.h5" in paths
    assert "r/evaluate/sub-01/sub-01_roi-V1_split-s_enc-e_dec-d_gal-g_metrics.json" in paths
    assert embeddings_path("r", encoder="e") == "r/embed/enc-e_embeddings.h5"
