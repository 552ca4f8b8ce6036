"""A brain mask computed from the runs, against nilearn on the files themselves."""

import nibabel as nib
import numpy as np
import pytest
from nilearn.masking import compute_epi_mask

from braindecode_clip.cli.main import main
from braindecode_clip.io.bold import read_mean_volume

SHAPE = (23, 27, 19)
AFFINE = np.diag([-3.0, 3.1, 2.9, 1.0])


@pytest.fixture
def runs(tmp_path):
    """Two runs of a bright ball on a dark ground; the second is moved by two voxels."""
    rng = np.random.default_rng(0)
    grid = np.moveaxis(np.indices(SHAPE), 0, -1)
    paths = []
    for number, shift in enumerate((0, 2)):
        centre = np.array(SHAPE) / 2 + [0, shift, 0]
        ball = np.linalg.norm(grid - centre, axis=-1) < 8
        data = 40 + 900 * ball[..., None] + rng.normal(0, 12, (*SHAPE, 9))
        image = nib.Nifti1Image(data.round().astype(np.int16), AFFINE)
        image.header.set_slope_inter(0.5, 3.0)
        nib.save(image, tmp_path / f"r{number}.nii.gz")
        paths.append(tmp_path / f"r{number}.nii.gz")
    return paths


def call(runs, out):
    return main(["mask", *(f"--bold={path}" for path in runs), f"--out={out}"])


def test_the_mean_is_nibabels(runs):
    mean, affine = read_mean_volume(runs[1])
    np.testing.assert_allclose(mean, nib.load(runs[1]).get_fdata().mean(axis=-1), rtol=1e-12)
    np.testing.assert_array_equal(affine, nib.load(runs[1]).affine)


def test_the_mask_holds_what_is_brain_in_every_run(runs, tmp_path):
    assert call(runs, tmp_path / "m.nii.gz") == 0
    own = [compute_epi_mask(str(path)).get_fdata() > 0 for path in runs]
    found = nib.load(tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(found.get_fdata() > 0, own[0] & own[1])
    np.testing.assert_allclose(found.affine, AFFINE)
    assert 500 < (own[0] & own[1]).sum() < own[0].sum()


def test_runs_of_other_grids_are_one_message(runs, tmp_path, capsys):
    nib.save(nib.Nifti1Image(np.ones((5, 5, 5, 3), np.int16), AFFINE), tmp_path / "o.nii")
    assert call([*runs, tmp_path / "o.nii"], tmp_path / "m.nii.gz") == 1
    error = capsys.readouterr().err
    assert "o.nii lies on another grid" in error and "Traceback" not in error
    assert not (tmp_path / "m.nii.gz").exists()
