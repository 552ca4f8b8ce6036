"""Training one network of :class:`~braindecode_clip.decode.MLPDecoder`, with resume."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from braindecode_clip.decode.losses import draw_mixture
from braindecode_clip.decode.network import ResidualMLP, loss_of, network_arrays
from braindecode_clip.logs import get_logger

logger = get_logger(__name__)

#: Seconds from one line on the progress to the next.
TOLD_S = 30.0


class Store(Protocol):
    """Where a fit keeps its state: named slots of arrays and JSON-able facts."""

    def part(self, name: str) -> Store:
        """Return a store of its own below this one."""

    def load(self, slot: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Return what was saved last, or None."""

    def save(self, slot: str, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
        """Replace what was saved, in one step."""

    def remove(self) -> None:
        """Delete all that was saved here and below."""


@dataclass(frozen=True)
class Plan:
    """How a member is trained; see :class:`~braindecode_clip.decode.MLPDecoder`.

    Attributes
    ----------
    weights : dict of str to float
        Of the losses.
    temperature, temperature_end : float
    mixco_share, mixco_beta, mixco_temperature : float
    learning_rate, weight_decay, ema : float
    batch_size, max_epochs, patience : int
    draw : bool
        One repeat of every stimulus in an epoch.
    bfloat16 : bool
        Round the factors of the first layer's products.
    n_tokens : int
    pooled : bool
    interval_s : float
        Least seconds between two saves.
    """

    weights: dict[str, float]
    temperature: float
    temperature_end: float
    mixco_share: float
    mixco_beta: float
    mixco_temperature: float
    learning_rate: float
    weight_decay: float
    ema: float
    batch_size: int
    max_epochs: int
    patience: int
    draw: bool
    bfloat16: bool
    n_tokens: int
    pooled: bool
    interval_s: float = 20.0

    def mixes(self, epoch: int) -> bool:
        """Whether the inputs of an epoch are mixed."""
        return epoch < round(self.mixco_share * self.max_epochs)

    def tau(self, epoch: int) -> float:
        """Temperature of an epoch: on half a cosine from the first to the last unmixed one."""
        if self.mixes(epoch):
            return self.mixco_temperature
        first = round(self.mixco_share * self.max_epochs)
        place = (epoch - first) / max(1, self.max_epochs - 1 - first)
        rise = self.temperature_end - self.temperature
        return self.temperature + rise * (1 - math.cos(math.pi * place)) / 2


@dataclass(frozen=True)
class Rows:
    """Rows to train or to check on: inputs, targets, and the stimulus of each."""

    inputs: torch.Tensor
    targets: torch.Tensor
    stimuli: torch.Tensor

    def to(self, device: str) -> Rows:
        """Return the rows on a device."""
        return Rows(self.inputs.to(device), self.targets.to(device), self.stimuli.to(device))


class Training:
    """One network on its way, a whole epoch at a time.

    Parameters
    ----------
    network : ResidualMLP
    train, check : Rows
        On the network's device.
    plan : Plan
    """

    def __init__(self, network: ResidualMLP, *, train: Rows, check: Rows, plan: Plan) -> None:
        self.network, self.train, self.check, self.plan = network, train, check, plan
        network.project.bfloat16 = plan.bfloat16
        self._n_rows = len(torch.unique(train.stimuli)) if plan.draw else len(train.inputs)
        self._size = min(self._n_rows, max(2, min(plan.batch_size, self._n_rows // 4)))
        n_steps = max(1, self._n_rows // self._size)
        self.optimizer = make_optimizer(network, plan)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            plan.learning_rate,
            total_steps=plan.max_epochs * n_steps,
            pct_start=0.2,
        )
        self.average = (
            {name: torch.zeros_like(value) for name, value in network.named_parameters()}
            if plan.ema
            else {}
        )
        self.epoch = 0
        self.losses: list[float] = []
        self.best = 0
        self.best_arrays = network_arrays(network)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the last ones brought nothing."""
        done = len(self.losses)
        return done >= self.plan.max_epochs or done - 1 - self.best >= self.plan.patience

    def run_epoch(self) -> None:
        """Pass over the rows once, then check."""
        self.network.train()
        plan = self.plan
        tau, mixes = plan.tau(self.epoch), plan.mixes(self.epoch)
        for rows in self._batches():
            self.step(rows, tau=tau, mixes=mixes)
        self.network.eval()
        arrays = self._with_average()
        with torch.inference_mode():
            # One loss for all epochs, or a schedule would choose among them.
            loss = loss_of(
                self._run(self.network, self.check.inputs, arrays),
                self.check.targets,
                weights=plan.weights,
                tau=plan.temperature_end,
                n_tokens=plan.n_tokens,
                pooled=plan.pooled,
            )
        self.losses.append(float(loss))
        if self.losses[-1] <= min(self.losses):
            self.best = self.epoch
            self.best_arrays = network_arrays(self.network) | {
                name: value.cpu().numpy().copy() for name, value in arrays.items()
            }
        self.epoch += 1

    def step(self, rows: torch.Tensor, *, tau: float, mixes: bool) -> None:
        """Take one step on some rows."""
        # The layers add to gradients that stay allocated.
        self.optimizer.zero_grad(set_to_none=False)
        self._loss(rows, tau=tau, mixes=mixes).backward()
        self.optimizer.step()
        self.schedule.step()
        self._follow()

    def _batches(self) -> Iterator[torch.Tensor]:
        order = torch.randperm(len(self.train.inputs))
        if self.plan.draw:
            order = order[_first_of_each(self.train.stimuli.cpu()[order])]
        for step in range(max(1, self._n_rows // self._size)):
            rows = order[step * self._size : (step + 1) * self._size]
            yield rows.to(self.train.inputs.device)

    def _loss(self, rows: torch.Tensor, *, tau: float, mixes: bool) -> torch.Tensor:
        plan = self.plan
        inputs, mixture = self.train.inputs[rows], None
        if mixes:
            mixture = draw_mixture(len(rows), beta=plan.mixco_beta, device=inputs.device)
            inputs = mixture.apply(inputs)
        return loss_of(
            self.network(inputs),
            self.train.targets[rows],
            weights=plan.weights,
            tau=tau,
            mixture=mixture,
            stimuli=self.train.stimuli[rows],
            n_tokens=plan.n_tokens,
            pooled=plan.pooled,
        )

    def _follow(self) -> None:
        """Let the average follow the weights."""
        with torch.no_grad():
            for name, value in self.network.named_parameters():
                if name in self.average:
                    self.average[name].lerp_(value, 1 - self.plan.ema)

    def _with_average(self) -> dict[str, torch.Tensor]:
        """Return the average, corrected for its start at 0."""
        share = 1 - self.plan.ema**self.schedule.last_epoch
        return {name: value / share for name, value in self.average.items()}

    @staticmethod
    def _run(
        network: ResidualMLP, inputs: torch.Tensor, arrays: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        if not arrays:
            return network(inputs)
        return torch.func.functional_call(network, arrays, (inputs,))

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return all that the rest of the training depends on: arrays, and JSON-able facts."""
        optimizer = self.optimizer.state_dict()
        arrays = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        arrays |= {f"average.{name}": value for name, value in self.average.items()}
        arrays |= {
            f"optimizer.{index}.{name}": value
            for index, values in optimizer["state"].items()
            for name, value in values.items()
        }
        arrays["random"] = torch.get_rng_state()
        if torch.cuda.is_available():
            arrays["random_cuda"] = torch.cuda.get_rng_state()
        stored = {name: value.detach().cpu().numpy() for name, value in arrays.items()}
        stored |= {f"best.{name}": value for name, value in self.best_arrays.items()}
        facts = {
            "epoch": self.epoch,
            "losses": self.losses,
            "best": self.best,
            "groups": optimizer["param_groups"],
            "schedule": self.schedule.state_dict(),
        }
        return stored, facts

    def restore(self, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
        """Take up a state, torch's global random streams included."""
        parts: dict[str, dict[str, np.ndarray]] = {}
        for name, value in arrays.items():
            kind, _, rest = name.partition(".")
            parts.setdefault(kind, {})[rest] = value
        self.network.load_state_dict(_tensors(parts["network"]))
        for name, value in _tensors(parts.get("average", {})).items():
            self.average[name].copy_(value)
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in _tensors(parts.get("optimizer", {})).items():
            index, _, rest = name.partition(".")
            moments.setdefault(int(index), {})[rest] = value
        self.optimizer.load_state_dict({"state": moments, "param_groups": facts["groups"]})
        self.schedule.load_state_dict(facts["schedule"])
        self.epoch, self.best = facts["epoch"], facts["best"]
        self.losses, self.best_arrays = list(facts["losses"]), parts["best"]
        torch.set_rng_state(torch.from_numpy(arrays["random"].copy()))
        if "random_cuda" in arrays and torch.cuda.is_available():
            torch.cuda.set_rng_state(torch.from_numpy(arrays["random_cuda"].copy()))


def run_training(
    training: Training, *, store: Store | None, slot: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Train to the end, from the last state where there is one.

    Returns
    -------
    arrays : dict of str to ndarray
        Parameters of the best epoch.
    record : dict
        ``validation_loss`` of every epoch and ``best_epoch``.
    """
    found = store.load(slot) if store else None
    if found:
        training.restore(*found)
        logger.info("mlp: %s goes on after epoch %d", slot, training.epoch)
    saved = told = time.monotonic()
    while not training.finished:
        training.run_epoch()
        if time.monotonic() - told >= TOLD_S:
            told = time.monotonic()
            most = training.plan.max_epochs
            logger.info("mlp: %s: epoch %d of at most %d", slot, training.epoch, most)
        due = time.monotonic() - saved >= training.plan.interval_s
        if store and (due or training.finished):
            store.save(slot, *training.state())
            saved = time.monotonic()
    logger.debug("mlp: best epoch %d of %d", training.best + 1, len(training.losses))
    return training.best_arrays, {
        "validation_loss": training.losses,
        "best_epoch": training.best,
    }


def make_optimizer(network: torch.nn.Module, plan: Plan) -> torch.optim.AdamW:
    """Return fused AdamW that decays matrices, not gains and biases."""
    parameters = list(network.parameters())
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": plan.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=plan.learning_rate,
        fused=True,
    )


def averaged(rows: Rows) -> Rows:
    """Average the inputs of every stimulus; its targets are alike."""
    stimuli, index = torch.unique(rows.stimuli, return_inverse=True)
    counts = torch.bincount(index, minlength=len(stimuli))[:, None]
    inputs, targets = (
        torch.zeros(len(stimuli), x.shape[1], dtype=x.dtype).index_add_(0, index, x) / counts
        for x in (rows.inputs, rows.targets)
    )
    return Rows(inputs, targets, stimuli)


def _first_of_each(stimuli: torch.Tensor) -> torch.Tensor:
    """Return the first position of every stimulus, in order."""
    return torch.from_numpy(np.sort(np.unique(stimuli.numpy(), return_index=True)[1]))


def _tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value.copy()) for name, value in arrays.items()}
