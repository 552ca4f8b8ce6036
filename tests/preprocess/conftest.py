import importlib.util
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from braindecode_clip.artifacts import VoxelSpace

AFFINE = np.array([[-3.1, 0, 0, 60], [0, 3.7, 0.2, -35], [0, -0.2, 4.0, 8], [0, 0, 0, 1.0]])
SHAPE = (7, 5, 4)


@pytest.fixture
def space():
    """Return a mask of 61 voxels on an oblique, uneven grid."""
    inside = np.zeros(np.prod(SHAPE), dtype=bool)
    inside[np.random.default_rng(8).permutation(inside.size)[:61]] = True
    ijk = np.argwhere(inside.reshape(SHAPE)).astype(np.int32)
    return VoxelSpace(AFFINE, np.array(SHAPE), ijk)


@pytest.fixture
def write_run(tmp_path):
    """Return a function that writes a run and returns its path and its numbers as stored."""

    def write(
        values=None,
        *,
        name="sub-01_task-x_run-1_bold.nii.gz",
        n_volumes=24,
        tr_s=2.0,
        dtype=np.int16,
        slope=None,
        inter=None,
        cls=nib.Nifti1Image,
        byte_order="<",
        affine=AFFINE,
    ):
        rng = np.random.default_rng(9)
        if values is None:
            values = rng.normal(100, 8, size=(*SHAPE, n_volumes)).clip(0, 250)
        header = cls.header_class(endianness=byte_order)
        header.set_data_dtype(dtype)
        image = cls(values.astype(dtype), affine, header)
        image.header.set_xyzt_units("mm", "sec")
        image.header["pixdim"][4] = tr_s
        path = tmp_path / name
        if slope is not None:
            # Written as raw numbers with a scale, whatever nibabel would choose.
            image.header.set_slope_inter(slope, inter)
        nib.save(image, path)
        return path

    return write


@pytest.fixture
def write_mask(tmp_path, space):
    """Return a function that writes a mask and returns its path."""

    def write(volume=None, *, name="mask.nii.gz", affine=AFFINE):
        if volume is None:
            volume = space.to_volume(np.ones(space.n_voxels))
        nib.save(nib.Nifti1Image(volume.astype(np.uint8), affine), tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def moving_head():
    """Return the module that makes volumes of a head that moves by known parameters."""
    # Not importable by name: pytest runs with --import-mode=importlib.
    spec = importlib.util.spec_from_file_location(
        "moving_head", Path(__file__).with_name("moving_head.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def simpleitk():
    """Skip where the extra `motion` is not installed."""
    return pytest.importorskip(
        "SimpleITK", reason="the extra 'motion' is not installed (pip install SimpleITK)"
    )
