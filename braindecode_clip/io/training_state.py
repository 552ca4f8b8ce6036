"""The state of a training that may be killed at any moment, in a directory."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from braindecode_clip.io.atomic import atomic_path


class TrainingState:
    """Named slots of arrays and facts, each one safetensors file that is replaced in one step.

    Parameters
    ----------
    folder : path
        Made when something is saved.
    key : mapping
        JSON-able: config, seed and digests of the data. The state of another key is not seen,
        as it lies in a folder of its own.

    Examples
    --------
    >>> state = TrainingState("results/state", key={"seed": 1, "data": "ab12"})
    >>> state.part("fold-01").load("member-0") is None
    True
    """

    def __init__(self, folder: str | Path, *, key: Mapping[str, Any]) -> None:
        text = json.dumps(key, sort_keys=True)
        self._folder = Path(folder) / hashlib.sha256(text.encode()).hexdigest()[:16]

    def part(self, name: str) -> TrainingState:
        """Return a state below this one."""
        # By its digest: a name of a fold may hold what a file name may not.
        return TrainingState(self._folder, key={"part": name})

    def load(self, slot: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Return what was saved last, or None; a file that cannot be read counts as none."""
        path = self._path(slot)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                facts = json.loads(file.metadata()["facts"])
                return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
        except SafetensorError:
            return None

    def save(self, slot: str, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
        """Replace what was saved."""
        with atomic_path(self._path(slot)) as temporary:
            # Safetensors writes memory as it lies, whatever the strides.
            whole = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
            save_file(whole, temporary, metadata={"facts": json.dumps(facts)})

    def remove(self) -> None:
        """Delete the state, once the result is safe."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, slot: str) -> Path:
        return self._folder / f"{slot}.safetensors"
