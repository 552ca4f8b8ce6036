"""Which volumes of a run are left out ("scrubbing")."""

from __future__ import annotations

import numpy as np
import pandas as pd

from braindecode_clip.checks import Problems
from braindecode_clip.config.preprocess import CensorConfig
from braindecode_clip.errors import DataError
from braindecode_clip.logs import get_logger
from braindecode_clip.nuisance import dvars, framewise_displacement, standardized_dvars
from braindecode_clip.preprocess.confounds import MOTION_PARAMETERS

logger = get_logger(__name__)

#: Above this share of censored volumes a run is worth a look.
WARN_SHARE = 0.2


def describe_volumes(
    data: np.ndarray, confounds: pd.DataFrame | None, *, dummy_scans: int = 0
) -> pd.DataFrame:
    """Return what is known of every volume: see :class:`~braindecode_clip.artifacts.Signals`.

    Parameters
    ----------
    data : ndarray (n_volumes, n_voxels)
        As read, without the dummy scans.
    confounds : DataFrame or None
        One row a volume, dummy scans included. What it says of displacement and standardised DVARS
        counts before what can be computed.
    dummy_scans : int
        Rows of ``confounds`` before the first volume of ``data``.

    Returns
    -------
    DataFrame
        framewise_displacement, dvars, std_dvars; NaN where unknown.
    """
    change = dvars(data)
    columns = {
        "framewise_displacement": np.full(len(data), np.nan),
        "dvars": change,
        "std_dvars": standardized_dvars(change),
    }
    given = pd.DataFrame() if confounds is None else confounds
    if set(MOTION_PARAMETERS) <= set(given.columns) and "framewise_displacement" not in given:
        motion = np.column_stack([_numbers(given[name]) for name in MOTION_PARAMETERS])
        columns["framewise_displacement"] = framewise_displacement(motion)[dummy_scans:]
    for name in ("framewise_displacement", "std_dvars"):
        if name in given:
            columns[name] = _numbers(given[name])[dummy_scans:]
    return pd.DataFrame(columns)


def choose_censored(
    volumes: pd.DataFrame, config: CensorConfig, *, where: str = "run"
) -> np.ndarray:
    """Return which volumes are censored.

    Volumes above a threshold (a value that is not known is above none), those just before and
    after them, then the segments between them that are too short.

    Parameters
    ----------
    volumes : DataFrame
        From :func:`describe_volumes`.
    config : CensorConfig
    where : str
        The run, for messages.

    Returns
    -------
    ndarray (n_volumes,) bool

    Raises
    ------
    DataError
        When a measure with a threshold is not known, or more than ``max_share`` would go.

    References
    ----------
    Power et al. (2014), NeuroImage 84:320-341.
    """
    measures = {"fd_mm": "framewise_displacement", "dvars": "std_dvars"}
    problems = Problems(where)
    above = np.zeros(len(volumes), dtype=bool)
    counts = []
    for option, column in measures.items():
        threshold = getattr(config, option)
        if threshold is None:
            continue
        values = volumes[column].to_numpy()
        if np.isnan(values).all():
            problems.add(
                f"censor.{option} is {threshold:g}, but the {column} of no volume is known. Give a "
                f"confounds file with the column '{column}' or the six motion parameters, or set "
                f"'censor.{option}: null'."
            )
        with np.errstate(invalid="ignore"):
            beyond = values > threshold
        counts.append(f"{beyond.sum()} with {column} above {threshold:g}")
        above |= beyond
    problems.raise_if_any(DataError)
    censored = _without_short_segments(
        _spread(above, config.n_before, config.n_after), config.min_segment
    )
    _check_share(censored, config, counts, where)
    return censored


def _numbers(column: pd.Series) -> np.ndarray:
    return pd.to_numeric(column, errors="coerce").to_numpy(np.float64)


def _spread(above: np.ndarray, n_before: int, n_after: int) -> np.ndarray:
    censored = above.copy()
    for volume in np.flatnonzero(above):
        censored[max(volume - n_before, 0) : volume + n_after + 1] = True
    return censored


def _without_short_segments(censored: np.ndarray, min_segment: int) -> np.ndarray:
    """Censor the runs of kept volumes that are too short, if anything is censored at all."""
    if not censored.any():
        return censored
    ends = np.flatnonzero(np.diff(np.concatenate([[True], censored, [True]]).astype(np.int8)))
    result = censored.copy()
    for start, stop in ends.reshape(-1, 2):
        if stop - start < min_segment:
            result[start:stop] = True
    return result


def _check_share(censored: np.ndarray, config: CensorConfig, counts: list[str], where: str) -> None:
    share = censored.mean()
    text = f"{censored.sum()} of {len(censored)} volumes ({share:.0%})"
    reasons = "; ".join([*counts, "with their neighbours and segments that are too short"])
    if share > config.max_share:
        raise DataError(
            f"{where}: {text} would be censored, more than the share of {config.max_share:g} that "
            f"censor.max_share allows ({reasons}). Leave the run out, or choose other thresholds."
        )
    if share > WARN_SHARE:
        logger.warning("%s: %s are censored (%s)", where, text, reasons)
    elif censored.any():
        logger.info("%s: %s are censored", where, text)
