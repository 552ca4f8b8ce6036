"""Scenes as line drawings: coloured pencil on white paper, in a frame of the ground's colour.

Everything a caption says is in the drawing: the stroke has the object's colour, hatching
inside the outline is its texture, thin grey lines on the paper are the kind of the ground,
and the frame has the ground's colour. Nothing else is as in the filled style, so that a
model of filled scenes meets a new look with the same contents.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops

from braindecode_clip.simulate.palette import BACKGROUND_RGB, COLOUR_RGB
from braindecode_clip.simulate.scenes import Scene
from braindecode_clip.simulate.shapes import shape_mask

PAPER_RGB = (250, 250, 250)
GRAPHITE_RGB = (176, 176, 180)

# Widths and distances in shares of the picture's side.
_STROKE = 0.02
_HATCH = 0.014
_FRAME = 0.03
_STRIPE_DISTANCE = 0.06
_DOT_DISTANCE = 0.08
_CHECK_DISTANCE = 0.07
_TILE_SIDE = 0.125
_SHADING_LINES = 16
_SPECKLE_CELLS = 48


def draw_lines(scene: Scene, canvas_px: int) -> Image.Image:
    """Draw a scene in lines.

    Parameters
    ----------
    scene : Scene
        What to draw.
    canvas_px : int
        Side of the square canvas in pixels; lines are not anti-aliased.

    Returns
    -------
    PIL.Image.Image
        RGB, ``canvas_px`` x ``canvas_px``; the same scene always gives the same pixels.
    """
    paper = _paper(scene.background, canvas_px)
    if scene.background == "speckled":
        # By the place of the first object: the grain differs from picture to picture.
        first = scene.objects[0]
        paper = ImageChops.offset(paper, round(first.x * canvas_px), round(first.y * canvas_px))
    canvas = Image.new("RGB", (canvas_px, canvas_px), BACKGROUND_RGB[scene.background_colour])
    edge = round(_FRAME * canvas_px)
    inside = (edge, edge, canvas_px - edge, canvas_px - edge)
    canvas.paste(paper.crop(inside), inside)
    for item in scene.objects:
        side = round(2 * item.radius * canvas_px)
        drawn, mask = _drawn_object(item.shape, item.colour, item.texture, side, canvas_px)
        left = round(item.x * canvas_px - side / 2)
        top = round(item.y * canvas_px - side / 2)
        canvas.paste(drawn, (left, top), mask)
    return canvas


@lru_cache(maxsize=16)
def _paper(kind: str, canvas_px: int) -> Image.Image:
    """Return paper with the marks of a kind of ground, without frame."""
    place = (np.arange(canvas_px) + 0.5) / canvas_px
    marks = np.zeros((canvas_px, canvas_px), dtype=bool)
    if kind == "shaded":
        # Horizontal lines, ever closer downwards.
        lines = np.sqrt((np.arange(_SHADING_LINES) + 0.5) / _SHADING_LINES)
        marks |= (np.abs(place[:, None] - lines[None, :]) < _HATCH / 2).any(axis=1)[:, None]
    elif kind == "tiled":
        line = np.abs(np.mod(place + _TILE_SIDE / 2, _TILE_SIDE) - _TILE_SIDE / 2) < _HATCH / 2
        marks |= line[:, None] | line[None, :]
    elif kind == "speckled":
        # A fixed grain: it belongs to the ground, not to chance.
        grain = np.random.default_rng(21).random((_SPECKLE_CELLS, _SPECKLE_CELLS)) > 0.8
        cell = np.floor(place * _SPECKLE_CELLS).astype(int)
        marks |= grain[np.ix_(cell, cell)]
    return _inked(marks, GRAPHITE_RGB)


@lru_cache(maxsize=1024)
def _drawn_object(
    shape: str, colour: str, texture: str, side: int, canvas_px: int
) -> tuple[Image.Image, Image.Image]:
    """Return the picture of one object and its mask, both ``side`` x ``side``."""
    drawn = Image.new("RGB", (side, side), COLOUR_RGB[colour])
    hatching = _inked(_hatching(texture, side, canvas_px), COLOUR_RGB[colour])
    drawn.paste(hatching, (0, 0), shape_mask(shape, side, inset=_STROKE * canvas_px))
    return drawn, shape_mask(shape, side, inset=0.0)


def _hatching(texture: str, side: int, canvas_px: int) -> np.ndarray:
    """Return where strokes stand inside an object, (side, side) bool."""
    place = (np.arange(side) + 0.5 - side / 2) / canvas_px
    x, y = np.meshgrid(place, place)
    if texture == "striped":
        return _distance((x + y) / math.sqrt(2), _STRIPE_DISTANCE) < _HATCH / 2
    if texture == "dotted":
        apart = np.hypot(_distance(x, _DOT_DISTANCE), _distance(y, _DOT_DISTANCE))
        return apart < 0.25 * _DOT_DISTANCE
    if texture == "checked":
        lines = np.minimum(_distance(x, _CHECK_DISTANCE), _distance(y, _CHECK_DISTANCE))
        return lines < _HATCH / 2
    return np.zeros((side, side), dtype=bool)


def _distance(place: np.ndarray, period: float) -> np.ndarray:
    """Return the distance to the nearest multiple of ``period``."""
    return np.abs(place - period * np.rint(place / period))


def _inked(marks: np.ndarray, rgb: tuple[int, int, int]) -> Image.Image:
    """Return white paper with marks of one colour."""
    pixels = np.where(marks[:, :, None], rgb, PAPER_RGB).astype(np.uint8)
    return Image.fromarray(pixels)
