"""Pictures of any size as the uint8 arrays that training reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.config.clip import ClipRecipe

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
    config = open_clip.transform.PreprocessCfg(
        size=size,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        interpolation=recipe.preprocess.interpolation,
        resize_mode=recipe.preprocess.resize_mode,
    )
    transform = open_clip.transform.image_transform_v2(config, is_train=False)
    pixels = np.empty((len(images), size, size, 3), dtype=np.uint8)
    for row, image in enumerate(images):
        unit = transform(image).permute(1, 2, 0).numpy()
        pixels[row] = np.rint(255 * unit).astype(np.uint8)
    return pixels
