from __future__ import annotations

import h5py
import numpy as np
import pytest

from braindecode_clip.embed.precomputed import precomputed_embeddings
from braindecode_clip.errors import DataError
from braindecode_clip.io.vectors import read_vectors


def test_vectors_are_normalised_and_named():
    rng = np.random.default_rng(0)
    vectors = (3 * rng.standard_normal((7, 5))).astype(np.float16)
    got = precomputed_embeddings(
        vectors, list("abcdefg"), modality="text", sha256="12ab", source="a model"
    )
    wide = vectors.astype(np.float64)
    want = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    assert got.vectors.dtype == np.float32
    np.testing.assert_allclose(got.vectors, want, atol=2 * np.finfo(np.float32).eps)
    assert got.fingerprint == {
        "kind": "precomputed",
        "sha256": "12ab",
        "source": "a model",
        "n_dims": 5,
    }


def test_problems_are_named():
    vectors = np.ones((4, 3))
    with pytest.raises(DataError, match="4 vectors for 3 names"):
        precomputed_embeddings(vectors, list("abc"), modality="text", sha256="")
    with pytest.raises(DataError, match="more than once: 'b'"):
        precomputed_embeddings(vectors, list("abbc"), modality="text", sha256="")
    with pytest.raises(DataError, match="expected"):
        precomputed_embeddings(np.ones((4, 3), int), list("abcd"), modality="text", sha256="")
    vectors[1], vectors[3, 0] = 0, np.nan
    with pytest.raises(DataError, match="for 'b', 'd'"):
        precomputed_embeddings(vectors, list("abcd"), modality="text", sha256="")


@pytest.fixture
def content():
    return np.arange(12, dtype=np.float32).reshape(4, 3), ["001", "two words", "c", "d"]


def test_all_formats_hold_the_same(content, tmp_path):
    vectors, names = content
    np.save(tmp_path / "v.npy", vectors)
    (tmp_path / "n.tsv").write_text("id\tlabel\n" + "".join(f"x\t{n}\n" for n in names))
    np.savez(tmp_path / "v.npz", vectors=vectors, names=np.array(names))
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["a"] = vectors
        file.create_dataset("b", data=names, dtype=h5py.string_dtype())
    found = [
        read_vectors(tmp_path / "v.npy", names=tmp_path / "n.tsv", names_column="label"),
        read_vectors(tmp_path / "v.npz"),
        read_vectors(tmp_path / "v.h5", vectors_key="a", names_key="b"),
    ]
    for got, labels in found:
        np.testing.assert_array_equal(got, vectors)
        assert labels.tolist() == names


def test_unreadable_files_are_named(content, tmp_path):
    vectors, names = content
    np.save(tmp_path / "v.npy", vectors)
    np.savez(tmp_path / "v.npz", vectors=vectors)
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object))
    (tmp_path / "n.tsv").write_text("name\na\n\nc\nd\n")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "v.npy").read_bytes()[:100])
    (tmp_path / "cut.npz").write_bytes((tmp_path / "v.npz").read_bytes()[:100])
    (tmp_path / "cut.h5").write_bytes(b"\x89HDF")
    for name, message in {
        "absent.npy": "no such file",
        "v.csv": r"\.npy, \.npz",
        "v.npy": "holds no names",
        "v.npz": "lacks one of the arrays vectors, names",
        "cut.npz": "cannot be read",
        "cut.h5": "cannot be read",
    }.items():
        if name.endswith("csv"):
            (tmp_path / name).write_text("1,2")
        with pytest.raises(DataError, match=message) as caught:
            read_vectors(tmp_path / name)
        assert name in str(caught.value)
    for name in ("cut.npy", "pickled.npy"):
        with pytest.raises(DataError, match="cannot be read"):
            read_vectors(tmp_path / name, names=tmp_path / "n.tsv")
    assert names[0] == "001"


def test_tokens_are_scaled_row_by_row():
    rng = np.random.default_rng(8)
    tokens = (rng.standard_normal((5, 4, 3)) * np.arange(1, 6)[:, None, None]).astype(np.float16)
    result = precomputed_embeddings(tokens, list("abcde"), modality="image", sha256="x")
    wide = tokens.astype(np.float64)
    norm = np.sqrt(np.square(wide).sum(axis=2).mean(axis=1))
    expected = wide / norm[:, None, None]
    assert result.has_tokens and result.vectors.dtype == np.float32
    np.testing.assert_allclose(result.vectors, expected, rtol=4 * np.finfo(np.float32).eps)
    assert (result.fingerprint["n_tokens"], result.fingerprint["n_dims"]) == (4, 3)
    tokens[2] = 0
    with pytest.raises(DataError, match="'c'"):
        precomputed_embeddings(tokens, list("abcde"), modality="image", sha256="x")
