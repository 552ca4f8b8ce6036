"""What is known of the quality of one run, small enough to keep for every run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from braindecode_clip.checks import Problems, some
from braindecode_clip.errors import ArtifactError

#: Levels of a warning, the most urgent first.
LEVELS = ("problem", "warning", "note")

_COLUMNS = {
    "warnings": {"kind", "level", "what", "amount", "advice"},
    "volumes": {"time_s", "framewise_displacement", "dvars", "dvars_standardised", "censored"},
    "trials": {"onset", "duration"},
}


@dataclass(frozen=True)
class RunQuality:
    """Numbers, warnings and a carpet of one run.

    Attributes
    ----------
    subject, session, run : str
        Labels without prefix; ``session`` may be empty.
    tr_s : float
        Repetition time in seconds.
    numbers : dict
        Every measure of :mod:`braindecode_clip.quality.measures`; None where it is not known.
    warnings : DataFrame
        The most urgent first: kind, level (one of :data:`LEVELS`), what (a few words, the same
        for all runs), amount (where and how much), advice (what to do).
    volumes : DataFrame
        One row for every volume: time_s (on the clock of the events), framewise_displacement
        (mm), dvars (scanner's unit), dvars_standardised (over its median), censored (bool).
    trials : DataFrame
        onset and duration (s) of every trial.
    carpet : ndarray (n_rows, n_volumes) int8
        Cleaned signals in sd of the row, times :data:`~braindecode_clip.quality.carpet.STEPS`;
        see :func:`~braindecode_clip.quality.carpet.make_carpet`.
    """

    subject: str
    session: str
    run: str
    tr_s: float
    numbers: dict[str, Any]
    warnings: pd.DataFrame
    volumes: pd.DataFrame
    trials: pd.DataFrame
    carpet: np.ndarray

    def __post_init__(self) -> None:
        problems = Problems(f"RunQuality of {self.name}")
        for table, wanted in _COLUMNS.items():
            missing = sorted(wanted - set(getattr(self, table).columns))
            if missing:
                problems.add(f"table '{table}' lacks the columns {some(missing)}.")
        if self.carpet.ndim != 2 or self.carpet.shape[1] != len(self.volumes):
            problems.add(
                f"'carpet' has shape {self.carpet.shape}, expected (n_rows, {len(self.volumes)})."
            )
        if self.carpet.dtype != np.int8:
            problems.add(f"'carpet' is {self.carpet.dtype}, expected int8.")
        problems.raise_if_any(ArtifactError)

    @property
    def name(self) -> str:
        """The run's labels, e.g. ``sub-01 ses-02 run-03``."""
        return run_name(self.subject, self.session, self.run)

    @property
    def level(self) -> str | None:
        """The most urgent level among the warnings; None without any."""
        found = set(self.warnings["level"])
        return next((level for level in LEVELS if level in found), None)


def run_name(subject: str, session: str, run: str) -> str:
    """Return e.g. ``sub-01 ses-02 run-03``; without a session ``sub-01 run-03``."""
    parts = {"sub": subject, "ses": session, "run": run}
    return " ".join(f"{key}-{label}" for key, label in parts.items() if label)
