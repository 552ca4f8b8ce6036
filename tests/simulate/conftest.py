"""A small simulated subject that several tests look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from braindecode_clip.config.simulate import SimulateConfig
from braindecode_clip.simulate.features import PictureFeatures, picture_features
from braindecode_clip.simulate.render import render
from braindecode_clip.simulate.scenes import Scene
from braindecode_clip.simulate.stimuli import make_stimuli
from braindecode_clip.simulate.subject import Subject, make_subject

SMALL = SimulateConfig(
    subjects=("07",),
    n_sessions=2,
    runs_per_session=2,
    n_train_pictures=38,
    n_test_pictures=42,
    test_repeats=3,
    image_size_px=64,
    grid_shape=(14, 16, 11),
)


@dataclass(frozen=True)
class Pictures:
    """The pictures of one subject."""

    images: np.ndarray
    scenes: tuple[Scene, ...]
    ids: tuple[str, ...]
    splits: tuple[str, ...]
    features: PictureFeatures


@pytest.fixture(scope="session")
def draw_pictures() -> Callable[[SimulateConfig], Pictures]:
    """Return a function that draws and renders the pictures of a config's first subject."""

    def draw(config: SimulateConfig) -> Pictures:
        stimuli = make_stimuli(config, rng=np.random.default_rng(0))
        scenes = tuple(item.scene for item in stimuli)
        pictures = [render(scene, size_px=config.image_size_px) for scene in scenes]
        images = np.stack([np.asarray(picture) for picture in pictures])
        ids = tuple(item.stimulus_id for item in stimuli)
        splits = tuple(item.split for item in stimuli)
        return Pictures(images, scenes, ids, splits, picture_features(images, scenes))

    return draw


@pytest.fixture(scope="session")
def small_config() -> SimulateConfig:
    """Return the options of the small subject."""
    return SMALL


@pytest.fixture(scope="session")
def pictures(draw_pictures: Callable[[SimulateConfig], Pictures]) -> Pictures:
    """Return the pictures of the small subject."""
    return draw_pictures(SMALL)


@pytest.fixture(scope="session")
def build() -> Callable[..., Subject]:
    """Return a function that makes a subject from pictures and a config."""

    def make(pictures: Pictures, config: SimulateConfig, seed: int = 3) -> Subject:
        label = config.subjects[0]
        shown = (pictures.features, pictures.ids, pictures.splits)
        return make_subject(label, *shown, config=config, seed=seed)

    return make


@pytest.fixture(scope="session")
def small_subject(build: Callable[..., Subject], pictures: Pictures) -> Subject:
    """Return the small subject."""
    return build(pictures, SMALL)
