"""Pictures with captions, by the thousand: what the small CLIP is trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from braindecode_clip.errors import ConfigError
from braindecode_clip.simulate.captions import caption
from braindecode_clip.simulate.render import SMALLEST_PX, Style, render
from braindecode_clip.simulate.scenes import sample_scene, scene_to_json


@dataclass(frozen=True)
class ScenePairs:
    """Pictures, several captions for each, and the scenes behind them.

    Attributes
    ----------
    images : ndarray, (n, size_px, size_px, 3), uint8
        RGB pictures.
    captions : ndarray of str objects, (n, captions_per_scene)
        Independent wordings of the same scene.
    scenes : ndarray of str objects, (n,)
        The ground truth in JSON, in the order of the pictures; see
        :func:`~braindecode_clip.simulate.scenes.scene_from_json`.
    """

    images: np.ndarray
    captions: np.ndarray
    scenes: np.ndarray

    def __len__(self) -> int:
        return len(self.scenes)


def make_pairs(
    n: int,
    *,
    rng: np.random.Generator,
    size_px: int = SMALLEST_PX,
    captions_per_scene: int = 3,
    held_out: bool = False,
    style: Style = "filled",
    progress: Callable[[Iterable[int]], Iterable[int]] | None = None,
) -> ScenePairs:
    """Draw ``n`` scenes, render them and word their captions.

    Parameters
    ----------
    n : int
        Number of scenes, at least 1.
    rng : numpy.random.Generator
        Source of the scenes and of the wording.
    size_px : int
        Side of the pictures in pixels, at least 64.
    captions_per_scene : int
        Number of wordings of each scene, at least 1.
    held_out : bool
        Passed to :func:`~braindecode_clip.simulate.scenes.sample_scene`: whether each
        scene holds a composition that training scenes never hold.
    style : {"filled", "lines"}
        Look of the pictures, see :func:`~braindecode_clip.simulate.render.render`; scenes and
        captions are the same in every style.
    progress : callable, optional
        Wraps the loop over the scenes, to show how far it is.

    Returns
    -------
    ScenePairs
        About 12 KB of pixels a scene at 64 pixels.

    Raises
    ------
    ConfigError
        If ``n`` or ``captions_per_scene`` is smaller than 1, or ``size_px`` than 64,
        or the style is unknown.
    """
    if n < 1 or captions_per_scene < 1:
        raise ConfigError(
            f"n is {n} and captions_per_scene {captions_per_scene}; both must be at least 1."
        )
    images = np.empty((n, size_px, size_px, 3), dtype=np.uint8)
    captions = np.empty((n, captions_per_scene), dtype=object)
    scenes = np.empty(n, dtype=object)
    for index in range(n) if progress is None else progress(range(n)):
        scene = sample_scene(rng, held_out=held_out)
        images[index] = np.asarray(render(scene, size_px=size_px, style=style))
        for column in range(captions_per_scene):
            captions[index, column] = caption(scene, rng)
        scenes[index] = scene_to_json(scene)
    return ScenePairs(images=images, captions=captions, scenes=scenes)
