"""The rows of the training log as TensorBoard scalars, and the recipe as text."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from braindecode_clip.clip.training_log import LogRow
from braindecode_clip.errors import ConfigError

#: Column of the log to the tag in TensorBoard; tags with one beginning stand together.
TAGS = {
    "loss": "train/loss",
    "caption_loss": "train/caption_loss",
    "grad_norm": "train/grad_norm",
    "lr": "train/lr",
    "logit_scale": "train/logit_scale",
    "val_image_to_text_r1": "held_out/image_to_text_r1",
    "val_text_to_image_r1": "held_out/text_to_image_r1",
    "pairs_per_second": "speed/pairs_per_second",
}
#: Follows from pairs per second, and is what one looks for.
SECONDS_TAG = "speed/seconds_per_step"
RECIPE_TAG = "recipe"


class TensorBoardLog:
    """Event files of one run; a context manager.

    Parameters
    ----------
    folder : path
        Of the event files. Those of an earlier part of the run may lie in it.
    recipe : dict
        Shown as text.
    n_pairs_per_step : int
        Pairs of a step, of all processes.
    first_step : int
        Steps done before. What the folder holds of later steps is hidden: a run that is taken
        up does them again.

    Raises
    ------
    ConfigError
        TensorBoard is not installed.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        recipe: dict[str, Any],
        n_pairs_per_step: int,
        first_step: int = 0,
    ) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                f"--tensorboard: TensorBoard is not installed ({error}). "
                'pip install "braindecode-clip[tensorboard]", or leave the option out.'
            ) from error
        self._n_pairs = n_pairs_per_step
        # What has this step or a later one is hidden, so the first step to come is named.
        self._writer = SummaryWriter(str(folder), purge_step=first_step + 1)
        if first_step == 0:
            text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
            # Indented lines are shown as they are.
            shown = "\n".join(f"    {line}" for line in text.splitlines())
            self._writer.add_text(RECIPE_TAG, shown, 0)
            self._writer.flush()

    def write(self, row: LogRow) -> None:
        """Add a row; it is on the disk afterwards, so that a kill loses no row before a state."""
        for column, tag in TAGS.items():
            value = getattr(row, column)
            if value is not None:
                self._writer.add_scalar(tag, value, row.step)
        if row.pairs_per_second:
            seconds = self._n_pairs / row.pairs_per_second
            self._writer.add_scalar(SECONDS_TAG, seconds, row.step)
        self._writer.flush()

    def __enter__(self) -> TensorBoardLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()
