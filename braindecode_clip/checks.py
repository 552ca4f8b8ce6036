"""Collecting every problem of an input before stopping.

A user with five mistakes in a data set wants to read of all five at once.
"""

from __future__ import annotations

from braindecode_clip.errors import BraindecodeError, DataError


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
