"""The streaming reader against nibabel, its memory, and its messages."""

import gzip
import importlib.util
import json
import threading
import tracemalloc

import nibabel as nib
import numpy as np
import pytest

from braindecode_clip.artifacts import VoxelSpace
from braindecode_clip.errors import DataError
from braindecode_clip.io import bold
from braindecode_clip.io.bold import read_bold

EPS32 = np.finfo(np.float32).eps


def reference(path, space):
    data = np.asarray(nib.load(path).dataobj, dtype=np.float64)
    return data[tuple(space.ijk.T)].T


@pytest.mark.parametrize("name", ["a_bold.nii", "a_bold.nii.gz"])
@pytest.mark.parametrize("cls", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize(
    ("dtype", "byte_order", "slope", "inter"),
    [
        (np.uint8, "<", None, None),
        (np.int16, ">", 0.37, -12.5),
        (np.uint16, "<", 2.0, 0.0),
        (np.int32, ">", None, None),
        (np.float32, "<", None, None),
        (np.float64, ">", 1.5, 3.0),
    ],
)
def test_numbers_equal_nibabels(write_run, space, name, cls, dtype, byte_order, slope, inter):
    path = write_run(
        name=name, cls=cls, dtype=dtype, byte_order=byte_order, slope=slope, inter=inter
    )
    data, tr_s = read_bold(path, space)
    expected = reference(path, space)
    assert data.dtype == np.float32
    assert data.flags.c_contiguous
    assert tr_s == 2.0
    np.testing.assert_allclose(data, expected, rtol=EPS32)
    assert np.ptp(expected) > 10


def test_without_isal_the_standard_library_reads_the_same(write_run, space, monkeypatch):
    path = write_run()
    expected, _ = read_bold(path, space)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found, _ = read_bold(path, space)
    np.testing.assert_array_equal(found, expected)


def test_a_trailing_dimension_of_one_is_no_dimension(write_run, space):
    values = np.random.default_rng(0).normal(100, 5, size=(7, 5, 4, 6, 1))
    path = write_run(values, dtype=np.float32)
    data, _ = read_bold(path, space)
    np.testing.assert_array_equal(data, values[..., 0].astype(np.float32)[tuple(space.ijk.T)].T)


def test_memory_is_the_result_and_about_one_volume(tmp_path):
    shape, n_volumes = (40, 40, 20), 60
    values = np.random.default_rng(1).integers(0, 900, size=(*shape, n_volumes), dtype=np.int16)
    image = nib.Nifti1Image(values, np.eye(4))
    image.header["pixdim"][4] = 2.0
    nib.save(image, tmp_path / "big_bold.nii.gz")
    ijk = np.argwhere(np.ones(shape))[::4].astype(np.int32)
    space = VoxelSpace(np.eye(4), np.array(shape), ijk)
    result_bytes = n_volumes * len(ijk) * 4
    run_bytes = values.size * 4
    read_bold(tmp_path / "big_bold.nii.gz", space)  # so that imports do not count
    tracemalloc.start()
    try:
        read_bold(tmp_path / "big_bold.nii.gz", space)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A volume in float64 is 256 kB; the whole run in float32 would be 7.7 MB.
    assert peak < result_bytes + 6 * np.prod(shape) * 8 < 0.5 * run_bytes


def test_the_next_volume_is_read_while_one_is_worked_on(write_run, space, monkeypatch):
    begun, fill = [threading.Event() for _ in range(24)], bold._fill
    calls = iter(begun)

    def fill_and_tell(stream, buffer):
        next(calls).set()
        return fill(stream, buffer)

    monkeypatch.setattr(bold, "_fill", fill_and_tell)
    worked_on = []

    def volume_filter(volume):
        ahead = min(len(worked_on) + 1, 23)
        worked_on.append(begun[ahead].wait(timeout=10))
        return volume

    path = write_run(n_volumes=24)
    data, _ = read_bold(path, space, volume_filter=volume_filter)
    assert worked_on == [True] * 24
    np.testing.assert_array_equal(data, reference(path, space).astype(np.float32))


@pytest.mark.parametrize("name", ["cut_bold.nii", "cut_bold.nii.gz"])
def test_a_truncated_file_says_how_much_is_there(write_run, space, name):
    path = write_run(name=name)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * 0.6)])
    with pytest.raises(DataError, match=rf"{name}: is truncated or damaged: 1\d of 24 volumes"):
        read_bold(path, space)


def test_a_damaged_gzip_is_told_by_its_checksum(write_run, space):
    path = write_run(dtype=np.uint8)
    payload = bytearray(gzip.decompress(path.read_bytes()))
    stream = bytearray(gzip.compress(bytes(payload), compresslevel=0))
    stream[len(stream) // 2] ^= 0xFF
    path.write_bytes(stream)
    with pytest.raises(DataError, match="damaged"):
        read_bold(path, space)


@pytest.mark.parametrize("name", ["no_bold.nii", "no_bold.nii.gz"])
def test_a_file_that_is_no_nifti(tmp_path, space, name):
    path = tmp_path / name
    path.write_bytes(b"onset\tduration\n" * 100)
    with pytest.raises(DataError, match=rf"{name}: is no readable NIfTI image"):
        read_bold(path, space)


def test_another_image_format_is_refused(tmp_path, space):
    nib.save(nib.Nifti1Pair(np.ones((7, 5, 4, 3), np.float32), np.eye(4)), tmp_path / "run.img")
    with pytest.raises(DataError, match="is a Nifti1Pair file, expected NIfTI in one file"):
        read_bold(tmp_path / "run.img", space)


def test_grid_shape_and_tr_are_reported_at_once(write_run, space):
    path = write_run(np.ones((7, 5, 6)), tr_s=0.0)
    shifted = space.affine.copy()
    shifted[0, 3] += 0.5
    other = VoxelSpace(shifted, space.shape, space.ijk)
    with pytest.raises(DataError) as caught:
        read_bold(path, other, mask_name="brain.nii.gz")
    message = str(caught.value)
    assert "3 problems" in message
    assert "has shape (7, 5, 6), expected a 4-D run" in message
    assert "another grid than brain.nii.gz: shape [7, 5, 6] against [7, 5, 4], affine" in message
    assert "-59.5" in message or "60.5" in message
    assert "the header has no repetition time. Give it: --tr-s SECONDS" in message


def test_complex_numbers_are_refused(write_run, space):
    with pytest.raises(DataError, match="complex64 numbers, expected integers or real"):
        read_bold(write_run(dtype=np.complex64), space)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_inside_the_mask_is_an_error_and_outside_is_not(write_run, space, value):
    values = np.random.default_rng(2).normal(100, 5, size=(7, 5, 4, 9))
    values[tuple(space.ijk[50])][3] = value
    values[tuple(space.ijk[11])][8] = value
    path = write_run(values, dtype=np.float32)
    first = ", ".join(str(i) for i in space.ijk[11])
    with pytest.raises(DataError, match=rf"2 of 61 voxels .* \(first: ijk \({first}\)\)"):
        read_bold(path, space)
    smaller = space.subset(np.setdiff1d(np.arange(61), [11, 50]))
    assert np.isfinite(read_bold(path, smaller)[0]).all()


class TestRepetitionTime:
    def test_milliseconds_in_the_header_are_understood(self, write_run, space):
        path = write_run(tr_s=1450.0)
        image = nib.load(path)
        image.header.set_xyzt_units("mm", "msec")
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), path)
        assert read_bold(path, space)[1] == pytest.approx(1.45)

    def test_the_sidecar_helps_a_header_without(self, write_run, space):
        path = write_run(tr_s=0.0)
        sidecar = path.with_name("sub-01_task-x_run-1_bold.json")
        sidecar.write_text(json.dumps({"RepetitionTime": 1.6}))
        assert read_bold(path, space)[1] == 1.6

    def test_so_does_the_caller(self, write_run, space):
        assert read_bold(write_run(tr_s=0.0), space, tr_s=1.7)[1] == 1.7

    def test_nibabels_one_without_a_unit_is_no_repetition_time(self, tmp_path, space):
        path = tmp_path / "plain_bold.nii"
        nib.save(nib.Nifti1Image(np.ones((7, 5, 4, 3), np.uint8), space.affine), path)
        with pytest.raises(DataError, match="no repetition time"):
            read_bold(path, space)
        assert read_bold(path, space, tr_s=2.0)[1] == 2.0

    def test_contradictions_name_every_source(self, write_run, space):
        path = write_run(tr_s=2.0)
        path.with_name("sub-01_task-x_run-1_bold.json").write_text('{"RepetitionTime": 2.5}')
        with pytest.raises(DataError, match=r"2.5 s by sub-01_.*_bold.json, 2 s by the header"):
            read_bold(path, space)
        with pytest.raises(DataError, match=r"3 s by --tr-s, 2.5 s by .*, 2 s by the header"):
            read_bold(path, space, tr_s=3.0)

    def test_milliseconds_called_seconds_are_refused(self, write_run, space):
        with pytest.raises(DataError, match=r"the TR by the header is 2000 s.*milliseconds"):
            read_bold(write_run(tr_s=2000.0), space)
