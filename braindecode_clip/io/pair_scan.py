"""Looking at every picture of a source: its content's hash, its size, whether it is whole."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from braindecode_clip.errors import DataError
from braindecode_clip.io.images import decode_rgb
from braindecode_clip.io.pair_source import PairSource


@dataclass(frozen=True)
class PictureFacts:
    """What was found out about one picture.

    Attributes
    ----------
    sha256 : str
        Of the file's bytes; "" where they cannot be read.
    width, height : int
        In pixels, as shown (upright); 0 where it cannot be decoded.
    error : str
        Why it cannot be decoded; "" for a whole picture.
    """

    sha256: str
    width: int = 0
    height: int = 0
    error: str = ""


def load_picture(source: PairSource, row: int, *, background: str = "white") -> Image.Image:
    """Return one picture as RGB.

    Raises
    ------
    DataError
        The reason alone why it cannot be had.
    """
    if source.pixels is not None:
        return Image.fromarray(source.pixels[row])
    return decode_rgb(source.read(row), background=background)


def look_at_pictures(source: PairSource, *, n_workers: int = 1) -> list[PictureFacts]:
    """Read and decode every picture once, in threads; in the order of the rows."""

    def look(row: int) -> PictureFacts:
        digest = content_digest(source, row)
        try:
            picture = load_picture(source, row)
        except DataError as error:
            return PictureFacts(digest, error=str(error))
        return PictureFacts(digest, picture.width, picture.height)

    with ThreadPoolExecutor(max(n_workers, 1)) as pool:
        return list(pool.map(look, range(len(source))))


def content_digests(source: PairSource, *, n_workers: int = 1) -> list[str]:
    """Return the sha256 of every picture's bytes; "" for those that cannot be read."""
    with ThreadPoolExecutor(max(n_workers, 1)) as pool:
        return list(pool.map(lambda row: content_digest(source, row), range(len(source))))


def content_digest(source: PairSource, row: int) -> str:
    """Return the sha256 of one picture's bytes; "" where they cannot be read."""
    if source.pixels is not None:
        return hashlib.sha256(source.pixels[row].tobytes()).hexdigest()
    try:
        return hashlib.sha256(source.read(row)).hexdigest()
    except DataError:
        return ""
