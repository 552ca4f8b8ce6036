"""Do two collections of pictures share any? Same file, same pixels, near duplicates, captions.

A picture's look is its luminance on an 8 x 8 grid and its two colour differences (YCbCr) on a
4 x 4 grid, each cell the mean of its part of the picture (whatever the aspect ratio). Two pictures
are near duplicates when

- no cell differs by more than :data:`MAX_DIFFERENCE` grey levels of 255, and
- the looks, each channel less its mean, correlate by :data:`MIN_CORRELATION` at least, so that
  pictures with hardly any contrast do not all look alike.

Re-encoding and rescaling change cells by little, another object changes at least one by much. Of
300 scenes of 64 x 64 pixels against 12,000 others the most similar pair differed by 12 levels;
their copies as JPEG of quality 30, or of quality 75 at half the side, by 7 at most (of quality 50
at half the side by 9: two of 300 were missed). A perceptual hash (63 bits of the cosine transform)
does not tell these apart: nearest other scenes differ by 0 to 14 bits, copies by up to 10. Copies
that are cropped, rotated, or made brighter by more than the threshold are not found.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

#: Cells on a side: of luminance, of each colour difference.
GRID, COLOUR_GRID = 8, 4
N_CELLS = GRID**2 + 2 * COLOUR_GRID**2
#: Largest difference of a cell, in grey levels of 255, and least correlation, of near duplicates.
MAX_DIFFERENCE, MIN_CORRELATION = 8.0, 0.9
#: Looks compared at a time with all of the other collection.
ROWS_AT_ONCE = 2048

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
    mirrored : ndarray (n, 96) float32
        Of the picture turned left to right.
    """

    names: tuple[str, ...]
    files: tuple[str, ...]
    pixels: tuple[str, ...]
    cells: np.ndarray
    mirrored: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    @property
    def is_known(self) -> np.ndarray:
        """Which pictures could be read (n,) bool."""
        return ~np.isnan(self.cells).any(axis=1)

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
    """Return pixel digest, look, and look of the mirrored picture."""
    turned = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return pixel_digest(picture), cells_of(picture), cells_of(turned)


def overlap(first: Looks, second: Looks) -> Overlap:
    """Find the pictures that two collections share.

    Parameters
    ----------
    first, second : Looks
        The second should be the smaller one; every pair is compared, in memory for
        :data:`ROWS_AT_ONCE` rows of the first at a time.

    Returns
    -------
    Overlap
    """
    same_file = _equal(first.files, second.files)
    same_pixels = _equal(first.pixels, second.pixels, known=set(same_file))
    near, mirrored, nearest = [], [], np.full(len(second), np.inf)
    turned = _Prepared(second.mirrored)
    upright = _Prepared(second.cells)
    for start in range(0, len(first), ROWS_AT_ONCE):
        block = _Prepared(first.cells[start : start + ROWS_AT_ONCE])
        rows, columns, difference = _candidates(block, upright)
        np.minimum.at(nearest, columns, difference)
        close = difference <= MAX_DIFFERENCE
        near += [
            (start + i, j)
            for i, j in zip(rows[close].tolist(), columns[close].tolist(), strict=True)
        ]
        rows, columns, difference = _candidates(block, turned)
        close = difference <= MAX_DIFFERENCE
        mirrored += [
            (start + i, j)
            for i, j in zip(rows[close].tolist(), columns[close].tolist(), strict=True)
        ]
    known = {*same_file, *same_pixels}
    near = [pair for pair in near if pair not in known]
    known |= set(near)
    mirrored = [pair for pair in mirrored if pair not in known]
    return Overlap(same_file, same_pixels, tuple(near), tuple(mirrored), nearest)


class _Prepared:
    """Looks with the numbers that screening needs."""

    def __init__(self, cells: np.ndarray) -> None:
        self.cells = cells
        centred = cells.astype(np.float64)
        for channel in _CHANNELS:
            centred[:, channel] -= centred[:, channel].mean(axis=1, keepdims=True)
        lengths = np.linalg.norm(centred, axis=1, keepdims=True)
        # Rounding of a flat picture is no contrast.
        is_flat = ~(lengths > 1e-3)
        self.directions = np.where(is_flat, np.nan, centred / np.where(is_flat, 1.0, lengths))


def _candidates(block: _Prepared, others: _Prepared) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, columns and largest differences of the pairs that correlate."""
    with np.errstate(invalid="ignore"):
        correlated = block.directions @ others.directions.T >= MIN_CORRELATION
    rows, columns = np.nonzero(correlated)
    difference = np.empty(len(rows))
    for start in range(0, len(rows), 2**16):
        part = slice(start, start + 2**16)
        gap = np.abs(block.cells[rows[part]] - others.cells[columns[part]])
        difference[part] = gap.max(axis=1)
    return rows, columns, difference


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
