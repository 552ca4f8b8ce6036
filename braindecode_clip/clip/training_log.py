"""The log of a training run: one CSV row for every few steps."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from braindecode_clip.clip.checkpoints import replacing

LOG_FILE = "training_log.csv"


@dataclass(frozen=True)
class LogRow:
    """One row of the training log.

    Attributes
    ----------
    step : int
        Steps done.
    epoch, lr, logit_scale, grad_norm : float
        Passes done; rate, factor on the cosines and gradient norm (before clipping) of the
        last step.
    loss : float
        Contrastive loss, mean over the steps since the last row, nats.
    val_image_to_text_r1, val_text_to_image_r1 : float or None
        Held-out R@1 in pools of distinct captions; None between validations.
    seconds : float
        Wall time of the steps since the last row, or since the run was taken up.
    pairs_per_second : float or None
        Pairs of all processes seen in that time; None in logs of earlier versions.
    caption_loss : float or None
        With the loss 'coca', mean loss of a predicted token in the last step, nats, before its
        weight.
    """

    step: int
    epoch: float
    loss: float
    lr: float
    logit_scale: float
    grad_norm: float
    val_image_to_text_r1: float | None
    val_text_to_image_r1: float | None
    seconds: float
    pairs_per_second: float | None = None
    caption_loss: float | None = None


def append_row(path: Path, row: LogRow) -> None:
    """Add a row at the end."""
    with path.open("a", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerow(_cells(row))


def read_log(path: Path) -> list[LogRow]:
    """Return the rows in their order; none when there is no file.

    Columns are found by their names, so logs of other versions are read too. A row that a
    killed process left unfinished is left out.
    """
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        lines = list(csv.reader(line for line in stream if line.endswith("\n")))
    if not lines:
        return []
    header = lines[0]
    parsed = (_row(header, cells) for cells in lines[1:])
    return [row for row in parsed if row is not None]


def write_log(path: Path, rows: Iterable[LogRow]) -> None:
    """Write the header and these rows, in place of what was there."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([field.name for field in fields(LogRow)])
        writer.writerows(_cells(row) for row in rows)


def _row(header: Sequence[str], cells: Sequence[str]) -> LogRow | None:
    if len(cells) != len(header):
        return None
    named = dict(zip(header, cells, strict=True))
    values: dict[str, Any] = {}
    for field in fields(LogRow):
        text = named.get(field.name, "")
        try:
            values[field.name] = int(text) if field.name == "step" else float(text)
        except ValueError:
            # Only what may be missing may be empty.
            if text or (field.default is MISSING and not field.name.startswith("val_")):
                return None
            values[field.name] = None
    return LogRow(**values)


def _cells(row: LogRow) -> list[Any]:
    cells = []
    for field in fields(LogRow):
        value = getattr(row, field.name)
        cells.append("" if value is None else f"{value:.6g}" if isinstance(value, float) else value)
    return cells
