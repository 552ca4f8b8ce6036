"""Which learning rate a recipe can bear: a short run whose rate rises at every step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from braindecode_clip.clip.train import Trainer
from braindecode_clip.errors import ConfigError, DataError

#: Share of the running mean of the loss that a step keeps.
SMOOTHING = 0.9
#: The run ends when the mean loss exceeds its lowest value this many times.
DIVERGED = 2.0


@dataclass(frozen=True)
class RangeTest:
    """Losses under rising rates.

    Attributes
    ----------
    lr, loss, smoothed : ndarray (n_steps,)
        Rate of a step, its contrastive loss, and the running mean of the loss.
    is_diverged : bool
        Whether the loss rose so far that the run was ended.
    """

    lr: np.ndarray
    loss: np.ndarray
    smoothed: np.ndarray
    is_diverged: bool

    @property
    def suggestion(self) -> float | None:
        """The rate at which the loss fell fastest, over the logarithm of the rate.

        Only rates below that of the lowest loss are looked at; None where there are too few.
        """
        lowest = int(np.argmin(self.smoothed))
        if lowest < 2:
            return None
        slopes = np.gradient(self.smoothed[: lowest + 1], np.log(self.lr[: lowest + 1]))
        return float(self.lr[int(np.argmin(slopes))])


def lr_range(trainer: Trainer, *, lowest: float, highest: float, n_steps: int) -> RangeTest:
    r"""Train with a rate that grows by the same factor at every step.

    .. math:: \eta_t = \eta_0 (\eta_1 / \eta_0)^{t / (T - 1)}

    (Smith 2017, "Cyclical learning rates for training neural networks", section 3.3, there
    with a rate that grows by the same amount.) The running mean of the loss is
    :math:`m_t = \beta m_{t-1} + (1 - \beta) \ell_t`, divided by :math:`1 - \beta^{t+1}`.

    Parameters
    ----------
    trainer : Trainer
        At its start; used up by this.
    lowest, highest : float
        :math:`\eta_0` and :math:`\eta_1`.
    n_steps : int
        T; the run ends earlier where the loss diverges.

    Raises
    ------
    ConfigError
        The rates do not rise, or there are fewer than 3 steps.
    """
    if not 0 < lowest < highest or n_steps < 3:
        raise ConfigError(
            f"learning rates from {lowest:g} to {highest:g} in {n_steps} steps: expected "
            "0 < lowest < highest and at least 3 steps."
        )
    rates = np.geomspace(lowest, highest, n_steps)
    losses: list[float] = []
    smoothed: list[float] = []
    mean = 0.0
    for step, rate in enumerate(rates):
        try:
            loss, _ = trainer.take_step(float(rate))
        except DataError:
            # A loss that is no number is what a range test looks for; its batch is not to blame.
            if step == 0:
                raise
            break
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        losses.append(loss)
        smoothed.append(mean / (1 - math.pow(SMOOTHING, step + 1)))
        if smoothed[-1] > DIVERGED * min(smoothed):
            break
    n = len(losses)
    has_ended = n < n_steps or smoothed[-1] > DIVERGED * min(smoothed)
    return RangeTest(rates[:n], np.array(losses), np.array(smoothed), has_ended)
