"""Vectors by the hash of what they were made of, kept in shards as they are made.

Every batch is a file of its own, written beside and moved into place, so a process that is killed
leaves whole batches alone. Two processes may write into one folder at the same time.
"""

from __future__ import annotations

import hashlib
import logging
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from braindecode_clip.io.atomic import atomic_path

logger = logging.getLogger(__name__)


class VectorShards:
    """The vectors of one encoder for one kind of input.

    Parameters
    ----------
    folder : path
        Made when the first vectors come. Damaged shards in it are skipped with a warning:
        what they held is made again.
    n_dims : int
        Length of every vector; shards of another length count as damaged.
    """

    def __init__(self, folder: str | Path, n_dims: int) -> None:
        self.folder, self._n_dims = Path(folder), n_dims
        self._vectors: dict[str, np.ndarray] = {}
        # Only what this process has seen may be replaced by its merged shard.
        self._files: set[Path] = set()
        for path in sorted(self.folder.glob("*.npz")):
            # A name that starts with a dot is a file that a killed process left half written.
            if path.name.startswith("."):
                continue
            self._files.add(path)
            try:
                self._vectors.update(self._read(path))
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                logger.warning("%s: damaged (%s); its vectors are made again", path, error)

    def __contains__(self, key: object) -> bool:
        return key in self._vectors

    def __getitem__(self, key: str) -> np.ndarray:
        return self._vectors[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._vectors)

    def __len__(self) -> int:
        return len(self._vectors)

    def update(self, vectors: Mapping[str, np.ndarray]) -> None:
        """Keep one batch of new vectors (n_dims,) float32, on disk when this returns."""
        if not vectors:
            return
        self._files.add(self._write(dict(vectors)))
        self._vectors.update(vectors)

    def merge(self) -> None:
        """Put all shards into one, and forget the damaged ones."""
        if len(self._files) < 2:
            return
        merged = self._write(dict(sorted(self._vectors.items())))
        for path in self._files - {merged}:
            path.unlink(missing_ok=True)
        self._files = {merged}

    def _read(self, path: Path) -> dict[str, np.ndarray]:
        # numpy leaves a damaged archive open when it opens the file itself.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            keys, vectors = content["keys"].tolist(), content["vectors"]
        if vectors.shape != (len(keys), self._n_dims) or vectors.dtype != np.float32:
            raise ValueError(
                f"vectors of shape {vectors.shape}, expected ({len(keys)}, {self._n_dims})"
            )
        return dict(zip(keys, vectors, strict=True))

    def _write(self, vectors: dict[str, np.ndarray]) -> Path:
        name = hashlib.sha256("".join(vectors).encode()).hexdigest()[:16]
        path = self.folder / f"{name}.npz"
        with atomic_path(path) as temporary:
            np.savez(
                temporary, keys=np.array(list(vectors)), vectors=np.stack(list(vectors.values()))
            )
        return path
