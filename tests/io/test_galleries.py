"""Galleries from folders, tables, NSD's HDF5 layout and word lists."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from braindecode_clip.artifacts import Embeddings, Gallery
from braindecode_clip.errors import ArtifactError, DataError
from braindecode_clip.io.encoded import is_encoded, load_candidates
from braindecode_clip.io.galleries import read_gallery
from braindecode_clip.io.hdf5 import load_artifact, save_artifact
from braindecode_clip.provenance import Provenance

RECORD = Provenance(stage="test", options={}, inputs={}, seed=None, code_digest="0")


def pixels(seed: int, n: int, *, height: int = 9, width: int = 7) -> np.ndarray:
    shape = (n, height, width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_a_folder_with_folders(tmp_path: Path) -> None:
    for name, block in zip(("b/2.png", "a/x.JPG", "1.png"), pixels(0, 3), strict=True):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(block).save(path)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_text("no picture either")
    source = read_gallery(tmp_path)
    assert source.ids.tolist() == ["1", "a/x", "b/2"]
    assert source.metadata["folder"].tolist() == ["", "a", "b"]
    assert source.metadata["file"].tolist() == ["1.png", "a/x.JPG", "b/2.png"]
    assert [Path(file).name for file in source.pictures] == ["1.png", "x.JPG", "2.png"]
    assert source.texts is None and len(source) == 3


def test_a_table_of_pictures_carries_its_columns(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"name": ["007", "08"], "file": ["p/a.png", "p/b.png"], "animal": [1, 0], "note": ["", "x"]}
    )
    path = tmp_path / "list.tsv"
    table.to_csv(path, sep="\t", index=False)
    source = read_gallery(path, id_column="name", image_column="file")
    assert source.ids.tolist() == ["007", "08"]
    assert list(source.pictures) == [tmp_path / "p/a.png", tmp_path / "p/b.png"]
    assert source.metadata["animal"].tolist() == [1, 0]
    assert list(source.metadata) == ["file", "animal", "note"]


def test_a_table_of_texts(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("stimulus_id\tcaption\ttopic\na\tone dog\td\nb\ta cat\tc\nc\tone dog\tx\n")
    named = read_gallery(path, text_column="caption")
    assert named.ids.tolist() == ["a", "b", "c"]
    assert named.texts == ("one dog", "a cat", "one dog") and named.pictures is None
    for distinct in (
        read_gallery(path, text_column="caption", id_column="caption"),
        read_gallery(path, text_column="caption", id_column="absent"),
    ):
        assert distinct.ids.tolist() == ["one dog", "a cat"] == list(distinct.texts)
        assert distinct.metadata["topic"].tolist() == ["d", "c"]


def test_a_list_of_words(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("\ufeffdog\n\n  grey cat \n", encoding="utf-8")
    source = read_gallery(path)
    assert source.ids.tolist() == ["dog", "grey cat"] == list(source.texts)


def write_hdf5(path: Path, blocks: np.ndarray, name: str = "imgBrick") -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=blocks)


def test_nsd_layout_is_read_one_picture_at_a_time(tmp_path: Path) -> None:
    blocks = pixels(1, 12)
    path = tmp_path / "nsd_stimuli.hdf5"
    write_hdf5(path, blocks)
    source = read_gallery(path)
    assert source.ids.tolist() == [f"{i:02d}" for i in range(12)]
    assert source.metadata["row"].tolist() == list(range(12))
    assert np.array_equal(np.asarray(source.pictures[3]), blocks[3])
    assert [np.asarray(p).tolist() for p in source.pictures[4:6]] == blocks[4:6].tolist()
    assert len(list(source.pictures)) == len(source.pictures) == 12


@pytest.mark.parametrize("kind", ["hdf5", "folder"])
def test_metadata_chooses_and_adds_columns(tmp_path: Path, kind: str) -> None:
    blocks = pixels(2, 11)
    path = tmp_path / ("x.h5" if kind == "hdf5" else "x")
    if kind == "hdf5":
        write_hdf5(path, blocks, "pictures")
    else:
        path.mkdir()
        for i, block in enumerate(blocks):
            Image.fromarray(block).save(path / f"{i:02d}.png")
    more = tmp_path / "more.tsv"
    more.write_text("nsdId\tcoco\n07\t391\n02\t18\n")
    source = read_gallery(path, dataset="pictures", metadata=more, id_column="nsdId")
    assert source.ids.tolist() == ["07", "02"]
    assert source.metadata["coco"].tolist() == [391, 18]
    shown = [np.asarray(p if kind == "hdf5" else Image.open(p)) for p in source.pictures]
    assert np.array_equal(shown, blocks[[7, 2]])
    assert len(source.metadata) == 2
    more.write_text("nsdId\tcoco\n07\t391\n07\t18\n99\t1\n")
    with pytest.raises(DataError) as caught:
        read_gallery(path, dataset="pictures", metadata=more, id_column="nsdId")
    assert "more than once: '07'" in str(caught.value) and "'99'" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none", None, "no such gallery"),
        ("empty/", None, "no pictures"),
        ("a.json", "{}", "a gallery is a folder"),
        ("a.txt", "\n\n", "holds no text"),
        ("a.txt", "dog\ndog\n", "more than once: 'dog'"),
        ("a.tsv", "stimulus_id\timage\n", "has no rows"),
        ("a.tsv", "name\timage\nx\ty.png\n", "lacks the column 'stimulus_id'"),
        ("a.tsv", "stimulus_id\timage\nx\t\n\tb\n", "'image' is empty in the lines '2'"),
        ("a.tsv", "stimulus_id\timage\nx\ta\nx\tb\n", "more than once: 'x'"),
        ("a.h5", "no HDF5", "no readable HDF5"),
    ],
)
def test_bad_galleries(tmp_path: Path, name: str, content: str | None, words: str) -> None:
    path = tmp_path / name
    if name.endswith("/"):
        path.mkdir()
    elif content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=words):
        read_gallery(path)


@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 4, 4, 1), (0, 4, 4, 3)])
def test_hdf5_arrays_of_other_shapes(tmp_path: Path, shape: tuple) -> None:
    path = tmp_path / "x.h5"
    write_hdf5(path, np.zeros(shape, dtype=np.uint8))
    with pytest.raises(DataError, match="expected pictures"):
        read_gallery(path)
    with pytest.raises(DataError, match="holds no array 'img'; it has 'imgBrick'"):
        read_gallery(path, dataset="img")


def test_encoded_files_of_both_kinds(tmp_path: Path) -> None:
    vectors = np.eye(3, dtype=np.float32)
    ids = np.array(["a", "b", "c"])
    metadata = pd.DataFrame({"topic": ["x", "", "z"], "n": [1, 2, 3]})
    gallery = Gallery(ids, vectors, "text", {"name": "tiny"}, metadata, "words.txt")
    save_artifact(tmp_path / "g.h5", gallery, RECORD)
    back = load_candidates(tmp_path / "g.h5")
    pd.testing.assert_frame_equal(back.metadata, metadata)
    assert back.origin == "words.txt"
    save_artifact(tmp_path / "e.h5", gallery.as_embeddings(), RECORD)
    plain = load_candidates(tmp_path / "e.h5")
    assert np.array_equal(plain.vectors, vectors) and not len(plain.metadata.columns)
    save_artifact(tmp_path / "p.h5", plain, RECORD)
    assert load_artifact(tmp_path / "p.h5", Gallery).ids.tolist() == ["a", "b", "c"]
    write_hdf5(tmp_path / "x.h5", pixels(3, 2))
    assert is_encoded(tmp_path / "e.h5") and is_encoded(tmp_path / "g.h5")
    assert not is_encoded(tmp_path / "x.h5") and not is_encoded(tmp_path)
    with pytest.raises(ArtifactError, match="expected Gallery"):
        load_candidates(tmp_path / "x.h5")
    assert isinstance(plain.as_embeddings(), Embeddings)
