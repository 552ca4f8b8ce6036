"""Captioned drawings of Debian packages: Tux Paint's stamps and the Open Clip Art Library."""

from __future__ import annotations

import hashlib
import math
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageChops

from braindecode_clip.errors import DataError
from braindecode_clip.io.images import decode_rgb

#: Where the packages `tuxpaint-stamps-default`, `openclipart-png`, `openclipart-svg` install.
STAMPS = Path("/usr/share/tuxpaint/stamps")
CLIPART = Path("/usr/share/openclipart")
#: Larger pictures, posters for print, are not decoded.
MOST_PIXELS = 16_000_000
#: Side of the pictures by which near duplicates are found.
THUMBNAIL_PX = 24

_COLUMNS = ("image", "folder", "stem", "title", "description", "keywords", "missing")
_DC = "{http://purl.org/dc/elements/1.1/}"
# Fainter than this (of 255) is paper: soft shadows would move the frame of a drawing.
_PAPER = 12


def read_stamps(directory: str | Path) -> pd.DataFrame:
    """List the stamps of Tux Paint: pictures with a text file of their name.

    Parameters
    ----------
    directory : path
        ``stamps`` of the package `tuxpaint-stamps-default`.

    Returns
    -------
    DataFrame
        A row for each text file, by path: image (absolute), folder and stem (below the
        directory), title (the first line, which is English), description (""), keywords
        (an empty tuple), and missing: "" or why there is no picture to read.

    Raises
    ------
    DataError
        No such folder, or no stamp in it.
    """
    root = Path(directory)
    texts = sorted(root.rglob("*.txt")) if root.is_dir() else []
    if not texts:
        raise DataError(_absent(root, "stamps of Tux Paint", ["tuxpaint-stamps-default"]))
    rows = []
    for text in texts:
        lines = text.read_text(encoding="utf-8", errors="replace").splitlines()
        title = lines[0].strip() if lines else ""
        missing = ""
        if not text.with_suffix(".png").is_file():
            is_drawn = text.with_suffix(".svg").is_file()
            missing = "vector drawing alone, no PNG" if is_drawn else "no picture"
        rows.append((*_place(text.with_suffix(".png"), root), title, "", (), missing))
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def read_clipart(directory: str | Path) -> pd.DataFrame:
    """List Open Clip Art: PNG pictures, with the metadata of the SVG files they were drawn from.

    Parameters
    ----------
    directory : path
        Holds ``png`` (package `openclipart-png`) and ``svg`` (`openclipart-svg`).

    Returns
    -------
    DataFrame
        As of :func:`read_stamps`; symbolic links, which give one picture a second folder, are
        left out. Title, description and keywords as their authors wrote them.

    Raises
    ------
    DataError
        One of the two folders is not there, or holds no picture.
    """
    root = Path(directory)
    pictures = sorted(path for path in (root / "png").rglob("*.png") if not path.is_symlink())
    if not pictures or not (root / "svg").is_dir():
        raise DataError(_absent(root, "Open Clip Art", ["openclipart-png", "openclipart-svg"]))
    rows = []
    for picture in pictures:
        place = _place(picture, root / "png")
        drawing = (root / "svg" / picture.relative_to(root / "png")).with_suffix(".svg")
        rows.append((*place, *_metadata(drawing)))
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def look_at_drawings(
    paths: Sequence[str | Path | None], *, n_workers: int = 1
) -> tuple[list[str], np.ndarray]:
    """Decode drawings on white paper, and reduce them to what tells two of them apart.

    Parameters
    ----------
    paths : sequence of path or None (n,)
        None is passed over, as a picture that cannot be decoded.
    n_workers : int
        Threads.

    Returns
    -------
    digests : list of str (n,)
        sha256 of size and pixels; "" for a picture that cannot be decoded, or that has more
        than :data:`MOST_PIXELS`.
    thumbnails : ndarray (n, 3 * side ** 2) float32
        RGB of the part that is not paper, side :data:`THUMBNAIL_PX`, mean 0, norm 1: the product
        of two is the correlation of their pixels. Zeros for a blank or unreadable picture.
    """

    def look(path: str | Path) -> tuple[str, np.ndarray]:
        try:
            picture = decode_rgb(Path(path).read_bytes())
        except (DataError, OSError):
            return blank
        content = repr(picture.size).encode() + picture.tobytes()
        return hashlib.sha256(content).hexdigest(), _thumbnail(picture)

    blank = "", np.zeros(3 * THUMBNAIL_PX**2, dtype=np.float32)
    small = [path for path in paths if path and _n_pixels(path) <= MOST_PIXELS]
    with ThreadPoolExecutor(max(n_workers, 1)) as pool:
        found = dict(zip(small, pool.map(look, small), strict=True))
    seen = [found.get(path, blank) for path in paths]
    thumbnails = np.array([own for _, own in seen], np.float32).reshape(len(seen), len(blank[1]))
    return [digest for digest, _ in seen], thumbnails


def mirrored(thumbnails: np.ndarray) -> np.ndarray:
    """Return thumbnails (n, 3 * side ** 2) with left and right exchanged."""
    pixels = thumbnails.reshape(-1, THUMBNAIL_PX, THUMBNAIL_PX, 3)
    return np.ascontiguousarray(pixels[:, :, ::-1]).reshape(thumbnails.shape)


def _n_pixels(path: str | Path) -> float:
    """Return width times height of a picture file; infinite where there is none."""
    # Not in threads: filters of warnings belong to the whole process.
    with warnings.catch_warnings():
        # Pillow warns of large pictures, which are passed over.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as picture:
                return picture.width * picture.height
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return math.inf


def _thumbnail(picture: Image.Image) -> np.ndarray:
    paper = Image.new("RGB", picture.size, "white")
    ink = ImageChops.difference(picture, paper).convert("L").point(lambda v: 255 * (v > _PAPER))
    small = picture.crop(ink.getbbox()).resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX)
    pixels = np.asarray(small, dtype=np.float32).ravel()
    pixels = pixels - pixels.mean()
    norm = float(np.linalg.norm(pixels))
    return pixels / norm if norm > 0 else pixels


def _metadata(drawing: Path) -> tuple[str, str, tuple[str, ...], str]:
    """Return title, description, keywords and "" or what is wrong with an SVG file."""
    if not drawing.is_file():
        return "", "", (), "no SVG with its title"
    try:
        work = ElementTree.parse(drawing).getroot().find(".//{*}Work")
    except ElementTree.ParseError:
        return "", "", (), "damaged SVG"
    if work is None:
        return "", "", (), ""
    keywords = (_words(item.text) for item in work.findall(f"{_DC}subject//{{*}}li"))
    title, description = (_words(work.findtext(_DC + name)) for name in ("title", "description"))
    return title, description, tuple(filter(None, keywords)), ""


def _words(text: str | None) -> str:
    return " ".join((text or "").split())


def _place(picture: Path, root: Path) -> tuple[str, str, str]:
    return str(picture.resolve()), picture.parent.relative_to(root).as_posix(), picture.stem


def _absent(root: Path, what: str, packages: Sequence[str]) -> str:
    fetch = " && ".join(
        [f"apt-get download {' '.join(packages)}"]
        + [f"dpkg-deb -x {package}_*.deb drawings" for package in packages]
    )
    below = "tuxpaint/stamps" if "stamps" in what else "openclipart"
    return (
        f"{root}: holds no {what}. Install Debian's {' and '.join(packages)}, or unpack without "
        f"installing: `{fetch}`, and name drawings/usr/share/{below}."
    )
