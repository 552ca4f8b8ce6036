from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from braindecode_clip.embed.encode import embed_images, embed_texts
from braindecode_clip.errors import ArtifactError, DataError


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

    def encode_image(self, images, *, batch_size=64):
        opened = [i if isinstance(i, Image.Image) else Image.open(i).convert("RGB") for i in images]
        return self._unit([np.asarray(image).mean(axis=(0, 1)) for image in opened])

    def encode_text(self, texts, *, batch_size=64):
        return self._unit([[1 + text.count(c) for c in "abc"] for text in texts])


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
    got = embed_images(encoder, files, ids, batch_size=2)
    assert got.ids.tolist() == ids
    assert got.modality == "image"
    assert got.fingerprint == encoder.fingerprint
    assert encoder.batches == [2, 2, 1]
    assert got.vectors.dtype == np.float32
    np.testing.assert_array_equal(got.vectors, MeanColour().encode_image(files))


def test_only_new_pictures_are_encoded(files):
    cache = {}
    first = embed_images(MeanColour(), files[:3], ["a", "b", "c"], cache=cache)
    assert len(cache) == 3
    encoder = MeanColour()
    second = embed_images(encoder, files[::-1], ["e", "d", "c", "b", "a"], cache=cache)
    assert encoder.batches == [2]
    np.testing.assert_array_equal(second.vectors[:1:-1], first.vectors)
    again = MeanColour()
    embed_images(again, files, list("vwxyz"), cache=cache)
    assert again.batches == []


def test_the_cache_goes_by_content_not_by_name(files):
    cache = {}
    before = embed_images(MeanColour(), files[:1], ["a"], cache=cache)
    Image.new("RGB", (5, 5), (200, 10, 10)).save(files[0])
    after = embed_images(MeanColour(), files[:1], ["a"], cache=cache)
    assert not np.allclose(before.vectors, after.vectors)
    assert len(cache) == 2


def test_equal_pictures_are_encoded_once(files):
    encoder = MeanColour()
    got = embed_images(encoder, [files[0], files[1], files[0]], ["a", "b", "c"])
    assert encoder.batches == [2]
    np.testing.assert_array_equal(got.vectors[0], got.vectors[2])


def test_open_pictures_are_taken_too(files):
    opened = [Image.open(path).convert("RGB") for path in files]
    by_file = embed_images(MeanColour(), files, list("abcde"))
    by_picture = embed_images(MeanColour(), opened, list("abcde"))
    np.testing.assert_array_equal(by_file.vectors, by_picture.vectors)


def test_all_missing_and_damaged_pictures_are_listed_before_encoding(files, tmp_path):
    files[1].write_bytes(files[1].read_bytes()[:60])
    files[2].write_text("no picture", encoding="utf-8")
    encoder = MeanColour()
    with pytest.raises(DataError, match="3 problems") as caught:
        embed_images(encoder, [*files, tmp_path / "gone.png"], list("abcdef"), batch_size=1)
    message = str(caught.value)
    assert all(part in message for part in ("b: ", "q.png", "c: ", "r.png", "f: ", "gone.png"))
    assert "p.png" not in message
    assert encoder.batches == []


def test_texts_follow_the_ids_and_are_cached():
    cache = {}
    encoder = MeanColour()
    got = embed_texts(encoder, ["aab", "c", "aab"], ["1", "2", "3"], cache=cache)
    assert (got.modality, encoder.batches, len(cache)) == ("text", [2], 2)
    np.testing.assert_allclose(got.vectors[0], np.array([3, 2, 1]) / np.sqrt(14), rtol=1e-6)
    np.testing.assert_array_equal(got.vectors[0], got.vectors[2])


def test_empty_captions_are_listed():
    with pytest.raises(DataError, match="'s2', 's3'"):
        embed_texts(MeanColour(), ["a", " ", None], ["s1", "s2", "s3"])


@pytest.mark.parametrize("bad", [np.nan, 0.0, 2.0])
def test_vectors_that_are_no_directions_are_an_error(bad, files):
    class Broken(MeanColour):
        def encode_image(self, images, *, batch_size=64):
            vectors = super().encode_image(images)
            vectors[1] *= bad
            return vectors

    cache = {}
    with pytest.raises(DataError, match="'bad-one'"):
        embed_images(Broken(), files[:3], ["fine", "bad-one", "too"], cache=cache)
    assert cache == {}


def test_numbers_of_items_and_ids_must_agree(files):
    with pytest.raises(DataError, match="5 for 2 stimuli"):
        embed_images(MeanColour(), files, ["a", "b"])
    with pytest.raises(DataError, match="empty"):
        embed_images(MeanColour(), [], [])
    with pytest.raises(ArtifactError, match="unique"):
        embed_images(MeanColour(), files[:2], ["a", "a"])
