"""Going on from a start under a contrastive loss, in the space of the training rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from braindecode_clip.decode.losses import info_nce, repeated, soft_clip, unit_vectors
from braindecode_clip.decode.row_space import ridge_in

#: Rate of the logarithm of the temperature under AdamW.
TEMPERATURE_RATE = 0.02
#: Temperatures among which the first one is chosen, and at which held-out rows are judged.
TEMPERATURES = tuple(float(tau) for tau in np.geomspace(0.01, 1, 15))


@dataclass(frozen=True)
class Settings:
    """How to go on; see :class:`~braindecode_clip.decode.ContrastiveDecoder`.

    Attributes
    ----------
    alpha : ndarray (n_targets,)
    flatten : tuple of ndarray (n_targets, k) and (k,), or None
        Orthonormal directions of the embedding, and the gains that the start gives them.
    loss : {"infonce", "softclip"}
    learn_temperature : bool
    noise, decay, learning_rate : float
    optimizer : {"adamw", "lbfgs"}
    batch_size : int or None
    n_tokens : int
    pooled : bool
    device : str
    """

    alpha: np.ndarray
    flatten: tuple[np.ndarray, np.ndarray] | None
    loss: str
    learn_temperature: bool
    noise: float
    decay: float
    optimizer: str
    learning_rate: float
    batch_size: int | None
    n_tokens: int
    pooled: bool
    device: str

    def flattened(self, weights: np.ndarray) -> np.ndarray:
        """Give the directions of the embedding their gains; (r, n_targets)."""
        if self.flatten is None:
            return weights
        basis, gains = self.flatten
        return weights - ((weights @ basis) * (1 - gains)) @ basis.T

    def unit(self, x: torch.Tensor) -> torch.Tensor:
        """Return the vectors to compare."""
        return unit_vectors(x, n_tokens=self.n_tokens, pooled=self.pooled)

    def loss_of(
        self,
        predicted: torch.Tensor,
        target: torch.Tensor,
        *,
        labels: torch.Tensor,
        scale: torch.Tensor | float,
    ) -> torch.Tensor:
        """Return the loss of unit vectors at a logit scale (one over the temperature)."""
        logits = scale * (predicted @ target.T)
        if self.loss == "softclip":
            return soft_clip(logits, scale * (target @ target.T))
        return info_nce(logits, not_negative=repeated(labels))

    def losses_at(
        self,
        temperatures: Sequence[float],
        predicted: np.ndarray,
        target: np.ndarray,
        *,
        labels: np.ndarray,
    ) -> list[float]:
        """Return InfoNCE of centred predictions and targets at several temperatures.

        It judges SoftCLIP too, whose excess falls to nothing as the temperature rises.
        """
        with torch.inference_mode():
            one, two = (
                self.unit(torch.as_tensor(part, dtype=torch.float32, device=self.device))
                for part in (predicted, target)
            )
            products = one @ two.T
            same = repeated(torch.as_tensor(labels, device=self.device))
            return [float(info_nce(products / tau, not_negative=same)) for tau in temperatures]


class Descent:
    """Weights on their way from the start of some rows.

    Parameters
    ----------
    scores : ndarray (n, r)
        Coordinates of the rows.
    Y : ndarray (n, n_targets)
    labels : ndarray (n,) int
        Stimulus of every row.
    tau : float
        First temperature.
    settings : Settings
    seed : int
        Seeds order and noise.
    dtype : torch.dtype
    """

    def __init__(
        self,
        scores: np.ndarray,
        Y: np.ndarray,
        *,
        labels: np.ndarray,
        tau: float,
        settings: Settings,
        seed: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.settings = settings
        self.mean = scores.mean(axis=0)
        self.y_mean = Y.mean(axis=0, dtype=np.float64)
        centred, wanted = scores - self.mean, Y - self.y_mean
        start = settings.flattened(
            ridge_in(centred, wanted, alpha=settings.alpha, dtype=np.float64)
        )
        self._place = {"dtype": dtype, "device": settings.device}
        self._rows = torch.as_tensor(centred, **self._place)
        self._targets = settings.unit(torch.as_tensor(wanted, **self._place))
        self._labels = torch.as_tensor(labels, device=settings.device)
        self._start = torch.as_tensor(start, **self._place)
        size = float(np.sqrt(np.square(start).mean()))
        self._size = size if size > 0 else 1.0
        # Steps are in units of the ridge weights, whatever the scale of voxels and targets.
        self._change = torch.zeros_like(self._start, requires_grad=True)
        self._log_scale = torch.tensor(
            -np.log(tau), requires_grad=settings.learn_temperature, **self._place
        )
        self._noise_sd = torch.as_tensor(
            settings.noise * np.sqrt(settings.alpha / len(scores)), **self._place
        )
        self._random = torch.Generator().manual_seed(seed)
        self._optimizer = self._make_optimizer()
        full = settings.optimizer == "lbfgs" or settings.batch_size is None
        self._batch = len(scores) if full else min(settings.batch_size or 2, len(scores))
        # L-BFGS needs a loss that stays the same between its steps.
        self._fixed = self._draw(len(scores)) if settings.optimizer == "lbfgs" else None

    @property
    def temperature(self) -> float:
        """The temperature now."""
        return float(torch.exp(-self._log_scale.detach()))

    def epoch(self) -> None:
        """Pass over all rows once (L-BFGS: one iteration)."""
        if self.settings.optimizer == "lbfgs":
            rows = torch.arange(len(self._rows), device=self.settings.device)
            self._optimizer.step(lambda: self._backward(rows, self._fixed))
            return
        order = torch.randperm(len(self._rows), generator=self._random)
        for first in range(0, len(order) - self._batch + 1, self._batch):
            rows = order[first : first + self._batch].to(self.settings.device)
            self._backward(rows, self._draw(len(rows)))
            self._optimizer.step()

    def weights(self) -> np.ndarray:
        """Return the weights now; (r, n_targets) float64."""
        return self._now().detach().cpu().numpy().astype(np.float64)

    def predict(self, scores: np.ndarray) -> np.ndarray:
        """Predict rows by their coordinates; (n, n_targets) float64."""
        with torch.inference_mode():
            rows = torch.as_tensor(scores - self.mean, **self._place)
            return (rows @ self._now()).cpu().numpy() + self.y_mean

    def _now(self) -> torch.Tensor:
        return self._start + self._size * self._change

    def _draw(self, n_rows: int) -> torch.Tensor | None:
        if not self.settings.noise:
            return None
        shape = (n_rows, len(self._start))
        return torch.randn(shape, generator=self._random).to(**self._place)

    def _backward(self, rows: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        self._optimizer.zero_grad()
        weights = self._now()
        predicted = self._rows[rows] @ weights
        if noise is not None:
            predicted = predicted + (noise @ weights) * self._noise_sd
        loss = self.settings.loss_of(
            self.settings.unit(predicted),
            self._targets[rows],
            labels=self._labels[rows],
            scale=self._log_scale.exp(),
        )
        if self.settings.optimizer == "lbfgs" and self.settings.decay:
            loss = loss + self.settings.decay / 2 * self._change.square().mean()
        loss.backward()
        return loss

    def _make_optimizer(self) -> torch.optim.Optimizer:
        learned = [self._log_scale] if self.settings.learn_temperature else []
        if self.settings.optimizer == "lbfgs":
            return torch.optim.LBFGS(
                [self._change, *learned],
                max_iter=1,
                max_eval=25,
                history_size=10,
                line_search_fn="strong_wolfe",
            )
        rate = self.settings.learning_rate
        groups = [{"params": [self._change], "lr": rate, "weight_decay": self.settings.decay}]
        if learned:
            groups.append({"params": learned, "lr": TEMPERATURE_RATE, "weight_decay": 0.0})
        return torch.optim.AdamW(groups, fused=True)


class Descents:
    """Descents of training folds side by side, and of all rows.

    Parameters
    ----------
    scores : ndarray (n, r)
    Y : ndarray (n, n_targets)
    labels : ndarray (n,) int
    settings : Settings
    seed : int
    tau : float or None
        First temperature; None: the one that suits ``held`` best.
    held : ndarray (n, n_targets)
        Held-out predictions of the start.
    """

    def __init__(
        self,
        scores: np.ndarray,
        Y: np.ndarray,
        *,
        labels: np.ndarray,
        settings: Settings,
        seed: int,
        tau: float | None,
        held: np.ndarray,
    ) -> None:
        self.scores, self.Y, self.labels = scores, Y, labels
        self.settings, self.seed = settings, int(seed)
        self.tau = tau
        if self.tau is None:
            mean = Y.mean(axis=0)
            known = ~np.isnan(held).any(axis=1)
            losses = settings.losses_at(
                TEMPERATURES, (held - mean)[known], (Y - mean)[known], labels=labels[known]
            )
            self.tau = TEMPERATURES[int(np.argmin(losses))]

    def trained(self, rows: np.ndarray, *, n_epochs: int = 0) -> Descent:
        """Return the descent of some rows after so many epochs."""
        run = Descent(
            self.scores[rows],
            self.Y[rows],
            labels=self.labels[rows],
            tau=self.tau or 1.0,
            settings=self.settings,
            seed=self.seed,
        )
        for _ in range(n_epochs):
            run.epoch()
        return run

    def search(
        self, splits: Sequence[tuple[np.ndarray, np.ndarray]], *, max_epochs: int, patience: int
    ) -> tuple[np.ndarray, list[float]]:
        """Train the folds side by side until the held-out loss falls no more.

        Returns
        -------
        held : ndarray (n, n_targets) float64
            Held-out predictions of the best epoch; NaN for rows never held out.
        losses : list of float
            Mean held-out InfoNCE before training and after every epoch, each at the temperature
            that suits it best, since predictions do not depend on it.
        """
        runs = [self.trained(train) for train, _ in splits]
        sizes = [len(rows) for _, rows in splits]
        held, losses = np.full(self.Y.shape, np.nan), []
        for epoch in range(max_epochs + 1):
            if epoch:
                for run in runs:
                    run.epoch()
            predicted, each = self._held_out(runs, splits)
            losses.append(float(np.average(each, weights=sizes)))
            best = int(np.argmin(losses))
            if best == epoch:
                held = predicted
            elif epoch - best >= patience:
                break
        return held, losses

    def _held_out(
        self, runs: Sequence[Descent], splits: Sequence[tuple[np.ndarray, np.ndarray]]
    ) -> tuple[np.ndarray, list[float]]:
        total, count = np.zeros(self.Y.shape), np.zeros((len(self.Y), 1))
        losses = []
        for run, (_, rows) in zip(runs, splits, strict=True):
            predicted = run.predict(self.scores[rows])
            total[rows] += predicted
            count[rows] += 1
            deviation, wanted = predicted - run.y_mean, self.Y[rows] - run.y_mean
            losses.append(
                min(
                    self.settings.losses_at(
                        TEMPERATURES, deviation, wanted, labels=self.labels[rows]
                    )
                )
            )
        with np.errstate(invalid="ignore"):
            return total / count, losses
