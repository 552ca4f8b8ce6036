from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from braindecode_clip.embed import encode
from braindecode_clip.embed.encode import embed_texts
from braindecode_clip.errors import ArtifactError, DataError
from braindecode_clip.io.images import picture_source


class MeanColour:
    """An encoder that counts what it is asked: the mean colour, and the letters of a text."""

    n_dims = 3
    fingerprint = {"name": "mean colour", "n_dims": 3}  # noqa: RUF012

    def __init__(self):
        self.batches = []

    def _unit(self, rows):
        self.batches.append(len(rows))
        rows = np.array(rows, dtype=np.float64)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def prepare_image(self, picture):
        return np.asarray(picture)

    def encode_prepared(self, prepared):
        return self._unit([pixels.mean(axis=(0, 1)) for pixels in prepared])

    def encode_text(self, texts, *, batch_size=64):
        return self._unit([[1 + text.count(c) for c in "abc"] for text in texts])


def embed_images(encoder, images, ids, **options):
    return encode.embed_images(encoder, images, ids, source=picture_source, **options)


def directions(paths):
    """Mean colours by a way of their own, in float64."""
    means = np.array([np.asarray(Image.open(path), np.float64).mean(axis=(0, 1)) for path in paths])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(2)
    paths = [tmp_path / f"{name}.png" for name in "pqrst"]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)).save(path)
    return paths


def test_rows_follow_the_ids_whatever_the_batches(files):
    ids = ["s1", "s0", "s4", "s2", "s3"]
    encoder = MeanColour()
    done = embed_images(encoder, files, ids, batch_size=2)
    got = done.embeddings
    assert done.n_encoded == 5
    assert got.ids.tolist() == ids
    assert got.modality == "image"
    assert got.fingerprint == encoder.fingerprint
    assert encoder.batches == [2, 2, 1]
    assert got.vectors.dtype == np.float32
    np.testing.assert_allclose(got.vectors, directions(files), rtol=4 * np.finfo(np.float32).eps)


def test_only_new_pictures_are_encoded(files):
    cache = {}
    first = embed_images(MeanColour(), files[:3], ["a", "b", "c"], cache=cache)
    assert len(cache) == 3
    encoder = MeanColour()
    second = embed_images(encoder, files[::-1], ["e", "d", "c", "b", "a"], cache=cache)
    assert encoder.batches == [2]
    np.testing.assert_array_equal(second.embeddings.vectors[:1:-1], first.embeddings.vectors)
    assert (first.n_encoded, second.n_encoded) == (3, 2)
    again = MeanColour()
    embed_images(again, files, list("vwxyz"), cache=cache)
    assert again.batches == []


def test_the_cache_goes_by_content_not_by_name(files):
    cache = {}
    before = embed_images(MeanColour(), files[:1], ["a"], cache=cache)
    Image.new("RGB", (5, 5), (200, 10, 10)).save(files[0])
    after = embed_images(MeanColour(), files[:1], ["a"], cache=cache)
    assert not np.allclose(before.embeddings.vectors, after.embeddings.vectors)
    assert before.contents_sha256 != after.contents_sha256
    assert len(cache) == 2


def test_equal_pictures_are_encoded_once(files):
    encoder = MeanColour()
    got = embed_images(encoder, [files[0], files[1], files[0]], ["a", "b", "c"]).embeddings
    assert encoder.batches == [2]
    np.testing.assert_array_equal(got.vectors[0], got.vectors[2])


def test_open_pictures_are_taken_too(files):
    opened = [Image.open(path).convert("RGB") for path in files]
    by_file = embed_images(MeanColour(), files, list("abcde"))
    by_picture = embed_images(MeanColour(), opened, list("abcde"))
    np.testing.assert_array_equal(by_file.embeddings.vectors, by_picture.embeddings.vectors)


def test_all_missing_and_damaged_pictures_are_listed_and_the_others_kept(files, tmp_path):
    files[1].write_bytes(files[1].read_bytes()[:60])
    files[2].write_text("no picture", encoding="utf-8")
    files[4].write_bytes(b"")
    files.append(tmp_path / "gone.png")
    encoder, cache = MeanColour(), {}
    with pytest.raises(DataError, match="4 problems") as caught:
        embed_images(encoder, files, list("abcdef"), batch_size=1, cache=cache)
    lines = str(caught.value).splitlines()[1:]
    wanted = [
        ("b: ", "q.png", "cannot be decoded"),
        ("c: ", "r.png", "no picture of a known format"),
        ("e: ", "t.png", "empty"),
        ("f: ", "gone.png", "no such file"),
    ]
    assert len(lines) == len(wanted)
    for line, parts in zip(lines, wanted, strict=True):
        assert all(part in line for part in parts), line
    assert encoder.batches == [1, 1]
    assert len(cache) == 2
    np.testing.assert_allclose(
        [cache[picture_source(files[row])[0]] for row in (0, 3)],
        directions([files[0], files[3]]),
        rtol=4 * np.finfo(np.float32).eps,
    )


def test_texts_follow_the_ids_and_are_cached():
    cache = {}
    encoder = MeanColour()
    got = embed_texts(encoder, ["aab", "c", "aab"], ["1", "2", "3"], cache=cache).embeddings
    assert (got.modality, encoder.batches, len(cache)) == ("text", [2], 2)
    np.testing.assert_allclose(got.vectors[0], np.array([3, 2, 1]) / np.sqrt(14), rtol=1e-6)
    np.testing.assert_array_equal(got.vectors[0], got.vectors[2])


def test_empty_captions_are_listed():
    with pytest.raises(DataError, match="2 problems") as caught:
        embed_texts(MeanColour(), ["a", " ", None], ["s1", "s2", "s3"])
    assert all(name in str(caught.value) for name in ("s2:", "s3:"))
    assert "s1:" not in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, 0.0, 2.0])
def test_vectors_that_are_no_directions_are_an_error(bad, files):
    class Broken(MeanColour):
        def encode_prepared(self, prepared):
            vectors = super().encode_prepared(prepared)
            vectors[1] *= bad
            return vectors

    cache = {}
    paths, ids = [files[0], files[1], files[2], files[1]], ["fine", "bad-one", "too", "alike"]
    with pytest.raises(DataError, match="2 problems") as caught:
        embed_images(Broken(), paths, ids, cache=cache)
    assert all(name in str(caught.value) for name in ("bad-one:", "alike:", "NaN"))
    assert not any(name in str(caught.value) for name in ("fine:", "too:"))
    assert cache.keys() == {picture_source(files[row])[0] for row in (0, 2)}


def test_numbers_of_items_and_ids_must_agree(files):
    with pytest.raises(DataError, match="5 for 2 stimuli"):
        embed_images(MeanColour(), files, ["a", "b"])
    with pytest.raises(DataError, match="empty"):
        embed_images(MeanColour(), [], [])
    with pytest.raises(ArtifactError, match="unique"):
        embed_images(MeanColour(), files[:2], ["a", "a"])
