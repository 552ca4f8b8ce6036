"""``braindecode-clip clip``: train a CLIP model from pairs, and measure what it can do."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from braindecode_clip.cli.clip_data import data
from braindecode_clip.cli.clip_drawings import drawings
from braindecode_clip.cli.clip_evaluate import evaluate
from braindecode_clip.cli.clip_forgetting import forgetting
from braindecode_clip.cli.clip_lr_range import lr_range
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
from braindecode_clip.cli.clip_wise_ft import wise_ft
from braindecode_clip.cli.common import options_help, read_options
from braindecode_clip.config.clip import (
    ClipRecipe,
    ModelConfig,
    OptimiserConfig,
    PreprocessConfig,
    TrainConfig,
)
from braindecode_clip.config.clip_adapt import AdaptConfig, LoraConfig
from braindecode_clip.config.clip_data import DataConfig, SplitConfig
from braindecode_clip.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from braindecode_clip.clip.train import Trainer
    from braindecode_clip.clip.training_log import LogRow
    from braindecode_clip.io.pair_source import PairSource

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Train and evaluate CLIP models.",
)

_RECIPE_HELP = options_help(
    ClipRecipe,
    ModelConfig,
    PreprocessConfig,
    OptimiserConfig,
    TrainConfig,
    DataConfig,
    SplitConfig,
    AdaptConfig,
    LoraConfig,
)

app.command()(data)
app.command()(drawings)


app.command("lr-range")(lr_range)

app.command("wise-ft")(wise_ft)


app.command()(evaluate)


app.command()(forgetting)


@app.command(epilog=_RECIPE_HELP)
def train(
    recipe: RecipeOption,
    pairs: Annotated[
        Path,
        typer.Option(
            help="Training pairs: a table (image, caption), a folder of pictures with text files "
            "of their names, COCO's captions JSON, tar shards ('x-{000..012}.tar'), a saved data "
            "set of `datasets`, or HDF5 of `simulate scenes`."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the model: weights, config, recipe, log.")],
    validation: Annotated[
        Path | None,
        typer.Option(
            help="Held-out pairs, for retrieval on the way; left out where data.split of the "
            "recipe or --validation-split takes them from PAIRS."
        ),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(help="Folder of the training state; OUT with '-state' added by default."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Take up the state where there is one.")
    ] = False,
    initial: InitialOption = None,
    teacher: TeacherOption = None,
    split: SplitOption = None,
    validation_split: Annotated[
        str | None, typer.Option(help="The same for the held-out pairs.")
    ] = None,
    kind: KindOption = None,
    images: ImagesOption = None,
    validation_images: Annotated[
        Path | None, typer.Option(help="The same for the held-out pairs.")
    ] = None,
    workers: Annotated[
        int,
        typer.Option(min=0, help="Threads that decode pictures ahead; no number depends on it."),
    ] = 2,
    cache: Annotated[
        str,
        typer.Option(
            help="memory: pictures stay decoded at the model's size, and features of locked "
            "towers are computed once; none: both at every visit; auto: memory up to 1 GiB each. "
            "No number depends on it."
        ),
    ] = "auto",
    threads: ThreadsOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Train a model, from scratch or from another one.

    An interrupted run goes on with --resume, bit by bit. With several processes, each takes
    batch_size pairs: torchrun --nproc-per-node 2 -m braindecode_clip.cli.main clip train ...
    """
    import torch

    from braindecode_clip.cli.clip_pairs import as_pairs, cache_bytes
    from braindecode_clip.clip.blueprint import settled
    from braindecode_clip.clip.distributed import joined
    from braindecode_clip.clip.train import Trainer
    from braindecode_clip.io.atomic import write_json
    from braindecode_clip.logs import LOGGER_NAME, get_logger, milestone

    logger = get_logger(__name__)
    config = settled(read_options(recipe, ClipRecipe, flag="--recipe"), initial)
    if cache not in ("auto", "memory", "none"):
        raise ConfigError(f"--cache '{cache}' is unknown. Use auto, memory or none.")
    if threads is not None:
        torch.set_num_threads(threads)
    how = {"data": config.data, "kind": kind}
    place, n_processes = _place(device)
    with joined(n_processes, place) as processes:
        if not processes.is_first:
            # One process tells what all of them do.
            logging.getLogger(LOGGER_NAME).setLevel(logging.WARNING)
        with milestone(logger, "read the pairs") as note:
            sources = _sources(
                config.data,
                {"path": pairs, "split": split, "images": images, **how},
                {
                    "path": validation,
                    "split": validation_split,
                    "images": validation_images,
                    **how,
                },
                workers=workers,
            )
            training, held_out = (
                as_pairs(source, config, cache=cache, n_workers=workers, is_training=k == 0)
                for k, source in enumerate(sources)
            )
            trainer = Trainer(
                config,
                training,
                validation=held_out,
                state_dir=state if state is not None else out.with_name(f"{out.name}-state"),
                resume=resume,
                initial=initial,
                teacher=teacher,
                processes=processes,
                n_workers=workers,
                device=place,
                keep_bytes=cache_bytes(cache),
            )
            n_weights = sum(p.numel() for p in trainer.model.parameters())
            note(f"{trainer.n_steps} steps, {n_weights / 1e6:.2f} million weights")
        with milestone(logger, f"trained {config.name}"):
            _run_with_progress(trainer)
        trainer.export(out)
        if processes.is_first:
            write_json(out / "data.json", _data_record(trainer, sources))
        logger.info("wrote %s", out)


def _sources(
    data: DataConfig, training: dict[str, Any], held_out: dict[str, Any], *, workers: int
) -> tuple[PairSource, PairSource]:
    """Read the training and the held-out pairs, which may come from one source."""
    from braindecode_clip.cli.clip_pairs import divide, open_pairs

    if data.split is not None:
        if held_out["path"] is not None or held_out["split"] is not None:
            raise ConfigError(
                "the recipe's data.split holds out a part of --pairs, and --validation or "
                "--validation-split names held-out pairs too. Use one of them."
            )
        return divide(open_pairs(**training), data.split, n_workers=workers)
    if held_out["path"] is None:
        if held_out["split"] is None:
            raise ConfigError(
                "no held-out pairs: give --validation, or --validation-split, or data.split in "
                "the recipe."
            )
        held_out |= {"path": training["path"], "images": held_out["images"] or training["images"]}
    return open_pairs(**training), open_pairs(**held_out)


def _data_record(trainer: Trainer, sources: Sequence[PairSource]) -> dict[str, Any]:
    """What the model was trained on, and what was cut, left out or corrupt."""
    from braindecode_clip.clip.data_report import describe_reading
    from braindecode_clip.clip.picture_store import PictureStore

    tokenizer, record = trainer.tokenizer, {}
    pairs = (trainer.batches.pairs, trainer.validation)
    for name, source, own in zip(("training", "validation"), sources, pairs, strict=True):
        is_store = isinstance(own.images, PictureStore)
        record[name] = {
            # The name alone: models are handed on, and paths say where their maker works.
            "source": Path(source.where).name,
            "kind": source.kind,
            "n_pictures": len(own),
            "n_captions": len(own.wordings),
            **describe_reading(tokenizer, own.wordings),
            "n_corrupt": len(own.images.corrupt) if is_store else 0,
            "corrupt": own.images.listed() if is_store else [],
            "notes": list(source.notes),
        }
    record["training"] |= trainer.batches.order_record()
    return record


def _place(device: str) -> tuple[torch.device, int]:
    """Return this process's device, and how many processes ``torchrun`` started (1 without)."""
    import torch

    from braindecode_clip.clip.encoders import choose_device

    place, n_processes = choose_device(device), int(os.environ.get("WORLD_SIZE", "1"))
    if n_processes > 1 and place.type == "cuda":
        place = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(place)
    return place, n_processes


def _run_with_progress(trainer: Trainer) -> None:
    """Train with a bar on a terminal, and one line for each row of the log elsewhere."""
    from braindecode_clip.logs import get_logger

    logger = get_logger(__name__)
    if not (sys.stderr.isatty() and trainer.processes.is_first):
        trainer.run(on_step=lambda step, n, row: row and logger.info("%s", _line(step, n, row)))
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = ("{task.completed} of {task.total} steps", "{task.fields[note]}")
    bar = Progress(
        BarColumn(), *map(TextColumn, columns), TimeRemainingColumn(), console=Console(stderr=True)
    )
    with bar:
        task = bar.add_task("train", total=trainer.n_steps, completed=trainer.step, note="")
        notes = [""]

        def show(step: int, n_steps: int, row: LogRow | None) -> None:
            if row is not None:
                notes[0] = _line(step, n_steps, row).split(": ", 1)[1]
            bar.update(task, completed=step, note=notes[0])

        trainer.run(on_step=show)


def _line(step: int, n_steps: int, row: LogRow) -> str:
    text = f"step {step} of {n_steps}: loss {row.loss:.3f}, rate {row.lr:.2e}"
    if row.val_image_to_text_r1 is not None:
        text += f", held-out R@1 {100 * row.val_image_to_text_r1:.1f} %"
    return text
