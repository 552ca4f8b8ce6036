"""Pictures: PNG out, any format that Pillow knows in."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from braindecode_clip.checks import Problems, some
from braindecode_clip.errors import DataError
from braindecode_clip.io.atomic import atomic_path

#: EXIF tag of how a camera was held.
_ORIENTATION = 0x0112


def write_png(path: str | Path, picture: Image.Image) -> None:
    """Write a picture as PNG in one step."""
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")


def read_picture(path: str | Path) -> Image.Image:
    """Read a picture as RGB; a missing or damaged file is a :class:`DataError`.

    What is transparent becomes white.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: no such picture.")
    try:
        with Image.open(path) as picture:
            return opaque(picture)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f"{path}: is no readable picture ({error}). Fetch or write it again."
        ) from error


def opaque(picture: Image.Image, *, background: str = "white") -> Image.Image:
    """Return a picture as RGB, upright, as a viewer shows it.

    The orientation that a camera noted (EXIF) is applied; greyscale of 16 bits is scaled to 8
    (Pillow alone would cut it off at 255); what is transparent becomes ``background``, and not
    what it hides. CMYK is converted without a colour profile, as Pillow does.
    """
    picture = ImageOps.exif_transpose(picture) or picture
    if picture.mode.startswith("I;16"):
        deep = np.asarray(picture).astype(np.uint16)
        picture = Image.fromarray((deep >> 8).astype(np.uint8))
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, background), layer).convert("RGB")


def picture_source(
    picture: str | Path | Image.Image,
) -> tuple[str, Callable[[], Image.Image]]:
    """Return what names a picture's content, and what decodes it.

    A file is read once, at the call, and decoded only if the decoder is called. Safe in
    threads: Pillow lets other threads run while it decodes.

    Returns
    -------
    str
        sha256, as hex, of a file's bytes, or of an open picture's size and RGB pixels.
    callable
        Returns the picture as RGB; raises :class:`DataError` with the reason where the
        content is no whole picture.

    Raises
    ------
    DataError
        There is no such file, or it cannot be read.
    """
    if isinstance(picture, Image.Image):
        rgb = opaque(picture)
        return hashlib.sha256(repr(rgb.size).encode() + rgb.tobytes()).hexdigest(), lambda: rgb
    try:
        content = Path(picture).read_bytes()
    except FileNotFoundError as error:
        raise DataError("no such file") from error
    except OSError as error:
        raise DataError(error.strerror or str(error)) from error
    return hashlib.sha256(content).hexdigest(), lambda: decode_rgb(content)


def decode_rgb(content: bytes, *, background: str = "white") -> Image.Image:
    """Decode the bytes of a picture file, in full, as RGB; see :func:`opaque`.

    Raises
    ------
    DataError
        The content is empty, no picture, cut off or damaged; the message is the reason alone.
    """
    if not content:
        raise DataError("the file is empty")
    try:
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
            # "opaque" would copy a picture that is RGB already.
            is_plain = picture.mode == "RGB" and not picture.has_transparency_data
            is_plain = is_plain and picture.getexif().get(_ORIENTATION, 1) == 1
            return picture if is_plain else opaque(picture, background=background)
    except UnidentifiedImageError as error:
        raise DataError("is no picture of a known format") from error
    except Exception as error:
        # Pillow's decoders raise a dozen types on damaged files, struct.error among them.
        raise DataError(f"cannot be decoded ({type(error).__name__}: {error})") from error


def read_rgb(paths: Sequence[str | Path]) -> np.ndarray:
    """Read pictures of one size into an array (n, height, width, 3) uint8.

    Raises
    ------
    DataError
        No picture, or pictures that are missing, damaged or of different sizes; all
        missing ones at once.
    """
    if not paths:
        raise DataError("no pictures to read.")
    problems = Problems("pictures")
    missing = [str(path) for path in paths if not Path(path).is_file()]
    if missing:
        problems.add(f"{len(missing)} of {len(paths)} are missing: {some(missing)}.")
    problems.raise_if_any()
    pixels = [np.asarray(read_picture(path)) for path in paths]
    other = [str(p) for p, a in zip(paths, pixels, strict=True) if a.shape != pixels[0].shape]
    if other:
        problems.add(
            f"{paths[0]} has {pixels[0].shape[1]} x {pixels[0].shape[0]} pixels, {some(other)} "
            "another size. Make them equal."
        )
    problems.raise_if_any()
    return np.stack(pixels)
