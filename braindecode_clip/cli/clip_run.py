"""A run of ``clip train``: progress, an orderly stop, TensorBoard, and what is written after it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from braindecode_clip.clip.pairs import Pairs
    from braindecode_clip.clip.train import Trainer
    from braindecode_clip.clip.training_log import LogRow
    from braindecode_clip.io.pair_source import PairSource

#: Beyond so many pictures, held-out ones are not looked for among the training pictures.
MOST_COMPARED = 200_000
#: In the folder of the state.
TENSORBOARD_FOLDER = "tensorboard"


@dataclass
class StopSignals:
    """Takes note of Ctrl-C and SIGTERM, so that a run can end between two steps.

    A second Ctrl-C ends the program at once. A second SIGTERM does not: ``torchrun`` sends one
    to processes that Ctrl-C has reached already.

    Attributes
    ----------
    received : int
        Number of the first signal; 0 before.
    """

    received: int = 0

    @contextlib.contextmanager
    def watched(self) -> Iterator[StopSignals]:
        """Take note inside this context; the handlers of before come back."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        watched = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._note) for number in watched}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.received = number
        # Written straight to the terminal: a handler may come while the log is being written.
        os.write(2, b"\nending after this step; Ctrl-C again ends at once, without a state\n")


def train_to_end(
    trainer: Trainer, *, tensorboard: Path | None, record: dict[str, Any]
) -> dict[str, Any]:
    """Train, and keep ``run.json`` beside the state.

    Parameters
    ----------
    trainer : Trainer
    tensorboard : path, optional
        Folder of event files.
    record : dict
        From :func:`braindecode_clip.clip.run_files.start_record`.

    Returns
    -------
    dict
        The record of the whole run.

    Raises
    ------
    typer.Exit
        A signal ended the run before its end; code 128 and the signal's number.
    """
    from braindecode_clip.clip.run_files import RUN_FILE, progress_record
    from braindecode_clip.io.atomic import write_json
    from braindecode_clip.logs import get_logger

    is_first = trainer.processes.is_first
    if is_first:
        write_json(trainer.state_dir / RUN_FILE, record)
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(StopSignals().watched())
        listeners: list[Callable[[LogRow], None]] = []
        if tensorboard is not None and is_first:
            listeners.append(stack.enter_context(_tensorboard(trainer, tensorboard)).write)
        is_ended = _run_with_progress(trainer, listeners, lambda: bool(stop.received))
    if is_first:
        record = {**record, **progress_record(trainer, is_ended=is_ended)}
        write_json(trainer.state_dir / RUN_FILE, record)
    if not is_ended:
        if is_first:
            get_logger(__name__).warning(
                "interrupted at step %d of %d; the state is in %s. The same command with "
                "--resume goes on.",
                trainer.step,
                trainer.n_steps,
                trainer.state_dir,
            )
        # Another process may have been told by the first alone.
        raise typer.Exit(128 + (stop.received or signal.SIGTERM))
    return record


def write_results(
    trainer: Trainer,
    sources: Sequence[PairSource],
    out: Path,
    record: dict[str, Any],
    *,
    data: dict[str, Any],
    with_report: bool,
    with_pictures: bool,
    with_captions: bool,
) -> None:
    """Write what the run leaves beside its model: data, figures, page and card.

    Parameters
    ----------
    trainer : Trainer
    sources : (PairSource, PairSource)
        Training and held-out pairs.
    out : path
        Folder of the model.
    record : dict
        From :func:`train_to_end`.
    data : dict
        From :func:`data_record`.
    with_report, with_pictures, with_captions : bool
        Whether there is a page, and what of the held-out pairs it shows.
    """
    from braindecode_clip.cli.clip_card import write_card
    from braindecode_clip.cli.clip_report import REPORT_FILE, Shown, measured, write_page
    from braindecode_clip.clip.run_files import DATA_FILE, RUN_FILE, read_run
    from braindecode_clip.errors import ConfigError
    from braindecode_clip.io.atomic import write_json
    from braindecode_clip.logs import get_logger

    write_json(out / DATA_FILE, data)
    found, figures = measured(
        out,
        trainer.validation,
        source=Path(sources[1].where).name,
        names=sources[1].names,
        device=str(trainer.device),
    )
    write_json(out / RUN_FILE, {**record, "held_out": figures})
    if with_report:
        shown = Shown(found, figures, trainer.validation, with_pictures, with_captions)
        write_page(read_run(out), shown, out / REPORT_FILE)
    try:
        write_card(out)
    except ConfigError as error:
        # The run has ended well; somebody's own README is no reason to say otherwise.
        get_logger(__name__).warning("no model card: %s", error)


def data_record(trainer: Trainer, sources: Sequence[PairSource], *, workers: int) -> dict[str, Any]:
    """What the model was trained on, and what was cut, left out, corrupt or in both parts."""
    from braindecode_clip.clip.data_report import describe_reading
    from braindecode_clip.clip.picture_store import PictureStore

    record: dict[str, Any] = {}
    pairs = (trainer.batches.pairs, trainer.validation)
    for name, source, own in zip(("training", "validation"), sources, pairs, strict=True):
        is_store = isinstance(own.images, PictureStore)
        record[name] = {
            # The name alone: models are handed on, and paths say where their maker works.
            "source": Path(source.where).name,
            "kind": source.kind,
            "n_pictures": len(own),
            "n_captions": len(own.wordings),
            **describe_reading(trainer.tokenizer, own.wordings),
            "n_corrupt": len(own.images.corrupt) if is_store else 0,
            "corrupt": own.images.listed() if is_store else [],
            "notes": list(source.notes),
        }
    record["training"] |= trainer.batches.order_record()
    record["validation"] |= _overlap(pairs, sources, workers=workers)
    return record


def _overlap(
    pairs: Sequence[Pairs], sources: Sequence[PairSource], *, workers: int
) -> dict[str, int | None]:
    """Count held-out pictures whose first caption, or whose file, training has seen."""
    training, held = pairs
    seen = set(training.wordings)
    digests = [_digests(source, workers) for source in sources]
    n_files = None
    if None not in digests:
        # Held-out pictures that cannot be decoded are left out of the pairs, not of the source.
        known = set(digests[0])
        n_files = sum(bool(own) and own in known for own in digests[1])
    return {
        "n_first_captions_in_training": sum(caption in seen for caption in held.first_wordings),
        "n_pictures_in_training": n_files,
    }


def _digests(source: PairSource, workers: int) -> list[str] | None:
    from braindecode_clip.io.pair_scan import content_digests

    return None if len(source) > MOST_COMPARED else content_digests(source, n_workers=workers)


def _tensorboard(trainer: Trainer, folder: Path) -> Any:
    from braindecode_clip.clip.tensorboard_log import TensorBoardLog

    return TensorBoardLog(
        folder,
        recipe=trainer.recipe.model_dump(mode="json"),
        n_pairs_per_step=trainer.n_pairs_per_step,
        first_step=trainer.step,
    )


def _run_with_progress(
    trainer: Trainer, listeners: Sequence[Callable[[LogRow], None]], is_asked: Callable[[], bool]
) -> bool:
    """Train with a bar on a terminal, and one line for each row of the log elsewhere."""
    from braindecode_clip.logs import get_logger

    logger = get_logger(__name__)

    def tell(row: LogRow | None) -> None:
        if row is not None:
            for listener in listeners:
                listener(row)

    if not (sys.stderr.isatty() and trainer.processes.is_first):

        def say(step: int, n_steps: int, row: LogRow | None) -> None:
            tell(row)
            if row is not None:
                logger.info("%s", _line(step, n_steps, row))

        return trainer.run(on_step=say, is_asked_to_stop=is_asked)
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
            tell(row)
            if row is not None:
                notes[0] = _line(step, n_steps, row).split(": ", 1)[1]
            bar.update(task, completed=step, note=notes[0])

        return trainer.run(on_step=show, is_asked_to_stop=is_asked)


def _line(step: int, n_steps: int, row: LogRow) -> str:
    text = f"step {step} of {n_steps}: loss {row.loss:.3f}, rate {row.lr:.2e}"
    if row.val_image_to_text_r1 is not None:
        text += f", held-out R@1 {100 * row.val_image_to_text_r1:.1f} %"
    return text
