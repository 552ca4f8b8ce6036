"""Galleries encoded part by part: equal to one go, resumed after a stop, wordings averaged."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from braindecode_clip.embed import candidates
from braindecode_clip.embed.candidates import embed_candidates
from braindecode_clip.errors import DataError
from braindecode_clip.io.images import picture_source
from braindecode_clip.io.training_state import TrainingState


class HashEncoder:
    """Vectors from the content alone; counts what it is given and may stop at a number."""

    n_dims = 6

    def __init__(self, stop_after: int | None = None) -> None:
        self.fingerprint = {"name": "hash"}
        self.n_seen, self.stop_after = 0, stop_after

    def _vector(self, content: bytes) -> np.ndarray:
        if self.stop_after is not None and self.n_seen >= self.stop_after:
            raise KeyboardInterrupt
        self.n_seen += 1
        seed = int.from_bytes(hashlib.sha256(content).digest()[:8], "big")
        vector = np.random.default_rng(seed).standard_normal(self.n_dims)
        return vector / np.linalg.norm(vector)

    def encode_image(self, images: Sequence[Image.Image], *, batch_size: int) -> np.ndarray:
        return np.float32([self._vector(np.asarray(image).tobytes()) for image in images])

    def prepare_image(self, picture: Image.Image) -> Image.Image:
        return picture

    def encode_prepared(self, prepared: Sequence[Image.Image]) -> np.ndarray:
        return self.encode_image(prepared, batch_size=len(prepared))

    def encode_text(self, texts: Sequence[str], *, batch_size: int) -> np.ndarray:
        return np.float32([self._vector(text.encode()) for text in texts])


def pictures(n: int) -> list[Image.Image]:
    rng = np.random.default_rng(n)
    return [Image.fromarray(b) for b in rng.integers(0, 256, (n, 4, 5, 3), dtype=np.uint8)]


def test_parts_make_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "PART_SIZE", 5)
    shown, encoder = pictures(13), HashEncoder()
    ids = np.array([f"p{i}" for i in range(13)])
    metadata = pd.DataFrame({"n": range(13)})
    gallery = embed_candidates(
        encoder,
        ids,
        pictures=shown,
        source=picture_source,
        metadata=metadata,
        origin="here",
        batch_size=3,
    )
    np.testing.assert_array_equal(gallery.vectors, HashEncoder().encode_image(shown, batch_size=1))
    assert gallery.modality == "image" and gallery.origin == "here"
    assert gallery.fingerprint == {"name": "hash"}
    assert gallery.metadata["n"].tolist() == list(range(13))


def test_a_stopped_run_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(candidates, "PART_SIZE", 4)
    shown, ids = pictures(11), np.array([f"p{i}" for i in range(11)])
    store = TrainingState(tmp_path, key={"a": 1})
    with pytest.raises(KeyboardInterrupt):
        embed_candidates(
            HashEncoder(stop_after=9), ids, pictures=shown, source=picture_source, store=store
        )
    second = HashEncoder()
    gallery = embed_candidates(second, ids, pictures=shown, source=picture_source, store=store)
    assert second.n_seen == 3
    whole = embed_candidates(HashEncoder(), ids, pictures=shown, source=picture_source)
    np.testing.assert_array_equal(gallery.vectors, whole.vectors)


def test_wordings_are_averaged_and_scaled() -> None:
    encoder = HashEncoder()
    templates = ("{}", "a picture of {}", "{{}} is no place, {} is".replace("{{}}", "( )"))
    gallery = embed_candidates(
        encoder, np.array(["dog", "cat"]), texts=["dog", "cat"], templates=templates
    )
    for row, word in enumerate(("dog", "cat")):
        wordings = [template.replace("{}", word) for template in templates]
        mean = HashEncoder().encode_text(wordings, batch_size=1).astype(float).mean(axis=0)
        np.testing.assert_allclose(gallery.vectors[row], mean / np.linalg.norm(mean), atol=1e-7)
    assert gallery.modality == "text"


def test_braces_in_a_text_are_text() -> None:
    gallery = embed_candidates(HashEncoder(), np.array(["x"]), texts=["{0} {} %s"])
    expected = HashEncoder().encode_text(["{0} {} %s"], batch_size=1)
    np.testing.assert_allclose(gallery.vectors, expected, atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "either pictures or texts"),
        ({"texts": ["a", "b"], "pictures": pictures(2)}, "either pictures or texts"),
        ({"texts": ["a"]}, "1 candidates for 2 names"),
        ({"texts": ["a", "b"], "templates": ("x",)}, "needs '{}' once"),
        ({"texts": ["a", "b"], "templates": ()}, "needs '{}' once"),
        ({"texts": ["a", " "]}, r"y \(wording 1\): .*the caption is empty"),
        ({"pictures": ["missing.png", "gone.png"], "source": picture_source}, "2 problems"),
    ],
)
def test_bad_candidates(arguments: dict, words: str) -> None:
    with pytest.raises(DataError, match=words.replace("{}", r"\{\}")):
        embed_candidates(HashEncoder(), np.array(["x", "y"]), **arguments)
