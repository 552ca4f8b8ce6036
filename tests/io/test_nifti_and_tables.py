"""Volumes and tables: round trips, and messages for damaged files."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from braindecode_clip.errors import DataError
from braindecode_clip.io.atomic import atomic_path, write_json
from braindecode_clip.io.nifti import read_mask, read_volume, write_bold_int16, write_volume
from braindecode_clip.io.tables import read_json, read_tsv, read_yaml, write_tsv

AFFINE = np.array([[-3.0, 0.1, 0, 40], [0, 2.9, 0.2, -60], [0, -0.2, 3.1, 10], [0, 0, 0, 1]])


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_volume_round_trip(tmp_path: Path, name: str) -> None:
    data = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    write_volume(tmp_path / name, data, AFFINE)
    back, affine = read_volume(tmp_path / name)
    np.testing.assert_array_equal(back, data)
    np.testing.assert_allclose(affine, AFFINE, atol=1e-6)
    assert nib.load(tmp_path / name).header.get_xyzt_units() == ("mm", "sec")


def test_bold_is_scaled_int16_with_its_repetition_time(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(1000, 50, size=(4, 5, 6, 7))
    write_bold_int16(tmp_path / "b.nii.gz", data, AFFINE, tr_s=1.6)
    image = nib.load(tmp_path / "b.nii.gz")
    assert image.get_data_dtype() == np.int16
    assert image.header.get_zooms()[3] == pytest.approx(1.6)
    # One step of 16 bits over the data's range, rounded to the nearest.
    step = (data.max() - data.min()) / 65535
    assert np.abs(image.get_fdata() - data).max() <= 0.51 * step


def test_same_volume_same_bytes(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        write_volume(tmp_path / name, np.ones((2, 3, 4), np.float32), AFFINE)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_mask_order_is_c_order(tmp_path: Path) -> None:
    mask = np.random.default_rng(1).random((4, 5, 6)) > 0.5
    write_volume(tmp_path / "m.nii.gz", mask.astype(np.uint8), AFFINE)
    space = read_mask(tmp_path / "m.nii.gz")
    volume = np.random.default_rng(2).normal(size=mask.shape).astype(np.float32)
    np.testing.assert_array_equal(volume[tuple(space.ijk.T)], volume[mask])
    np.testing.assert_array_equal(space.to_volume(volume[mask])[mask], volume[mask])


def test_bad_volumes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_volume(tmp_path / "no.nii.gz")
    (tmp_path / "text.nii.gz").write_text("hello")
    with pytest.raises(DataError, match="no readable NIfTI"):
        read_volume(tmp_path / "text.nii.gz")
    noise = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
    write_volume(tmp_path / "x.nii.gz", noise, AFFINE)
    content = (tmp_path / "x.nii.gz").read_bytes()
    (tmp_path / "x.nii.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"truncated|no readable"):
        read_volume(tmp_path / "x.nii.gz")
    write_volume(tmp_path / "4d.nii", np.ones((2, 2, 2, 3), np.float32), AFFINE)
    with pytest.raises(DataError, match=r"\(2, 2, 2, 3\)"):
        read_volume(tmp_path / "4d.nii")
    write_volume(tmp_path / "empty.nii", np.zeros((2, 2, 2), np.float32), AFFINE)
    with pytest.raises(DataError, match="mask is empty"):
        read_mask(tmp_path / "empty.nii")


def test_table_round_trip_with_missing_values(tmp_path: Path) -> None:
    table = pd.DataFrame({"onset": [0.5, np.nan], "run": ["01", "02"], "name": ["ä", None]})
    write_tsv(tmp_path / "t.tsv", table)
    assert "n/a" in (tmp_path / "t.tsv").read_text()
    back = read_tsv(tmp_path / "t.tsv", required=["onset"], text=["run"])
    assert list(back["run"]) == ["01", "02"]
    assert back["onset"].isna().tolist() == [False, True]


def test_bad_tables(tmp_path: Path) -> None:
    (tmp_path / "c.tsv").write_text("onset,duration\n1,2\n")
    with pytest.raises(DataError, match=r"'onset', 'duration'.*commas"):
        read_tsv(tmp_path / "c.tsv", required=["onset", "duration"])
    (tmp_path / "empty.tsv").write_text("")
    with pytest.raises(DataError, match="tab-separated"):
        read_tsv(tmp_path / "empty.tsv")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(DataError, match="valid JSON"):
        read_json(tmp_path / "bad.json")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(DataError, match="valid YAML"):
        read_yaml(tmp_path / "bad.yaml")


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
