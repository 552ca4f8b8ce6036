"""Pictures of any size as the uint8 arrays that training reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from braindecode_clip.clip.pixels import Pixels
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.config.clip import ClipRecipe
from braindecode_clip.errors import ConfigError

open_clip = import_open_clip()


def resized_pictures(images: Sequence[Image.Image], recipe: ClipRecipe) -> np.ndarray:
    """Resize pictures as the trained model's own preprocessing will.

    Parameters
    ----------
    images : sequence of PIL images
        Any size and mode.
    recipe : ClipRecipe
        ``model.vision_cfg.image_size`` and ``preprocess`` say how.

    Returns
    -------
    ndarray (n, size, size, 3) uint8
        RGB; what the encoder's transform sees before it normalises.
    """
    size = recipe.model.vision_cfg["image_size"]
    prepare = preparation(recipe)
    pixels = np.empty((len(images), size, size, 3), dtype=np.uint8)
    for row, image in enumerate(images):
        pixels[row] = prepare(image)
    return pixels


def preparation(recipe: ClipRecipe) -> Callable[[Image.Image], np.ndarray]:
    """Return what turns a picture into uint8 pixels as the model's transform does.

    Returns
    -------
    callable
        PIL image to ndarray (size, size, 3) uint8; safe in threads.
    """
    config = open_clip.transform.PreprocessCfg(
        size=recipe.model.vision_cfg["image_size"],
        interpolation=recipe.preprocess.interpolation,
        resize_mode=recipe.preprocess.resize_mode,
    )
    pixels = Pixels(open_clip.transform.image_transform_v2(config, is_train=False))
    if not pixels.is_split:
        raise ConfigError("open_clip's transform has another form than this version knows.")
    return pixels.prepare
