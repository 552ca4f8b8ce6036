"""Line drawings: the same contents in a new look, and every content to be seen."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from braindecode_clip.cli.main import main
from braindecode_clip.errors import ConfigError
from braindecode_clip.io.hdf5 import load_artifact, read_provenance
from braindecode_clip.simulate.features import picture_features
from braindecode_clip.simulate.line_drawing import PAPER_RGB
from braindecode_clip.simulate.pairs import ScenePairs, make_pairs
from braindecode_clip.simulate.palette import BACKGROUND_RGB, COLOUR_RGB
from braindecode_clip.simulate.render import render
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
    scene_from_json,
)

FILLED_SHA256 = "81fb1204251a05577a64b84ec91756be8eb7503fb7462fc5aef9cad5a6fb5797"

BASE = Scene((SceneObject("circle", "red", "medium", "plain", 0.5, 0.5),), "plain", "grey", None)


def drawing(scene: Scene, size_px: int = 64) -> np.ndarray:
    return np.asarray(render(scene, size_px=size_px, style="lines")).astype(np.int64)


def with_object(**changes: object) -> Scene:
    return replace(BASE, objects=(replace(BASE.objects[0], **changes),))


def scenes_of(n: int, seed: int) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [sample_scene(rng) for _ in range(n)]


def test_filled_pictures_are_still_those_the_model_was_trained_on() -> None:
    digest = hashlib.sha256()
    for scene in scenes_of(60, 0):
        assert render(scene).tobytes() == render(scene, style="filled").tobytes()
        digest.update(render(scene).tobytes())
    # Taken before there was a second style.
    assert digest.hexdigest() == FILLED_SHA256


def test_drawings_are_repeated_to_the_bit_and_differ_from_filled_pictures() -> None:
    for size_px in (64, 97):
        for scene in scenes_of(8, 1):
            picture = render(scene, size_px=size_px, style="lines")
            assert picture.mode == "RGB" and picture.size == (size_px, size_px)
            again = render(scene, size_px=size_px, style="lines")
            assert picture.tobytes() == again.tobytes()
            filled = np.asarray(render(scene, size_px=size_px)).astype(int)
            assert np.abs(np.asarray(picture).astype(int) - filled).mean() > 3


def test_unknown_styles_are_refused(tmp_path, capsys) -> None:
    with pytest.raises(ConfigError, match=r"'chalk'.*filled, lines"):
        render(BASE, style="chalk")
    out = tmp_path / "pairs.h5"
    command = ["simulate", "scenes", "--n", "2", "--style", "chalk", "--out", str(out)]
    assert main(command) == 1
    assert "chalk" in capsys.readouterr().err
    assert not out.exists()
    options = "{style: chalk}"
    assert main(["simulate", "stimuli", "--options", options, "--out", str(tmp_path)]) == 1
    assert "style" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def nearest_centroid(train: Sequence, labels: Sequence[str], test: Sequence) -> list[str]:
    """The class whose mean is nearest in Euclidean distance."""
    train, labels = np.asarray(train, dtype=float), np.asarray(labels)
    names = np.unique(labels)
    centroids = np.stack([train[labels == name].mean(axis=0) for name in names])
    distance = ((np.asarray(test, dtype=float)[:, None] - centroids[None]) ** 2).sum(axis=-1)
    return names[distance.argmin(axis=1)].tolist()


def varied(attribute: str, options: tuple[str, ...], n: int, seed: int) -> list[Scene]:
    """Single objects in the middle: one attribute in turn, all others by lot."""
    rng = np.random.default_rng(seed)
    scenes = []
    for k in range(n * len(options)):
        drawn = {
            "shape": str(rng.choice(SHAPES)),
            "colour": str(rng.choice(COLOURS)),
            "texture": str(rng.choice(TEXTURES)),
            "x": 0.5 + rng.uniform(-0.02, 0.02),
            "y": 0.5 + rng.uniform(-0.02, 0.02),
            attribute: options[k % len(options)],
        }
        ground = (str(rng.choice(BACKGROUNDS)), str(rng.choice(BACKGROUND_COLOURS)))
        item = SceneObject(size="large", **drawn)
        scenes.append(Scene((item,), *ground, None))
    return scenes


def test_shapes_are_told_apart_by_their_mean_pictures() -> None:
    def ink(scene: Scene) -> np.ndarray:
        # Coloured strokes alone: the spread of the channels is nought for paper and graphite.
        return np.ptp(drawing(scene)[2:-2, 2:-2], axis=-1).reshape(-1) > 40

    train, test = varied("shape", SHAPES, 24, 2), varied("shape", SHAPES, 8, 3)
    shapes = [scene.objects[0].shape for scene in train]
    found = nearest_centroid([ink(s) for s in train], shapes, [ink(s) for s in test])
    right = np.mean([a == s.objects[0].shape for a, s in zip(found, test, strict=True)])
    # Chance is 1 / 6.
    assert right > 0.85


def test_colours_are_told_apart_by_their_strokes() -> None:
    def hue(scene: Scene) -> np.ndarray:
        inner = drawing(scene)[4:-4, 4:-4].reshape(-1, 3)
        vivid = inner[np.argsort(np.ptp(inner, axis=-1))[-40:]]
        return vivid.mean(axis=0)

    train, test = varied("colour", COLOURS, 12, 4), varied("colour", COLOURS, 6, 5)
    colours = [scene.objects[0].colour for scene in train]
    found = nearest_centroid([hue(s) for s in train], colours, [hue(s) for s in test])
    assert found == [scene.objects[0].colour for scene in test]


def test_frame_paper_and_stroke_have_their_colours() -> None:
    for colour, ground in itertools.product(("red", "yellow"), BACKGROUND_COLOURS):
        scene = replace(with_object(shape="square", colour=colour), background_colour=ground)
        picture = drawing(scene, 128)
        assert tuple(picture[1, 64]) == BACKGROUND_RGB[ground] == tuple(picture[64, 126])
        assert tuple(picture[10, 64]) == PAPER_RGB == tuple(picture[64, 64])
        # The middle of the square's left stroke.
        left = round((0.5 - 0.86 * 0.165) * 128)
        assert tuple(picture[64, left + 1]) == COLOUR_RGB[colour]


def test_objects_stay_in_their_boxes() -> None:
    for shape, size in itertools.product(SHAPES, SIZES):
        scene = with_object(shape=shape, size=size, x=0.4, y=0.6)
        item = scene.objects[0]
        rows, columns = np.nonzero((drawing(scene)[3:-3, 3:-3] != PAPER_RGB).any(axis=-1))
        for place, centre in ((columns + 3, item.x), (rows + 3, item.y)):
            # One pixel of slack for rounding and for the edge's average.
            assert place.min() >= (centre - item.radius) * 64 - 1
            assert place.max() <= (centre + item.radius) * 64 + 1


def test_grain_moves_with_the_first_object() -> None:
    speckled = replace(BASE, background="speckled")
    moved = replace(speckled, objects=(replace(BASE.objects[0], x=0.55),))
    corner = (slice(4, 16), slice(4, 16))
    assert (drawing(speckled)[corner] != drawing(moved)[corner]).any()


def test_a_seed_gives_the_same_scenes_and_captions_in_both_styles() -> None:
    filled, lines = (
        make_pairs(9, rng=np.random.default_rng(6), style=style) for style in ("filled", "lines")
    )
    assert (filled.captions == lines.captions).all()
    assert (filled.scenes == lines.scenes).all()
    assert (filled.images != lines.images).any(axis=(1, 2, 3)).all()


def test_commands_draw_in_the_style_they_are_asked_for(tmp_path) -> None:
    out = tmp_path / "pairs.h5"
    assert main(["simulate", "scenes", "--n", "3", "--style", "lines", "--out", str(out)]) == 0
    pairs = load_artifact(out, ScenePairs)
    for image, text in zip(pairs.images, pairs.scenes, strict=True):
        np.testing.assert_array_equal(image, drawing(scene_from_json(text)))
    assert read_provenance(out)["options"]["style"] == "lines"
    options = "{style: lines, subjects: ['01'], n_train_pictures: 3, n_test_pictures: 2}"
    assert main(["simulate", "stimuli", "--options", options, "--out", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "stimuli/stimuli.tsv", sep="\t")
    assert len(table) == 5
    for name, text in zip(table["image"], table["scene"], strict=True):
        with Image.open(tmp_path / "stimuli" / name) as picture:
            np.testing.assert_array_equal(picture, drawing(scene_from_json(text), 128))


def test_attributes_that_voxels_see_are_those_of_the_scene_in_both_styles() -> None:
    scenes = tuple(scenes_of(24, 7))
    filled, lines = (
        picture_features(
            np.stack([np.asarray(render(scene, style=style)) for scene in scenes]), scenes
        )
        for style in ("filled", "lines")
    )
    for name in ("objects", "places", "ground"):
        np.testing.assert_array_equal(getattr(filled, name), getattr(lines, name))
    # What is measured in the pixels follows the drawing.
    assert np.abs(filled.energy - lines.energy).mean() > 0.1
    assert (lines.colour.sum(axis=1) < filled.colour.sum(axis=1)).all()
