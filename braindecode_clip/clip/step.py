"""One step's gradients: towers, losses, and how a batch is made to fit into memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn import functional

from braindecode_clip.clip.batch_norm import normalises_over_batch
from braindecode_clip.clip.distributed import Processes
from braindecode_clip.clip.false_negatives import Marks, duplicates, soft_targets, word_counts
from braindecode_clip.clip.grad_cache import CachedForward, add_gradients, chunks
from braindecode_clip.clip.locked_features import image_vectors, text_vectors
from braindecode_clip.clip.losses import (
    WordLoss,
    distillation,
    info_nce,
    pair_logits,
    sigmoid_loss,
)
from braindecode_clip.clip.text_towers import checkpoint_activations
from braindecode_clip.config.clip import TrainConfig
from braindecode_clip.errors import ConfigError


class Sides(NamedTuple):
    """Vectors of a batch: images (n, n_dims) as the tower gives them, texts of unit norm."""

    images: torch.Tensor
    texts: torch.Tensor


@dataclass(frozen=True)
class StepInput:
    """What a process's part of a batch brings to a step, on the device.

    Attributes
    ----------
    pixels : Tensor (n, 3, height, width) float32
    tokens : Tensor (n, context_length) int64
    equal : tuple of Tensor (n,) int64
        Numbers that pairs of one meaning share; see :class:`Marks`.
    teacher_tokens : Tensor (n, context_length) int64, optional
        The captions as the teacher reads them; without, as in ``tokens``.
    texts : Tensor (n, d), optional
        Features of a locked text tower, which tokens need not go through then; those of a
        locked image tower (n, d) stand in the place of the pixels.
    """

    pixels: torch.Tensor
    tokens: torch.Tensor
    equal: tuple[torch.Tensor, ...]
    teacher_tokens: torch.Tensor | None = None
    texts: torch.Tensor | None = None

    @property
    def sides(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What goes into the two towers."""
        return self.pixels, self.tokens if self.texts is None else self.texts

    def to(self, device: torch.device) -> StepInput:
        """Return the pairs on a device."""
        equal = tuple(numbers.to(device) for numbers in self.equal)
        taught = None if self.teacher_tokens is None else self.teacher_tokens.to(device)
        texts = None if self.texts is None else self.texts.to(device)
        return StepInput(self.pixels.to(device), self.tokens.to(device), equal, taught, texts)

    def rows(self, part: slice) -> StepInput:
        """Return some of the pairs."""
        return StepInput(
            self.pixels[part],
            self.tokens[part],
            tuple(numbers[part] for numbers in self.equal),
            None if self.teacher_tokens is None else self.teacher_tokens[part],
            None if self.texts is None else self.texts[part],
        )


class ContrastiveStep:
    """Compute a batch's loss and add its gradient to the weights.

    Parameters
    ----------
    model : Module
        An open_clip model.
    words : WordLoss
        The second loss, and which tokens are no words.
    training : TrainConfig
    processes : Processes
        Those that share the batch.
    teacher : Module, optional
        A frozen open_clip model that reads the same pixels, and its own tokens if it has some.
    dtype : torch.dtype
        What the towers multiply in.
    scaler : torch.amp.GradScaler, optional
        Multiplies the loss before the way back.

    Raises
    ------
    ConfigError
        The batch is to be cut into parts, and a tower normalises over the batch.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        words: WordLoss,
        *,
        training: TrainConfig,
        processes: Processes | None = None,
        teacher: torch.nn.Module | None = None,
        dtype: torch.dtype = torch.float32,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.processes = Processes() if processes is None else processes
        _check_towers(model, training, self.processes)
        self.model, self.words, self.training, self.teacher = model, words, training, teacher
        self.dtype = dtype
        self.scaler = torch.amp.GradScaler(enabled=False) if scaler is None else scaler
        if training.memory == "checkpoint":
            checkpoint_activations(model)

    def backward(self, inputs: StepInput) -> torch.Tensor:
        """Add the batch's gradient to ``grad`` of all weights; return its contrastive loss.

        Under a scaler gradients are multiplied. With several processes both are those of all
        processes' pairs.
        """
        n = len(inputs.tokens)
        size = self.training.chunk_size if self.training.memory == "accumulate" else n
        total = torch.zeros((), device=inputs.tokens.device)
        for part in chunks(n, size):
            share = (part.stop - part.start) / n / self.processes.size
            total = total + share * self._contrast(inputs.rows(part), share)
        self.processes.sum_gradients([*self.model.parameters(), *self.words.parameters()])
        return self.processes.sum(total)

    def encode(self, pixels: torch.Tensor, tokens: torch.Tensor) -> Sides:
        """Put pictures and captions through the towers."""
        return _encoded(self.model, pixels, tokens, self.dtype)

    def _contrast(self, inputs: StepInput, share: float) -> torch.Tensor:
        """Add ``share`` of the gradient of pairs that are contrasted together."""
        if self.training.memory == "gradcache":
            cache = CachedForward(
                self.encode,
                inputs.sides,
                chunk_size=self.training.chunk_size,
            )
            gradients, contrast = self._vector_gradients(Sides(*cache.outputs), inputs, share)
            cache.backward(gradients)
            return contrast
        sides = self.encode(*inputs.sides)
        if self.processes.size == 1:
            contrast, extra = self.losses(sides, sides, inputs)
            self.scaler.scale(_shared(contrast + extra, share)).backward()
            return contrast.detach()
        gradients, contrast = self._vector_gradients(sides, inputs, share)
        add_gradients(sides, gradients)
        return contrast

    def _vector_gradients(
        self, sides: Sides, inputs: StepInput, share: float
    ) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """Differentiate the loss down to this process's vectors, and ``logit_scale``."""
        gathers = self.processes.size > 1 and self.training.gather_negatives
        n = len(sides.images)
        first = self.processes.rank * n if gathers else 0
        everyone = Sides(*(_leaf(self.processes.gather(s) if gathers else s) for s in sides))
        own = Sides(*(s[first : first + n] for s in everyone)) if gathers else everyone
        contrast, extra = self.losses(own, everyone, inputs, first=first)
        self.scaler.scale(_shared(contrast + extra, share)).backward()
        gradients = tuple(s.grad for s in everyone)
        if gathers:
            # Other processes' losses depend on these vectors too.
            gradients = tuple(self.processes.sum(g)[first : first + n] for g in gradients)
        return gradients, contrast.detach()

    def losses(
        self, own: Sides, everyone: Sides, inputs: StepInput, *, first: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the contrastive loss, and the others times their weights.

        Parameters
        ----------
        own, everyone : Sides
            Vectors of this process, and of all that are contrasted; the same for one process.
        inputs : StepInput
            Of the own pairs.
        first : int
            Position of the first own pair among all.
        """
        training = self.training
        images, texts = functional.normalize(everyone.images, dim=-1), everyone.texts
        rows = slice(first, first + len(own.images))
        mine = (images, texts) if own is everyone else (images[rows], own.texts)
        scale = self.model.logit_scale.exp()
        bias = self.model.logit_bias
        taught = self._taught(inputs) if self.teacher is not None else None
        others = {"first": first, **self._false_negatives(inputs, taught, first=first)}
        per_image = pair_logits(mine[0], texts, scale=scale, bias=bias)
        if training.loss == "siglip":
            contrast = sigmoid_loss(per_image, **others)
        else:
            per_text = pair_logits(mine[1], images, scale=scale, bias=bias)
            contrast = info_nce(per_image, per_text, **others)
        extra = torch.zeros_like(contrast)
        if training.word_loss_weight:
            extra = extra + training.word_loss_weight * self.words(own.images, inputs.tokens)
        if training.distill_weight and taught is not None:
            known, theirs = self._gathered(taught), self.teacher.logit_scale.exp()
            imitation = distillation(
                (per_image, pair_logits(mine[1], images, scale=scale, bias=bias)),
                (
                    pair_logits(taught.images, known.texts, scale=theirs),
                    pair_logits(taught.texts, known.images, scale=theirs),
                ),
            )
            extra = extra + training.distill_weight * imitation
        return contrast, extra

    def _taught(self, inputs: StepInput) -> Sides:
        """Return the teacher's vectors of the own pairs, both of unit norm."""
        size = self.training.chunk_size
        parts = chunks(len(inputs.tokens), size if self.training.memory == "gradcache" else 10**9)
        tokens = inputs.tokens if inputs.teacher_tokens is None else inputs.teacher_tokens
        with torch.no_grad():
            sides = [
                _encoded(self.teacher, inputs.pixels[part], tokens[part], self.dtype)
                for part in parts
            ]
        images, texts = map(torch.cat, zip(*sides, strict=True))
        return Sides(functional.normalize(images, dim=-1), texts)

    def _false_negatives(
        self, inputs: StepInput, taught: Sides | None, *, first: int
    ) -> dict[str, torch.Tensor]:
        training = self.training
        if training.false_negatives == "none":
            return {}
        needs_vectors = (
            training.false_negatives == "soft" or training.duplicate_similarity is not None
        )
        rows = slice(first, first + len(inputs.tokens))
        captions = pictures = None
        if needs_vectors and taught is not None:
            known = self._gathered(taught)
            captions, pictures = known.texts, known.images
        elif needs_vectors:
            # Words are numbered by what a batch holds, so all captions are counted together.
            tokens = self._gathered((inputs.tokens,))[0]
            captions = word_counts(tokens, ignored=self.words.ignored)
        everyone = Marks(self._gathered(inputs.equal), captions, pictures)
        own = everyone.rows(rows)
        if training.false_negatives == "soft":
            temperature = training.soft_temperature
            return {"targets": soft_targets(own, everyone, first=first, temperature=temperature)}
        similarity = training.duplicate_similarity
        return {"masked": duplicates(own, everyone, first=first, similarity=similarity)}

    def _gathered(self, tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if not self.training.gather_negatives:
            return tensors
        found = [self.processes.gather(tensor) for tensor in tensors]
        return Sides(*found) if isinstance(tensors, Sides) else tuple(found)


def _encoded(
    model: torch.nn.Module, pixels: torch.Tensor, tokens: torch.Tensor, dtype: torch.dtype
) -> Sides:
    if dtype == torch.float32:
        return Sides(image_vectors(model, pixels), text_vectors(model, tokens))
    with torch.autocast(pixels.device.type, dtype=dtype):
        images = image_vectors(model, pixels)
        texts = text_vectors(model, tokens)
    return Sides(images.float(), texts.float())


def _leaf(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().requires_grad_()


def _shared(loss: torch.Tensor, share: float) -> torch.Tensor:
    return loss if share == 1 else share * loss


def _check_towers(model: torch.nn.Module, training: TrainConfig, processes: Processes) -> None:
    what = f"training.memory '{training.memory}'" if training.memory != "none" else ""
    if processes.size > 1:
        what = what or f"{processes.size} processes"
    if what and normalises_over_batch(model):
        raise ConfigError(
            f"{what}: the image tower has batch normalisation, whose numbers depend on the whole "
            "batch, so its parts would train another model. Use a tower without (layers: a "
            "number, for a vision transformer), keep its statistics "
            "(training.freeze_batch_norm), or use one process with memory: none."
        )
