"""A training step against open_clip's own training loop, on the same model, data and batch.

python benchmarks/clip_step.py [--quick] [--repeats N] [--out FILE.json]

open_clip's side is ``train_one_epoch`` of its trainer, as it comes in the package, with the
optimiser that its program makes. Both compute plain InfoNCE from batches that lie in memory; the
models start from the same weights, and their first losses are compared.
"""

from __future__ import annotations

import logging
import math
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from measure import parse_arguments, print_table, side_by_side, write_figures

from braindecode_clip.clip.data import Batch, PairBatches, Pairs
from braindecode_clip.clip.distributed import Processes
from braindecode_clip.clip.learner import Learner
from braindecode_clip.clip.optim import learning_rate
from braindecode_clip.clip.run_state import seed_step
from braindecode_clip.clip.step import StepInput
from braindecode_clip.clip.tokenizers import WordTokenizer
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.config.clip import ClipRecipe
from braindecode_clip.simulate.pairs import make_pairs

open_clip = import_open_clip()
RECIPE = Path(__file__).resolve().parents[1] / "config" / "clip" / "scenes.yaml"


@dataclass
class Loader:
    """What open_clip's loop asks of its data."""

    batches: list[tuple[torch.Tensor, torch.Tensor]]

    @property
    def dataloader(self) -> Loader:
        return self

    @property
    def num_batches(self) -> int:
        return len(self.batches)

    @property
    def num_samples(self) -> int:
        return sum(len(tokens) for _, tokens in self.batches)

    def set_epoch(self, epoch: int) -> None:
        """Every epoch is the same here."""

    def __iter__(self):
        return iter(self.batches)


def read_recipe(**training: object) -> ClipRecipe:
    options = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    options["training"].update(training)
    return ClipRecipe.model_validate(options)


def make_learner(recipe: ClipRecipe, tokenizer: WordTokenizer) -> Learner:
    return Learner(
        recipe,
        tokenizer,
        start=None,
        teacher=None,
        processes=Processes(),
        device=torch.device("cpu"),
    )


def our_loop(learner: Learner, batches: list[Batch]) -> Callable[[], list[float]]:
    steps = [0]

    def call() -> list[float]:
        losses = []
        for batch in batches:
            rate = learning_rate(steps[0] % 10_000, 10_000, learner.recipe.optimiser)
            seed_step(0, steps[0], 0)
            inputs = StepInput(batch.pixels, batch.tokens, (batch.groups,))
            losses.append(learner.learn(inputs, rate=rate, step=steps[0])[0])
            steps[0] += 1
        return losses

    return call


def their_loop(recipe: ClipRecipe, tokenizer: WordTokenizer, batches: list[Batch]):
    from open_clip_train.scheduler import cosine_lr
    from open_clip_train.train import train_one_epoch

    model = make_learner(recipe, tokenizer).model
    model.visual.to(memory_format=torch.contiguous_format)
    model.output_dict = True
    options = recipe.optimiser
    named = list(model.named_parameters())

    def is_free(name: str, parameter: torch.Tensor) -> bool:
        return parameter.ndim < 2 or "logit_scale" in name

    optimiser = torch.optim.AdamW(
        [
            {"params": [p for n, p in named if is_free(n, p)], "weight_decay": 0.0},
            {
                "params": [p for n, p in named if not is_free(n, p)],
                "weight_decay": options.weight_decay,
            },
        ],
        lr=options.lr,
        betas=(options.beta1, options.beta2),
        eps=options.eps,
    )
    scheduler = cosine_lr(optimiser, options.lr, math.floor(options.warmup_fraction * 1e4), 10_000)
    arguments = Namespace(
        device="cpu",
        precision="fp32",
        distill=False,
        accum_freq=1,
        skip_scheduler=False,
        grad_clip_norm=options.grad_clip_norm,
        horovod=False,
        batch_size=len(batches[0].tokens),
        world_size=1,
        rank=0,
        local_rank=0,
        log_local=False,
        log_every_n_steps=recipe.training.log_every,
        wandb=False,
    )
    losses: list[float] = []
    plain = open_clip.ClipLoss()

    def loss(**sides: torch.Tensor):
        found = plain(**sides)
        if not losses:
            losses.append(float(found["contrastive_loss"].detach()))
        return found

    data = {"train": Loader([(b.pixels.contiguous(), b.tokens) for b in batches])}
    epoch = [0]

    def call() -> list[float]:
        train_one_epoch(model, data, loss, epoch[0], optimiser, None, scheduler, None, arguments)
        epoch[0] += 1
        return losses

    return call


def main() -> None:
    arguments = parse_arguments(__doc__.splitlines()[0])
    logging.getLogger().setLevel(logging.WARNING)
    torch.set_num_threads(1)
    n_batches = 4 if arguments.quick else 20
    recipe = read_recipe(false_negatives="none", word_loss_weight=0.0)
    size = recipe.training.batch_size
    drawn = make_pairs(size * n_batches, rng=np.random.default_rng(0))
    pairs = Pairs(drawn.images, drawn.captions)
    tokenizer = WordTokenizer.from_captions(pairs.captions.ravel().tolist(), context_length=32)
    stream = PairBatches(
        pairs,
        tokenizer,
        batch_size=size,
        seed=0,
        mean=recipe.preprocess.mean,
        std=recipe.preprocess.std,
    )
    batches = [stream[k] for k in range(n_batches)]
    theirs = their_loop(recipe, tokenizer, batches)
    ours = our_loop(make_learner(recipe, tokenizer), batches)
    masked = our_loop(make_learner(read_recipe(word_loss_weight=0.0), tokenizer), batches)
    # Also takes what the first step costs out of the measurement.
    np.testing.assert_allclose(ours()[0], theirs()[0], rtol=1e-5)
    masked()
    competitors = {
        "this package": ours,
        "this package, equal captions masked": masked,
        "open_clip train_one_epoch": theirs,
    }
    figures = side_by_side(competitors, repeats=arguments.repeats)
    for row in figures.values():
        row["pairs_per_cpu_s"] = size * n_batches / row["cpu_s"]
    print_table(f"{n_batches} steps of {size} pairs, scenes model, one thread", figures)
    ratio = figures["open_clip train_one_epoch"]["ratio"]
    print(f"open_clip takes {ratio:.2f} times the CPU time (at least 1)")
    write_figures(arguments.out, figures)
    if ratio < 1:
        sys.exit("The step is slower than open_clip's.")


if __name__ == "__main__":
    main()
