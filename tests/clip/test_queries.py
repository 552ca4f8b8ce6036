from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from braindecode_clip.clip.queries import Query, check_queries, query_vectors
from braindecode_clip.errors import DataError


class Tower:
    """Texts and pictures to unit vectors that follow from their names."""

    name, n_dims = "towers", 9

    def encode_text(self, texts):
        return np.stack([self.vector("text " + text) for text in texts])

    def encode_image(self, images):
        return np.stack([self.vector("image " + str(image)) for image in images])

    @staticmethod
    def vector(name):
        row = np.random.default_rng(list(name.encode())).standard_normal(9)
        return (row / np.linalg.norm(row)).astype(np.float32)


def unit(row):
    return row / np.sqrt((row**2).sum())


def wide(name):
    return Tower.vector(name).astype(np.float64)


def test_each_kind_of_query_is_the_mixture_of_its_parts():
    queries = [
        Query("a dog"),
        Query(image=Path("x.png")),
        Query("a dog", Path("x.png"), 0.25),
        Query("a cat", negative="a dog"),
        Query("a cat", Path("y.png"), 0.5, "rain"),
        Query(image=Path("y.png"), negative="rain"),
    ]
    found = query_vectors(Tower(), queries, negative_weight=0.3)
    dog, cat, rain = (wide(f"text {t}") for t in ("a dog", "a cat", "rain"))
    x, y = wide("image x.png"), wide("image y.png")
    want = [
        dog,
        x,
        0.75 * dog + 0.25 * x,
        cat - 0.3 * dog,
        0.5 * cat + 0.5 * y - 0.3 * rain,
        y - 0.3 * rain,
    ]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [unit(row) for row in want], rtol=0, atol=2e-7)


@pytest.mark.parametrize(("weight", "same_as"), [(0.0, "text a dog"), (1.0, "image x.png")])
def test_weights_at_the_ends_are_one_part_alone(weight, same_as):
    found = query_vectors(Tower(), [Query("a dog", Path("x.png"), weight)])
    np.testing.assert_allclose(found[0], wide(same_as), atol=1e-7)


def test_templates_are_averaged_for_texts_and_negatives():
    templates = ("a {}", "one {}, outdoors")
    found = query_vectors(
        Tower(), [Query("dog", negative="cat")], templates=templates, negative_weight=0.5
    )
    dog = unit(wide("text a dog") + wide("text one dog, outdoors"))
    cat = unit(wide("text a cat") + wide("text one cat, outdoors"))
    np.testing.assert_allclose(found[0], unit(dog - 0.5 * cat), atol=2e-7)


def test_parts_that_cancel_out_are_named():
    with pytest.raises(DataError, match="'a dog − a dog' cancel out"):
        query_vectors(Tower(), [Query("a dog", negative="a dog")], negative_weight=1.0)


def test_an_encoder_without_a_text_tower_is_named_and_serves_pictures():
    class Eyes:
        name, n_dims = "eyes", 9
        encode_image = Tower.encode_image
        vector = staticmethod(Tower.vector)

    found = query_vectors(Eyes(), [Query(image=Path("x.png"))])
    np.testing.assert_allclose(found[0], wide("image x.png"), atol=1e-7)
    with pytest.raises(DataError, match="encoder 'eyes': has no text tower"):
        query_vectors(Eyes(), [Query("a dog")])


def test_queries_that_ask_for_nothing_are_all_named():
    queries = [Query(" "), Query("a", Path("b"), 1.5), Query("c"), Query("c")]
    with pytest.raises(DataError) as caught:
        check_queries(queries, where="q.tsv")
    message = str(caught.value)
    assert "3 problems" in message and "numbers '1'" in message
    assert "1.5" in message and "more than once: 'c'" in message
    with pytest.raises(DataError, match="no queries"):
        check_queries([], where="search")
