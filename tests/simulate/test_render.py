"""Pictures: deterministic, anti-aliased, and different for every attribute."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from braindecode_clip.errors import ConfigError
from braindecode_clip.simulate.render import BACKGROUND_RGB, COLOUR_RGB, render
from braindecode_clip.simulate.scenes import (
    BACKGROUND_COLOURS,
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    SIZES,
    TEXTURES,
    Scene,
    SceneObject,
    sample_scene,
)

BASE = Scene((SceneObject("circle", "red", "medium", "plain", 0.5, 0.5),), "plain", "grey", None)


def pixels(scene: Scene, size_px: int = 64, style: str = "filled") -> np.ndarray:
    return np.asarray(render(scene, size_px=size_px, style=style)).astype(np.int64)


def with_object(**changes: object) -> Scene:
    return replace(BASE, objects=(replace(BASE.objects[0], **changes),))


def test_size_mode_and_determinism() -> None:
    rng = np.random.default_rng(3)
    for size_px in (64, 97, 128):
        scene = sample_scene(rng)
        picture = render(scene, size_px=size_px)
        assert picture.mode == "RGB" and picture.size == (size_px, size_px)
        assert picture.tobytes() == render(scene, size_px=size_px).tobytes()


def test_too_small_pictures_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 64"):
        render(BASE, size_px=63)


@pytest.mark.parametrize(
    "scenes",
    [
        [with_object(shape=value) for value in SHAPES],
        [with_object(colour=value) for value in COLOURS],
        [with_object(size=value) for value in SIZES],
        [with_object(texture=value) for value in TEXTURES],
        [with_object(x=value) for value in (0.3, 0.5, 0.7)],
        [with_object(y=value) for value in (0.3, 0.5, 0.7)],
        [replace(BASE, background=value) for value in BACKGROUNDS],
        [replace(BASE, background_colour=value) for value in BACKGROUND_COLOURS],
    ],
    ids=["shape", "colour", "size", "texture", "x", "y", "background", "background colour"],
)
@pytest.mark.parametrize("style", ["filled", "lines"])
def test_every_attribute_shows(scenes: list[Scene], style: str) -> None:
    for a, b in itertools.combinations([pixels(scene, style=style) for scene in scenes], 2):
        changed = np.abs(a - b).max(axis=-1) > 20
        # At least 1 % of the picture looks different.
        assert changed.sum() > 40


@pytest.mark.parametrize("colour", COLOURS)
def test_plain_colours_are_those_of_the_palette(colour: str) -> None:
    picture = pixels(with_object(colour=colour, shape="square"))
    assert tuple(picture[32, 32]) == COLOUR_RGB[colour]
    assert tuple(picture[2, 2]) == BACKGROUND_RGB["grey"]


def test_palette_is_well_separated() -> None:
    values = [*COLOUR_RGB.values(), *BACKGROUND_RGB.values()]
    for a, b in itertools.combinations(np.array(values, dtype=float), 2):
        assert np.linalg.norm(a - b) > 60


def test_objects_stay_in_their_boxes() -> None:
    for shape, size in itertools.product(SHAPES, SIZES):
        scene = with_object(shape=shape, size=size, x=0.4, y=0.6)
        item = scene.objects[0]
        drawn = (pixels(scene) != np.array(BACKGROUND_RGB["grey"])).any(axis=-1)
        rows, columns = np.nonzero(drawn)
        for place, centre in ((columns, item.x), (rows, item.y)):
            # One pixel of slack for rounding and for the edge's average.
            assert place.min() >= (centre - item.radius) * 64 - 1
            assert place.max() <= (centre + item.radius) * 64 + 1
        # And they fill a good part of it.
        assert drawn.sum() > 0.25 * (2 * item.radius * 64) ** 2


def test_edges_are_anti_aliased() -> None:
    picture = pixels(with_object(shape="circle", x=0.481, y=0.527))
    ground, colour = np.array(BACKGROUND_RGB["grey"]), np.array(COLOUR_RGB["red"])
    pure = (picture == ground).all(axis=-1) | (picture == colour).all(axis=-1)
    # Along the rim of a circle of radius 10 px lie some 60 pixels of other tones.
    assert len(np.unique(picture[~pure], axis=0)) > 15


def test_larger_pictures_show_the_same() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        scene = sample_scene(rng)
        large = pixels(scene, 128).reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
        assert np.abs(large - pixels(scene)).mean() < 4
