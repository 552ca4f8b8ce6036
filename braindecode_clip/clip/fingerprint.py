"""What an encoder's vectors depend on, as a record that travels with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from braindecode_clip.clip.parts import (
    Parts,
    activations,
    library_versions,
    precision,
    tokenizer_record,
    weights_sha256,
)

#: Values of each probe's unit vector that are kept, and their decimals.
N_VALUES, DECIMALS = 16, 5
PROBE_TEXTS = ("a photo of a dog", "two red circles left of a square", "an empty street at night")


def make_fingerprint(
    parts: Parts, encode: Callable[[Sequence[Any]], np.ndarray], *, unit_norm: bool
) -> dict[str, Any]:
    """Collect everything that two encoders must share for their vectors to be comparable.

    Parameters
    ----------
    parts : Parts
    encode : callable
        Probes to vectors (3, n_dims): of pictures, or of texts where there is no image tower.
    unit_norm : bool
        Whether vectors are divided by their norm.

    Returns
    -------
    dict
        JSON-able. ``name`` and ``tag``; ``weights_sha256`` of the files; ``preprocessing``;
        ``quick_gelu`` as the config has it and ``activation`` as the modules have it;
        ``precision`` of the weights; ``tokenizer``; ``unit_norm``; ``n_dims``; ``libraries``
        with versions; ``probe``: the first values of the unit vectors of three probes. The
        probes tell what no record does, such as another code path; they are compared with a
        tolerance (:func:`braindecode_clip.checks.differences`), for machines round differently.
    """
    probes = probe_pictures() if parts.preprocess is not None else PROBE_TEXTS
    vectors = encode(probes).astype(np.float64)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return {
        "name": parts.name,
        "tag": parts.tag,
        "weights_sha256": weights_sha256(parts.files),
        "preprocessing": parts.preprocessing,
        "quick_gelu": parts.quick_gelu,
        "activation": activations(parts.model),
        "precision": precision(parts.model),
        "tokenizer": tokenizer_record(parts.tokenize),
        "unit_norm": unit_norm,
        "n_dims": parts.n_dims,
        "libraries": library_versions(parts.libraries),
        "probe": [[round(float(v), DECIMALS) + 0.0 for v in row[:N_VALUES]] for row in vectors],
    }


def probe_pictures() -> list[Image.Image]:
    """Return three fixed pictures: square with edges and all hues, wide, and tall.

    The wide and the tall one tell resize modes apart, and what is cut off.
    """
    return [_picture(96, 96), _picture(160, 70), _picture(50, 130)]


def _picture(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    checks = 255 * ((x // 8 + y // 8) % 2)
    pixels = np.stack([255 * x // (width - 1), 255 * y // (height - 1), checks], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))
