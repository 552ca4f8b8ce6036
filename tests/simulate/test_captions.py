"""Captions: true, varied, and from a closed vocabulary. They are read by a parser of our own."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from braindecode_clip.simulate.captions import CAPTION_WORDS, caption
from braindecode_clip.simulate.scenes import (
    BACKGROUND_COLOURS,
    COLOURS,
    SHAPES,
    TEXTURES,
    Scene,
    SceneObject,
    sample_scene,
)

# Written out by hand, apart from the tables that the captions are made from.
MEANING = {
    "shape": {
        "circle": "circle circles disc discs",
        "square": "square squares box boxes",
        "triangle": "triangle triangles",
        "star": "star stars",
        "heart": "heart hearts",
        "cross": "cross crosses plus pluses",
    },
    "size": {"small": "small little tiny", "medium": "medium", "large": "large big huge"},
    "colour": {
        "red": "red",
        "orange": "orange",
        "yellow": "yellow",
        "green": "green",
        "turquoise": "turquoise cyan",
        "blue": "blue",
        "purple": "purple violet",
        "pink": "pink",
    },
    "texture": {
        "plain": "plain solid",
        "striped": "striped",
        "dotted": "dotted spotted",
        "checked": "checked chequered",
    },
    "background": {
        "plain": "plain even",
        "shaded": "shaded graded",
        "tiled": "tiled",
        "speckled": "speckled grainy",
    },
    "background_colour": {
        "white": "white",
        "grey": "grey",
        "black": "black",
        "beige": "beige sandy",
        "navy": "navy",
    },
    "relation": {
        "left of": "left",
        "right of": "right",
        "above": "above over",
        "below": "below under",
    },
}
INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
NUMBER = {"a": 1, "an": 1, "one": 1, "two": 2, "pair": 2, "three": 3, "trio": 3}
FILLERS = {
    "of",
    "to",
    "the",
    "picture",
    "image",
    "drawing",
    "scene",
    "with",
    "we",
    "see",
    "there",
    "is",
    "are",
    "on",
    "ground",
    "background",
}


def lookup(kind: str, word: str) -> str | None:
    for value, words in MEANING[kind].items():
        if word in words.split():
            return value
    return None


def read_ground(words: list[str]) -> dict[str, str]:
    said = {}
    for word in words:
        for kind in ("background", "background_colour"):
            value = lookup(kind, word)
            if value:
                said[kind] = value
    return said


def read_group(words: list[str]) -> dict[str, object]:
    said: dict[str, object] = {}
    for word in words:
        if word in NUMBER:
            # "a pair of": the later word counts.
            said["count"] = NUMBER[word]
            continue
        for kind in ("shape", "size", "colour", "texture"):
            value = lookup(kind, word)
            if value:
                said[kind] = value
        if lookup("shape", word):
            said["many"] = word not in {
                forms.split()[k]
                for forms in MEANING["shape"].values()
                for k in range(0, len(forms.split()), 2)
            }
    return said


def parse(text: str) -> tuple[list[dict[str, object]], str | None, dict[str, str]]:
    words = text.split()
    ground: dict[str, str] = {}
    if "on" in words:
        start = words.index("on")
        end = next(i for i in range(start, len(words)) if words[i] in ("ground", "background"))
        ground = read_ground(words[start : end + 1])
        words = words[:start] + words[end + 1 :]
    for opening in ("picture", "image", "drawing"):
        if opening in words:
            words = words[words.index(opening) + 2 :]
    if "scene" in words:
        words = words[words.index("with") + 1 :]
    for k, word in enumerate(words):
        relation = lookup("relation", word)
        if relation:
            return [read_group(words[:k]), read_group(words[k + 1 :])], relation, ground
    return [read_group(words)], None, ground


def is_true_of(said: dict[str, object], group: tuple[SceneObject, ...]) -> bool:
    item = group[0]
    facts = {
        "shape": item.shape,
        "size": item.size,
        "colour": item.colour,
        "texture": item.texture,
        "count": len(group),
        "many": len(group) > 1,
    }
    return all(facts[key] == value for key, value in said.items())


@pytest.fixture(scope="module")
def described() -> list[tuple[Scene, str]]:
    rng = np.random.default_rng(21)
    scenes = [sample_scene(rng, held_out=bool(k % 2)) for k in range(400)]
    return [(scene, caption(scene, rng)) for scene in scenes for _ in range(4)]


def test_captions_are_true(described: list[tuple[Scene, str]]) -> None:
    for scene, text in described:
        groups, relation, ground = parse(text)
        assert {"count", "shape"} <= set(groups[0]), text
        assert len(groups) == len(scene.groups), text
        assert all(getattr(scene, key) == value for key, value in ground.items()), text
        if relation is None:
            assert is_true_of(groups[0], scene.groups[0]), text
            continue
        turned = relation != scene.relation
        if turned:
            assert relation == INVERSE[scene.relation], text
            groups = groups[::-1]
        assert is_true_of(groups[0], scene.groups[0]), text
        assert is_true_of(groups[1], scene.groups[1]), text


def test_vocabulary_is_closed_small_and_used(described: list[tuple[Scene, str]]) -> None:
    used = {word for _, text in described for word in text.split()}
    assert used == set(CAPTION_WORDS)
    assert len(CAPTION_WORDS) < 150
    assert list(CAPTION_WORDS) == sorted(set(CAPTION_WORDS))
    assert all(word == word.lower() and word.isalpha() for word in CAPTION_WORDS)
    known = FILLERS | set(NUMBER)
    known |= {w for table in MEANING.values() for words in table.values() for w in words.split()}
    assert used <= known
    assert set(SHAPES) | set(COLOURS) | set(TEXTURES) | set(BACKGROUND_COLOURS) <= used


def test_captions_are_short_and_without_punctuation(described: list[tuple[Scene, str]]) -> None:
    for _, text in described:
        assert text == " ".join(text.split())
        assert len(text.split()) <= 28


def test_articles_fit(described: list[tuple[Scene, str]]) -> None:
    for _, text in described:
        words = text.split()
        for article, word in itertools.pairwise(words):
            if article in ("a", "an"):
                assert (article == "an") == (word[0] in "aeiou"), text
        if "there" in words:
            verb, first = words[words.index("there") + 1 :][:2]
            assert (verb == "is") == (first in ("a", "an", "one")), text


def test_most_attributes_are_said_and_some_are_not(described: list[tuple[Scene, str]]) -> None:
    groups = [(said, text) for _, text in described for said in parse(text)[0]]
    for key, least in (("colour", 0.9), ("texture", 0.7), ("size", 0.7)):
        share = np.mean([key in said for said, _ in groups])
        assert least < share < 1
    assert 0.8 < np.mean(["on " in text for _, text in described]) < 1


def test_wording_varies_and_hundred_scenes_have_distinct_captions() -> None:
    rng = np.random.default_rng(22)
    scenes = [sample_scene(rng) for _ in range(100)]
    assert len({caption(scene, rng) for scene in scenes}) == 100
    assert len({caption(scenes[0], rng) for _ in range(30)}) > 10


def test_same_generator_state_same_words() -> None:
    scene = sample_scene(np.random.default_rng(1))
    first, second = (caption(scene, np.random.default_rng(9)) for _ in range(2))
    assert first == second
