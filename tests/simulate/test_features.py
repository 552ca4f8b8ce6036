"""Features of pictures against pictures whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from braindecode_clip.errors import DataError
from braindecode_clip.simulate.features import (
    ENERGY_PX,
    GROUND_FEATURES,
    MAP_PX,
    N_ORIENTATIONS,
    OBJECT_FEATURES,
    WAVELENGTHS_PX,
    contrast_energy,
    picture_features,
)
from braindecode_clip.simulate.render import render
from braindecode_clip.simulate.scenes import COLOURS, Scene, SceneObject


def test_uniform_grey_has_no_energy() -> None:
    energy = contrast_energy(np.full((2, ENERGY_PX, ENERGY_PX), 0.5))
    assert energy.shape == (2, len(WAVELENGTHS_PX) * N_ORIENTATIONS, MAP_PX, MAP_PX)
    assert energy.max() < np.finfo(np.float32).eps


@pytest.mark.parametrize("scale", range(len(WAVELENGTHS_PX)))
@pytest.mark.parametrize("orientation", range(N_ORIENTATIONS))
def test_gratings_drive_their_own_channel(scale: int, orientation: int) -> None:
    angle = np.pi * orientation / N_ORIENTATIONS
    y, x = np.mgrid[:ENERGY_PX, :ENERGY_PX]
    along = (x * np.cos(angle) + y * np.sin(angle)) / WAVELENGTHS_PX[scale]
    phases = (0.0, 1.0, 2.2)
    gratings = np.stack([0.5 + 0.4 * np.cos(2 * np.pi * along + p) for p in phases])
    energy = contrast_energy(gratings)[:, :, 6:-6, 6:-6].mean(axis=(2, 3))
    assert (energy.argmax(axis=1) == scale * N_ORIENTATIONS + orientation).all()
    # A quadrature pair does not see the phase; its gain at its own wavelength is one.
    own = energy[:, scale * N_ORIENTATIONS + orientation]
    np.testing.assert_allclose(own, (0.4 / 2) ** 2, rtol=0.02)


def test_energy_is_local() -> None:
    picture = np.full((1, ENERGY_PX, ENERGY_PX), 0.5)
    picture[0, 40:56, 8:24] = np.random.default_rng(0).random((16, 16))
    energy = contrast_energy(picture)[0].sum(axis=0)
    row, column = np.unravel_index(energy.argmax(), energy.shape)
    assert 20 <= row < 28 and 4 <= column < 12
    assert energy[:10].max() < 1e-3 * energy.max()


def scene_of(*objects: SceneObject, ground: str = "grey") -> Scene:
    relation = "left of" if len({item.look for item in objects}) == 2 else None
    return Scene(objects, "plain", ground, relation)


def test_attributes_and_colours_of_known_scenes() -> None:
    small = SceneObject("star", "green", "small", "plain", 0.25, 0.5)
    large = SceneObject("square", "pink", "large", "plain", 0.7, 0.5)
    scenes = (scene_of(small), scene_of(small, large, ground="navy"))
    images = np.stack([np.asarray(render(scene, size_px=128)) for scene in scenes])
    features = picture_features(images, scenes)
    assert len(features) == 2
    on = [{OBJECT_FEATURES[k] for k in np.flatnonzero(row)} for row in features.objects[1]]
    assert on == [{"star", "green", "plain"}, {"square", "pink", "plain", "extent"}, set()]
    np.testing.assert_allclose(features.places[1, :2], [[0.25, 0.5], [0.7, 0.5]])
    assert np.isnan(features.places[0, 1:]).all()
    grounds = [{GROUND_FEATURES[k] for k in np.flatnonzero(row)} for row in features.ground]
    assert grounds[0] == {"kind plain", "ground grey", "count 1"}
    assert grounds[1] == {"kind plain", "ground navy", "count 2"}
    colour = dict(zip(COLOURS, features.colour[1], strict=True))
    assert max(colour, key=colour.get) == "pink"
    # The square's fill: 0.86 of its box a side, without its outline.
    assert colour["pink"] ** 2 == pytest.approx((0.86 * 0.44) ** 2, rel=0.2)
    assert colour["green"] > 1.5 * max(v for k, v in colour.items() if k not in ("pink", "green"))


def test_channels_have_unit_mean() -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    scenes = (scene_of(SceneObject("star", "green", "small", "plain", 0.25, 0.5)),) * 5
    energy = picture_features(images, scenes).energy
    np.testing.assert_allclose(energy.mean(axis=(0, 2, 3)), 1, rtol=1e-5)


@pytest.mark.parametrize("shape", [(2, 64, 64, 3), (1, 65, 65, 3), (1, 64, 32, 3), (1, 64, 64)])
def test_other_arrays_are_refused(shape: tuple[int, ...]) -> None:
    scenes = (scene_of(SceneObject("star", "green", "small", "plain", 0.25, 0.5)),)
    with pytest.raises(DataError, match="pictures"):
        picture_features(np.zeros(shape, dtype=np.uint8), scenes)
