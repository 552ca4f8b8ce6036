"""Several processes that train one model: who they are, and what they tell each other.

Every process holds the whole model and a part of each batch. A step's loss is the mean of the
processes' losses, so its gradient is a sum over processes, of the towers as of ``logit_scale``:
one sum of all gradients at the end of a step, whatever happened before, keeps it exact.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import distributed


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from one of them.

    Attributes
    ----------
    rank : int
        Number of this one; 0 writes files.
    size : int
        How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the rows (n, ...) of all processes, in their order, (N, ...); no gradient."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        distributed.all_gather(parts, tensor.detach().contiguous())
        return torch.cat(parts)

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum over processes, the same in each; no gradient."""
        if self.size == 1:
            return tensor
        total = tensor.detach().clone()
        distributed.all_reduce(total)
        return total

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Put the sum over processes in place of every gradient, in one message."""
        if self.size == 1:
            return
        trained = [p for p in parameters if p.requires_grad]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        flat = self.sum(torch.cat([g.flatten() for g in gradients]))
        parts = flat.split([g.numel() for g in gradients])
        for parameter, part in zip(trained, parts, strict=True):
            # In the layout of the weights, which need not be that of the message.
            parameter.grad = torch.empty_like(parameter).copy_(part.view(parameter.shape))

    def first_says(self, value: float) -> float:
        """Return the first process's number in every process."""
        if self.size == 1:
            return value
        said = _message(value)
        distributed.broadcast(said, src=0)
        return float(said)

    def any_says(self, value: bool) -> bool:
        """Tell every process whether it is true in any."""
        return value if self.size == 1 else bool(self.sum(_message(float(value))))


@contextlib.contextmanager
def joined(size: int, device: torch.device) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started, and leave them at the end.

    Parameters
    ----------
    size : int
        Their number; with 1 nothing is joined.
    device : torch.device
        They talk through NCCL on a GPU, else through gloo.
    """
    if size == 1:
        yield Processes()
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def _message(value: float) -> torch.Tensor:
    kind, index = ("cuda", torch.cuda.current_device()) if _on_gpu() else ("cpu", None)
    return torch.tensor([value], dtype=torch.float64, device=torch.device(kind, index))


def _on_gpu() -> bool:
    return distributed.get_backend() == "nccl"
