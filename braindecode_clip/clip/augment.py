"""Random changes of training pictures; what is drawn depends on seeds and numbers alone."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

#: Aspect ratios of a random cut, as in open_clip's (torchvision's) training transform.
RATIOS = (3 / 4, 4 / 3)
_TRIES = 10
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def drawn_shifts(n: int, max_shift_px: int, rng: np.random.Generator) -> np.ndarray:
    """Draw moves of ``n`` pictures by up to ``max_shift_px`` in y and x, (2, n) int64."""
    return rng.integers(-max_shift_px, max_shift_px + 1, size=(2, n))


def shifted(images: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Move each picture, repeating its edge pixels.

    Parameters
    ----------
    images : ndarray (n, height, width, 3) uint8
    shifts : ndarray (2, n) int64
        Moves in y and x, pixels.
    """
    n, height, width = images.shape[:3]
    dy, dx = shifts
    y = np.clip(np.arange(height)[None, :] + dy[:, None], 0, height - 1)
    x = np.clip(np.arange(width)[None, :] + dx[:, None], 0, width - 1)
    return images[np.arange(n)[:, None, None], y[:, :, None], x[:, None, :]]


def crop_box(
    size: tuple[int, int], scale: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draw the box of a random cut.

    Area uniform in ``scale``, logarithm of the aspect ratio uniform in :data:`RATIOS`; after
    ten boxes that do not fit, the largest centred box of an allowed ratio (Szegedy et al. 2015,
    section 6, in the form of torchvision's RandomResizedCrop).

    Parameters
    ----------
    size : tuple of int
        Width and height of the picture.
    scale : tuple of float
        Smallest and largest share of its area.
    rng : Generator

    Returns
    -------
    tuple of int
        Left, top, right, bottom.
    """
    width, height = size
    for _ in range(_TRIES):
        area = width * height * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(RATIOS[0]), math.log(RATIOS[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left = int(rng.integers(width - w + 1))
            top = int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    ratio = min(max(width / height, RATIOS[0]), RATIOS[1])
    w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + max(w, 1), top + max(h, 1)


def random_cut(
    picture: Image.Image,
    side_px: int,
    *,
    scale: tuple[float, float],
    interpolation: str,
    rng: np.random.Generator,
) -> np.ndarray:
    """Cut a random box out of a picture and resize it to (side_px, side_px, 3) uint8."""
    cut = picture.crop(crop_box(picture.size, scale, rng))
    return np.array(cut.resize((side_px, side_px), _RESAMPLING[interpolation]))
