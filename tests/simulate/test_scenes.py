"""Scenes: where objects stand, what is held out, and the record of it."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from braindecode_clip.errors import DataError
from braindecode_clip.simulate.scenes import (
    BACKGROUND_COLOURS,
    BACKGROUNDS,
    COLOURS,
    MARGIN,
    RADIUS,
    RELATIONS,
    SHAPES,
    SIZES,
    TEXTURES,
    Scene,
    SceneObject,
    held_out_compositions,
    is_held_out,
    rearranged,
    sample_scene,
    scene_attributes,
    scene_from_json,
    scene_to_json,
)


@pytest.fixture(scope="module")
def seen() -> list[Scene]:
    rng = np.random.default_rng(11)
    return [sample_scene(rng) for _ in range(1200)]


@pytest.fixture(scope="module")
def unseen() -> list[Scene]:
    rng = np.random.default_rng(12)
    return [sample_scene(rng, held_out=True) for _ in range(300)]


def test_same_seed_same_scene() -> None:
    first = [sample_scene(np.random.default_rng(5)) for _ in range(2)]
    assert first[0] == first[1]
    assert sample_scene(np.random.default_rng(6)) != first[0]


def test_objects_lie_inside_and_apart(seen: list[Scene], unseen: list[Scene]) -> None:
    rounding = 1e-4
    for scene in seen + unseen:
        assert 1 <= len(scene.objects) <= 3
        for item in scene.objects:
            half = RADIUS[item.size]
            assert half + MARGIN - rounding <= min(item.x, item.y)
            assert max(item.x, item.y) <= 1 - half - MARGIN + rounding
        for a, b in itertools.combinations(scene.objects, 2):
            gap = max(abs(a.x - b.x), abs(a.y - b.y))
            assert gap >= RADIUS[a.size] + RADIUS[b.size] + MARGIN - 2 * rounding


def test_rearranged_objects_stand_elsewhere_under_the_same_rules(seen: list[Scene]) -> None:
    rng = np.random.default_rng(3)
    moved = [rearranged(scene, rng) for scene in seen[:200]]
    for old, new in zip(seen[:200], moved, strict=True):
        assert [item.look for item in new.objects] == [item.look for item in old.objects]
        assert (new.background, new.background_colour) == (old.background, old.background_colour)
        assert new.relation == old.relation
        for a, b in zip(old.objects, new.objects, strict=True):
            assert (a.x, a.y) != (b.x, b.y)
    test_objects_lie_inside_and_apart(moved, [])
    related = [scene for scene in moved if scene.relation is not None]
    test_relations_are_true_and_never_ambiguous(related, [])


def test_relations_are_true_and_never_ambiguous(seen: list[Scene], unseen: list[Scene]) -> None:
    met = set()
    for scene in seen + unseen:
        groups = scene.groups
        assert (scene.relation is None) == (len(groups) == 1)
        if scene.relation is None:
            continue
        met.add(scene.relation)
        for a, b in itertools.product(*groups):
            rightward, downward = b.x - a.x, b.y - a.y
            if scene.relation in ("left of", "right of"):
                step = rightward if scene.relation == "left of" else -rightward
                assert step > abs(downward)
            else:
                step = downward if scene.relation == "above" else -downward
                assert step > abs(rightward)
    assert met == set(RELATIONS)


def test_groups_are_alike_within_and_differ_in_shape_or_colour(seen: list[Scene]) -> None:
    counts = set()
    for scene in seen:
        groups = scene.groups
        counts.add(tuple(len(group) for group in groups))
        for group in groups:
            assert len({item.look for item in group}) == 1
        if len(groups) == 2:
            assert groups[0][0].look[:2] != groups[1][0].look[:2]
    assert counts == {(1,), (2,), (3,), (1, 1), (1, 2), (2, 1)}


def test_training_scenes_never_hold_a_held_out_composition(
    seen: list[Scene], unseen: list[Scene]
) -> None:
    forbidden = set(held_out_compositions())
    assert len(forbidden) == len(COLOURS)
    in_training = {(o.shape, o.colour) for scene in seen for o in scene.objects}
    everything = set(itertools.product(SHAPES, COLOURS))
    assert in_training == everything - forbidden
    for scene in unseen:
        assert any((o.shape, o.colour) in forbidden for o in scene.objects)
        assert is_held_out(scene)
    assert not any(is_held_out(scene) for scene in seen)


def test_every_value_of_every_attribute_is_drawn(seen: list[Scene]) -> None:
    for name, options in (
        ("shape", SHAPES),
        ("colour", COLOURS),
        ("size", SIZES),
        ("texture", TEXTURES),
    ):
        assert {getattr(o, name) for s in seen for o in s.objects} == set(options)
    assert {s.background for s in seen} == set(BACKGROUNDS)
    assert {s.background_colour for s in seen} == set(BACKGROUND_COLOURS)


def test_json_keeps_every_scene(seen: list[Scene]) -> None:
    assert all(scene_from_json(scene_to_json(scene)) == scene for scene in seen[:200])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "{}",
        '{"objects":[],"background":"plain","background_colour":"grey","relation":null}',
        '{"objects":[{"shape":"cube","colour":"red","size":"small","texture":"plain","x":0.5,'
        '"y":0.5}],"background":"plain","background_colour":"grey","relation":null}',
    ],
)
def test_what_is_no_scene_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="scene"):
        scene_from_json(text)


def test_attributes_are_flat_and_true(seen: list[Scene]) -> None:
    for scene in seen[:200]:
        flat = scene_attributes(scene)
        assert json.loads(json.dumps(flat)) == flat
        assert flat["n_objects"] == flat["count_1"] + flat["count_2"] == len(scene.objects)
        assert flat["shape_1"] == scene.objects[0].shape
        assert (flat["shape_2"] == "none") == (flat["n_groups"] == 1)


def test_attributes_of_a_known_scene() -> None:
    pair = tuple(SceneObject("star", "red", "small", "dotted", x, 0.2) for x in (0.2, 0.4))
    other = SceneObject("cross", "blue", "large", "plain", 0.3, 0.7)
    flat = scene_attributes(Scene((*pair, other), "tiled", "navy", "above"))
    assert flat["count_1"] == 2 and flat["count_2"] == 1
    assert flat["x_1"] == pytest.approx(0.3) and flat["y_2"] == pytest.approx(0.7)
    assert (flat["relation"], flat["texture_1"], flat["colour_2"]) == ("above", "dotted", "blue")
