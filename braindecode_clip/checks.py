"""Collecting every problem of an input before stopping.

A user with five mistakes in a data set wants to read of all five at once.
"""

from __future__ import annotations

import json
from typing import Any

from braindecode_clip.errors import BraindecodeError, DataError

#: Largest difference of two values of a probe's unit vector that rounding explains: float32
#: sums in another order are off by about 1e-6, TF32 products on a GPU by less than 1e-3.
PROBE_TOLERANCE = 1e-3


class Problems:
    """A list of problems found in one input.

    Parameters
    ----------
    where : str
        The file, the array or the config section that is looked at; it heads the message.

    Examples
    --------
    >>> problems = Problems("sub-01_events.tsv")
    >>> problems.add("column 'onset' is missing. Add it, in seconds.")
    >>> problems.raise_if_any()
    Traceback (most recent call last):
        ...
    braindecode_clip.errors.DataError: sub-01_events.tsv: column 'onset' is missing. ...
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.messages: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.messages)

    def add(self, message: str) -> None:
        """Note one problem; ``message`` says got, expected and what to do."""
        self.messages.append(message)

    def raise_if_any(self, error: type[BraindecodeError] = DataError) -> None:
        """Raise ``error`` with all messages, or return when there are none."""
        if not self.messages:
            return
        if len(self.messages) == 1:
            raise error(f"{self.where}: {self.messages[0]}")
        lines = "\n".join(f"  {i}. {m}" for i, m in enumerate(self.messages, start=1))
        raise error(f"{self.where}: {len(self.messages)} problems\n{lines}")


def some(items: object, *, limit: int = 5) -> str:
    """Name the first few of many items for a message: ``'a', 'b', ... (12 in all)``."""
    names = [repr(str(item)) for item in items]  # type: ignore[attr-defined]
    if len(names) <= limit:
        return ", ".join(names)
    return ", ".join(names[:limit]) + f", ... ({len(names)} in all)"


def differences(first: Any, second: Any) -> list[str]:
    """Name every part in which two nested records differ, e.g. two encoders' fingerprints.

    They are compared as JSON, so that a tuple equals the list that comes back from a file.
    Numbers below the key ``probe`` are equal within :data:`PROBE_TOLERANCE`.

    Returns
    -------
    list of str
        ``part.of.part: value != value``; empty when the records are equal.
    """
    return _differing(json.loads(json.dumps(first)), json.loads(json.dumps(second)), "")


def _differing(first: Any, second: Any, where: str) -> list[str]:
    if isinstance(first, dict) and isinstance(second, dict):
        parts = []
        for key in sorted(first.keys() | second.keys()):
            inner = f"{where}.{key}" if where else str(key)
            parts += _differing(first.get(key), second.get(key), inner)
        return parts
    same = first == second or (where.split(".")[-1] == "probe" and _close(first, second))
    return [] if same else [f"{where}: {_short(first)} != {_short(second)}"]


def _close(first: Any, second: Any) -> bool:
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_close, first, second))
    numbers = isinstance(first, int | float) and isinstance(second, int | float)
    return numbers and abs(first - second) <= PROBE_TOLERANCE


def _short(value: Any) -> str:
    text = "absent" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
