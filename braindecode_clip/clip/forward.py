"""The forward pass, many batches side by side: threads on a CPU, two streams on CUDA.

On a CPU every batch gets one thread of its own. Threads inside an operation would wait for each
other at its end, which costs most where other programs want the cores too; and a vector then does
not depend on the number of cores. On CUDA two batches take turns: while one is computed, the next
is copied through its own pinned buffer on its own stream.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from braindecode_clip.clip.pixels import Pixels, stack

#: Batches on their way at once on CUDA: one computed, one copied.
_CUDA_BATCHES = 2


class Buffer:
    """Memory on the host that one thread's batches are stacked in, one after another.

    Parameters
    ----------
    pinned : bool
        Page-locked, so that CUDA copies from it while the processor goes on.
    """

    def __init__(self, *, pinned: bool) -> None:
        self._pinned = pinned
        self._rows = torch.empty(0)

    def fill(self, prepared: Sequence[np.ndarray]) -> torch.Tensor:
        """Stack pictures of one shape and type; valid until the next call."""
        kind = torch.from_numpy(np.empty(0, prepared[0].dtype)).dtype
        old = self._rows
        fits = old.shape[1:] == prepared[0].shape and old.dtype == kind
        if not fits or len(old) < len(prepared):
            shape = (len(prepared), *prepared[0].shape)
            self._rows = torch.empty(shape, dtype=kind, pin_memory=self._pinned)
        return stack(prepared, into=self._rows)


class Forward:
    """Runs a model's towers and normalises what they give.

    Parameters
    ----------
    device : torch.device
    pixels : Pixels or None
        Second half of the model's preprocessing; None without an image tower.
    unit_norm : bool
        Divide every vector by its norm.

    Attributes
    ----------
    precision : str
        "float32", "bfloat16" (weights of that type), or "bfloat16 autocast". What calls it
        changes the weights to fit; see :mod:`braindecode_clip.clip.precision`.
    """

    def __init__(
        self, device: torch.device, pixels: Pixels | None, *, unit_norm: bool = True
    ) -> None:
        self.device, self._pixels, self._unit_norm = device, pixels, unit_norm
        self.precision = "float32"
        self._mine = threading.local()

    def images(
        self, encode: Callable[[torch.Tensor], torch.Tensor], prepared: Sequence[np.ndarray]
    ) -> np.ndarray:
        """Encode prepared pictures (see :meth:`Pixels.prepare`) as one batch."""
        with self._stream():
            batch = self._pixels.numbers(self._on_device(prepared))
            if self.precision == "bfloat16":
                batch = batch.to(torch.bfloat16)
            return self._vectors(encode, batch)

    def texts(
        self, encode: Callable[[torch.Tensor], torch.Tensor], tokens: torch.Tensor
    ) -> np.ndarray:
        """Encode tokens (n, context_length) as one batch."""
        with self._stream():
            return self._vectors(encode, tokens.to(self.device))

    def _vectors(
        self, encode: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor
    ) -> np.ndarray:
        autocast = torch.autocast(
            self.device.type,
            dtype=torch.bfloat16,
            enabled=self.precision == "bfloat16 autocast",
        )
        with torch.inference_mode(), autocast:
            features = encode(batch).float()
            if self._unit_norm:
                features = torch.nn.functional.normalize(features, dim=-1)
            # The copy to the host waits for this thread's stream alone.
            return features.cpu().numpy()

    def _on_device(self, prepared: Sequence[np.ndarray]) -> torch.Tensor:
        if self.device.type != "cuda":
            return stack(prepared)
        if not hasattr(self._mine, "buffer"):
            self._mine.buffer = Buffer(pinned=True)
        # It is free again: the last batch of this thread ended with a copy back to the host.
        return self._mine.buffer.fill(prepared).to(self.device, non_blocking=True)

    def _stream(self) -> contextlib.AbstractContextManager[object]:
        if self.device.type != "cuda":
            return contextlib.nullcontext()
        if not hasattr(self._mine, "stream"):
            self._mine.stream = torch.cuda.Stream(self.device)
            # The weights were written on the stream of the thread that loaded them.
            self._mine.stream.wait_stream(torch.cuda.default_stream(self.device))
        return torch.cuda.stream(self._mine.stream)


@contextlib.contextmanager
def side_by_side(device: torch.device) -> Iterator[int]:
    """Set torch up for batches side by side, and yield how many of them pay.

    On a CPU: as many as torch would use threads for one operation (``OMP_NUM_THREADS``), each
    with one thread; the old setting comes back at the end.
    """
    if device.type == "cuda":
        yield _CUDA_BATCHES
        return
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield n_threads
    finally:
        torch.set_num_threads(n_threads)
