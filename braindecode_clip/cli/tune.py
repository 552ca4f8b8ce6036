"""``braindecode-clip tune``: what single trials take from all runs of a subject."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from braindecode_clip.cli.common import options_help, read_options
from braindecode_clip.config.betas import BetasConfig, TuneConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from braindecode_clip.artifacts import Signals, Tuning
    from braindecode_clip.betas.tuned_run import RunToTune


def tune(
    signals: Annotated[
        list[Path], typer.Option(help="Signals of a run, written by `preprocess`; one for each.")
    ],
    events: Annotated[
        list[Path], typer.Option(help="BIDS events of the runs, in the order of the signals.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="File to write (HDF5), named *_tuning.h5; maps of the time to peak, of the "
            "variance that other runs predict, and of the penalty lie beside it."
        ),
    ],
    stimuli: Annotated[
        Path | None,
        typer.Option(
            help="Table with stimulus_id and split: the choices see training stimuli alone. "
            "Without it they see all trials, and no label."
        ),
    ] = None,
    options: Annotated[
        str | None, typer.Option(help="Options as YAML or JSON text, or a file with them.")
    ] = None,
) -> None:
    """Choose responses, noise regressors and penalties from all runs of a subject."""
    from braindecode_clip.errors import DataError
    from braindecode_clip.io.hdf5 import save_artifact
    from braindecode_clip.io.runs import write_map
    from braindecode_clip.logs import get_logger
    from braindecode_clip.provenance import make_provenance

    logger = get_logger(__name__)
    config = read_options(options, BetasConfig)
    if len(signals) != len(events):
        raise DataError(
            f"tune: {len(signals)} files of signals and {len(events)} of events; expected one of "
            "each for every run, in the same order."
        )
    result = _tune(signals, events, config=config, seen=_training_stimuli(stimuli, config))
    inputs = [*signals, *events, *([stimuli] if stimuli is not None else [])]
    provenance = make_provenance(
        "tune",
        options=config.model_dump(mode="json") | {"stimuli_seen": result.seen.tolist()},
        inputs=inputs,
    )
    for name, values in _maps(result, config).items():
        ending = result.space.map_ending
        path = out.with_name(f"{out.stem.removesuffix('_tuning')}_{name}.{ending}")
        write_map(path, result.space, values)
    save_artifact(out, result, provenance)
    logger.info("wrote %s", out)


def _maps(tuning: Tuning, config: BetasConfig) -> dict[str, np.ndarray]:
    """Return the maps to write; where nothing was chosen, a map is constant."""
    import numpy as np

    from braindecode_clip.betas.hrf import library_peak_s

    peak_s = np.full(len(tuning.r2), np.nan)
    if config.hrf == "library":
        peak_s = library_peak_s(tuning.hrf_index)
    return {"peak": peak_s, "r2": tuning.r2, "penalty": tuning.penalty}


def _tune(
    signals: Sequence[Path],
    events: Sequence[Path],
    *,
    config: BetasConfig,
    seen: set[str] | None,
) -> Tuning:
    from braindecode_clip.artifacts import Signals
    from braindecode_clip.betas import tune_subject
    from braindecode_clip.checks import some
    from braindecode_clip.errors import DataError
    from braindecode_clip.io.hdf5 import open_artifact

    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(open_artifact(p, Signals, lazy=("data",))) for p in signals]
        subjects = sorted({run.subject for run in opened})
        if len(subjects) > 1:
            raise DataError(f"tune: signals of {some(subjects)}, expected one subject.")
        runs = [
            _run_to_tune(run, path, config=config) for run, path in zip(opened, events, strict=True)
        ]
        return tune_subject(
            runs,
            config=config,
            seen=seen,
            # Without a table nothing says which trials are for training.
            use_labels=seen is not None or config.tune.trials == "all",
            subject=subjects[0],
            space=opened[0].space,
        )


def _run_to_tune(run: Signals, events: Path, *, config: BetasConfig) -> RunToTune:
    from braindecode_clip.betas.run_inputs import signals_inputs
    from braindecode_clip.betas.tuned_run import RunToTune
    from braindecode_clip.io.tables import read_tsv

    table = read_tsv(events, text=("trial_type", "stimulus_id"))
    inputs = signals_inputs(run, table, config=config, where=str(events))
    return RunToTune(inputs, run.data, run.mean, run.session, run.run)


def _training_stimuli(path: Path | None, config: BetasConfig) -> set[str] | None:
    """Return the stimuli that the choices may see; None for all."""
    from braindecode_clip.errors import DataError
    from braindecode_clip.io.tables import read_tsv

    if config.tune.trials == "all" or path is None:
        return None
    table = read_tsv(path, text=("stimulus_id", "split"))
    missing = [name for name in ("stimulus_id", "split") if name not in table]
    if missing:
        raise DataError(
            f"{path}: lacks the column {' and '.join(missing)}, so nothing says which stimuli are "
            "for training. Add it, or set 'tune: {trials: all}'."
        )
    return set(table.loc[table["split"] == "train", "stimulus_id"])


tune.__doc__ = f"{tune.__doc__}\n\n{options_help(BetasConfig, TuneConfig)}"
