"""The outlines of the shapes, and masks of them, whatever style they are drawn in."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw


def shape_mask(shape: str, side: int, *, inset: float) -> Image.Image:
    """Return an 8-bit mask of a shape that fills the box, shrunk by ``inset`` pixels."""
    mask = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(mask)
    centre, radius = side / 2, side / 2 - 1
    if shape == "circle":
        r = 0.96 * radius - inset
        draw.ellipse((centre - r, centre - r, centre + r, centre + r), fill=255)
        return mask
    outline = corners(shape)
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
def corners(shape: str) -> np.ndarray:
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
