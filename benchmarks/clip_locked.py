"""An epoch of LiT with the locked tower's features kept, against the tower at every visit.

python benchmarks/clip_locked.py [--quick] [--repeats N] [--out FILE.json]

The image tower is timm's tf_efficientnet_lite0 at 224 pixels, locked, with a linear head that
learns; the text tower is that of the scenes model and learns. Its weights are drawn at random,
which changes no time. Both runs take the same steps; at the end their weights must be equal to
the bit. What computing the features costs, once in a run, is a line of its own.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import yaml
from measure import parse_arguments, print_table, side_by_side, write_figures

from braindecode_clip.clip.pairs import Pairs
from braindecode_clip.clip.train import Trainer
from braindecode_clip.config.clip import ClipRecipe
from braindecode_clip.simulate.pairs import make_pairs

RECIPE = Path(__file__).resolve().parents[1] / "config" / "clip" / "scenes.yaml"
TOWER = {
    "timm_model_name": "tf_efficientnet_lite0",
    "timm_pool": "avg",
    "timm_proj": "linear",
    "image_size": 224,
}
WAYS = {"features kept": float("inf"), "tower at every visit": 0.0}


def make_recipe() -> ClipRecipe:
    options = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    options["model"]["vision_cfg"] = TOWER
    options["model"].pop("residual_gain", None)
    options["training"].update(batch_size=64, max_shift_px=0, word_loss_weight=0.0, kin_size=1)
    options["adapt"] = {"image_tower": "lock"}
    return ClipRecipe.model_validate(options)


def make_trainer(recipe: ClipRecipe, pairs: Pairs, folder: str, room: float) -> Trainer:
    return Trainer(recipe, pairs, validation=pairs, state_dir=folder, keep_bytes=room)


def epoch_of(trainer: Trainer):
    def call() -> None:
        for _ in range(trainer.batches.steps_per_epoch):
            trainer.take_step(1e-3)

    return call


def main() -> None:
    arguments = parse_arguments(__doc__.splitlines()[0])
    torch.set_num_threads(1)
    # Nobody needs to be told that the weights are random.
    logging.getLogger("braindecode_clip").setLevel(logging.ERROR)
    n = 128 if arguments.quick else 512
    recipe = make_recipe()
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (n, 224, 224, 3), dtype=np.uint8)
    pairs = Pairs(pictures, make_pairs(n, rng=rng).captions)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        trainers, seconds = {}, {}
        for (name, room), folder in zip(WAYS.items(), (first, second), strict=True):
            start = time.process_time()
            trainers[name] = make_trainer(recipe, pairs, folder, room)
            seconds[name] = time.process_time() - start
        once = seconds["features kept"] - seconds["tower at every visit"]
        figures = side_by_side(
            {name: epoch_of(trainer) for name, trainer in trainers.items()},
            repeats=arguments.repeats,
        )
    states = [trainer.model.state_dict() for trainer in trainers.values()]
    for name, value in states[0].items():
        if not torch.equal(value, states[1][name]):
            sys.exit(f"The two runs differ in {name}.")
    print_table(f"an epoch of {n} pairs, locked tf_efficientnet_lite0 at 224 pixels", figures)
    ratio = figures["tower at every visit"]["ratio"]
    print(f"computing the features once: {once:.1f} CPU s")
    print(f"an epoch without kept features takes {ratio:.0f} times the CPU time; same weights")
    write_figures(arguments.out, {**figures, "once_cpu_s": once})


if __name__ == "__main__":
    main()
