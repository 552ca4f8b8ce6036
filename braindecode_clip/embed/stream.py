"""Read ahead, encode batch by batch, keep every batch at once.

Readers (threads) hash, decode and resize; their results are taken in the order of the list, so the
batches depend on the list and on what is known already, never on which thread was faster. Encoders
(threads) turn batches into vectors. What is known at the start is a number of whole batches, since
a batch is kept whole or not at all: a run that is killed and started again forms the batches that
it would have formed.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from braindecode_clip.errors import DataError

_NORM_TOLERANCE = 1e-3
#: Batches read ahead for each encoder: one waits while one is computed.
_BATCHES_AHEAD = 2

logger = logging.getLogger(__name__)


class Cache(Protocol):
    """Vectors by key; a dict will do."""

    def __contains__(self, key: object) -> bool: ...
    def __getitem__(self, key: str) -> np.ndarray: ...
    def update(self, vectors: Mapping[str, np.ndarray], /) -> None:
        """Keep one batch; called from several threads."""


@dataclass(frozen=True)
class Read:
    """What a reader made of an item.

    Attributes
    ----------
    key : str
        Hash of the content; empty where it could not be read.
    prepared : object
        Input of the encoder; None where the content was known.
    problem : str
        Why it could not be read; empty where it could.
    """

    key: str = ""
    prepared: Any = None
    problem: str = ""


@dataclass
class Stream:
    """One pass over a list of items.

    Attributes
    ----------
    read : callable
        Item to (key, callable that returns the prepared input). Both may raise.
    encode : callable
        Sequence of prepared inputs to vectors (n, n_dims) of unit norm.
    cache : Cache
        What is in it is not encoded; every new batch is added.
    batch_size : int
        At the start; memory that runs out halves it.
    n_readers, n_encoders : int
        Threads.
    unit_norm : bool
        Whether a vector of another norm than 1 is an error; zero and NaN always are.
    keys : list of str
        Of every item, in order; empty for an unreadable one.
    problems : list of (int, str)
        Row and reason of every item that has no vector.
    n_encoded : int
        Items encoded, the same content counted once.
    """

    read: Callable[[Any], tuple[str, Callable[[], Any]]]
    encode: Callable[[Sequence[Any]], np.ndarray]
    cache: Cache
    batch_size: int
    n_readers: int = 1
    n_encoders: int = 1
    unit_norm: bool = True
    keys: list[str] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)
    n_encoded: int = 0
    _seen: set[str] = field(default_factory=set)
    _bad: set[str] = field(default_factory=set)

    def run(self, items: Sequence[Any]) -> Iterator[int]:
        """Encode all items, and yield after every batch how many rows are done with."""
        readers = ThreadPoolExecutor(self.n_readers, thread_name_prefix="read")
        encoders = ThreadPoolExecutor(self.n_encoders, thread_name_prefix="encode")
        running: set[Future[int]] = set()
        try:
            for batch, n_rows in self._batches(items, readers):
                if batch:
                    running.add(encoders.submit(self._encode_batch, batch))
                if len(running) > self.n_encoders:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    self.n_encoded += sum(future.result() for future in done)
                yield n_rows
            for future in running:
                self.n_encoded += future.result()
        finally:
            # On an error or an interruption: no further batch is begun.
            readers.shutdown(wait=True, cancel_futures=True)
            encoders.shutdown(wait=True, cancel_futures=True)
        reason = "the encoder gave a zero, NaN or unnormalised vector"
        self.problems += [(row, reason) for row, key in enumerate(self.keys) if key in self._bad]
        self.problems.sort()

    def _batches(
        self, items: Sequence[Any], readers: ThreadPoolExecutor
    ) -> Iterator[tuple[list[tuple[int, Read]], int]]:
        """Yield batches of new contents in the order of the list, and the rows since the last."""
        waiting: deque[Future[Read]] = deque()
        todo = iter(items)
        batch: list[tuple[int, Read]] = []
        n_rows = 0
        for row in range(len(items)):
            ahead = _BATCHES_AHEAD * self.n_encoders * self.batch_size + self.n_readers
            while len(waiting) < ahead and (item := next(todo, _END)) is not _END:
                waiting.append(readers.submit(self._look, item))
            found = waiting.popleft().result()
            n_rows += 1
            self.keys.append(found.key)
            if found.problem:
                self.problems.append((row, found.problem))
            elif found.key not in self._seen and found.prepared is not None:
                self._seen.add(found.key)
                batch.append((row, found))
            if len(batch) >= self.batch_size:
                yield batch, n_rows
                batch, n_rows = [], 0
        yield batch, n_rows

    def _look(self, item: Any) -> Read:
        try:
            key, prepare = self.read(item)
            # A content that stands earlier in the list is usually known to be seen by now;
            # where not, it is prepared twice, and the batches stay the same.
            if key in self._seen or key in self.cache:
                return Read(key)
            return Read(key, prepare())
        except DataError as error:
            return Read(problem=str(error))
        except Exception as error:
            # One picture must not end a run of hours; it is named with all others at its end.
            return Read(problem=f"{type(error).__name__}: {error}")

    def _encode_batch(self, batch: list[tuple[int, Read]]) -> int:
        """Encode a batch and keep it; return the number of vectors kept."""
        size = self.batch_size
        # Another batch may have run out of memory since this one was formed.
        vectors = self._try(batch) if len(batch) <= size else None
        if vectors is None:
            size = self.batch_size
            parts = [batch[start : start + size] for start in range(0, len(batch), size)]
            return sum(self._encode_batch(part) for part in parts)
        # A comparison with NaN is false, so NaN counts as bad here.
        norms = np.linalg.norm(vectors, axis=1)
        if self.unit_norm:
            good = np.abs(norms - 1.0) < _NORM_TOLERANCE
        else:
            good = (norms > 0) & (norms < np.inf)
        keys = [read.key for _, read in batch]
        self._bad.update(key for key, fits in zip(keys, good, strict=True) if not fits)
        kept = zip(keys, vectors, good, strict=True)
        self.cache.update({key: vector for key, vector, fits in kept if fits})
        return int(good.sum())

    def _try(self, batch: list[tuple[int, Read]]) -> np.ndarray | None:
        """Return the vectors, or None when memory ran out and the batch size was halved."""
        try:
            return np.asarray(self.encode([read.prepared for _, read in batch]), np.float32)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise DataError(
                    f"memory runs out with one item at once ({str(error).splitlines()[0]}). Use "
                    "a machine or a device with more memory, or a smaller model."
                ) from error
        # Outside the handler, which holds on to the tensors of the failed pass.
        half = max(1, len(batch) // 2)
        if half < self.batch_size:
            self.batch_size = half
            logger.warning(
                "out of memory with %d at once; going on with batches of %d", len(batch), half
            )
        return None


_END = object()


def _is_out_of_memory(error: BaseException) -> bool:
    # The CPU's allocator raises a plain RuntimeError.
    return (
        isinstance(error, MemoryError | torch.cuda.OutOfMemoryError)
        or "can't allocate memory" in str(error)
        or "not enough memory" in str(error)
    )
