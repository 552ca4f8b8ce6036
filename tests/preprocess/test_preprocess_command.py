"""The command: what it writes, and one message for every kind of bad input."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from braindecode_clip.artifacts import Signals
from braindecode_clip.cli.main import main
from braindecode_clip.config.preprocess import PreprocessConfig
from braindecode_clip.io.bold import read_bold
from braindecode_clip.io.hdf5 import load_artifact, read_provenance
from braindecode_clip.io.nifti import read_mask
from braindecode_clip.preprocess import clean_run


@pytest.fixture
def confounds(tmp_path):
    rng = np.random.default_rng(3)
    motion = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
    table = pd.DataFrame(rng.normal(size=(60, 6)), columns=motion)
    table["framewise_displacement"] = np.r_[np.nan, rng.uniform(size=59)]
    table.to_csv(tmp_path / "confounds.tsv", sep="\t", index=False, na_rep="n/a")
    return tmp_path / "confounds.tsv"


@pytest.fixture
def call(tmp_path):
    def call(bold, mask, *more):
        arguments = ["--bold", bold, "--mask", mask, "--subject", "01", "--run", "1", *more]
        return main(["preprocess", *map(str, arguments), "--out", str(tmp_path / "s.h5")])

    return call


def test_what_is_written(tmp_path, write_run, write_mask, confounds, call):
    bold, mask = write_run(n_volumes=60), write_mask()
    options = "{standardize: percent, dummy_scans: 2, confounds: [rot_*, framewise_displacement]}"
    assert call(bold, mask, "--confounds", confounds, "--options", options) == 0
    signals = load_artifact(tmp_path / "s.h5", Signals)
    space = read_mask(mask)
    data, _ = read_bold(bold, space)
    expected = clean_run(
        data,
        space=space,
        tr_s=2.0,
        confounds=pd.read_csv(confounds, sep="\t"),
        config=PreprocessConfig(
            standardize="percent", dummy_scans=2, confounds=("rot_*", "framewise_displacement")
        ),
    )
    np.testing.assert_array_equal(signals.data, expected.data)
    np.testing.assert_array_equal(signals.regressors, expected.regressors)
    assert (signals.subject, signals.session, signals.run) == ("01", "", "1")
    assert (signals.tr_s, signals.first_volume_s, signals.unit) == (2.0, 4.0, "percent")
    provenance = read_provenance(tmp_path / "s.h5")
    assert sorted(provenance["inputs"]) == sorted([bold.name, mask.name, confounds.name])


def test_several_masks_and_smoothing(tmp_path, write_run, write_mask, space, call):
    half = space.to_volume(np.arange(space.n_voxels) < 30)
    masks = [write_mask(), write_mask(half, name="half.nii.gz")]
    options = "{confounds: [], fwhm_mm: 5.0}"
    bold = write_run(n_volumes=60)
    assert call(bold, masks[0], "--mask", masks[1], "--options", options) == 0
    signals = load_artifact(tmp_path / "s.h5", Signals)
    np.testing.assert_array_equal(signals.space.ijk, space.ijk[:30])
    # Neighbours differ less after smoothing: the temporal sd of the raw noise falls.
    assert call(bold, masks[1], "--options", "{confounds: [], standardize: raw}") == 0
    rough = load_artifact(tmp_path / "s.h5", Signals).data.std(axis=0).mean()
    options = "{confounds: [], standardize: raw, fwhm_mm: 5.0}"
    assert call(bold, masks[1], "--options", options) == 0
    assert load_artifact(tmp_path / "s.h5", Signals).data.std(axis=0).mean() < 0.7 * rough


def test_bad_input_leaves_one_message_and_the_earlier_result(
    tmp_path, write_run, write_mask, space, confounds, call, capsys
):
    good, mask = write_run(n_volumes=60, name="good_bold.nii.gz"), write_mask()
    given = ("--confounds", confounds)
    assert call(good, mask, *given) == 0
    before = (tmp_path / "s.h5").read_bytes()

    truncated = write_run(n_volumes=60, name="cut_bold.nii.gz")
    truncated.write_bytes(truncated.read_bytes()[:4000])
    no_nifti = tmp_path / "text_bold.nii.gz"
    no_nifti.write_text("not an image")
    values = np.random.default_rng(0).normal(100, 5, size=(7, 5, 4, 60))
    values[tuple(space.ijk[0])][5] = np.nan
    with_nan = write_run(values, dtype=np.float32, name="nan_bold.nii.gz")
    values[tuple(space.ijk[0])] = 77.0
    constant = write_run(values, dtype=np.float32, name="constant_bold.nii.gz")
    shifted = write_mask(name="shifted.nii.gz", affine=np.diag([3.0, 3.0, 3.0, 1.0]))
    coarse = write_mask(np.ones((3, 3, 3)), name="coarse.nii.gz")
    no_tr = write_run(n_volumes=60, tr_s=0.0, name="timeless_bold.nii.gz")
    still = tmp_path / "still_bold.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((7, 5, 4), np.int16), space.affine), still)
    cases = [
        ((truncated, mask, *given), r"cut_bold.nii.gz: is truncated or damaged: "),
        ((no_nifti, mask, *given), "text_bold.nii.gz: is no readable NIfTI image"),
        ((tmp_path / "none.nii", mask, *given), "none.nii: no such file"),
        ((still, mask, "--tr-s", "2"), "expected a 4-D run"),
        ((good, shifted, *given), "lies on another grid than"),
        ((good, coarse, *given), "shape [7, 5, 4] against [3, 3, 3]"),
        ((with_nan, mask, *given), "1 of 61 voxels in the mask are NaN or infinite"),
        ((constant, mask, *given), "1 of 61 voxels are constant"),
        ((no_tr, mask, *given), "Give it: --tr-s SECONDS"),
        ((good, mask, *given, "--tr-s", "2.5"), "2.5 s by --tr-s, 2 s by the header"),
        ((good, mask, *given, "--options", "confounds: [trans_q]"), "no column 'trans_q'. Near"),
        ((good, mask), "there is no confounds file"),
        ((good, mask, *given, "--options", "fwhm: 5"), "Did you mean 'fwhm_mm'?"),
    ]
    capsys.readouterr()
    for arguments, message in cases:
        assert call(*arguments) == 1, message
        error = capsys.readouterr().err
        assert message in error
        assert error.count("error:") == 1
        assert "Traceback" not in error
        assert (tmp_path / "s.h5").read_bytes() == before
