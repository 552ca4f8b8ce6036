"""Do two collections of pictures share any? Same file, same pixels, near duplicates, captions.

A picture's look is its luminance on an 8 x 8 grid and its two colour differences (YCbCr) on a
4 x 4 grid, each cell the mean of its part of the picture (whatever the aspect ratio), and for
details its luminance on a 16 x 16 grid. Two pictures are near duplicates when

- no cell differs by more than :data:`MAX_DIFFERENCE` grey levels of 255,
- the looks, each channel less its mean, correlate by :data:`MIN_CORRELATION` at least, so that
  pictures with hardly any contrast do not all look alike, and
- details correlate by :data:`MIN_LOCAL` at least in every window of 4 x 4 of their cells that has
  contrast in either picture, so that thin drawings on the same ground are told apart.

Re-encoding and rescaling change these by little. Of 300 scenes of 64 x 64 pixels against 12,000
others no pair passed the first two (nearest: 12 levels); of 3,000 line drawings among themselves,
4.5 million pairs, 5 came within 8 levels (thin outlines on the same pattern), and none passed the
third. All copies of 300 line drawings as JPEG of quality 30 and better, or at twice the size, were
found; of copies of quality 75 at half the side (32 pixels) 13 were missed. A perceptual hash (63
bits of the cosine transform) does not tell these apart: nearest other scenes differ by 0 to 14
bits, copies by up to 10. Copies that are cropped, rotated, or made brighter by more than the
threshold are not found.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

#: Cells on a side: of luminance, of each colour difference, of details.
GRID, COLOUR_GRID, DETAIL_GRID = 8, 4, 16
N_CELLS = GRID**2 + 2 * COLOUR_GRID**2
#: Largest difference of a cell, in grey levels of 255, and least correlation, of near duplicates.
MAX_DIFFERENCE, MIN_CORRELATION = 10.0, 0.9
#: Least correlation within a window of details, its side and step in cells, and the standard
#: deviation in grey levels from which it has contrast.
MIN_LOCAL, WINDOW, WINDOW_STEP, CONTRAST = 0.7, 4, 2, 6.0
#: Looks compared at a time with all of the other collection, and pairs compared at a time.
ROWS_AT_ONCE, PAIRS_AT_ONCE = 2048, 2**24

_NOT_WORDS = re.compile(r"[^\w]+")
_CHANNELS = (
    slice(0, GRID**2),
    slice(GRID**2, GRID**2 + COLOUR_GRID**2),
    slice(GRID**2 + COLOUR_GRID**2, N_CELLS),
)


@dataclass(frozen=True)
class Looks:
    """What is known of the pictures of a collection.

    Attributes
    ----------
    names : tuple of str (n,)
    files, pixels : tuple of str (n,)
        sha256 (hex) of the file's bytes, and of size and RGB values; "" for a picture that cannot
        be read.
    cells : ndarray (n, 96) float32
        Grey levels; NaN for a picture that cannot be read.
    details : ndarray (n, 256) float32
        The same.
    """

    names: tuple[str, ...]
    files: tuple[str, ...]
    pixels: tuple[str, ...]
    cells: np.ndarray
    details: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    @property
    def is_known(self) -> np.ndarray:
        """Which pictures could be read (n,) bool."""
        return ~np.isnan(self.cells).any(axis=1)

    def mirrored(self) -> Looks:
        """Return what the pictures look like turned left to right."""
        sides = (GRID, COLOUR_GRID, COLOUR_GRID)
        parts = [
            _turned(self.cells[:, channel], side)
            for channel, side in zip(_CHANNELS, sides, strict=True)
        ]
        details = _turned(self.details, DETAIL_GRID)
        return replace(self, cells=np.concatenate(parts, axis=1), details=details)

    def digest(self) -> str:
        """Return the sha256 of the sorted pixel hashes: which pictures these are."""
        return hashlib.sha256("\n".join(sorted(self.pixels)).encode()).hexdigest()


@dataclass(frozen=True)
class Overlap:
    """Pictures that two collections share; positions in the first and in the second.

    Attributes
    ----------
    same_file, same_pixels, near, mirrored : tuple of (int, int)
        Each pair of pictures in the first of them that holds; "mirrored" holds near duplicates of
        a picture turned left to right.
    nearest : ndarray (n_second,) float64
        For each picture of the second, the smallest over the first of the largest difference of a
        cell, among those that correlate by :data:`MIN_CORRELATION`; infinite where none does.
    """

    same_file: tuple[tuple[int, int], ...]
    same_pixels: tuple[tuple[int, int], ...]
    near: tuple[tuple[int, int], ...]
    mirrored: tuple[tuple[int, int], ...]
    nearest: np.ndarray

    @property
    def shared(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """What counts as the same picture, by how it was found."""
        return {
            "same file": self.same_file,
            "same pixels": self.same_pixels,
            "near duplicate": self.near,
        }


def cells_of(picture: Image.Image) -> np.ndarray:
    """Return the look of a picture, (96,) float32 in grey levels."""
    parts = []
    sides = (GRID, COLOUR_GRID, COLOUR_GRID)
    for channel, side in zip(picture.convert("YCbCr").split(), sides, strict=True):
        small = channel.resize((side, side), Image.Resampling.BOX)
        parts.append(np.asarray(small, dtype=np.float32).ravel())
    return np.concatenate(parts)


def pixel_digest(picture: Image.Image) -> str:
    """Return the sha256 (hex) of a picture's size and RGB values."""
    rgb = picture.convert("RGB")
    return hashlib.sha256(repr(rgb.size).encode() + rgb.tobytes()).hexdigest()


def look_at(picture: Image.Image) -> tuple[str, np.ndarray, np.ndarray]:
    """Return pixel digest, cells (96,) and details (256,) of a picture."""
    small = picture.convert("L").resize((DETAIL_GRID, DETAIL_GRID), Image.Resampling.BOX)
    details = np.asarray(small, dtype=np.float32).ravel()
    return pixel_digest(picture), cells_of(picture), details


def local_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the smallest correlation of details in a window, for each pair of pictures.

    Parameters
    ----------
    first, second : ndarray (n, 256)

    Returns
    -------
    ndarray (n,) float64
        1 where no window has contrast; 0 for a window that is flat in one picture alone.
    """
    found = np.ones(len(first))
    for start in range(0, len(first), 2**12):
        part = slice(start, start + 2**12)
        sides = [_windows(own[part]) for own in (first, second)]
        a, b = (own - own.mean(axis=-1, keepdims=True) for own in sides)
        lengths = [np.sqrt((own**2).sum(axis=-1)) for own in (a, b)]
        has_contrast = np.maximum(*lengths) >= CONTRAST * WINDOW
        product = lengths[0] * lengths[1]
        correlation = (a * b).sum(axis=-1) / np.where(product > 0, product, 1.0)
        found[part] = np.where(has_contrast, correlation, 1.0).min(axis=1)
    return found


def _windows(details: np.ndarray) -> np.ndarray:
    """Return all windows of details (n, n_windows, 16) float64."""
    grid = details.astype(np.float64).reshape(-1, DETAIL_GRID, DETAIL_GRID)
    views = np.lib.stride_tricks.sliding_window_view(grid, (WINDOW, WINDOW), axis=(1, 2))
    views = views[:, ::WINDOW_STEP, ::WINDOW_STEP]
    return views.reshape(len(grid), -1, WINDOW**2)


def _turned(cells: np.ndarray, side: int) -> np.ndarray:
    return cells.reshape(-1, side, side)[:, :, ::-1].reshape(-1, side**2)


def overlap(first: Looks, second: Looks) -> Overlap:
    """Find the pictures that two collections share.

    Parameters
    ----------
    first, second : Looks
        Every pair is compared, in memory for :data:`PAIRS_AT_ONCE` of them at a time.

    Returns
    -------
    Overlap
    """
    same_file = _equal(first.files, second.files)
    same_pixels = _equal(first.pixels, second.pixels, known=set(same_file))
    near: list[tuple[int, int]] = []
    mirrored: list[tuple[int, int]] = []
    nearest = np.full(len(second), np.inf)
    sides = ((second, near), (second.mirrored(), mirrored))
    prepared = [_directions(other.cells) for other, _ in sides]
    step = max(1, min(ROWS_AT_ONCE, PAIRS_AT_ONCE // max(1, len(second))))
    for start in range(0, len(first), step):
        rows_of = slice(start, start + step)
        directions = _directions(first.cells[rows_of])
        for (other, found), others in zip(sides, prepared, strict=True):
            rows, columns = _correlated(directions, others)
            difference = _differences(first.cells[rows_of], other.cells, rows, columns)
            if other is second:
                np.minimum.at(nearest, columns, difference)
            close = difference <= MAX_DIFFERENCE
            rows, columns = rows[close] + start, columns[close]
            alike = local_correlation(first.details[rows], other.details[columns]) >= MIN_LOCAL
            found += zip(rows[alike].tolist(), columns[alike].tolist(), strict=True)
    known = {*same_file, *same_pixels}
    near = [pair for pair in near if pair not in known]
    known |= set(near)
    mirrored = [pair for pair in mirrored if pair not in known]
    return Overlap(same_file, same_pixels, tuple(near), tuple(mirrored), nearest)


def _directions(cells: np.ndarray) -> np.ndarray:
    """Return looks of unit length, each channel less its mean; NaN for flat and unread ones."""
    centred = cells.astype(np.float64)
    for channel in _CHANNELS:
        centred[:, channel] -= centred[:, channel].mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    # Rounding of a flat picture is no contrast.
    is_flat = ~(lengths > 1e-3)
    return np.where(is_flat, np.nan, centred / np.where(is_flat, 1.0, lengths))


def _correlated(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the pairs that correlate."""
    with np.errstate(invalid="ignore"):
        return np.nonzero(first @ second.T >= MIN_CORRELATION)


def _differences(
    first: np.ndarray, second: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Return the largest difference of a cell of each pair (n_pairs,)."""
    difference = np.empty(len(rows))
    for start in range(0, len(rows), 2**16):
        part = slice(start, start + 2**16)
        difference[part] = np.abs(first[rows[part]] - second[columns[part]]).max(axis=1)
    return difference


def _equal(
    first: Sequence[str], second: Sequence[str], known: set[tuple[int, int]] | None = None
) -> tuple[tuple[int, int], ...]:
    places: dict[str, list[int]] = {}
    for row, value in enumerate(second):
        if value:
            places.setdefault(value, []).append(row)
    found = [(i, j) for i, value in enumerate(first) for j in places.get(value, ())]
    return tuple(pair for pair in found if not known or pair not in known)


def normalised_caption(text: str) -> str:
    """Return a caption in lower case, its words separated by single blanks, without punctuation."""
    return _NOT_WORDS.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def shared_captions(first: Iterable[Iterable[str]], second: Iterable[Iterable[str]]) -> list[str]:
    """Return the normalised captions that both have, sorted."""
    sets = [{normalised_caption(c) for own in part for c in own} - {""} for part in (first, second)]
    return sorted(sets[0] & sets[1])
