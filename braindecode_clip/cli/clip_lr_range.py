"""``braindecode-clip clip lr-range``: find a learning rate for a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from braindecode_clip.cli.clip_options import (
    DeviceOption,
    ImagesOption,
    InitialOption,
    KindOption,
    RecipeOption,
    SplitOption,
    TeacherOption,
    ThreadsOption,
)
from braindecode_clip.cli.common import read_options
from braindecode_clip.config.clip import ClipRecipe


def lr_range(
    recipe: RecipeOption,
    pairs: Annotated[
        Path,
        typer.Option(help="Training pairs, of any kind that `clip train` reads."),
    ],
    out: Annotated[Path, typer.Option(help="Table to write (CSV): lr, loss, smoothed.")],
    lowest: Annotated[float, typer.Option(help="Rate of the first step.")] = 1e-6,
    highest: Annotated[float, typer.Option(help="Rate of the last step.")] = 1.0,
    steps: Annotated[int, typer.Option(help="Steps, each on a batch of its own.")] = 100,
    initial: InitialOption = None,
    teacher: TeacherOption = None,
    split: SplitOption = None,
    kind: KindOption = None,
    images: ImagesOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Train a few steps with a rising learning rate, and tell where the loss falls fastest.

    The peak rate of a run is best somewhat below the rate of the lowest loss. No model is kept.
    """
    import tempfile

    import pandas as pd
    import torch

    from braindecode_clip.cli.clip_pairs import as_pairs, open_pairs
    from braindecode_clip.clip.blueprint import settled
    from braindecode_clip.clip.encoders import choose_device
    from braindecode_clip.clip.lr_range import lr_range as measure
    from braindecode_clip.clip.train import Trainer
    from braindecode_clip.io.atomic import atomic_path
    from braindecode_clip.logs import get_logger, milestone

    logger = get_logger(__name__)
    config = settled(read_options(recipe, ClipRecipe, flag="--recipe"), initial)
    if threads is not None:
        torch.set_num_threads(threads)
    source = open_pairs(pairs, data=config.data, kind=kind, split=split, images=images)
    content = as_pairs(source, config, cache="auto", n_workers=2, is_training=True)
    with tempfile.TemporaryDirectory() as folder, milestone(logger, "range of rates") as note:
        trainer = Trainer(
            config,
            content,
            validation=content,
            state_dir=folder,
            initial=initial,
            teacher=teacher,
            device=choose_device(device),
        )
        found = measure(trainer, lowest=lowest, highest=highest, n_steps=steps)
        note(f"{len(found.lr)} steps" + (", the loss diverged" if found.is_diverged else ""))
    best = found.lr[found.smoothed.argmin()]
    fastest = "at no rate" if found.suggestion is None else f"fastest at {found.suggestion:.2g}"
    logger.info("lowest loss at %.2g; it falls %s", best, fastest)
    table = pd.DataFrame({"lr": found.lr, "loss": found.loss, "smoothed": found.smoothed})
    with atomic_path(out) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
    logger.info("wrote %s", out)
