"""Weights beside the trained ones: their running mean, and those they started from."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch


class MeanModel:
    r"""A copy of a model whose weights are the exponential running mean of its own.

    .. math:: \bar\theta_t = d_t \bar\theta_{t-1} + (1 - d_t) \theta_t, \quad
        d_t = \min\left(d, \frac{1 + t}{10 + t}\right)

    The rising :math:`d_t` lets the mean forget the start (TensorFlow's
    ``ExponentialMovingAverage`` with ``num_updates``). Buffers, such as the numbers of a batch
    normalisation, are copied.

    Parameters
    ----------
    model : Module
        Followed; the mean starts at its weights.
    decay : float
        d.
    """

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._followed, self._decay = model, decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take up the weights after ``step`` steps."""
        decay = min(self._decay, (1 + step) / (10 + step))
        means, weights = list(self.model.parameters()), list(self._followed.parameters())
        torch._foreach_lerp_(means, weights, 1 - decay)
        for mean, value in zip(self.model.buffers(), self._followed.buffers(), strict=True):
            mean.copy_(value)


class PullToStart:
    r"""The gradient of a penalty on the way from the first weights, L2-SP.

    .. math:: \Omega(\theta) = \frac{\alpha}{2} \lVert \theta - \theta_0 \rVert^2

    (Li et al. 2018, "Explicit inductive bias for transfer learning with convolutional
    networks", equation 2, where all layers are kept.)

    Parameters
    ----------
    named : iterable of (str, Parameter)
        Weights as they start; ``logit_scale`` and ``logit_bias`` are left alone.
    strength : float
        :math:`\alpha`.
    """

    def __init__(self, named: Iterable[tuple[str, torch.nn.Parameter]], strength: float) -> None:
        self._weights = [
            p for name, p in named if p.requires_grad and not name.startswith("logit_")
        ]
        self._start = [p.detach().clone() for p in self._weights]
        self._strength = strength

    @torch.no_grad()
    def add_gradient(self) -> None:
        """Add the penalty's gradient to ``grad`` of the weights."""
        pairs = [
            (p, start)
            for p, start in zip(self._weights, self._start, strict=True)
            if p.grad is not None
        ]
        weights, starts = map(list, zip(*pairs, strict=True))
        way = torch._foreach_sub(weights, starts)
        torch._foreach_add_([p.grad for p in weights], way, alpha=self._strength)
