from __future__ import annotations

import numpy as np
import pytest

from braindecode_clip.io.shards import VectorShards


def vectors(start, n, n_dims=5):
    rng = np.random.default_rng(start)
    return {f"{k:064x}": rng.random(n_dims, np.float32) for k in range(start, start + n)}


def same(store, wanted):
    assert set(store) == wanted.keys() and len(store) == len(wanted)
    for key, vector in wanted.items():
        np.testing.assert_array_equal(store[key], vector)


def test_every_batch_is_on_disk_at_once_and_comes_back(tmp_path):
    store, all_vectors = VectorShards(tmp_path / "new", 5), {}
    assert not (tmp_path / "new").exists()
    for start, n in ((0, 3), (3, 1), (4, 7)):
        store.update(vectors(start, n))
        all_vectors.update(vectors(start, n))
        same(VectorShards(tmp_path / "new", 5), all_vectors)
    assert len(list((tmp_path / "new").iterdir())) == 3
    assert f"{3:064x}" in store and f"{11:064x}" not in store
    store.update({})
    store.merge()
    (path,) = (tmp_path / "new").iterdir()
    before = path.stat().st_mtime_ns
    again = VectorShards(tmp_path / "new", 5)
    same(again, all_vectors)
    again.merge()
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "other length"])
def test_a_damaged_shard_is_made_again(tmp_path, damage, caplog):
    store = VectorShards(tmp_path, 5)
    store.update(vectors(0, 3))
    (bad,) = tmp_path.iterdir()
    store.update(vectors(3, 4))
    content = bad.read_bytes()
    if damage == "cut":
        bad.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        place = content.index(vectors(0, 3)[f"{1:064x}"].tobytes()) + 2
        bad.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    elif damage == "text":
        bad.write_text("no archive")
    else:
        np.savez(bad, keys=np.array([f"{0:064x}"]), vectors=np.zeros((1, 6), np.float32))
    found = VectorShards(tmp_path, 5)
    same(found, vectors(3, 4))
    assert bad.name in caplog.text and "damaged" in caplog.text
    found.update(vectors(0, 3))
    found.merge()
    assert len(list(tmp_path.iterdir())) == 1
    same(VectorShards(tmp_path, 5), vectors(3, 4) | vectors(0, 3))


def test_half_written_files_of_a_killed_process_are_passed_over(tmp_path, caplog):
    store = VectorShards(tmp_path, 5)
    store.update(vectors(0, 3))
    (tmp_path / ".abc.npz.1234.npz").write_bytes(b"half")
    same(VectorShards(tmp_path, 5), vectors(0, 3))
    assert not caplog.text


def test_two_processes_in_one_folder_lose_nothing(tmp_path):
    first, second = VectorShards(tmp_path, 5), VectorShards(tmp_path, 5)
    first.update(vectors(0, 3))
    second.update(vectors(10, 3))
    first.update(vectors(3, 3))
    first.merge()
    second.update(vectors(13, 2))
    same(VectorShards(tmp_path, 5), vectors(0, 3) | vectors(3, 3) | vectors(10, 3) | vectors(13, 2))
    second.merge()
    same(VectorShards(tmp_path, 5), vectors(0, 3) | vectors(3, 3) | vectors(10, 3) | vectors(13, 2))
