"""Preparing pictures as a processor of transformers does, with open_clip's transforms."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from braindecode_clip.checks import Problems, some
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.errors import DataError

open_clip = import_open_clip()

PREPROCESSOR_FILE = "preprocessor_config.json"
_INTERPOLATION = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
_PREPROCESSOR = {
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": list(open_clip.OPENAI_DATASET_MEAN),
    "image_std": list(open_clip.OPENAI_DATASET_STD),
}


def preprocess_config(directory: Path, image_size: int) -> dict[str, Any]:
    """Translate ``preprocessor_config.json`` into open_clip's preprocessing.

    Raises
    ------
    DataError
        The file is missing, or prescribes what open_clip does not do; all reasons are listed.
    """
    path = directory / PREPROCESSOR_FILE
    if not path.is_file():
        raise DataError(
            f"{directory}: no {PREPROCESSOR_FILE}, so how pictures are scaled and normalised is "
            "not known, and vectors would be wrong without any sign of it. Fetch the file from "
            "the model's source."
        )
    given = _PREPROCESSOR | read_config(path)
    problems = Problems(str(path))
    for key in ("do_resize", "do_rescale", "do_normalize"):
        if not given[key]:
            problems.add(f"{key} is false, expected true.")
    if abs(given["rescale_factor"] * 255 - 1) > 1e-6:
        problems.add(f"rescale_factor is {given['rescale_factor']}, expected 1/255.")
    if given["resample"] not in _INTERPOLATION:
        problems.add(f"resample is {given['resample']}, expected {some(_INTERPOLATION)}.")
    size, crop = _edges(given["size"]), _edges(given["crop_size"])
    squashed = isinstance(given["size"], dict) and "height" in given["size"]
    cropped = bool(given["do_center_crop"])
    if (cropped and crop != (image_size, image_size)) or size != (image_size, image_size):
        problems.add(
            f"size {given['size']} and crop_size {given['crop_size']}; both must be the "
            f"{image_size} pixels of the model."
        )
    if not squashed and not cropped:
        problems.add("do_center_crop is false while size names the shortest edge only.")
    problems.raise_if_any()
    return {
        "size": (image_size, image_size),
        "mode": "RGB",
        "mean": tuple(given["image_mean"]),
        "std": tuple(given["image_std"]),
        "interpolation": _INTERPOLATION[given["resample"]],
        "resize_mode": "squash" if squashed else "shortest",
        "fill_color": 0,
    }


class FloorCrop:
    """The middle of a picture; an odd margin leaves its smaller half at the top and left.

    As transformers does; torchvision rounds half a pixel to the even side, so that for some
    sizes of pictures it cuts one pixel further down or right.

    Parameters
    ----------
    size : tuple of int
        Height and width.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.height, self.width = size

    def __call__(self, image: Image.Image) -> Image.Image:
        """Cut the middle out of a picture that is at least as large."""
        left, top = (image.width - self.width) // 2, (image.height - self.height) // 2
        return image.crop((left, top, left + self.width, top + self.height))


def crop_as_transformers(preprocess: dict[str, Any]) -> Callable[[Image.Image], torch.Tensor]:
    """Return open_clip's evaluation transform with the crop of transformers."""
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from torchvision.transforms import CenterCrop

    transform = image_transform_v2(PreprocessCfg(**preprocess), is_train=False)
    size = preprocess["size"]
    transform.transforms = [
        FloorCrop(size) if isinstance(step, CenterCrop) else step for step in transform.transforms
    ]
    return transform


def _edges(size: Any) -> tuple[int, int]:
    if isinstance(size, dict):
        short = size.get("shortest_edge")
        return (short, short) if short else (size.get("height", 0), size.get("width", 0))
    return (int(size), int(size))


def read_config(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds a mapping; a damaged one is a :class:`DataError`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Fetch it from its source.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds no mapping. Fetch it from its source.")
    return content
