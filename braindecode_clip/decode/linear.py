"""Linear layers and dropout that cost little more than their arithmetic on the CPU.

For a first layer of 15724 voxels x 1024 units in float32, three things are slow in torch's own:

- the library behind ``torch.nn.functional.linear``, MKL, does not use the widest registers of
  other makers' processors. oneDNN, which torch ships too and takes for tensors in its layout
  (:meth:`torch.Tensor.to_mkldnn`), compiles its kernels for the processor at hand;
- a gradient of 64 MB that is allocated anew at every step costs half as much as the product
  itself, as the system hands out zeroed pages. Here it is added, block by block, to a
  ``weight.grad`` that stays;
- dropout draws a float for every voxel, where 16 random bits do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

#: Bytes of the blocks that are alive at one time. Allocators keep blocks of this size, larger
#: ones go back to the system and come again as new pages.
BLOCK_BYTES = 2**20
#: Values of the random bits that decide whether a unit is dropped.
N_LEVELS = 2**16


class Linear(nn.Linear):
    """``x Wᵀ + b`` as :class:`torch.nn.Linear`; in float32 on the CPU through oneDNN.

    There ``backward`` adds the weight's gradient to ``weight.grad`` itself: keep that tensor
    (``zero_grad(set_to_none=False)``), and take gradients by ``backward``, not by
    :func:`torch.autograd.grad`. With another dtype, another device, or without oneDNN it is
    torch's own layer.

    Attributes
    ----------
    bfloat16 : bool
        Round the factors of both products, of the output and of the weight's gradient, to
        bfloat16 in training mode (CPU and GPU). Weights, sums over blocks and the gradient that
        the optimiser sees stay float32.
    """

    bfloat16 = False

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (n, in_features) to (n, out_features)."""
        rounded = self.bfloat16 and self.training
        one_dnn = input.device.type == "cpu" and torch.backends.mkldnn.is_available()
        if input.dtype == self.weight.dtype == torch.float32 and (one_dnn or rounded):
            return _Product.apply(input, self.weight, self.bias, rounded)
        return super().forward(input)


class _Product(torch.autograd.Function):
    """The product and its gradients; see :class:`Linear`."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, rounded: bool
    ) -> torch.Tensor:
        ctx.rounded, ctx.weight = rounded, weight
        ctx.save_for_backward(x)
        if not rounded:
            return multiply(x, weight, bias)
        out = x.new_empty(len(x), len(weight))
        x = x.bfloat16()
        for rows in _parts(len(weight), bytes_each=2 * weight.shape[1]):
            out[:, rows] = functional.linear(x, weight[rows].bfloat16())
        return out.add_(bias)

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (x,), weight = ctx.saved_tensors, ctx.weight
        d_x = multiply(d_out, weight.t()) if ctx.needs_input_grad[0] else None
        if ctx.needs_input_grad[1]:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            left, right = d_out.t().contiguous(), x.t()
            if ctx.rounded:
                left, right = left.bfloat16(), right.bfloat16()
            for columns in _parts(weight.shape[1], bytes_each=4 * len(weight)):
                weight.grad[:, columns].add_(multiply(left, right[columns]))
        return d_x, None, d_out.sum(dim=0) if ctx.needs_input_grad[2] else None, None


def multiply(a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return ``a bᵀ + bias``; float32 on the CPU through oneDNN.

    Parameters
    ----------
    a : Tensor (n, k)
    b : Tensor (m, k)
    bias : Tensor (m,), optional

    Returns
    -------
    Tensor (n, m)
    """
    if a.dtype == torch.float32 and a.device.type == "cpu":
        return functional.linear(a.contiguous().to_mkldnn(), b.contiguous(), bias).to_dense()
    return functional.linear(a, b, bias)


def _parts(length: int, *, bytes_each: int) -> Iterator[slice]:
    step = max(1, BLOCK_BYTES // bytes_each)
    for start in range(0, length, step):
        yield slice(start, start + step)


class Dropout(nn.Module):
    """Set a share of the units to 0 and scale the others up, as :class:`torch.nn.Dropout`.

    On the CPU the share is rounded to a multiple of 2⁻¹⁶ below 1, and the scale belongs to the
    rounded share. Draws come from torch's global stream.

    Parameters
    ----------
    p : float
        Share, at least 0, below 1.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drop units of a tensor of any shape."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return functional.dropout(x, self.p)
        n_dropped = min(round(self.p * N_LEVELS), N_LEVELS - 1)
        # Words of 64 random bits, four units each.
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64)
        words.random_(torch.iinfo(torch.int64).min, None)
        kept = words.view(torch.int16)[: x.numel()].view(x.shape) >= n_dropped - N_LEVELS // 2
        return (x * kept).mul_(N_LEVELS / (N_LEVELS - n_dropped))
