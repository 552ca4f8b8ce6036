"""Batches: their order, memory that runs out, interruptions, threads."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from itertools import chain

import numpy as np
import pytest
import torch

from braindecode_clip.embed.stream import Stream
from braindecode_clip.errors import DataError


def read(item):
    return hashlib.sha256(str(item).encode()).hexdigest(), lambda: item


def angle(items):
    phase = np.array(items, dtype=np.float64)
    return np.stack([np.cos(phase), np.sin(phase)], axis=1).astype(np.float32)


class Recorder:
    """An encoder that notes the batches it gets, and has room for so many at once."""

    def __init__(self, room=10**9, error=None):
        self.room, self.error = room, error
        self.done: list[list[int]] = []
        self.refused: list[int] = []

    def __call__(self, batch):
        if len(batch) > self.room:
            self.refused.append(len(batch))
            raise self.error
        self.done.append(list(batch))
        return angle(batch)


def run(stream, items):
    return sum(stream.run(items))


@pytest.mark.parametrize("n_readers", [1, 7])
@pytest.mark.parametrize("n_encoders", [1, 3])
def test_batches_do_not_depend_on_the_threads(n_readers, n_encoders):
    items = [k % 23 for k in range(61)]
    pause = random.Random(5)

    def slow(item):
        time.sleep(pause.random() * 2e-3)
        return read(item)

    encoder, cache = Recorder(), {}
    stream = Stream(slow, encoder, cache, 5, n_readers=n_readers, n_encoders=n_encoders)
    assert run(stream, items) == len(items)
    assert sorted(encoder.done) == [list(range(k, min(k + 5, 23))) for k in range(0, 23, 5)]
    assert stream.n_encoded == 23
    for key, item in zip(stream.keys, items, strict=True):
        np.testing.assert_allclose(cache[key], [np.cos(item), np.sin(item)], atol=1e-7)


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_out_of_memory_halves_the_batch_and_goes_on(error, caplog):
    encoder, cache = Recorder(room=5, error=error), {}
    stream = Stream(read, encoder, cache, 16)
    assert run(stream, list(range(50))) == 50
    # 16 and 8 are refused once each; nothing after that is larger than 4.
    assert encoder.refused == [16, 8]
    assert sorted(chain(*encoder.done)) == list(range(50))
    assert {len(batch) for batch in encoder.done} == {4, 2}
    assert (stream.batch_size, stream.n_encoded, len(cache)) == (4, 50, 50)
    assert "batches of 4" in caplog.text


def test_after_running_out_of_memory_a_second_start_forms_the_same_batches():
    error = torch.cuda.OutOfMemoryError("out of memory")
    whole = Recorder(room=5, error=error)
    run(Stream(read, whole, {}, 16), list(range(50)))
    for n_kept in (1, 2, 5):
        known = {read(k)[0]: angle([k])[0] for batch in whole.done[:n_kept] for k in batch}
        again = Recorder(room=5, error=error)
        run(Stream(read, again, known, 16), list(range(50)))
        assert again.done == whole.done[n_kept:]


def test_memory_that_one_item_exhausts_is_a_clear_error():
    encoder, cache = Recorder(room=0, error=torch.cuda.OutOfMemoryError("CUDA out of memory")), {}
    with pytest.raises(DataError, match=r"one item at once \(CUDA out of memory\)"):
        run(Stream(read, encoder, cache, 4), list(range(9)))
    assert cache == {}


def test_other_errors_of_the_encoder_are_no_lack_of_memory():
    encoder = Recorder(room=0, error=RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes"):
        run(Stream(read, encoder, {}, 4), list(range(9)))
    assert encoder.refused == [4, 4] or encoder.refused == [4]


@pytest.mark.parametrize("n_encoders", [1, 2])
def test_a_run_cut_short_goes_on_with_the_batches_it_would_have_formed(n_encoders):
    items = list(range(41))
    whole = Recorder()
    run(Stream(read, whole, {}, 4, n_encoders=n_encoders), items)
    kept: dict = {}
    first = Recorder()
    stream = Stream(read, first, kept, 4, n_encoders=n_encoders)
    for n_batches, _ in enumerate(stream.run(items)):
        if n_batches == 4:
            break
    n_first = len(kept)
    assert 0 < n_first < 41
    second = Recorder()
    stream = Stream(read, second, kept, 4, n_encoders=n_encoders)
    run(stream, items)
    assert stream.n_encoded == 41 - n_first
    assert sorted(first.done + second.done) == sorted(whole.done)


def test_unreadable_items_are_all_named_and_the_rest_is_kept():
    def choosy(item):
        if item % 10 == 3:
            raise DataError("no such file")
        if item % 10 == 7:
            return read(item)[0], lambda: 1 / 0
        return read(item)

    cache: dict = {}
    stream = Stream(choosy, Recorder(), cache, 4, n_readers=3)
    run(stream, list(range(40)))
    assert [row for row, _ in stream.problems] == [k for k in range(40) if k % 10 in (3, 7)]
    reasons = {row % 10: reason for row, reason in stream.problems}
    assert reasons == {3: "no such file", 7: "ZeroDivisionError: division by zero"}
    assert cache.keys() == {read(k)[0] for k in range(40) if k % 10 not in (3, 7)}


def test_reading_ahead_has_a_limit():
    gate, started = threading.Event(), []

    def note(item):
        started.append(item)
        return read(item)

    def wait(batch):
        assert gate.wait(10)
        return angle(batch)

    stream = Stream(note, wait, {}, 4, n_readers=2)
    rows = stream.run(list(range(1000)))
    next(rows)
    time.sleep(0.05)
    assert len(started) <= 2 * (2 * 4 + 2)
    gate.set()
    assert sum(rows) == 996


def test_nothing_is_decoded_that_is_known():
    decoded = []

    def counting(item):
        return read(item)[0], lambda: decoded.append(item) or item

    known = {read(k)[0]: angle([k])[0] for k in range(0, 30, 2)}
    run(Stream(counting, Recorder(), known, 4), list(range(30)))
    assert sorted(decoded) == list(range(1, 30, 2))
