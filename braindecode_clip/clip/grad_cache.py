r"""The exact gradient of a large batch in the memory of a small one.

Gao et al. (2021, "Scaling deep contrastive learning batch size under memory limited setup",
section 3.2): the contrastive loss needs all vectors of a batch, but no tower needs them. So
vectors are made in chunks without a graph; the loss of all of them is differentiated with
respect to the vectors; then each chunk goes through the towers again, with a graph, and takes
up its vectors' gradients. The sum over chunks is the gradient of the batch, for the loss
depends on the weights through the vectors alone.

That holds if a chunk's second pass makes the vectors of its first. Dropout and patch dropout
draw random numbers, so their state is kept and set again. Batch normalisation looks at the
whole batch and cannot be cut into chunks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch

Encode = Callable[..., tuple[torch.Tensor, ...]]


class CachedForward:
    """Vectors of a batch, and the way back to the weights.

    Parameters
    ----------
    encode : callable
        Inputs of a chunk to its vectors, row by row.
    inputs : sequence of Tensor (n, ...)
        One row per pair.
    chunk_size : int
        Rows that go through at a time.

    Attributes
    ----------
    outputs : tuple of Tensor (n, n_dims)
        Without a graph.
    """

    def __init__(self, encode: Encode, inputs: Sequence[torch.Tensor], *, chunk_size: int) -> None:
        self._encode, self._inputs = encode, inputs
        self._parts = chunks(len(inputs[0]), chunk_size)
        self._states, outputs = [], []
        for part in self._parts:
            self._states.append(_random_state(inputs[0].device))
            with torch.no_grad():
                outputs.append(encode(*(tensor[part] for tensor in inputs)))
        self.outputs = tuple(map(torch.cat, zip(*outputs, strict=True)))

    def backward(self, gradients: Sequence[torch.Tensor]) -> None:
        """Add the weights' gradients, given those of the outputs."""
        with _kept_random_state(self._inputs[0].device):
            for part, state in zip(self._parts, self._states, strict=True):
                _set_random_state(state, self._inputs[0].device)
                outputs = self._encode(*(tensor[part] for tensor in self._inputs))
                add_gradients(outputs, [gradient[part] for gradient in gradients])


def add_gradients(outputs: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor]) -> None:
    """Add the weights' gradients, given those of the outputs; a locked tower takes none."""
    learned = [k for k, output in enumerate(outputs) if output.requires_grad]
    torch.autograd.backward([outputs[k] for k in learned], [gradients[k] for k in learned])


def chunks(n: int, size: int) -> list[slice]:
    """Cut ``n`` rows into neighbouring parts of ``size``, the last perhaps smaller."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _random_state(device: torch.device) -> list[torch.Tensor]:
    state = [torch.get_rng_state()]
    return [*state, torch.cuda.get_rng_state(device)] if device.type == "cuda" else state


def _set_random_state(state: list[torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)


@contextlib.contextmanager
def _kept_random_state(device: torch.device) -> Iterator[None]:
    state = _random_state(device)
    try:
        yield
    finally:
        _set_random_state(state, device)
