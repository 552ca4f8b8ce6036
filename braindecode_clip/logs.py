"""Logging and progress: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, TypeVar

ItemT = TypeVar("ItemT")
LOGGER_NAME = "braindecode_clip"


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module (pass ``__name__``)."""
    return logging.getLogger(name)


def set_up_logging(*, verbose: bool = False) -> None:
    """Send the package's messages to stderr, INFO and above (DEBUG when ``verbose``)."""
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger(LOGGER_NAME)
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False


class _StderrHandler(logging.StreamHandler):
    """Write to what ``sys.stderr`` is now: the one of set-up time may be closed by then."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr


@contextlib.contextmanager
def milestone(logger: logging.Logger, what: str) -> Iterator[Callable[[str], None]]:
    """Log one line with the seconds that the block took.

    Yields a function that adds the outcome (shapes, counts) to the line.
    """
    notes: list[str] = []
    start = time.perf_counter()
    yield notes.append
    seconds = time.perf_counter() - start
    logger.info("%s (%.1f s)", ": ".join([what, "; ".join(notes)] if notes else [what]), seconds)


def progress(items: Iterable[ItemT], *, what: str, total: int | None = None) -> Iterator[ItemT]:
    """Iterate with a bar on a terminal, and with about ten plain log lines elsewhere."""
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        yield from track(items, description=what, total=total, console=Console(stderr=True))
        return
    logger = logging.getLogger(LOGGER_NAME)
    step = max(1, (total or 0) // 10)
    for count, item in enumerate(items, start=1):
        yield item
        if total and total >= 20 and (count % step == 0 or count == total):
            logger.info("%s: %d of %d", what, count, total)
