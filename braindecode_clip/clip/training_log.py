"""The log of a training run: one CSV row for every few steps."""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields
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
        Wall time of the steps since the last row.
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


def append_row(path: Path, row: LogRow) -> None:
    """Add a row at the end."""
    with path.open("a", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerow(_cells(row))


def read_rows(path: Path) -> list[list[str]]:
    """Return the rows as text, without the header; none when there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return [row for row in csv.reader(stream) if row and row[0].isdigit()]


def write_rows(path: Path, rows: list[list[str]]) -> None:
    """Write the header and these rows, in place of what was there."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([field.name for field in fields(LogRow)])
        writer.writerows(rows)


def _cells(row: LogRow) -> list[Any]:
    cells = []
    for field in fields(LogRow):
        value = getattr(row, field.name)
        cells.append("" if value is None else f"{value:.6g}" if isinstance(value, float) else value)
    return cells
