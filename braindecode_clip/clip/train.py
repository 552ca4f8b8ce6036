"""Train a CLIP model from pairs: one loop, exact resume, held-out retrieval on the way."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml

from braindecode_clip.checks import Problems, some
from braindecode_clip.clip.checkpoints import (
    STATE_FILE,
    capture,
    read_state,
    replacing,
    restore,
    write_state,
)
from braindecode_clip.clip.data import Batch, PairBatches, Pairs, normalised
from braindecode_clip.clip.losses import MaskedClipLoss, WordLoss
from braindecode_clip.clip.models import build_model, save_model, start_from
from braindecode_clip.clip.optim import learning_rate, make_optimiser
from braindecode_clip.clip.picture_store import PictureStore, prepared_rows
from braindecode_clip.clip.recall import Recall, pooled_recall
from braindecode_clip.clip.tokenizers import WordTokenizer
from braindecode_clip.clip.training_log import (
    LOG_FILE,
    LogRow,
    append_row,
    read_rows,
    write_rows,
)
from braindecode_clip.config.clip import ClipRecipe
from braindecode_clip.errors import ConfigError, DataError
from braindecode_clip.seeds import derive_seed

RECIPE_FILE = "recipe.yaml"

logger = logging.getLogger(__name__)


OnStep = Callable[[int, int, LogRow | None], None]


class Trainer:
    """A training run in a directory.

    Parameters
    ----------
    recipe : ClipRecipe
        What to build and how to train it.
    pairs, validation : Pairs
        Training pairs, and held-out ones for retrieval; no picture should be in both.
    state_dir : path
        Gets the state and the log.
    resume : bool
        Take up the state in ``state_dir`` where there is one. Recipe and pairs must be those
        it was made from. On the same machine with the same number of threads the run ends
        with the same bits as one that was never interrupted.
    initial : path, optional
        Model directory to start from, of the same towers and vocabulary; fresh weights
        without.
    n_workers : int
        Threads that decode pictures ahead; they change no number.
    device : str or torch.device
        Where to train.

    Raises
    ------
    ConfigError
        ``state_dir`` holds a state and ``resume`` is off, or the state is of another recipe
        or other pairs.
    DataError
        Pairs are fewer than a batch, or pictures have another size than the model's.
    """

    def __init__(
        self,
        recipe: ClipRecipe,
        pairs: Pairs,
        *,
        validation: Pairs,
        state_dir: str | Path,
        resume: bool = False,
        initial: str | Path | None = None,
        n_workers: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        _check_pairs(recipe, pairs, validation)
        self.recipe, self.validation = recipe, validation
        self.state_dir, self.device = Path(state_dir), torch.device(device)
        self.tokenizer = WordTokenizer.from_captions(
            pairs.wordings,
            context_length=recipe.model.text_cfg["context_length"],
        )
        self.batches = PairBatches(
            pairs,
            self.tokenizer,
            batch_size=recipe.training.batch_size,
            seed=recipe.seed,
            mean=recipe.preprocess.mean,
            std=recipe.preprocess.std,
            max_shift_px=recipe.training.max_shift_px,
            kin_size=recipe.training.kin_size,
            data=recipe.data,
            interpolation=recipe.preprocess.interpolation,
            n_workers=n_workers,
        )
        self.n_steps = recipe.training.epochs * self.batches.steps_per_epoch
        self.model = build_model(recipe, self.tokenizer).to(self.device)
        if initial is not None:
            start_from(self.model, initial, tokenizer=self.tokenizer)
        self.model.visual.to(memory_format=torch.channels_last)
        self.contrast = MaskedClipLoss()
        self.words = self._word_loss().to(self.device)
        self.optimiser = make_optimiser(self.model, self.words, config=recipe.optimiser)
        self.facts = {
            "recipe": recipe.model_dump(mode="json"),
            "pairs_sha256": _pairs_digest(pairs),
            "initial": "" if initial is None else str(initial),
            "n_threads": torch.get_num_threads(),
        }
        self.step = self._resume() if self._found_state(resume) else self._start()

    def run(self, *, stop_after: int | None = None, on_step: OnStep | None = None) -> bool:
        """Train to the end, or to step ``stop_after``; tell whether the end is reached.

        Parameters
        ----------
        stop_after : int, optional
            Save the state after this many steps in all and return.
        on_step : callable, optional
            Called with (steps done, steps in all, log row or None) after every step.

        Raises
        ------
        DataError
            The loss or the gradient is no finite number; the batch is named.
        """
        training = self.recipe.training
        last = self.n_steps if stop_after is None else min(stop_after, self.n_steps)
        losses: list[float] = []
        started = time.perf_counter()
        while self.step < last:
            loss, grad_norm = self._take_step()
            losses.append(loss)
            row = None
            if self.step % training.log_every == 0 or self.step == self.n_steps:
                row = self._log(losses, grad_norm, time.perf_counter() - started)
                losses, started = [], time.perf_counter()
            if self.step % training.checkpoint_every == 0 or self.step == last:
                self._save()
            if on_step is not None:
                on_step(self.step, self.n_steps, row)
        return self.step == self.n_steps

    def export(self, directory: str | Path) -> None:
        """Write the model, the recipe and the log into a folder that ``load_encoder`` reads."""
        target = Path(directory)
        save_model(target, self.model, recipe=self.recipe, tokenizer=self.tokenizer)
        texts = {
            RECIPE_FILE: yaml.safe_dump(self.recipe.model_dump(mode="json"), sort_keys=False),
            LOG_FILE: (self.state_dir / LOG_FILE).read_text(encoding="utf-8"),
        }
        for name, text in texts.items():
            with replacing(target / name) as temporary:
                temporary.write_text(text, encoding="utf-8")

    def validate(self) -> tuple[Recall, Recall]:
        """Return held-out retrieval (image to text, text to image), first wording each."""
        images, texts = encode_pairs(
            self.model,
            self.validation,
            self.tokenizer,
            mean=self.recipe.preprocess.mean,
            std=self.recipe.preprocess.std,
        )
        captions = np.array(self.validation.first_wordings)
        rng = np.random.default_rng(0)
        return pooled_recall(images, texts, captions, rng=rng)

    def _take_step(self) -> tuple[float, float]:
        batch = self.batches[self.step]
        config = self.recipe.optimiser
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, self.n_steps, config)
        self.model.train()
        contrast, words = self._losses(batch)
        (contrast + self.recipe.training.word_loss_weight * words).backward()
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.grad_clip_norm)
        values = float(contrast.detach()), float(norm)
        if not all(map(math.isfinite, values)):
            raise DataError(
                f"{self.state_dir}: step {self.step + 1} of {self.n_steps} gave loss {values[0]} "
                f"and gradient norm {values[1]}; its batch holds the training pairs "
                f"{some(batch.rows.tolist(), limit=8)}. Lower optimiser.lr, or look at these "
                "pairs; the saved state is from before."
            )
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=math.log(self.recipe.training.logit_scale_max))
        self.step += 1
        return values

    def _losses(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the contrastive loss and the word loss (0 when it has no weight)."""
        training = self.recipe.training
        tokens = batch.tokens.to(self.device)
        images = self.model.encode_image(batch.pixels.to(self.device))
        texts = self.model.encode_text(tokens, normalize=True)
        contrast = self.contrast(
            torch.nn.functional.normalize(images, dim=-1),
            texts,
            self.model.logit_scale.exp(),
            batch.groups.to(self.device) if training.mask_identical_captions else None,
        )
        if training.word_loss_weight == 0:
            return contrast, torch.zeros_like(contrast)
        return contrast, self.words(images, tokens)

    def _word_loss(self) -> WordLoss:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.recipe.seed, "words"))
            return WordLoss(
                self.recipe.model.embed_dim,
                self.tokenizer.vocab_size,
                ignored=(self.tokenizer.pad_id, self.tokenizer.end_id),
            )

    def _log(self, losses: list[float], grad_norm: float, seconds: float) -> LogRow:
        recalls: tuple[float | None, float | None] = (None, None)
        is_due = self.step % self.recipe.training.validate_every == 0
        if is_due or self.step == self.n_steps:
            to_text, to_image = self.validate()
            recalls = (round(to_text.r1, 4), round(to_image.r1, 4))
        row = LogRow(
            step=self.step,
            epoch=round(self.step / self.batches.steps_per_epoch, 3),
            loss=float(np.mean(losses)),
            lr=self.optimiser.param_groups[0]["lr"],
            logit_scale=float(self.model.logit_scale.detach().exp()),
            grad_norm=grad_norm,
            val_image_to_text_r1=recalls[0],
            val_text_to_image_r1=recalls[1],
            seconds=round(seconds, 2),
        )
        append_row(self.state_dir / LOG_FILE, row)
        return row

    def _save(self) -> None:
        state = capture(self.step, self._modules(), self.optimiser, facts=self.facts)
        write_state(self.state_dir / STATE_FILE, state)

    def _modules(self) -> torch.nn.ModuleDict:
        return torch.nn.ModuleDict({"clip": self.model, "words": self.words})

    def _found_state(self, resume: bool) -> bool:
        found = (self.state_dir / STATE_FILE).is_file()
        if found and not resume:
            raise ConfigError(
                f"{self.state_dir}: holds the state of a run. Add --resume to take it up, or "
                "name another folder."
            )
        return found

    def _start(self) -> int:
        self.state_dir.mkdir(parents=True, exist_ok=True)
        write_rows(self.state_dir / LOG_FILE, [])
        return 0

    def _resume(self) -> int:
        path = self.state_dir / STATE_FILE
        state = read_state(path)
        names = {
            "recipe": "another recipe",
            "pairs_sha256": "other pairs",
            "initial": "another start",
        }
        other = [name for key, name in names.items() if state.facts.get(key) != self.facts[key]]
        if other:
            raise ConfigError(
                f"{path}: was made from {' and '.join(other)}. Name another folder, or give "
                "what the run was started with."
            )
        if state.facts["n_threads"] != self.facts["n_threads"]:
            logger.warning(
                "%s: made with %d threads, now %d: the result is as good but differs in the "
                "last bits.",
                path,
                state.facts["n_threads"],
                self.facts["n_threads"],
            )
        restore(state, self._modules(), self.optimiser)
        # Rows after the saved step belong to steps that will be done again.
        log = self.state_dir / LOG_FILE
        write_rows(log, [row for row in read_rows(log) if int(row[0]) <= state.step])
        logger.info("%s: taken up at step %d of %d", path, state.step, self.n_steps)
        return state.step


def encode_pairs(
    model: torch.nn.Module,
    pairs: Pairs,
    tokenizer: WordTokenizer,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    batch_size: int = 256,
) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors of pictures and of first wordings, both (n, n_dims) float32."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    images, texts = [], []
    captions = pairs.first_wordings
    with torch.inference_mode():
        for start in range(0, len(pairs), batch_size):
            rows = range(start, min(start + batch_size, len(pairs)))
            pixels = normalised(prepared_rows(pairs.images, rows), mean, std).to(device)
            tokens = torch.as_tensor(tokenizer(captions[rows.start : rows.stop])).to(device)
            images.append(model.encode_image(pixels, normalize=True).float().cpu().numpy())
            texts.append(model.encode_text(tokens, normalize=True).float().cpu().numpy())
    model.train(was_training)
    return np.concatenate(images), np.concatenate(texts)


def _check_pairs(recipe: ClipRecipe, training: Pairs, validation: Pairs) -> None:
    side = recipe.model.vision_cfg["image_size"]
    problems = Problems("pairs")
    for name, pairs in (("training", training), ("validation", validation)):
        height, width = pairs.shape_px
        if (height, width) != (side, side):
            problems.add(
                f"{name} pictures are {width} x {height} pixels, the model takes {side} x {side}. "
                "Render or resize them to that size, or set model.vision_cfg.image_size."
            )
    if len(set(validation.first_wordings)) < 2:
        problems.add("validation pairs have fewer than two distinct captions; retrieval needs two.")
    problems.raise_if_any()


def _pairs_digest(pairs: Pairs) -> str:
    """Tell collections apart: by every pixel of an array; by names and sizes of files."""
    if isinstance(pairs.images, PictureStore):
        digest = hashlib.sha256("\x1f".join(pairs.images.names).encode())
        digest.update(pairs.images.sizes.tobytes())
    else:
        digest = hashlib.sha256(np.ascontiguousarray(pairs.images))
    digest.update("\x1f".join(pairs.wordings).encode())
    digest.update(pairs.counts.tobytes())
    return digest.hexdigest()
