"""Held-out parts of a collection in which nothing of the other part comes again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from braindecode_clip.errors import DataError
from braindecode_clip.seeds import derive_seed


def tied_units(n: int, ties: Sequence[Sequence[str] | None]) -> np.ndarray:
    """Number rows so that rows tied to one another, also by way of others, have one number.

    Parameters
    ----------
    n : int
        Rows.
    ties : sequence of (sequence of str (n,) or None)
        Rows of equal value are tied; "" ties nothing.

    Returns
    -------
    ndarray (n,) int64
        The smallest row of the unit.
    """
    parent = list(range(n))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for values in ties:
        first: dict[str, int] = {}
        for row, value in enumerate(values or ()):
            if value:
                a, b = root(first.setdefault(value, row)), root(row)
                parent[max(a, b)] = min(a, b)
    return np.array([root(row) for row in range(n)], dtype=np.int64)


def held_out(units: np.ndarray, names: Sequence[str], *, share: float, seed: int) -> np.ndarray:
    """Choose whole units at random until their rows come nearest to a share.

    A unit is ordered by a hash of the seed and the names of its rows, so that the order of the
    rows in the source does not matter.

    Parameters
    ----------
    units : ndarray (n,) int64
        From :func:`tied_units`.
    names : sequence of str (n,)
    share : float
        Of rows to hold out.
    seed : int

    Returns
    -------
    ndarray (n,) bool

    Raises
    ------
    DataError
        One of the two parts would be empty.
    """
    first: dict[int, str] = {}
    sizes: dict[int, int] = {}
    for unit, name in zip(units.tolist(), names, strict=True):
        first[unit] = min(first.get(unit, name), name)
        sizes[unit] = sizes.get(unit, 0) + 1
    order = sorted(first, key=lambda unit: (derive_seed(seed, "split", first[unit]), first[unit]))
    target, n_held = share * len(units), 0
    chosen = []
    for unit in order:
        # A unit too large for what is left is passed over; smaller ones may still fit.
        if abs(n_held + sizes[unit] - target) < abs(n_held - target):
            chosen.append(unit)
            n_held += sizes[unit]
    if not 0 < n_held < len(units):
        raise DataError(
            f"data.split: of {len(units)} pictures in {len(order)} groups that stay together none "
            f"or all would be held out for a share of {share}. Change data.split.validation, "
            "split by picture, or give more groups."
        )
    return np.isin(units, chosen)
