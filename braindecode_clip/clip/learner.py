"""A model with everything that a step changes: optimiser, running mean, loss scale."""

from __future__ import annotations

import math

import torch

from braindecode_clip.clip.adapting import adapted
from braindecode_clip.clip.batch_norm import freeze_batch_norm, train_mode
from braindecode_clip.clip.coca import has_decoder
from braindecode_clip.clip.data import PairBatches
from braindecode_clip.clip.distributed import Processes
from braindecode_clip.clip.ema import MeanModel, PullToStart
from braindecode_clip.clip.initial import Start, give_weights
from braindecode_clip.clip.locked_features import KeptFeatures, can_be_kept, kept_features
from braindecode_clip.clip.locking import TOWERS
from braindecode_clip.clip.losses import WordLoss
from braindecode_clip.clip.models import build_model
from braindecode_clip.clip.optim import make_optimiser, set_rate
from braindecode_clip.clip.precision import training_dtype
from braindecode_clip.clip.step import ContrastiveStep, StepInput
from braindecode_clip.clip.tokenizers import Tokenizer
from braindecode_clip.config.clip import ClipRecipe
from braindecode_clip.seeds import derive_seed


class Learner:
    """The model of a recipe, and how it learns from a batch.

    Parameters
    ----------
    recipe : ClipRecipe
        Settled; see :func:`braindecode_clip.clip.blueprint.settled`.
    tokenizer : Tokenizer
        That the text tower reads.
    start : Start, optional
        Model to start from.
    teacher : Module, optional
        Model to ask; see :func:`braindecode_clip.clip.initial.load_teacher`.
    processes : Processes
        Those that share the batches.
    device : torch.device

    Attributes
    ----------
    model : Module
        open_clip's, in training.
    judged : Module
        What held-out retrieval looks at: the running mean where there is one.
    modules : ModuleDict
        All that a state holds: ``clip``, ``words`` and, with a running mean, ``mean``.
    """

    def __init__(
        self,
        recipe: ClipRecipe,
        tokenizer: Tokenizer,
        *,
        start: Start | None,
        teacher: torch.nn.Module | None,
        processes: Processes,
        device: torch.device,
    ) -> None:
        self.recipe, self.processes = recipe, processes
        training = recipe.training
        folder = None if start is None else start.folder
        self.model = build_model(recipe, tokenizer, start=folder).to(device)
        give_weights(self.model, recipe, start)
        if training.freeze_batch_norm:
            freeze_batch_norm(self.model)
        self.locked = adapted(self.model, recipe, has_start=start is not None)
        self.model.visual.to(memory_format=torch.channels_last)
        self.words = _word_loss(recipe, tokenizer).to(device)
        self.optimiser = make_optimiser(self.model, self.words, config=recipe.optimiser)
        self._mean = MeanModel(self.model, training.ema_decay) if training.ema_decay else None
        self._pull = None
        if training.l2_sp:
            self._pull = PullToStart(self.model.named_parameters(), training.l2_sp)
        dtype = training_dtype(training.precision, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
        self.gradients = ContrastiveStep(
            self.model,
            self.words,
            training=training,
            processes=processes,
            teacher=None if teacher is None else teacher.to(device),
            dtype=dtype,
            scaler=self.scaler,
        )
        if training.compile:
            _compile(self.model)

    @property
    def judged(self) -> torch.nn.Module:
        """The model that held-out retrieval looks at."""
        return self.model if self._mean is None else self._mean.model

    @property
    def caption_loss(self) -> float | None:
        """Mean loss of a predicted token in the last step; None without a decoder's loss."""
        found = self.gradients.caption_loss
        return None if found is None else float(found)

    @property
    def modules(self) -> torch.nn.ModuleDict:
        """All modules that a state holds."""
        means = {} if self._mean is None else {"mean": self._mean.model}
        return torch.nn.ModuleDict({"clip": self.model, "words": self.words, **means})

    def learn(self, inputs: StepInput, *, rate: float, step: int) -> tuple[float, float]:
        """Take one step, unless its loss or gradient is no finite number.

        Parameters
        ----------
        inputs : StepInput
            This process's part of the batch.
        rate : float
            Learning rate.
        step : int
            Steps done before.

        Returns
        -------
        loss, norm : float
            Contrastive loss and gradient norm before clipping. If they are not finite
            (:meth:`can_go_on` tells), nothing has changed.
        """
        set_rate(self.optimiser, rate)
        train_mode(self.model)
        self.locked.rest()
        loss = self.gradients.backward(inputs)
        self.scaler.unscale_(self.optimiser)
        if self._pull is not None:
            self._pull.add_gradient()
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.recipe.optimiser.grad_clip_norm)
        values = float(loss), float(norm)
        if not self.can_go_on(*values):
            return values
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            limit = math.log(self.recipe.training.logit_scale_max)
            self.model.logit_scale.clamp_(max=limit)
        if self._mean is not None:
            self._mean.update(step + 1)
        return values

    def kept_features(self, batches: PairBatches, budget_bytes: float) -> KeptFeatures:
        """Compute what locked towers would give at every visit, as far as it fits."""
        towers = tuple(t for t in TOWERS if can_be_kept(self.model, t, self.recipe))
        if not towers or budget_bytes <= 0 or self.gradients.teacher is not None:
            # A teacher reads the pictures themselves.
            return KeptFeatures()
        train_mode(self.model)
        self.locked.rest()
        return kept_features(
            self.model,
            batches.pairs,
            batches.tokens,
            recipe=self.recipe,
            towers=towers,
            budget_bytes=budget_bytes,
            dtype=self.gradients.dtype,
        )

    def can_go_on(self, loss: float, norm: float) -> bool:
        """Tell whether a step with these numbers does no harm."""
        # A loss scale that is too large gives gradients that are no numbers; the scaler then
        # leaves the step out and lowers it.
        is_scaled = self.scaler.is_enabled() and self.scaler.get_scale() > 1
        return math.isfinite(loss) and (is_scaled or math.isfinite(norm))


def _word_loss(recipe: ClipRecipe, tokenizer: Tokenizer) -> WordLoss:
    # Without the loss its layer is never read; a large vocabulary would fill the states with it.
    n_ids = tokenizer.vocab_size if recipe.training.word_loss_weight else 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(recipe.seed, "words"))
        return WordLoss(
            recipe.model.embed_dim,
            n_ids,
            ignored=tokenizer.ignored,
        )


def _compile(model: torch.nn.Module) -> None:
    """Compile the towers in place; names of weights stay."""
    model.visual.compile()
    text = model.text if hasattr(model, "text") else model.transformer
    text.compile()
    if has_decoder(model):
        model.text_decoder.compile()
