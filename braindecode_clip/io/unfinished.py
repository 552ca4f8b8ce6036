"""An artefact whose largest array is written batch by batch, by a run that may be killed."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from braindecode_clip.io.atomic import write_json
from braindecode_clip.io.hdf5 import new_dataset, write_artifact
from braindecode_clip.provenance import Provenance

_ARRAY = "unfinished"


@dataclasses.dataclass
class Unfinished:
    """An open file beside the final one, with the rows that are there.

    Attributes
    ----------
    data : Dataset
        The array in the making.
    n_done : int
        Rows that are there.
    """

    data: h5py.Dataset
    n_done: int
    _file: h5py.File
    _paths: tuple[Path, Path, Path]
    _key: str

    def keep(self, n_done: int) -> None:
        """Note that so many rows are there, once they are on the disk."""
        self._file.flush()
        self.n_done = n_done
        write_json(self._paths[2], {"key": self._key, "n_done": n_done})

    def finish(self, artefact: Any, provenance: Provenance) -> None:
        """Write the artefact, which holds :attr:`data`, and move the file into place."""
        write_artifact(self._file, artefact, provenance)
        # The array has its place in the artefact by now.
        del self._file[_ARRAY]
        self._file.close()
        target, part, state = self._paths
        os.replace(part, target)
        state.unlink(missing_ok=True)


@contextlib.contextmanager
def unfinished(
    path: str | Path, *, key: Any, shape: tuple[int, ...], dtype: Any
) -> Iterator[Unfinished]:
    """Open the file beside ``path``, at the row where a run of the same key was stopped.

    Parameters
    ----------
    path : path
        Where the artefact will be; untouched until :meth:`Unfinished.finish`.
    key : JSON-able
        What the array depends on. What another key has left is written over.
    shape, dtype
        Of the array.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    state = target.with_name(f".{target.name}.part.json")
    text = json.dumps([key, list(shape), str(dtype)], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    n_done = _rows_done(state, digest)
    file = None
    if n_done:
        with contextlib.suppress(OSError, KeyError):
            file = h5py.File(part, "r+")
            data = file[_ARRAY]
    if file is None or _ARRAY not in file:
        state.unlink(missing_ok=True)
        n_done, file = 0, h5py.File(part, "w")
        file[_ARRAY] = data = new_dataset(file, shape, dtype)
        file.flush()
    with file:
        yield Unfinished(data, n_done, file, (target, part, state), digest)


def _rows_done(state: Path, digest: str) -> int:
    """Return how many rows a run of this key has left; a damaged record counts as none."""
    try:
        found = json.loads(state.read_text(encoding="utf-8"))
        return int(found["n_done"]) if found["key"] == digest else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0
