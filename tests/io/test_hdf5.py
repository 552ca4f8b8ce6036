"""Artefacts survive the way to disk and back, and a bad file is refused with a remedy."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from braindecode_clip.artifacts import Betas, Embeddings, Fold, Samples, VoxelSet, VoxelSpace
from braindecode_clip.errors import ArtifactError
from braindecode_clip.io.hdf5 import load_artifact, read_provenance, save_artifact
from braindecode_clip.provenance import Provenance

RECORD = Provenance(stage="test", options={"a": 1}, inputs={}, seed=1, code_digest="0" * 16)


def make_space(n_voxels: int) -> VoxelSpace:
    ijk = np.argwhere(np.ones((3, 4, 5)))[:n_voxels].astype(np.int32)
    return VoxelSpace(affine=np.diag([2.0, 3.0, 4.0, 1.0]), shape=np.array([3, 4, 5]), ijk=ijk)


def make_samples(n: int, n_voxels: int, rng: np.random.Generator) -> Samples:
    return Samples(
        data=rng.normal(size=(n, n_voxels)).astype(np.float32),
        stimulus_id=np.array([f"stim-ü{i}" for i in range(n)]),
        group=np.array(["run-01"] * n),
        n_repeats=np.ones(n, dtype=np.int64),
    )


def make_voxel_set(rng: np.random.Generator) -> VoxelSet:
    folds = tuple(
        Fold(
            name=f"fold-{i}",
            train=make_samples(6 + i, 4, rng),
            test=make_samples(3, 4, rng),
            voxel_index=np.array([0, 2, 3, 5]),
            mean=np.zeros(4, np.float32),
            sd=np.ones(4, np.float32),
            seen=np.array(["stim-ü0"]),
        )
        for i in range(2)
    )
    return VoxelSet(
        subject="01",
        roi="V1",
        split="stimulus",
        unit="stimulus",
        folds=folds,
        space=make_space(7),
        reliability=np.array([0.1, np.nan, 0.3, 0.4, 0.5, 0.6, 0.7], dtype=np.float32),
        ncsnr=np.full(7, np.nan, dtype=np.float32),
        noise_ceiling=np.full(7, np.nan, dtype=np.float32),
        table=pd.DataFrame({"part": ["train", "test"], "n": [6, 3], "share": [0.5, np.nan]}),
    )


def assert_same(left: object, right: object) -> None:
    assert type(left) is type(right)
    for item in fields(left):  # type: ignore[arg-type]
        a, b = getattr(left, item.name), getattr(right, item.name)
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b)
            assert a.dtype.kind == b.dtype.kind
        elif isinstance(a, pd.DataFrame):
            pd.testing.assert_frame_equal(a, b, check_dtype=False)
        elif isinstance(a, tuple):
            assert len(a) == len(b)
            for x, y in zip(a, b, strict=True):
                assert_same(x, y)
        elif hasattr(a, "__dataclass_fields__"):
            assert_same(a, b)
        else:
            assert a == b


def test_round_trip_of_a_nested_artefact(tmp_path: Path) -> None:
    original = make_voxel_set(np.random.default_rng(1))
    save_artifact(tmp_path / "x.h5", original, RECORD)
    assert_same(original, load_artifact(tmp_path / "x.h5", VoxelSet))
    assert read_provenance(tmp_path / "x.h5")["options"] == {"a": 1}


@pytest.mark.parametrize("space", [None, make_space(5)])
def test_round_trip_of_an_optional_field(tmp_path: Path, space: VoxelSpace | None) -> None:
    trials = pd.DataFrame(
        {"onset": [1.0, 2.5], "duration": [1.0, 1.0], "trial_type": ["face", None]}
    )
    original = Betas(np.ones((2, 5), np.float32), trials, space, {"method": "lss", "n": 3})
    save_artifact(tmp_path / "x.h5", original, RECORD)
    back = load_artifact(tmp_path / "x.h5", Betas)
    assert back.info == original.info
    assert (back.space is None) == (space is None)
    assert list(back.trials["trial_type"]) == ["face", ""]


def test_matrices_are_contiguous_and_uncompressed(tmp_path: Path) -> None:
    save_artifact(tmp_path / "x.h5", make_voxel_set(np.random.default_rng(1)), RECORD)
    with h5py.File(tmp_path / "x.h5") as file:
        data = file["folds/00000/train/data"]
        assert data.chunks is None and data.compression is None and data.dtype == np.float32


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        save_artifact(tmp_path / name, make_voxel_set(np.random.default_rng(1)), RECORD)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_wrong_kind_missing_truncated_and_other_version(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with pytest.raises(ArtifactError, match="no such file"):
        load_artifact(path, VoxelSet)
    save_artifact(path, make_voxel_set(np.random.default_rng(1)), RECORD)
    with pytest.raises(ArtifactError, match="holds VoxelSet, expected Embeddings"):
        load_artifact(path, Embeddings)
    with h5py.File(path, "a") as file:
        file.attrs["schema_version"] = 99
    with pytest.raises(ArtifactError, match="schema version 99"):
        load_artifact(path, VoxelSet)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ArtifactError, match=r"truncated.*re-run"):
        load_artifact(path, VoxelSet)


def test_a_damaged_field_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    save_artifact(path, make_voxel_set(np.random.default_rng(1)), RECORD)
    with h5py.File(path, "a") as file:
        del file["folds/00001/mean"]
    with pytest.raises(ArtifactError, match="mean"):
        load_artifact(path, VoxelSet)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Odd:
        data: np.ndarray
        thing: object

    path = tmp_path / "x.h5"
    path.write_bytes(b"old")
    with pytest.raises(TypeError, match="thing"):
        save_artifact(path, Odd(np.ones(3), object()), RECORD)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.h5"]


def test_artefacts_check_themselves() -> None:
    good = np.eye(3, 4, dtype=np.float32)
    with pytest.raises(ArtifactError, match="unit norm"):
        Embeddings(np.array(["a", "b", "c"]), 2 * good, "image", {})
    with pytest.raises(ArtifactError, match=r"more than once: 'a'"):
        Embeddings(np.array(["a", "a", "c"]), good, "image", {})
    with pytest.raises(ArtifactError, match=r"1 NaN"):
        Embeddings(np.array(["a", "b", "c"]), np.where(good == 1, [np.nan, 1, 1, 1], good), "i", {})
    embeddings = Embeddings(np.array(["a", "b", "c"]), good, "image", {})
    with pytest.raises(ArtifactError, match=r"2 of 3 stimuli have no embedding: 'x', 'y'"):
        embeddings.rows(np.array(["x", "a", "y"]))
    np.testing.assert_array_equal(embeddings.rows(np.array(["c", "a", "c"])), [2, 0, 2])


def test_a_file_older_than_a_field_with_a_default_is_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    made = make_voxel_set(rng)
    fold = replace(made.folds[0], test_trials=make_samples(5, 4, rng))
    made = replace(made, folds=(fold, *made.folds[1:]))
    path = tmp_path / "voxels.h5"
    save_artifact(path, made, RECORD)
    found = load_artifact(path, VoxelSet).folds
    np.testing.assert_array_equal(found[0].test_trials.data, fold.test_trials.data)
    assert found[1].test_trials is None
    with h5py.File(path, "r+") as file:
        del file["folds/00000/test_trials"]
        del file["folds/00001"].attrs["test_trials"]
    assert all(fold.test_trials is None for fold in load_artifact(path, VoxelSet).folds)
    with h5py.File(path, "r+") as file:
        del file["folds/00000/seen"]
    with pytest.raises(ArtifactError, match="damaged"):
        load_artifact(path, VoxelSet)
