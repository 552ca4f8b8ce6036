"""An fMRIPrep derivative with many output spaces: which files make a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from braindecode_clip.config.datasets import BidsConfig
from braindecode_clip.datasets.bids import runs_from_bids
from braindecode_clip.datasets.sample_sheet import fill_hemispheres, map_ending
from braindecode_clip.errors import DataError

RUNS = ("1", "2")
MNI = "space-MNI152NLin2009cAsym"


@pytest.fixture
def study(tmp_path: Path) -> tuple[Path, Path]:
    """Write the names of a raw data set and of its derivative, as fMRIPrep 23 gives them."""
    raw, prep = tmp_path / "raw", tmp_path / "fmriprep"
    func = prep / "sub-01/func"
    func.mkdir(parents=True)
    (raw / "sub-01/func").mkdir(parents=True)
    for run in RUNS:
        stem = f"sub-01_task-x_run-{run}"
        (raw / f"sub-01/func/{stem}_events.tsv").touch()
        volumes = ("", "_space-T1w", f"_{MNI}_res-2", f"_{MNI}_res-1")
        for output in volumes:
            (func / f"{stem}{output}_desc-preproc_bold.nii.gz").touch()
            (func / f"{stem}{output}_desc-preproc_bold.json").write_text(
                '{"RepetitionTime": 1.6, "SkullStripped": false}'
            )
            (func / f"{stem}{output}_desc-brain_mask.nii.gz").touch()
        for space in ("fsnative", "fsaverage5"):
            for side in "LR":
                (func / f"{stem}_hemi-{side}_space-{space}_bold.func.gii").touch()
                (func / f"{stem}_hemi-{side}_space-{space}_bold.json").write_text(
                    '{"RepetitionTime": 1.7}'
                )
        for density in ("91k", "170k"):
            (func / f"{stem}_space-fsLR_den-{density}_bold.dtseries.nii").touch()
            (func / f"{stem}_space-fsLR_den-{density}_bold.json").write_text(
                '{"RepetitionTime": 1.8}'
            )
        (func / f"{stem}_desc-confounds_timeseries.tsv").touch()
        (func / f"{stem}_desc-confounds_timeseries.json").touch()
    return raw, prep


def find(study: tuple[Path, Path], **options: object) -> list:
    raw, prep = study
    return runs_from_bids(
        BidsConfig(root=str(prep), events_root=str(raw), **{"desc": "preproc", **options})
    )


@pytest.mark.parametrize(
    ("options", "output", "ending"),
    [
        ({}, "", "desc-preproc_bold.nii.gz"),
        ({"space": "T1w"}, "_space-T1w", "desc-preproc_bold.nii.gz"),
        (
            {"space": "MNI152NLin2009cAsym", "res": "2"},
            f"_{MNI}_res-2",
            "desc-preproc_bold.nii.gz",
        ),
    ],
)
def test_volumes_come_with_their_own_mask(study, options, output, ending) -> None:
    runs = find(study, **options)
    assert [run.name for run in runs] == ["sub-01_task-x_run-1", "sub-01_task-x_run-2"]
    func = study[1] / "sub-01/func"
    for run in runs:
        assert run.bold == (str(func / f"{run.name}{output}_{ending}"),)
        assert run.mask == (str(func / f"{run.name}{output}_desc-brain_mask.nii.gz"),)
        assert run.confounds == str(func / f"{run.name}_desc-confounds_timeseries.tsv")
        assert run.confounds_json == str(func / f"{run.name}_desc-confounds_timeseries.json")
        assert Path(run.events).is_file() and run.tr_s == 1.6
    assert map_ending(runs) == "nii.gz"


@pytest.mark.parametrize("space", ["fsnative", "fsaverage5"])
@pytest.mark.parametrize("desc", ["preproc", None])
def test_hemispheres_make_one_run_without_a_mask(study, space, desc) -> None:
    runs = find(study, space=space, desc=desc)
    assert len(runs) == 2
    func = study[1] / "sub-01/func"
    for run in runs:
        assert run.bold == tuple(
            str(func / f"{run.name}_hemi-{side}_space-{space}_bold.func.gii") for side in "LR"
        )
        assert (run.mask, run.tr_s, run.kind) == ((), 1.7, "gifti")
        assert run.confounds is not None and Path(run.events).is_file()
    assert map_ending(runs) == "dscalar.nii"


def test_cifti_of_one_density(study) -> None:
    runs = find(study, space="fsLR", den="91k")
    assert [Path(run.bold[0]).name for run in runs] == [
        f"sub-01_task-x_run-{run}_space-fsLR_den-91k_bold.dtseries.nii" for run in RUNS
    ]
    assert {run.tr_s for run in runs} == {1.8} and runs[0].kind == "cifti"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"space": "MNI152NLin2009cAsym"}, ("several BOLD files", "res-1_desc", "bids.res")),
        ({"space": "fsLR"}, ("several BOLD files", "den-170k", "bids.den")),
        ({"space": "T1w", "res": "3"}, ("res=3", "res '1', '2', 'None'", "den '170k', '91k'")),
    ],
)
def test_what_cannot_be_chosen_is_said(study, options, words) -> None:
    with pytest.raises(DataError) as caught:
        find(study, **options)
    assert all(word in str(caught.value) for word in words), caught.value


def test_older_names_and_missing_sidecars(study) -> None:
    func = study[1] / "sub-01/func"
    for run in RUNS:
        stem = f"sub-01_task-x_run-{run}_desc-confounds"
        (func / f"{stem}_timeseries.tsv").rename(func / f"{stem}_regressors.tsv")
        (func / f"{stem}_timeseries.json").unlink()
    (func / "sub-01_task-x_run-2_desc-confounds_regressors.json").touch()
    first, second = find(study, space="T1w")
    assert first.confounds.endswith("run-1_desc-confounds_regressors.tsv")
    assert first.confounds_json is None
    assert second.confounds_json.endswith("run-2_desc-confounds_regressors.json")


def test_a_mask_that_is_named_wins(study) -> None:
    root = study[1]
    for side in "LR":
        (root / f"sub-01_hemi-{side}_cortex.shape.gii").touch()
    (root / "own.nii.gz").touch()
    pattern = "sub-{subject}_hemi-{hemi}_cortex.shape.gii"
    assert find(study, space="fsaverage5", mask=pattern)[0].mask == tuple(
        str(root / f"sub-01_hemi-{side}_cortex.shape.gii") for side in "LR"
    )
    assert find(study, space="T1w", mask="own.nii.gz")[1].mask == (str(root / "own.nii.gz"),)
    with pytest.raises(DataError, match=r"no brain mask at .*other_T1w.nii.gz. Set bids.mask"):
        find(study, space="T1w", mask="other_{space}.nii.gz")


def test_a_volume_without_any_mask_says_where_was_looked(study) -> None:
    own = study[1] / f"sub-01/func/sub-01_task-x_run-2_{MNI}_res-2_desc-brain_mask.nii.gz"
    own.unlink()
    with pytest.raises(DataError) as caught:
        find(study, space="MNI152NLin2009cAsym", res="2")
    message = str(caught.value)
    assert f"no brain mask at {own} nor at " in message
    assert "derivatives/masks/sub-01/sub-01_desc-brain_mask.nii.gz" in message
    assert "run-1" not in message


def test_a_run_that_lacks_a_hemisphere(study) -> None:
    (study[1] / "sub-01/func/sub-01_task-x_run-2_hemi-R_space-fsnative_bold.func.gii").unlink()
    with pytest.raises(DataError, match=r"different kinds .*gifti, 2 files.*gifti, 1 files"):
        find(study, space="fsnative")


def test_a_sidecar_that_is_no_object_is_a_message(study) -> None:
    sidecar = study[1] / "sub-01/func/sub-01_task-x_run-1_space-T1w_desc-preproc_bold.json"
    for text in ("[1, 2]", "{", '{"RepetitionTime": "two"}'):
        sidecar.write_text(text)
        with pytest.raises(DataError, match="no JSON object with a number of seconds"):
            find(study, space="T1w")


def test_hemispheres_of_a_pattern() -> None:
    assert fill_hemispheres("sub-{subject}_{hemi}.gii", subject="1") == [
        "sub-1_L.gii",
        "sub-1_R.gii",
    ]
    assert fill_hemispheres("sub-{subject}.gii", subject="1") == ["sub-1.gii"]


def test_a_mask_that_is_computed_is_no_file(study) -> None:
    assert {run.mask for run in find(study, space="T1w", mask="epi")} == {()}
