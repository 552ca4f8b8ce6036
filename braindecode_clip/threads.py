"""Blocks of work side by side, with as many threads as the linear algebra may take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")

#: Multiplications of a product (a tenth of a second on one core) from which threads share it.
SMALL_WORK = 5e9


@cache
def _controller() -> ThreadpoolController:
    # Looking for the libraries takes a millisecond; those of NumPy stay the same.
    return ThreadpoolController().select(user_api="blas")


def n_blas_threads() -> int:
    """Return how many threads the linear algebra takes; ``OMP_NUM_THREADS`` and others limit it."""
    return max([1, *(library["num_threads"] for library in _controller().info())])


@contextmanager
def small_work(n_multiplications: float) -> Iterator[None]:
    """Let small products have one thread: others would wait for them longer than they help.

    Parameters
    ----------
    n_multiplications : float
        Of the largest product.
    """
    if n_multiplications >= SMALL_WORK or n_blas_threads() == 1:
        yield
        return
    with _controller().limit(limits=1):
        yield


def run_blocks(work: Callable[[Item], object], items: Iterable[Item]) -> None:
    """Call ``work`` on every item, side by side.

    Small products do not fill the threads of the linear algebra, and what stands between them
    does not use these at all. So each block gets a Python thread (NumPy lets others run while it
    computes) and one thread of linear algebra.

    Parameters
    ----------
    work : callable
        Writes its result; blocks must not touch what others write.
    items : iterable

    Raises
    ------
    Exception
        The first that a block raised.
    """
    n_threads = n_blas_threads()
    if n_threads == 1:
        for item in items:
            work(item)
        return
    with _controller().limit(limits=1), ThreadPoolExecutor(n_threads) as pool:
        for _ in pool.map(work, items):
            pass
