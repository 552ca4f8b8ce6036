"""Drawing a scene: shapes filled with textures on a ground, or in lines; anti-aliased.

Everything is drawn ``SUPERSAMPLING`` times larger and averaged down with a box filter.
Grounds and fills depend on few attributes and are kept, so that a picture costs one
copy, one paste per object and one reduction.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from PIL import Image

from braindecode_clip.errors import ConfigError
from braindecode_clip.simulate.line_drawing import draw_lines
from braindecode_clip.simulate.palette import BACKGROUND_RGB, COLOUR_RGB
from braindecode_clip.simulate.scenes import Scene, SceneObject
from braindecode_clip.simulate.shapes import shape_mask

SUPERSAMPLING = 4
SMALLEST_PX = 64

#: How scenes can look: filled shapes on coloured grounds, or coloured pencil on paper.
Style = Literal["filled", "lines"]

# Periods in shares of the picture's side.
_STRIPE_PERIOD = 0.085
_DOT_PERIOD = 0.085
_CHECK_SIDE = 0.052
_TILE_SIDE = 0.125
_SPECKLE_CELLS = 48
_OUTLINE = 0.012


def render(scene: Scene, *, size_px: int = SMALLEST_PX, style: Style = "filled") -> Image.Image:
    """Draw a scene.

    Parameters
    ----------
    scene : Scene
        What to draw.
    size_px : int
        Side of the square picture in pixels, at least 64.
    style : {"filled", "lines"}
        Look; both show the same contents, see :mod:`~braindecode_clip.simulate.line_drawing`.

    Returns
    -------
    PIL.Image.Image
        RGB, ``size_px`` x ``size_px``; a scene and a style always give the same pixels.

    Raises
    ------
    ConfigError
        If ``size_px`` is smaller than 64, or the style is unknown.
    """
    if size_px < SMALLEST_PX:
        raise ConfigError(
            f"size_px is {size_px}; scenes need at least {SMALLEST_PX} pixels a side. Raise it."
        )
    if style not in get_args(Style):
        raise ConfigError(f"style is '{style}'. Use one of {', '.join(get_args(Style))}.")
    canvas_px = size_px * SUPERSAMPLING
    if style == "lines":
        return draw_lines(scene, canvas_px).reduce(SUPERSAMPLING)
    canvas = _ground(scene, canvas_px)
    for item in scene.objects:
        _paste(canvas, item, canvas_px)
    return canvas.reduce(SUPERSAMPLING)


def _ground(scene: Scene, canvas_px: int) -> Image.Image:
    ground = _plain_ground(scene.background, scene.background_colour, canvas_px)
    if scene.background != "speckled":
        return ground.copy()
    # Rolled by the place of the first object: the grain differs from picture to picture.
    first = scene.objects[0]
    dx, dy = round(first.x * canvas_px), round(first.y * canvas_px)
    rolled = Image.new("RGB", ground.size)
    for left in (dx - canvas_px, dx):
        for top in (dy - canvas_px, dy):
            rolled.paste(ground, (left, top))
    return rolled


@lru_cache(maxsize=64)
def _plain_ground(kind: str, colour: str, canvas_px: int) -> Image.Image:
    base = np.array(BACKGROUND_RGB[colour], dtype=np.float64)
    # Light grounds get darker patterns and dark grounds lighter ones.
    other = _mix(base, 0.0, 0.2) if base.mean() > 128 else _mix(base, 255.0, 0.2)
    place = (np.arange(canvas_px) + 0.5) / canvas_px
    weight = np.zeros((canvas_px, canvas_px))
    if kind == "shaded":
        weight += 2.2 * place[:, None]
    elif kind == "tiled":
        tile = np.floor(place / _TILE_SIDE).astype(int)
        weight += (tile[:, None] + tile[None, :]) % 2
    elif kind == "speckled":
        # A fixed grain: it belongs to the ground as its colour does, not to chance.
        grain = np.random.default_rng(20).random((_SPECKLE_CELLS, _SPECKLE_CELLS))
        cell = np.floor(place * _SPECKLE_CELLS).astype(int)
        weight += (grain > 0.7)[np.ix_(cell, cell)]
    pixels = base + weight[:, :, None] * (other - base)
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _paste(canvas: Image.Image, item: SceneObject, canvas_px: int) -> None:
    side = round(2 * item.radius * canvas_px)
    left = round(item.x * canvas_px - side / 2)
    top = round(item.y * canvas_px - side / 2)
    drawn, mask = _drawn_object(*item.look, side, canvas_px)
    canvas.paste(drawn, (left, top), mask)


@lru_cache(maxsize=2048)
def _drawn_object(
    shape: str, colour: str, size: str, texture: str, side: int, canvas_px: int
) -> tuple[Image.Image, Image.Image]:
    """Return the picture of one object and its mask, both ``side`` x ``side``."""
    outer = shape_mask(shape, side, inset=0.0)
    inner = shape_mask(shape, side, inset=_OUTLINE * canvas_px)
    edge = tuple(int(v) for v in _mix(np.array(COLOUR_RGB[colour], dtype=float), 0.0, 0.4))
    drawn = Image.new("RGB", (side, side), edge)
    drawn.paste(_fill(colour, texture, side, canvas_px), (0, 0), inner)
    return drawn, outer


def _fill(colour: str, texture: str, side: int, canvas_px: int) -> Image.Image:
    base = np.array(COLOUR_RGB[colour], dtype=np.float64)
    luminance = base @ np.array([0.2126, 0.7152, 0.0722]) / 255
    # Bright colours are patterned with a darker tone, dark ones with a lighter tone.
    other = _mix(base, 0.0, 0.6) if luminance > 0.5 else _mix(base, 255.0, 0.75)
    place = (np.arange(side) + 0.5 - side / 2) / canvas_px
    x, y = place[None, :], place[:, None]
    pattern = np.zeros((side, side), dtype=bool)
    if texture == "striped":
        # Diagonal, so that neither a square nor a cross hides them in its edges.
        pattern = np.mod((x + y) / math.sqrt(2) + _STRIPE_PERIOD / 4, _STRIPE_PERIOD) < (
            _STRIPE_PERIOD / 2
        )
    elif texture == "dotted":
        half = _DOT_PERIOD / 2
        dx = np.mod(x + half, _DOT_PERIOD) - half
        dy = np.mod(y + half, _DOT_PERIOD) - half
        pattern = dx**2 + dy**2 < (0.31 * _DOT_PERIOD) ** 2
    elif texture == "checked":
        cells = np.floor(x / _CHECK_SIDE) + np.floor(y / _CHECK_SIDE)
        pattern = np.mod(cells, 2) == 1
    pixels = np.where(pattern[:, :, None], other, base)
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def _mix(base: np.ndarray, towards: float, share: float) -> np.ndarray:
    return np.clip(base + share * (towards - base), 0, 255)
