from __future__ import annotations

import json

import numpy as np

from braindecode_clip.io.vector_index import VectorIndex, default_folder


def test_vectors_come_back_and_only_new_ones_are_written(tmp_path):
    rng = np.random.default_rng(0)
    rows = {f"key {k}": rng.standard_normal(5).astype(np.float32) for k in range(7)}
    first = VectorIndex(tmp_path, {"name": "a"})
    first.vectors |= dict(list(rows.items())[:4])
    assert first.save() == 4
    assert first.save() == 0
    first.vectors |= rows
    assert first.save() == 3
    second = VectorIndex(tmp_path, {"name": "a"})
    assert second.vectors.keys() == rows.keys()
    for key, row in rows.items():
        np.testing.assert_array_equal(second.vectors[key], row)
    assert second.save() == 0
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.glob("part-*.npz"))) == 2
    assert json.loads((folder / "encoder.json").read_text()) == {"name": "a"}


def test_another_fingerprint_is_another_index(tmp_path):
    first = VectorIndex(tmp_path, {"name": "a", "probe": [1, 2]})
    first.vectors["k"] = np.ones(3, dtype=np.float32)
    first.save()
    assert not VectorIndex(tmp_path, {"name": "a", "probe": [1, 3]}).vectors
    assert VectorIndex(tmp_path, {"probe": (1, 2), "name": "a"}).vectors


def test_a_damaged_part_is_named_and_made_again(tmp_path, caplog):
    index = VectorIndex(tmp_path, {})
    for k in range(2):
        index.vectors[f"k{k}"] = np.full(3, k, dtype=np.float32)
        index.save()
    parts = sorted(tmp_path.glob("*/part-*.npz"))
    parts[0].write_bytes(parts[0].read_bytes()[:40])
    with caplog.at_level("WARNING", logger="braindecode_clip"):
        again = VectorIndex(tmp_path, {})
    assert len(again.vectors) == 1
    assert parts[0].name in caplog.text
    again.vectors |= index.vectors
    assert again.save() == 1
    assert VectorIndex(tmp_path, {}).vectors.keys() == {"k0", "k1"}


def test_the_default_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("BRAINDECODE_CLIP_CACHE", str(tmp_path / "a"))
    assert default_folder() == tmp_path / "a"
    monkeypatch.delenv("BRAINDECODE_CLIP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert default_folder() == tmp_path / "b" / "braindecode-clip"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "braindecode-clip"
