"""Stimulus pictures as small data URIs, each embedded once."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from braindecode_clip.checks import Problems
from braindecode_clip.io.images import opaque
from braindecode_clip.logs import get_logger

log = get_logger(__name__)
SMALLEST_PX = 32
_JPEG_QUALITY = 86


@dataclass(frozen=True)
class Picture:
    """One embedded picture.

    Attributes
    ----------
    symbol : str
        Its id on the page.
    uri : str
        ``data:`` URI with the pixels.
    width, height : int
        Pixels.
    """

    symbol: str
    uri: str
    width: int
    height: int


def embed_pictures(
    paths: Mapping[str, Path | Image.Image], *, longer_side_px: int, budget_mb: float
) -> dict[str, Picture]:
    """Read pictures, make them small, and encode each once.

    Parameters
    ----------
    paths : mapping of str to Path or PIL image
        Stimulus id to file or picture.
    longer_side_px : int
        Pictures are reduced to this size, never enlarged.
    budget_mb : float
        Most that all may take together; the size is reduced until they fit.

    Returns
    -------
    dict of str to Picture

    Raises
    ------
    DataError
        Files that are missing or hold no picture, all in one message.
    """
    problems = Problems("report")
    originals: dict[str, Image.Image] = {}
    for name, path in paths.items():
        try:
            originals[name] = open_small(path, longer_side_px)
        except FileNotFoundError:
            problems.add(f"{path}: the picture of stimulus '{name}' is missing.")
        except (UnidentifiedImageError, OSError) as error:
            problems.add(f"{path}: the picture of stimulus '{name}' cannot be read ({error}).")
    problems.raise_if_any()

    size = longer_side_px
    while True:
        encoded = {name: _encode(image, size) for name, image in originals.items()}
        total_mb = sum(len(uri) for uri, _ in encoded.values()) / 1e6
        if total_mb <= budget_mb or size <= SMALLEST_PX:
            break
        size = max(SMALLEST_PX, int(size * 0.8))
    if size < longer_side_px:
        log.info("report: pictures reduced to %d px to stay within %.1f MB", size, budget_mb)
    return {
        name: Picture(f"picture-{position}", uri, *shape)
        for position, (name, (uri, shape)) in enumerate(encoded.items())
    }


def open_small(picture: Path | Image.Image, longer_side_px: int) -> Image.Image:
    """Return a picture as RGB, reduced to ``longer_side_px``; what is transparent is white.

    Raises
    ------
    OSError
        The file is missing, cut off, or no picture.
    """
    if isinstance(picture, Image.Image):
        image = picture.copy()
    else:
        with Image.open(picture) as image:
            image.load()
    image.thumbnail((longer_side_px, longer_side_px), Image.Resampling.LANCZOS)
    return opaque(image)


def _encode(image: Image.Image, longer_side_px: int) -> tuple[str, tuple[int, int]]:
    """Return the smaller of PNG (drawings) and JPEG (photographs)."""
    small = image.copy()
    small.thumbnail((longer_side_px, longer_side_px), Image.Resampling.LANCZOS)
    png, jpeg = io.BytesIO(), io.BytesIO()
    small.save(png, format="PNG", optimize=True)
    small.save(jpeg, format="JPEG", quality=_JPEG_QUALITY)
    # Without loss where it costs little.
    if png.tell() <= 2 * jpeg.tell():
        kind, payload = "png", png.getvalue()
    else:
        kind, payload = "jpeg", jpeg.getvalue()
    text = base64.b64encode(payload).decode("ascii")
    return f"data:image/{kind};base64,{text}", small.size
