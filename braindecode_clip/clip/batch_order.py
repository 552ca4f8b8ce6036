"""The order of training pictures in an epoch: at random, look-alikes together, or apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from braindecode_clip.errors import DataError

# So many batches are tried for a picture before it waits for the next round: keeps the work
# proportional to the number of pictures.
_BATCHES_TRIED = 256


def kin_order(kin: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Permute rows so that pieces of ``size`` rows are of one kin.

    Kin stand together, in random order, and are cut into pieces, which are then mixed. A piece
    on the border of two kin holds some of both.

    Parameters
    ----------
    kin : ndarray (n,) int64
        From 0.
    size : int
    rng : Generator
    """
    order = rng.permutation(len(kin))
    rank = rng.permutation(int(kin.max()) + 1)[kin]
    order = order[np.argsort(rank[order], kind="stable")]
    n_whole = len(order) // size * size
    pieces = order[:n_whole].reshape(-1, size)
    return np.concatenate([rng.permutation(pieces).ravel(), order[n_whole:]])


@dataclass(frozen=True)
class Conflicts:
    """Which rows exclude one another from a batch: those that share a key.

    Attributes
    ----------
    keys : tuple of frozenset of int (n,)
        Keys that a row shares with at least one other row.
    heaviest : ndarray (n,) int64
        The one of its keys that most rows have; -1 for a row without any.
    counts : ndarray (n_keys,) int64
        Rows that have each key.
    """

    keys: tuple[frozenset[int], ...]
    heaviest: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)


def conflicts_of(n_rows: int, facts: Sequence[tuple[np.ndarray, np.ndarray]]) -> Conflicts:
    """Collect the keys of rows.

    Parameters
    ----------
    n_rows : int
    facts : sequence of (rows, values)
        Two arrays (m,) int64 each: that row has that value. Rows with an equal value of one
        fact conflict; negative values are none.
    """
    rows, keys, start = [], [], 0
    for where, values in facts:
        named = values >= 0
        found, number = np.unique(values[named], return_inverse=True)
        rows.append(where[named])
        keys.append(number + start)
        start += len(found)
    pairs = np.unique(np.stack([np.concatenate(rows), np.concatenate(keys)], axis=1), axis=0)
    counts = np.bincount(pairs[:, 1], minlength=start)
    pairs = pairs[counts[pairs[:, 1]] > 1]
    # By row, and within a row the heaviest key first.
    pairs = pairs[np.lexsort((pairs[:, 1], -counts[pairs[:, 1]], pairs[:, 0]))]
    bounds = np.searchsorted(pairs[:, 0], np.arange(n_rows + 1))
    heaviest = np.full(n_rows, -1, dtype=np.int64)
    has_any = bounds[1:] > bounds[:-1]
    heaviest[has_any] = pairs[bounds[:-1][has_any], 1]
    own = pairs[:, 1].tolist()
    sets = tuple(frozenset(own[a:b]) for a, b in pairwise(bounds.tolist()))
    return Conflicts(sets, heaviest, counts)


@dataclass(frozen=True)
class Dealt:
    """Batches without conflicts.

    Attributes
    ----------
    batches : ndarray (n_batches, batch_size) int64
        Rows.
    n_left_out : int
        Rows in no batch of this epoch.
    n_repeated : int
        Places that were filled with a row that stands in another batch too.
    """

    batches: np.ndarray
    n_left_out: int
    n_repeated: int


def most_batches(conflicts: Conflicts, batch_size: int) -> int:
    r"""Return how many full batches there can be at most.

    A key goes into a batch once, so B batches hold at most :math:`\sum_k \min(c_k, B)` rows,
    each row counted at its heaviest key; B is the largest with at least B times the batch
    size. That sum is concave in B, so halving finds it.
    """
    heavy = conflicts.heaviest
    counts = np.bincount(heavy[heavy >= 0]) if (heavy >= 0).any() else np.zeros(0, np.int64)
    n_free = int((heavy < 0).sum())
    low, high = 0, len(conflicts) // batch_size
    while low < high:
        middle = (low + high + 1) // 2
        if n_free + np.minimum(counts, middle).sum() >= middle * batch_size:
            low = middle
        else:
            high = middle - 1
    return low


def deal(
    conflicts: Conflicts, *, batch_size: int, n_batches: int, rng: np.random.Generator
) -> Dealt:
    """Deal rows to batches so that no two rows of a batch share a key.

    Rows of the heaviest keys are dealt first, one to each batch in turn: where every row has
    one key this places as many as can be placed. Rows with several keys go to the next batch
    that none of their keys is in. Which rows of too heavy a key are left out is drawn at
    random. Work is proportional to the number of rows (and of keys), but for one sort.

    Raises
    ------
    DataError
        A batch cannot be filled, even with rows of other batches.
    """
    order, spare = _chosen(conflicts, n_batches, batch_size, rng)
    table = _Table(conflicts.keys, n_batches, batch_size)
    waiting = [row for row in order.tolist() if not table.place(row)]
    for row in [*waiting, *spare.tolist()]:
        if not table.open:
            break
        table.place(row)
    if table.open:
        table.fill(rng.permutation(len(conflicts)).tolist())
    if table.open:
        raise DataError(
            f"data.no_duplicates: {len(table.open)} of {n_batches} batches of {batch_size} cannot "
            "be filled with pictures that share nothing. Lower training.batch_size, or look at "
            "`clip data` for what repeats."
        )
    batches = np.array(table.rows, dtype=np.int64).reshape(n_batches, batch_size)
    n_seen = len(np.unique(batches))
    return Dealt(rng.permutation(batches), len(conflicts) - n_seen, batches.size - n_seen)


def n_batches_for(conflicts: Conflicts, *, batch_size: int, rng: np.random.Generator) -> int:
    """Return how many full batches a first deal reaches without repeating a row; 0 for none."""
    n_batches, step = most_batches(conflicts, batch_size), 0
    while n_batches > 0:
        order, spare = _chosen(conflicts, n_batches, batch_size, rng)
        table = _Table(conflicts.keys, n_batches, batch_size)
        for row in [r for r in order.tolist() if not table.place(r)] + spare.tolist():
            table.place(row)
        if not table.open:
            break
        # Keys that overlap make the bound too high: come down by what is missing, and by ever
        # larger steps, so that the number of trials stays logarithmic.
        n_missing = sum(batch_size - len(table.rows[batch]) for batch in table.open)
        n_batches -= max(-(-n_missing // batch_size), step)
        step = 2 * step + 1
    return max(n_batches, 0)


def _chosen(
    conflicts: Conflicts, n_batches: int, batch_size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to deal, heaviest key first, and the others; both in random order."""
    order = rng.permutation(len(conflicts))
    heavy = conflicts.heaviest[order]
    by_key = np.argsort(heavy, kind="stable")
    first = np.searchsorted(heavy[by_key], heavy[by_key])
    place = np.empty(len(order), dtype=np.int64)
    place[by_key] = np.arange(len(order)) - first
    fits = (heavy < 0) | (place < n_batches)
    kept = order[fits]
    spare = np.concatenate([kept[n_batches * batch_size :], order[~fits]])
    kept = kept[: n_batches * batch_size]
    heavy = conflicts.heaviest[kept]
    weight = np.where(heavy >= 0, conflicts.counts[heavy] if len(conflicts.counts) else 0, 0)
    tie = rng.permutation(len(conflicts.counts) + 1)[heavy]
    return kept[np.lexsort((tie, -weight))], spare


class _Table:
    """Batches being filled."""

    def __init__(self, keys: Sequence[frozenset[int]], n_batches: int, batch_size: int) -> None:
        self.rows: list[list[int]] = [[] for _ in range(n_batches)]
        self.open = list(range(n_batches))
        self._keys, self._batch_size = keys, batch_size
        self._used: list[set[int]] = [set() for _ in range(n_batches)]
        self._cursor = 0

    def place(self, row: int) -> bool:
        """Put a row into the next open batch that it does not conflict with, if there is one."""
        own = self._keys[row]
        n_open = len(self.open)
        for step in range(min(n_open, _BATCHES_TRIED)):
            at = (self._cursor + step) % n_open
            if own.isdisjoint(self._used[self.open[at]]):
                self._put(row, at)
                return True
        return False

    def fill(self, candidates: Sequence[int]) -> None:
        """Fill what is open with rows of other batches."""
        for row in candidates:
            if not self.open:
                break
            for at in range(min(len(self.open), _BATCHES_TRIED)):
                batch = self.open[at]
                is_free = self._keys[row].isdisjoint(self._used[batch])
                if is_free and row not in self.rows[batch]:
                    self._put(row, at)
                    break

    def _put(self, row: int, at: int) -> None:
        batch = self.open[at]
        self.rows[batch].append(row)
        self._used[batch] |= self._keys[row]
        if len(self.rows[batch]) == self._batch_size:
            self.open.pop(at)
            self._cursor = at
        else:
            self._cursor = at + 1
