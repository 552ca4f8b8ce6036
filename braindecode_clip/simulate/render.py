"""Drawing a scene: shapes filled with textures on a ground, anti-aliased.

Everything is drawn ``SUPERSAMPLING`` times larger and averaged down with a box filter.
Grounds and fills depend on few attributes and are kept, so that a picture costs one
copy, one paste per object and one reduction.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from braindecode_clip.errors import ConfigError
from braindecode_clip.simulate.scenes import Scene, SceneObject

SUPERSAMPLING = 4
SMALLEST_PX = 64

#: sRGB values of the object colours, 0 to 255.
COLOUR_RGB: dict[str, tuple[int, int, int]] = {
    "red": (216, 38, 44),
    "orange": (244, 132, 28),
    "yellow": (250, 214, 40),
    "green": (46, 160, 67),
    "turquoise": (38, 200, 196),
    "blue": (38, 92, 224),
    "purple": (126, 52, 178),
    "pink": (244, 130, 186),
}

#: sRGB values of the grounds: grey or dull, so that no object melts into them.
BACKGROUND_RGB: dict[str, tuple[int, int, int]] = {
    "white": (246, 246, 244),
    "grey": (146, 148, 150),
    "black": (24, 24, 26),
    "beige": (222, 204, 168),
    "navy": (28, 40, 84),
}

# Periods in shares of the picture's side.
_STRIPE_PERIOD = 0.085
_DOT_PERIOD = 0.085
_CHECK_SIDE = 0.052
_TILE_SIDE = 0.125
_SPECKLE_CELLS = 48
_OUTLINE = 0.012


def render(scene: Scene, *, size_px: int = SMALLEST_PX) -> Image.Image:
    """Draw a scene.

    Parameters
    ----------
    scene : Scene
        What to draw.
    size_px : int
        Side of the square picture in pixels, at least 64.

    Returns
    -------
    PIL.Image.Image
        RGB, ``size_px`` x ``size_px``; the same scene always gives the same pixels.

    Raises
    ------
    ConfigError
        If ``size_px`` is smaller than 64.
    """
    if size_px < SMALLEST_PX:
        raise ConfigError(
            f"size_px is {size_px}; scenes need at least {SMALLEST_PX} pixels a side. Raise it."
        )
    canvas_px = size_px * SUPERSAMPLING
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
    outer = _shape_mask(shape, side, inset=0.0)
    inner = _shape_mask(shape, side, inset=_OUTLINE * canvas_px)
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


def _shape_mask(shape: str, side: int, *, inset: float) -> Image.Image:
    """Return an 8-bit mask of a shape that fills the box, shrunk by ``inset`` pixels."""
    mask = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(mask)
    centre, radius = side / 2, side / 2 - 1
    if shape == "circle":
        r = 0.96 * radius - inset
        draw.ellipse((centre - r, centre - r, centre + r, centre + r), fill=255)
        return mask
    outline = _outline(shape)
    middle = outline.mean(axis=0)
    # Shrinking about the middle keeps the outline within the shape; exact enough at 1 px.
    scale = 1 - inset / (radius * _inner_radius(outline - middle))
    points = centre + radius * (middle + (outline - middle) * scale)
    draw.polygon([(float(px), float(py)) for px, py in points], fill=255)
    return mask


def _inner_radius(outline: np.ndarray) -> float:
    """Return the mean distance of the edges' lines from the origin."""
    step = np.roll(outline, -1, axis=0) - outline
    cross = outline[:, 0] * step[:, 1] - outline[:, 1] * step[:, 0]
    length = np.linalg.norm(step, axis=1)
    return float(np.average(np.abs(cross) / length, weights=length))


@lru_cache(maxsize=8)
def _outline(shape: str) -> np.ndarray:
    """Return the corners (n, 2) of a shape in the box from -1 to 1, ``y`` downwards."""
    if shape == "square":
        return 0.86 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], dtype=np.float64)
    if shape == "triangle":
        return np.array([(0, -0.95), (1, 0.85), (-1, 0.85)])
    if shape == "star":
        angle = -math.pi / 2 + np.arange(10) * math.pi / 5
        radius = np.where(np.arange(10) % 2 == 0, 1.0, 0.44)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle) + 0.05], axis=1)
    if shape == "cross":
        w = 0.34
        corners = [(-w, -1), (w, -1), (w, -w), (1, -w), (1, w), (w, w)]
        corners += [(w, 1), (-w, 1), (-w, w), (-1, w), (-1, -w), (-w, -w)]
        return 0.97 * np.array(corners)
    # Heart: two round lobes and a point, a classical parametric curve.
    t = np.linspace(0, 2 * math.pi, 96, endpoint=False)
    x = np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 16
    return np.stack([x, y - 0.06], axis=1)
