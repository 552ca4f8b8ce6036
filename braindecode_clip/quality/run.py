"""The quality of one run, from its cleaned signals and its trials."""

from __future__ import annotations

import numpy as np

from braindecode_clip.artifacts import Betas, Signals
from braindecode_clip.checks import Problems
from braindecode_clip.errors import DataError
from braindecode_clip.quality.advice import advise
from braindecode_clip.quality.carpet import make_carpet
from braindecode_clip.quality.measures import describe_volumes, late_trials, measure_run
from braindecode_clip.quality.record import RunQuality, run_name


def describe_run(signals: Signals, betas: Betas, *, where: str = "betas") -> RunQuality:
    """Measure a run, warn of what needs care, and draw up its carpet.

    Parameters
    ----------
    signals : Signals
        Read in place, a block of voxels at a time.
    betas : Betas
        Of the same run. What they do not tell (``r2``, ``info["efficiency"]``,
        ``info["vif_max"]``, ...) becomes None.
    where : str
        How messages call the betas, e.g. the file.

    Returns
    -------
    RunQuality

    Raises
    ------
    DataError
        When the betas are of another run or other voxels.
    """
    _check_same_run(signals, betas, where)
    volumes = describe_volumes(signals)
    carpet, row_of, _ = make_carpet(signals.data)
    numbers = measure_run(signals, betas, volumes=volumes, constant=row_of < 0)
    return RunQuality(
        subject=signals.subject,
        session=signals.session,
        run=signals.run,
        tr_s=signals.tr_s,
        numbers=numbers,
        warnings=advise(
            numbers,
            late=late_trials(signals, betas),
            from_betas=[str(message) for message in betas.info.get("warnings") or []],
        ),
        volumes=volumes,
        trials=betas.trials[["onset", "duration"]].astype(np.float64).reset_index(drop=True),
        carpet=carpet,
    )


def _check_same_run(signals: Signals, betas: Betas, where: str) -> None:
    problems = Problems(where)
    if betas.data.shape[1] != signals.data.shape[1]:
        problems.add(
            f"have {betas.data.shape[1]} voxels, the signals {signals.data.shape[1]}. "
            "Give the betas that were estimated from these signals."
        )
    keys = ["subject", "session", "run"]
    if set(keys) <= set(betas.trials.columns) and len(betas.trials):
        theirs = run_name(*(str(betas.trials[key].iloc[0]) for key in keys))
        ours = run_name(signals.subject, signals.session, signals.run)
        if theirs != ours:
            problems.add(f"are of {theirs}, the signals of {ours}. Give files of one run.")
    problems.raise_if_any(DataError)
