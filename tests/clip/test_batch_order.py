from __future__ import annotations

import time

import numpy as np
import pytest

from braindecode_clip.clip.batch_order import conflicts_of, deal, most_batches, n_batches_for
from braindecode_clip.errors import DataError


def of_values(*columns):
    rows = np.arange(len(columns[0]))
    return conflicts_of(len(rows), [(rows, np.asarray(column)) for column in columns])


def dealt(conflicts, batch_size, seed=0):
    n = n_batches_for(conflicts, batch_size=batch_size, rng=np.random.default_rng(seed))
    rng = np.random.default_rng(seed + 1)
    return deal(conflicts, batch_size=batch_size, n_batches=n, rng=rng)


def literal_conflicts(batches, *columns):
    """Pairs of a batch with an equal value, counted one by one."""
    n = 0
    for batch in batches:
        for i, a in enumerate(batch):
            for b in batch[:i]:
                n += any(column[a] == column[b] >= 0 for column in columns)
    return n


def test_keys_of_one_row_alone_and_negative_values_exclude_nobody():
    conflicts = of_values([3, 3, 7, -1, -1], [0, 1, 2, 2, 4])
    assert [len(own) for own in conflicts.keys] == [1, 1, 1, 1, 0]
    assert conflicts.keys[0] == conflicts.keys[1] != conflicts.keys[2]
    assert conflicts.keys[2] == conflicts.keys[3]
    assert (conflicts.heaviest >= 0).tolist() == [True, True, True, True, False]


@pytest.mark.parametrize("seed", range(6))
def test_with_one_key_each_as_many_rows_are_placed_as_can_be(seed):
    rng = np.random.default_rng(seed)
    values = rng.choice(12, 150, p=(w := rng.random(12) ** 3 + 0.01) / w.sum())
    conflicts = of_values(values)
    size = 8
    # By trial: the most batches for which the keys, each once in a batch, suffice.
    counts = np.bincount(values)
    best = max(b for b in range(150) if np.minimum(counts, b).sum() >= b * size)
    assert most_batches(conflicts, size) == best
    result = dealt(conflicts, size, seed)
    assert result.batches.shape == (best, size)
    assert literal_conflicts(result.batches, values) == 0
    assert len(np.unique(result.batches)) == result.batches.size
    assert (result.n_left_out, result.n_repeated) == (150 - best * size, 0)


@pytest.mark.parametrize("seed", range(6))
def test_overlapping_keys_never_meet(seed):
    rng = np.random.default_rng(seed)
    captions, groups = rng.integers(0, 40, 300), rng.integers(-1, 30, 300)
    conflicts = of_values(captions, groups)
    result = dealt(conflicts, 10, seed)
    assert literal_conflicts(result.batches, captions, groups) == 0
    n_seen = len(np.unique(result.batches))
    assert (result.n_left_out, result.n_repeated) == (300 - n_seen, result.batches.size - n_seen)
    # Every key fits three times over: nearly all rows find a place.
    assert n_seen >= 285


def test_without_conflicts_all_whole_batches_are_filled_and_the_rest_is_drawn():
    conflicts = of_values(np.arange(43))
    left = set()
    for seed in range(30):
        result = deal(conflicts, batch_size=10, n_batches=4, rng=np.random.default_rng(seed))
        assert len(np.unique(result.batches)) == 40
        left |= set(range(43)) - set(result.batches.ravel().tolist())
    assert len(left) > 30


def test_who_is_left_out_of_a_heavy_key_changes():
    values = np.r_[np.zeros(20, int), 1 + np.arange(40)]
    conflicts = of_values(values)
    n = n_batches_for(conflicts, batch_size=6, rng=np.random.default_rng(0))
    assert n == 8
    seen = []
    for k in range(8):
        result = deal(conflicts, batch_size=6, n_batches=n, rng=np.random.default_rng(k))
        seen.append(frozenset(row for row in result.batches.ravel().tolist() if row < 20))
    assert all(len(rows) == 8 for rows in seen)
    assert len(set(seen)) == 8


def test_batches_that_cannot_be_made():
    conflicts = of_values(np.arange(20) % 5)
    assert n_batches_for(conflicts, batch_size=6, rng=np.random.default_rng(0)) == 0
    with pytest.raises(DataError, match="1 of 1 batches of 6 cannot be filled"):
        deal(conflicts, batch_size=6, n_batches=1, rng=np.random.default_rng(0))


def test_a_place_that_nobody_new_may_take_is_filled_from_another_batch():
    # Two batches of two, and a third key for only one of them.
    conflicts = of_values([0, 0, 0, 1])
    result = deal(conflicts, batch_size=2, n_batches=2, rng=np.random.default_rng(0))
    assert (result.n_left_out, result.n_repeated) == (1, 1)
    assert all(3 in batch for batch in result.batches)


def test_the_work_grows_with_the_number_of_rows():
    seconds = []
    for n in (10_000, 40_000):
        rng = np.random.default_rng(0)
        conflicts = of_values(rng.zipf(1.5, n) % n, rng.integers(0, n // 3, n))
        before = time.process_time()
        dealt(conflicts, 64)
        seconds.append(time.process_time() - before)
    # Four times the rows: a quadratic order would take sixteen times as long.
    assert seconds[1] < 9 * seconds[0]
