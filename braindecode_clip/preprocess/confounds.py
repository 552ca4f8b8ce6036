"""Choosing columns of a confounds file and filling what fMRIPrep leaves empty."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Sequence

import numpy as np
import pandas as pd

from braindecode_clip.checks import Problems, some
from braindecode_clip.errors import DataError
from braindecode_clip.nuisance import expand_confound

#: fMRIPrep's names of the six rigid-body parameters: mm, then radians.
MOTION_PARAMETERS = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")

#: fMRIPrep writes these one-hot columns only where a run has such volumes.
OPTIONAL_FAMILIES = ("non_steady_state_outlier", "motion_outlier")

#: Columns of which fMRIPrep gives derivatives and squares.
EXPANDED = (*MOTION_PARAMETERS, "csf", "white_matter", "global_signal")


def expand_confounds(table: pd.DataFrame) -> pd.DataFrame:
    """Add the derivatives and squares that a table lacks, as fMRIPrep makes them.

    For motion parameters and mean signals x_t that are there: derivative1 x_t - x_(t-1) (NaN in
    the first row), power2 x_t^2 and derivative1_power2 (Satterthwaite et al. 2013, NeuroImage
    64:240-256).

    Parameters
    ----------
    table : DataFrame
        One row a volume, fMRIPrep's names.

    Returns
    -------
    DataFrame
        The table, with more columns on the right.
    """
    added: dict[str, np.ndarray] = {}
    for name in EXPANDED:
        if name not in table:
            continue
        column = pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64)
        added |= expand_confound(name, column)
    missing = {name: values for name, values in added.items() if name not in table}
    return pd.concat([table, pd.DataFrame(missing, index=table.index)], axis=1)


def choose_confounds(
    table: pd.DataFrame | None, patterns: Sequence[str], *, where: str = "confounds"
) -> pd.DataFrame:
    """Return the chosen columns as float64, without gaps.

    n/a in the first row, where a difference to the volume before has no value, becomes 0 in
    columns with "derivative" in their name (no movement before the run) and the mean of the
    column's other rows elsewhere (framewise displacement, DVARS).

    Parameters
    ----------
    table : DataFrame or None
        One row a volume. None when there is no file.
    patterns : sequence of str
        Names, or shell-style patterns. A column that several patterns match comes once.
    where : str
        The file, for messages.

    Returns
    -------
    DataFrame (n_volumes, n_chosen)
        In the order of the patterns, then of the table.

    Raises
    ------
    DataError
        With all missing columns, each with near names, and all columns that are no numbers.
    """
    if table is None:
        if patterns:
            raise DataError(
                f"the confounds {some(patterns)} are to be regressed out, but there is no "
                "confounds file. Give one (--confounds), or set 'confounds: []'."
            )
        return pd.DataFrame()
    problems = Problems(where)
    chosen: dict[str, np.ndarray] = {}
    for pattern in patterns:
        names = _matches(table, pattern)
        if not names and not pattern.startswith(OPTIONAL_FAMILIES):
            problems.add(_missing(pattern, [str(name) for name in table.columns]))
        for name in names:
            if name not in chosen:
                chosen[name] = _filled(name, table[name], problems)
    problems.raise_if_any(DataError)
    return pd.DataFrame(chosen, index=range(len(table)), dtype=np.float64)


def _matches(table: pd.DataFrame, pattern: str) -> list[str]:
    if pattern in table.columns:
        return [pattern]
    return [str(name) for name in table.columns if fnmatch.fnmatchcase(str(name), pattern)]


def _missing(pattern: str, columns: list[str]) -> str:
    by_folded = {name.casefold(): name for name in columns}
    wanted = pattern.rstrip("*?").casefold()
    close = difflib.get_close_matches(wanted, by_folded, n=3, cutoff=0.5)
    near = [by_folded[name] for name in close]
    hint = f"Near names: {some(near)}." if near else f"The file has {some(columns, limit=12)}."
    kind = "no column matches the pattern" if any(c in pattern for c in "*?[") else "no column"
    return f"{kind} '{pattern}'. {hint} Correct 'confounds'."


def _filled(name: str, column: pd.Series, problems: Problems) -> np.ndarray:
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, copy=True)
    text = np.flatnonzero(np.isnan(numbers) & column.notna().to_numpy())
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(text):
        problems.add(
            f"column '{name}' holds {column.iloc[text[0]]!r} in row {text[0] + 1}, expected a "
            "number."
        )
    elif len(bad) == len(numbers) or (len(bad) and bad[-1] > 0):
        problems.add(
            f"column '{name}' is n/a or infinite in {len(bad)} of {len(numbers)} rows (first: row "
            f"{bad[0] + 1}); only the first row may be n/a. Leave the column out of 'confounds'."
        )
    elif len(bad):
        numbers[0] = 0.0 if "derivative" in name else numbers[1:].mean()
    return numbers
