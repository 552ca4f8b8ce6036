"""Tokens that stay in their file."""

from __future__ import annotations

import dataclasses

import h5py
import numpy as np
import pytest

from braindecode_clip.artifacts import Embeddings, Predictions, TokenRows
from braindecode_clip.artifacts import token_rows as token_rows_module
from braindecode_clip.errors import ArtifactError
from braindecode_clip.io.hdf5 import (
    load_artifact,
    new_dataset,
    open_artifact,
    open_vectors,
    save_artifact,
    write_artifact,
)
from braindecode_clip.provenance import Provenance

RECORD = Provenance(stage="test", options={}, inputs={}, seed=None, code_digest="")


def tokens(n=150, n_tokens=5, n_dims=7, seed=0):
    values = np.random.default_rng(seed).standard_normal((n, n_tokens, n_dims))
    return (values / np.sqrt(np.square(values).sum(axis=(1, 2), keepdims=True) / n_tokens)).astype(
        np.float32
    )


def embeddings(values):
    ids = np.array([f"s{i:03d}" for i in range(len(values))])
    return Embeddings(ids, values, modality="image", fingerprint={"name": "x"})


class Counting:
    """An array in a file that remembers what was asked of it."""

    def __init__(self, data):
        self.data, self.shape, self.dtype, self.reads = data, data.shape, data.dtype, []

    def __getitem__(self, key):
        self.reads.append(self.data[key].shape)
        return self.data[key]


@pytest.mark.parametrize("gap", [1, 4, 200])
@pytest.mark.parametrize("most", [7, 1024])
def test_any_rows_in_any_order(monkeypatch, gap, most):
    monkeypatch.setattr(token_rows_module, "LARGEST_GAP", gap)
    monkeypatch.setattr(token_rows_module, "MOST_ROWS", most)
    values = tokens()
    rng = np.random.default_rng(1)
    for rows in (rng.integers(0, 150, 77), np.arange(150)[::-1], np.array([149]), np.array([3, 3])):
        source = Counting(values)
        view = TokenRows(source)[rows]
        assert not source.reads
        assert view.shape == (len(rows), 5, 7) and len(view) == len(rows)
        np.testing.assert_array_equal(view[:, 1:3], values[rows][:, 1:3])
        np.testing.assert_array_equal(view[1:], values[rows][1:])
        np.testing.assert_array_equal(view[0], values[rows][0])
        np.testing.assert_array_equal(np.asarray(view), values[rows])
        np.testing.assert_array_equal(view[len(rows) - 1], values[rows][-1])
        assert max(shape[0] for shape in source.reads) <= most


def test_a_view_of_a_view_and_an_empty_one():
    values = tokens()
    first, second = np.array([9, 2, 140, 2]), np.array([3, 0])
    view = TokenRows(values)[first][second]
    np.testing.assert_array_equal(view[:], values[first][second])
    assert TokenRows(values)[np.array([], dtype=int)][:, :2].shape == (0, 2, 7)
    with pytest.raises(IndexError):
        TokenRows(values)[np.array([150])]


def test_tokens_stay_in_their_file_until_they_are_read(tmp_path):
    values = tokens()
    save_artifact(tmp_path / "t.h5", embeddings(values), RECORD)
    with open_vectors(tmp_path / "t.h5", Embeddings) as stored:
        assert isinstance(stored.vectors, TokenRows) and stored.has_tokens
        rows = stored.rows(np.array(["s149", "s000"]))
        np.testing.assert_array_equal(stored.vectors[rows][:], values[[149, 0]])
        save_artifact(tmp_path / "copy.h5", stored, RECORD)
    copy = load_artifact(tmp_path / "copy.h5", Embeddings)
    np.testing.assert_array_equal(copy.vectors, values)


def test_pooled_vectors_are_read_as_before(tmp_path):
    values = tokens(n_tokens=1)[:, 0]
    save_artifact(tmp_path / "t.h5", embeddings(values), RECORD)
    with open_vectors(tmp_path / "t.h5", Embeddings) as stored:
        assert isinstance(stored.vectors, np.ndarray) and not stored.has_tokens
        np.testing.assert_array_equal(stored.vectors, values)


def test_an_array_that_was_filled_in_blocks_is_linked(tmp_path):
    values = tokens()
    with h5py.File(tmp_path / "b.h5", "w") as file:
        room = new_dataset(file, values.shape, np.float16)
        unused = new_dataset(file, (300, 200), np.float32)
        assert room.chunks == (64, 1, 7) and unused.chunks is None
        for token in range(5):
            room[:, token : token + 1] = values[:, token : token + 1]
        write_artifact(file, dataclasses.replace(embeddings(values), vectors=room), RECORD)
    found = load_artifact(tmp_path / "b.h5", Embeddings)
    np.testing.assert_array_equal(found.vectors, values.astype(np.float16))
    with h5py.File(tmp_path / "b.h5") as file:
        assert set(file) == {"ids", "vectors", "fingerprint", "provenance"}


def test_norms_and_shapes_are_checked(tmp_path):
    good = tokens()
    for values, message in (
        (2 * good, "unit norm"),
        (good[:, :, :, None], "shape"),
        (np.where(np.arange(7) == 3, np.nan, good), "750 NaN"),
    ):
        with pytest.raises(ArtifactError, match=message):
            embeddings(values)
    # Single tokens may have any norm.
    skewed = good * np.array([2, 1, 1, 1, 0.1])[:, None]
    skewed /= np.sqrt(np.square(skewed).sum(axis=(1, 2), keepdims=True) / 5)
    assert embeddings(skewed.astype(np.float32)).has_tokens
    with pytest.raises(ArtifactError, match="shape"):
        Predictions(
            vectors=good[:3],
            stimulus_id=np.array(["a", "b"]),
            group=np.array(["g", "g"]),
            fold=np.array(["f", "f"]),
            n_repeats=np.array([1, 1]),
            train_ids=np.array(["c"]),
            unit="stimulus",
            fingerprint={},
            info={},
        )


def test_large_arrays_stay_at_any_depth(tmp_path):
    from braindecode_clip.decode import FoldDecoder, NamedArray

    arrays = (NamedArray("large", np.ones((30, 40))), NamedArray("small", np.ones(3)))
    one = np.ones(1, np.float32)
    decoder = FoldDecoder("all", np.arange(1), one, one, arrays, one, one, np.array(["a"]), {})
    save_artifact(tmp_path / "d.h5", decoder, RECORD)
    with open_artifact(tmp_path / "d.h5", FoldDecoder, lazy_above=1000) as stored:
        assert isinstance(stored.array("large"), h5py.Dataset)
        assert isinstance(stored.array("small"), np.ndarray)
        np.testing.assert_array_equal(stored.array("large")[:, 3:5], np.ones((30, 2)))
