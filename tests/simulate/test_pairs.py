"""Training pairs of pictures and captions."""

from __future__ import annotations

import numpy as np
import pytest

from braindecode_clip.errors import ConfigError
from braindecode_clip.simulate.pairs import make_pairs
from braindecode_clip.simulate.render import render
from braindecode_clip.simulate.scenes import is_held_out, scene_from_json


def test_pictures_captions_and_scenes_belong_together() -> None:
    pairs = make_pairs(7, rng=np.random.default_rng(0), size_px=72, captions_per_scene=2)
    assert len(pairs) == 7
    assert pairs.images.shape == (7, 72, 72, 3) and pairs.images.dtype == np.uint8
    assert pairs.captions.shape == (7, 2)
    for image, text in zip(pairs.images, pairs.scenes, strict=True):
        scene = scene_from_json(text)
        assert not is_held_out(scene)
        np.testing.assert_array_equal(image, np.asarray(render(scene, size_px=72)))


def test_seed_decides_everything() -> None:
    first, again, other = (make_pairs(5, rng=np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.images, again.images)
    assert (first.captions == again.captions).all() and (first.scenes == again.scenes).all()
    assert (first.scenes != other.scenes).any()


def test_held_out_scenes_and_progress() -> None:
    seen: list[int] = []

    def watch(items):
        for item in items:
            seen.append(item)
            yield item

    pairs = make_pairs(6, rng=np.random.default_rng(3), held_out=True, progress=watch)
    assert seen == list(range(6))
    assert all(is_held_out(scene_from_json(text)) for text in pairs.scenes)


@pytest.mark.parametrize("wrong", [{"n": 0}, {"n": 2, "captions_per_scene": 0}])
def test_empty_requests_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        make_pairs(**wrong, rng=np.random.default_rng(0))
