"""Train a CLIP model from pairs: one loop, exact resume, held-out retrieval on the way."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from braindecode_clip.checks import Problems, some
from braindecode_clip.clip.blueprint import settled
from braindecode_clip.clip.checkpoints import (
    BEST_FILE,
    STATE_FILE,
    Progress,
    capture,
    read_state,
    restore,
    write_state,
)
from braindecode_clip.clip.data import Batch, PairBatches, Pairs
from braindecode_clip.clip.distributed import Processes
from braindecode_clip.clip.export import export_run
from braindecode_clip.clip.false_negatives import equal_pictures
from braindecode_clip.clip.initial import load_teacher, read_start, tokenizer_for
from braindecode_clip.clip.learner import Learner
from braindecode_clip.clip.locked_features import Remembered
from braindecode_clip.clip.optim import learning_rate
from braindecode_clip.clip.pair_vectors import encode_pairs
from braindecode_clip.clip.picture_store import PictureStore
from braindecode_clip.clip.recall import Recall, pooled_recall
from braindecode_clip.clip.run_state import (
    check_facts,
    check_options,
    check_tokenizer,
    record_digest,
    seed_step,
    weights_digest,
)
from braindecode_clip.clip.step import StepInput
from braindecode_clip.clip.training_log import (
    LOG_FILE,
    LogRow,
    append_row,
    read_log,
    write_log,
)
from braindecode_clip.config.clip import ClipRecipe
from braindecode_clip.errors import ConfigError, DataError

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
        Model directory (or name of an embedded model) to start from: its towers, tokenizer
        and, where the recipe states none, preprocessing. Without, the recipe's towers with
        fresh or pretrained weights.
    n_workers : int
        Threads that decode pictures ahead; they change no number.
    teacher : path, optional
        Model directory that takes pictures of the same size, imitated and asked what is
        alike; see ``distill_weight``, ``duplicate_similarity`` and ``false_negatives``.
    processes : Processes, optional
        Those that train together; one alone by default. The first writes.
    device : str or torch.device
        Where to train.
    keep_bytes : float
        Room for features of locked towers, which are then computed once; they change no number.

    Raises
    ------
    ConfigError
        ``state_dir`` holds a state and ``resume`` is off, or the state is of another recipe
        or other pairs; or options do not fit the towers, ``initial`` or ``teacher``.
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
        teacher: str | Path | None = None,
        processes: Processes | None = None,
        device: str | torch.device = "cpu",
        keep_bytes: float = 0,
    ) -> None:
        check_options(recipe, initial, teacher)
        recipe = settled(recipe, initial)
        _check_pairs(recipe, pairs, validation)
        self.recipe, self.validation = recipe, validation
        self.processes = Processes() if processes is None else processes
        self.state_dir, self.device = Path(state_dir), torch.device(device)
        start = None if initial is None else read_start(initial)
        self.tokenizer = tokenizer_for(recipe, lambda: pairs.wordings, start)
        check_tokenizer(recipe, self.tokenizer, has_teacher=teacher is not None)
        guide = None if teacher is None else load_teacher(teacher, recipe, own=self.tokenizer)
        self.batches = PairBatches(
            pairs,
            self.tokenizer,
            batch_size=self.n_pairs_per_step,
            seed=recipe.seed,
            mean=recipe.preprocess.mean,
            std=recipe.preprocess.std,
            max_shift_px=recipe.training.max_shift_px,
            kin_size=recipe.training.kin_size,
            data=recipe.data,
            interpolation=recipe.preprocess.interpolation,
            n_workers=n_workers,
            teacher_tokenizer=None if guide is None else guide.tokenizer,
            processes=self.processes,
        )
        self.n_steps = recipe.training.epochs * self.batches.steps_per_epoch
        self.learner = Learner(
            recipe,
            self.tokenizer,
            start=start,
            teacher=None if guide is None else guide.model,
            processes=self.processes,
            device=self.device,
        )
        self.model = self.learner.model
        self.facts = {
            "recipe": recipe.model_dump(mode="json"),
            "pairs_sha256": _pairs_digest(pairs),
            "initial": "" if initial is None else str(initial),
            "weights_sha256": weights_digest(self.model),
            "tokenizer_sha256": record_digest(self.tokenizer.record()),
            "teacher": "" if teacher is None else str(teacher),
            "teacher_sha256": "" if guide is None else weights_digest(guide.model),
            "n_processes": self.processes.size,
            "n_threads": torch.get_num_threads(),
        }
        self._equal_pictures = None
        if "picture" in recipe.training.false_negatives_by:
            # Files are told apart before any is decoded.
            self._equal_pictures = (
                equal_pictures(pairs.images) if pairs.files is None else pairs.files
            )
        self.progress = Progress()
        self._losses: list[float] = []
        self.step = self._resume() if self._found_state(resume) else self._start()
        kept = self.learner.kept_features(self.batches, keep_bytes)
        self.batches.keep(kept)
        fits = kept.n_bytes + kept.held_out_bytes(len(validation)) <= keep_bytes
        self._remembered = Remembered(kept.towers if fits else ())

    def run(
        self,
        *,
        stop_after: int | None = None,
        on_step: OnStep | None = None,
        is_asked_to_stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train to the end, or to step ``stop_after``; tell whether the end is reached.

        The end is the last step, or an early stop.

        Parameters
        ----------
        stop_after : int, optional
            Save the state after this many steps in all and return.
        on_step : callable, optional
            Called with (steps done, steps in all, log row or None) after every step.
        is_asked_to_stop : callable, optional
            Asked after every step, in the first process; if so, the state is saved and the
            run ends there, to be taken up later.

        Raises
        ------
        DataError
            The loss or the gradient is no finite number; the batch is named.
        """
        training = self.recipe.training
        last = self.n_steps if stop_after is None else min(stop_after, self.n_steps)
        since, started, is_asked = self.step, time.perf_counter(), False
        while self.step < last and not (self.progress.is_stopped or is_asked):
            loss, grad_norm = self.take_step(self._rate())
            self._losses.append(loss)
            row = None
            if self.step % training.log_every == 0 or self.step == self.n_steps:
                row = self._log(grad_norm, self.step - since, time.perf_counter() - started)
                since, started, self._losses = self.step, time.perf_counter(), []
            # All processes must stop at one step.
            is_asked = bool(self.processes.first_says(float(is_asked_to_stop())))
            is_last = self.step == last or self.progress.is_stopped or is_asked
            if self.step % training.checkpoint_every == 0 or is_last:
                self._save()
            if on_step is not None:
                on_step(self.step, self.n_steps, row)
        return self.step == self.n_steps or self.progress.is_stopped

    def export(self, directory: str | Path) -> None:
        """Write the model, the recipe and the log into a folder that ``load_encoder`` reads.

        The model is the last, or the best where the recipe stops early; the running mean of
        its weights goes into the folder ``ema`` in it.
        """
        if self.processes.is_first:
            export_run(
                Path(directory),
                self.learner.modules,
                recipe=self.recipe,
                tokenizer=self.tokenizer,
                state_dir=self.state_dir,
            )

    def validate(self) -> tuple[Recall, Recall]:
        """Return held-out retrieval (image to text, text to image), first wording each."""
        images, texts = encode_pairs(
            self.learner.judged,
            self.validation,
            self.tokenizer,
            mean=self.recipe.preprocess.mean,
            std=self.recipe.preprocess.std,
            remembered=self._remembered,
        )
        captions = np.array(self.validation.first_wordings)
        rng = np.random.default_rng(0)
        return pooled_recall(images, texts, captions, rng=rng)

    def take_step(self, rate: float) -> tuple[float, float]:
        """Take the next step at a learning rate; return loss and gradient norm.

        Raises
        ------
        DataError
            One of them is no finite number; the batch is named. Nothing is changed then.
        """
        batch = self.batches[self.step]
        seed_step(self.recipe.seed, self.step, self.processes.rank)
        values = self.learner.learn(self._inputs(batch), rate=rate, step=self.step)
        if not self.learner.can_go_on(*values):
            # Loss and gradient are those of all processes, so all of them are here.
            rows = self.processes.gather(torch.from_numpy(batch.rows).to(self.device))
            raise DataError(
                f"{self.state_dir}: step {self.step + 1} of {self.n_steps} gave loss {values[0]} "
                f"and gradient norm {values[1]}; its batch holds the training pairs "
                f"{some(rows.tolist(), limit=8)}. Lower optimiser.lr, or look at these "
                "pairs; the saved state is from before."
            )
        self.step += 1
        return values

    @property
    def n_pairs_per_step(self) -> int:
        """Pairs of a step, of all processes."""
        return self.recipe.training.batch_size * self.processes.size

    def _rate(self) -> float:
        return learning_rate(self.step, self.n_steps, self.recipe.optimiser)

    def _inputs(self, batch: Batch) -> StepInput:
        """Return what a step takes of this process's part of a batch, on the device."""
        equal = []
        if "caption" in self.recipe.training.false_negatives_by:
            equal.append(batch.groups)
        if self._equal_pictures is not None:
            equal.append(torch.from_numpy(self._equal_pictures[batch.rows]))
        if "label" in self.recipe.training.false_negatives_by:
            labels = self.batches.pairs.labels[batch.rows]
            # Pictures without a label share none.
            equal.append(torch.from_numpy(np.where(labels < 0, -1 - batch.rows, labels)))
        whole = StepInput(
            batch.pixels, batch.tokens, tuple(equal), batch.teacher_tokens, batch.texts
        )
        return whole.to(self.device)

    def _log(self, grad_norm: float, n_steps: int, seconds: float) -> LogRow:
        recalls: tuple[float | None, float | None] = (None, None)
        is_due = self.step % self.recipe.training.validate_every == 0
        if is_due or self.step == self.n_steps:
            to_text, to_image = self.validate()
            recalls = (round(to_text.r1, 4), round(to_image.r1, 4))
            self._judge((to_text.r1 + to_image.r1) / 2)
        row = LogRow(
            step=self.step,
            epoch=round(self.step / self.batches.steps_per_epoch, 3),
            loss=float(np.mean(self._losses)),
            lr=self.learner.optimiser.param_groups[0]["lr"],
            logit_scale=float(self.model.logit_scale.detach().exp()),
            grad_norm=grad_norm,
            val_image_to_text_r1=recalls[0],
            val_text_to_image_r1=recalls[1],
            seconds=round(seconds, 2),
            pairs_per_second=n_steps * self.n_pairs_per_step / seconds,
            caption_loss=self.learner.caption_loss,
        )
        if self.processes.is_first:
            append_row(self.state_dir / LOG_FILE, row)
        return row

    def _judge(self, score: float) -> None:
        """Keep the weights if they are the best so far; stop if none were for long."""
        # All processes must stop together, whatever their last bits say.
        score = self.processes.first_says(score)
        patience = self.recipe.training.early_stop_patience
        if self.progress.take_up(score, self.step, patience=patience):
            self._save(BEST_FILE)

    def _save(self, name: str = STATE_FILE) -> None:
        if not self.processes.is_first:
            return
        state = capture(
            self.step,
            self.learner.modules,
            self.learner.optimiser if name == STATE_FILE else None,
            facts=self.facts,
            progress={
                **asdict(self.progress),
                "scaler": self.learner.scaler.state_dict(),
                # Of the next row of the log.
                "losses": self._losses,
            },
        )
        write_state(self.state_dir / name, state)

    def _found_state(self, resume: bool) -> bool:
        found = (self.state_dir / STATE_FILE).is_file()
        if found and not resume:
            raise ConfigError(
                f"{self.state_dir}: holds the state of a run. Add --resume to take it up, or "
                "name another folder."
            )
        return found

    def _start(self) -> int:
        if self.processes.is_first:
            self.state_dir.mkdir(parents=True, exist_ok=True)
            write_log(self.state_dir / LOG_FILE, [])
        return 0

    def _resume(self) -> int:
        path = self.state_dir / STATE_FILE
        state = read_state(path)
        check_facts(path, state.facts, self.facts)
        restore(state, self.learner.modules, self.learner.optimiser)
        scaler = state.progress.pop("scaler")
        if scaler:
            self.learner.scaler.load_state_dict(scaler)
        self._losses = state.progress.pop("losses", [])
        self.progress = Progress(**state.progress)
        # Rows after the saved step belong to steps that will be done again.
        log = self.state_dir / LOG_FILE
        if self.processes.is_first:
            for unfinished in self.state_dir.glob(".*.part"):
                unfinished.unlink()
            write_log(log, [row for row in read_log(log) if row.step <= state.step])
        logger.info("%s: taken up at step %d of %d", path, state.step, self.n_steps)
        return state.step


def _check_pairs(recipe: ClipRecipe, training: Pairs, validation: Pairs) -> None:
    side = recipe.model.vision_cfg["image_size"]
    problems = Problems("pairs")
    if "label" in recipe.training.false_negatives_by and training.labels is None:
        problems.add(
            "training.false_negatives_by names 'label', and the pairs have no labels. Give a "
            "column 'label', 'label' in each shard's JSON, or one subfolder for each label."
        )
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
