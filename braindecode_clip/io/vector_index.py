"""Vectors by the content they were made of, kept on disk for one encoder."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from braindecode_clip.io.atomic import atomic_path, write_json
from braindecode_clip.logs import get_logger

logger = get_logger(__name__)


class VectorIndex:
    """A folder of vectors that is read once and only grows.

    Parameters
    ----------
    folder : path
        Indices of several encoders may share it.
    fingerprint : mapping
        Of the encoder; another fingerprint is another index.

    Attributes
    ----------
    vectors : dict of str to ndarray (n_dims,) float32
        By content hash; put new ones in and call :meth:`save`.

    Notes
    -----
    Every save adds one file, so what an interrupted run had saved stays, and two runs at once
    do no harm.
    """

    def __init__(self, folder: str | Path, fingerprint: Mapping[str, Any]) -> None:
        text = json.dumps(fingerprint, sort_keys=True)
        self._folder = Path(folder) / hashlib.sha256(text.encode()).hexdigest()[:16]
        self._fingerprint = dict(fingerprint)
        self.vectors: dict[str, np.ndarray] = {}
        for part in sorted(self._folder.glob("part-*.npz")):
            self.vectors |= _read(part)
        self._saved = set(self.vectors)

    def save(self) -> int:
        """Write the vectors that are new since the last time; return their number."""
        new = [key for key in self.vectors if key not in self._saved]
        if new:
            record = self._folder / "encoder.json"
            if not record.is_file():
                write_json(record, self._fingerprint)
            name = hashlib.sha256("".join(new).encode()).hexdigest()[:16]
            with atomic_path(self._folder / f"part-{name}.npz") as temporary:
                np.savez(
                    temporary, keys=np.array(new), vectors=np.stack([self.vectors[k] for k in new])
                )
            self._saved.update(new)
        return len(new)


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        # numpy leaves a damaged archive open when it opens the file itself.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            return dict(zip(content["keys"].tolist(), content["vectors"], strict=True))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        logger.warning("%s: damaged; what it held is encoded again", path)
        return {}


def default_folder() -> Path:
    """Return where indices are kept: ``BRAINDECODE_CLIP_CACHE``, or the user's cache folder."""
    named = os.environ.get("BRAINDECODE_CLIP_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "braindecode-clip"
