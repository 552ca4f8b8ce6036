"""``braindecode-clip clip``: train a CLIP model from pairs, and measure what it can do."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from braindecode_clip.cli.clip_card import card as card_command
from braindecode_clip.cli.clip_data import data
from braindecode_clip.cli.clip_drawings import drawings
from braindecode_clip.cli.clip_evaluate import evaluate
from braindecode_clip.cli.clip_forgetting import forgetting
from braindecode_clip.cli.clip_leak_options import (
    CheckPairsOption,
    ForbidCaptionsOption,
    ForbidOption,
    ForbidSplitOption,
    ShuffleOption,
)
from braindecode_clip.cli.clip_lr_range import lr_range
from braindecode_clip.cli.clip_options import (
    CaptionsOption,
    DeviceOption,
    ImagesOption,
    InitialOption,
    KindOption,
    PicturesOption,
    RecipeOption,
    SplitOption,
    TeacherOption,
    ThreadsOption,
)
from braindecode_clip.cli.clip_perturb import perturb
from braindecode_clip.cli.clip_report import report as report_command
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
    import torch

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
app.command("report")(report_command)
app.command("card")(card_command)

app.command("wise-ft")(wise_ft)


app.command()(evaluate)


app.command()(forgetting)


app.command()(perturb)


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
    tensorboard: Annotated[
        bool,
        typer.Option("--tensorboard", help="Write TensorBoard event files (extra `tensorboard`)."),
    ] = False,
    tensorboard_dir: Annotated[
        Path | None,
        typer.Option(help="Their folder, implies --tensorboard; STATE/tensorboard by default."),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write OUT/report.html at the end.")
    ] = True,
    report_pictures: PicturesOption = True,
    report_captions: CaptionsOption = True,
    forbid: ForbidOption = None,
    forbid_split: ForbidSplitOption = None,
    forbid_captions: ForbidCaptionsOption = "warn",
    check_pairs: CheckPairsOption = True,
    shuffle_captions: ShuffleOption = False,
) -> None:
    """Train a model, from scratch or from another one.

    Besides the model, OUT gets the recipe, the log, run.json, data.json, a report and a model
    card. Ctrl-C or SIGTERM ends after the current step and saves the state (exit code 130 or
    143); --resume then goes on, bit by bit. With several processes, each takes
    batch_size pairs: torchrun --nproc-per-node 2 -m braindecode_clip.cli.main clip train ...
    """
    import torch

    from braindecode_clip.cli.clip_leaks import check_leaks, write_leakage
    from braindecode_clip.cli.clip_pairs import as_pairs, cache_bytes
    from braindecode_clip.cli.clip_run import (
        TENSORBOARD_FOLDER,
        data_record,
        train_to_end,
        write_results,
    )
    from braindecode_clip.clip.blueprint import settled
    from braindecode_clip.clip.distributed import joined
    from braindecode_clip.clip.run_files import start_record
    from braindecode_clip.clip.train import Trainer
    from braindecode_clip.io.pair_source import with_shuffled_captions
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
            leakage, shared = check_leaks(
                sources,
                forbid=forbid,
                forbid_split=forbid_split,
                captions=forbid_captions,
                is_separate=check_pairs and config.data.split is None,
                n_workers=workers,
            )
            if shuffle_captions:
                sources = (with_shuffled_captions(sources[0], seed=config.seed), sources[1])
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
        if tensorboard and tensorboard_dir is None:
            tensorboard_dir = trainer.state_dir / TENSORBOARD_FOLDER
        with milestone(logger, f"trained {config.name}"):
            record = train_to_end(
                trainer, tensorboard=tensorboard_dir, record=start_record(trainer)
            )
        trainer.export(out)
        if processes.is_first:
            write_leakage(out, leakage)
            facts = {"captions_shuffled": shuffle_captions, "shared_pictures": shared}
            write_results(
                trainer,
                sources,
                out,
                record,
                data=data_record(trainer, sources, workers=workers) | facts,
                with_report=report,
                with_pictures=report_pictures,
                with_captions=report_captions,
            )
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


def _place(device: str) -> tuple[torch.device, int]:
    """Return this process's device, and how many processes ``torchrun`` started (1 without)."""
    import torch

    from braindecode_clip.clip.encoders import choose_device

    place, n_processes = choose_device(device), int(os.environ.get("WORLD_SIZE", "1"))
    if n_processes > 1 and place.type == "cuda":
        place = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(place)
    return place, n_processes
