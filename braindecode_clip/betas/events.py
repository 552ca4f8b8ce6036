"""From an events table to trials: checks, order, and which events are trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from braindecode_clip.checks import Problems, some
from braindecode_clip.errors import DataError
from braindecode_clip.logs import get_logger

logger = get_logger(__name__)

DEFAULT_TRIAL_TYPE = "trial"

#: Seconds after the onset before which a response has not reached its peak.
PEAK_S = 5.0


@dataclass(frozen=True)
class RunEvents:
    """The events of one run, checked.

    Attributes
    ----------
    trials : DataFrame
        onset, duration (s, float64), trial_type (str) and stimulus_id (str) where the table has
        it; in the order of the onsets, equal onsets in the order of the table.
    others : DataFrame
        onset, duration, trial_type of the events that are no trials.
    """

    trials: pd.DataFrame
    others: pd.DataFrame


def select_trials(
    events: pd.DataFrame,
    *,
    run_start_s: float,
    run_end_s: float,
    earliest_s: float,
    trial_types: Sequence[str] | None = None,
    where: str = "events",
) -> RunEvents:
    """Check the events of a run and tell trials from other events.

    Parameters
    ----------
    events : DataFrame
        BIDS columns: onset and duration in seconds; trial_type and stimulus_id where known.
        Without trial_type every event is called "trial".
    run_start_s, run_end_s : float
        Time of the first and the last volume kept, in seconds after the run began.
    earliest_s : float
        Trials that begin before this time cannot be modelled.
    trial_types : sequence of str, optional
        Events of these types are trials; all are by default.
    where : str
        Named in messages, e.g. the file.

    Returns
    -------
    RunEvents

    Raises
    ------
    DataError
        With all problems at once; rows are counted from 1, without the header.
    """
    problems = Problems(where)
    _check_columns(events, problems)
    problems.raise_if_any(DataError)
    table = _typed(events, problems)
    _check_rows(table, problems, run_start_s, run_end_s, earliest_s)
    is_trial = np.ones(len(table), dtype=bool)
    if trial_types is not None:
        is_trial = table["trial_type"].isin(list(trial_types)).to_numpy()
        absent = sorted(set(trial_types) - set(table["trial_type"]))
        if len(table) and not is_trial.any():
            problems.add(
                f"none of the trial_types {some(trial_types)} occurs; the table has "
                f"{some(sorted(set(table['trial_type'])))}. Correct 'trial_types'."
            )
        elif absent:
            logger.warning("%s: no event of the trial_types %s", where, some(absent))
    if len(table) == 0:
        problems.add("holds no events. Leave the run out, or give the events of this run.")
    _check_duplicates(table[is_trial], problems)
    problems.raise_if_any(DataError)
    columns = ["onset", "duration", "trial_type"]
    trial_columns = [*columns, "stimulus_id"] if "stimulus_id" in table else columns
    ordered = table.sort_values("onset", kind="stable")
    chosen = is_trial[ordered.index.to_numpy()]
    trials = ordered.loc[chosen, trial_columns].reset_index(drop=True)
    late = int((trials["onset"] > run_end_s - PEAK_S).sum())
    if late:
        logger.warning(
            "%s: %d trials begin less than %g s before the last volume: their responses are "
            "barely seen",
            where,
            late,
            PEAK_S,
        )
    return RunEvents(trials, ordered.loc[~chosen, columns].reset_index(drop=True))


def _check_columns(events: pd.DataFrame, problems: Problems) -> None:
    for name in ("onset", "duration"):
        if name not in events.columns:
            problems.add(
                f"column '{name}' is missing; the table has {some(events.columns)}. Add it, in "
                "seconds."
            )


def _typed(events: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """Return a copy with float times and str names, rows numbered from 0."""
    table = events.reset_index(drop=True).copy()
    for name in ("onset", "duration"):
        numbers = pd.to_numeric(table[name], errors="coerce").astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(numbers))
        if len(bad):
            value = table[name].iloc[bad[0]]
            problems.add(
                f"'{name}' is no number in {len(bad)} of {len(table)} rows (first: row "
                f"{bad[0] + 1}, {'n/a' if pd.isna(value) else repr(str(value))}). Give seconds."
            )
        table[name] = numbers
    if "trial_type" not in table:
        table["trial_type"] = DEFAULT_TRIAL_TYPE
    for name in ("trial_type", "stimulus_id"):
        if name not in table:
            continue
        empty = np.flatnonzero(table[name].isna())
        # An event that shows no picture (fixation, response) may lack a stimulus, a type may not.
        if len(empty) and name == "trial_type":
            problems.add(
                f"'trial_type' is n/a in {len(empty)} of {len(table)} rows (first: row "
                f"{empty[0] + 1}). Name these events, or remove them."
            )
        table[name] = table[name].map(lambda value: "" if pd.isna(value) else _label(value))
    return table


def _label(value: object) -> str:
    """Return a cell as text; whole numbers that a column with gaps made floats lose '.0'."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _check_rows(
    table: pd.DataFrame,
    problems: Problems,
    run_start_s: float,
    run_end_s: float,
    earliest_s: float,
) -> None:
    onset, duration = table["onset"].to_numpy(), table["duration"].to_numpy()

    def report(bad: np.ndarray, what: str, advice: str) -> None:
        rows = np.flatnonzero(bad)
        if len(rows):
            problems.add(
                f"{len(rows)} of {len(table)} events {what} (first: row {rows[0] + 1}, onset "
                f"{onset[rows[0]]:g} s, duration {duration[rows[0]]:g} s). {advice}"
            )

    report(duration < 0, "have a negative duration", "Give seconds, 0 or more.")
    report(
        onset < 0,
        "begin before the run",
        "Onsets count in seconds from the first volume of the file.",
    )
    report(
        onset >= run_end_s,
        f"begin after the last volume, at {run_end_s:g} s",
        "Are these the events of this run, and is the TR right?",
    )
    report(
        (onset >= 0) & (onset < earliest_s),
        f"begin more than {run_start_s - earliest_s:g} s before the first volume kept, at "
        f"{run_start_s:g} s",
        "Drop fewer dummy scans, or leave these events out.",
    )


def _check_duplicates(trials: pd.DataFrame, problems: Problems) -> None:
    timed = trials[trials[["onset", "duration"]].notna().all(axis=1)]
    twins = timed[timed.duplicated(["onset", "duration"], keep=False)]
    if len(twins):
        rows = ", ".join(str(row + 1) for row in twins.index[:5])
        first = twins.iloc[0]
        problems.add(
            f"{len(twins)} trials share their onset and duration with another (rows {rows}; "
            f"first: onset {first['onset']:g} s, '{first['trial_type']}'). Their responses cannot "
            "be told apart: keep one of each, or choose the trials by 'trial_types'."
        )
