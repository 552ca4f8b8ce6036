"""Pictures of a data set, decoded when they are needed and kept if there is room."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from braindecode_clip.checks import some
from braindecode_clip.errors import DataError


class PictureStore:
    """Pictures by row number, as the pixels that the model takes.

    A picture that cannot be decoded is noted in :attr:`corrupt` and is None from then on; what
    is None depends on the files alone, so not on what was asked for before.

    Parameters
    ----------
    load : callable
        Row number to the picture as RGB, whole; raises :class:`DataError` with the reason.
        Safe in threads.
    names : sequence of str (n,)
        For messages.
    prepare : callable
        Picture to ndarray (side, side, 3) uint8, as at validation. Safe in threads.
    side_px : int
        Of the prepared pictures.
    keep : bool
        Keep prepared pixels in memory.
    sizes : ndarray (n,) int64, optional
        Bytes of the files; with the names they tell one collection from another.
    skip_corrupt : bool
        Whether corrupt pictures may be passed over at all.
    max_corrupt_share : float
        Largest share of them.
    """

    def __init__(
        self,
        load: Callable[[int], Image.Image],
        names: Sequence[str],
        *,
        prepare: Callable[[Image.Image], np.ndarray],
        side_px: int,
        keep: bool,
        sizes: np.ndarray | None = None,
        skip_corrupt: bool = True,
        max_corrupt_share: float = 1.0,
    ) -> None:
        self._load, self.names, self._prepare = load, tuple(names), prepare
        self.side_px = side_px
        self.sizes = np.full(len(names), -1, dtype=np.int64) if sizes is None else sizes
        self._kept = np.empty((len(names), side_px, side_px, 3), np.uint8) if keep else None
        self._is_kept = np.zeros(len(names), dtype=bool)
        self._skip, self._max_share = skip_corrupt, max_corrupt_share
        self._lock = threading.Lock()
        self.corrupt: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.names)

    @property
    def keeps(self) -> bool:
        """Whether prepared pictures stay in memory."""
        return self._kept is not None

    def whole(self, row: int) -> Image.Image | None:
        """Return a picture of its own size, or None for a corrupt one; safe in threads."""
        try:
            return self._load(row)
        except DataError as error:
            with self._lock:
                self.corrupt[row] = str(error)
            return None

    def prepared(self, row: int) -> np.ndarray | None:
        """Return (side, side, 3) uint8, or None for a corrupt picture; safe in threads."""
        if self._is_kept[row]:
            return self._kept[row]
        picture = None if row in self.corrupt else self.whole(row)
        if picture is None:
            return None
        pixels = self._prepare(picture)
        if self._kept is not None:
            self._kept[row] = pixels
            self._is_kept[row] = True
        return pixels

    def look_at_all(self, n_workers: int) -> None:
        """Decode every picture once, which fills :attr:`corrupt`; check their share."""
        with ThreadPoolExecutor(max(n_workers, 1)) as pool:
            for _ in pool.map(self._seen, range(len(self))):
                pass
        self.check()

    def _seen(self, row: int) -> None:
        self.prepared(row)

    def check(self) -> None:
        """Stop where corrupt pictures are more than allowed.

        Raises
        ------
        DataError
            Names the first of them, and how many were found so far.
        """
        n_corrupt = len(self.corrupt)
        if not n_corrupt or (self._skip and n_corrupt <= self._max_share * len(self)):
            return
        limit = (
            f"more than the share of {self._max_share} that data.max_corrupt_share allows"
            if self._skip
            else "and data.on_corrupt is 'error'"
        )
        raise DataError(
            f"{n_corrupt} of {len(self)} pictures cannot be decoded, {limit}: "
            f"{some(self.listed())}. Fetch them again, take them out, or change that option."
        )

    def listed(self) -> list[str]:
        """Return ``name: reason`` of the corrupt pictures found so far, by row."""
        return [f"{self.names[row]}: {reason}" for row, reason in sorted(self.corrupt.items())]


def prepared_rows(images: np.ndarray | PictureStore, rows: Iterable[int]) -> np.ndarray:
    """Return pictures (n_rows, side, side, 3) uint8 as at validation; none may be corrupt."""
    rows = np.asarray(rows, dtype=np.int64)
    if isinstance(images, np.ndarray):
        return images[rows]
    pixels = [images.prepared(int(row)) for row in rows]
    missing = [images.names[row] for row, own in zip(rows, pixels, strict=True) if own is None]
    if missing:
        raise DataError(f"pictures that can no longer be read: {some(missing)}. Restore them.")
    return np.stack(pixels)
