"""``braindecode-clip betas``: cleaned signals and events to one response for each trial."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from braindecode_clip.cli.common import options_help, read_options
from braindecode_clip.config.betas import BetasConfig


def betas(
    signals: Annotated[Path, typer.Option(help="Signals of a run, written by `preprocess`.")],
    events: Annotated[
        Path,
        typer.Option(
            help="BIDS events of the run: onset, duration (s), and trial_type or stimulus_id."
        ),
    ],
    out: Annotated[Path, typer.Option(help="File to write (HDF5).")],
    tuning: Annotated[
        Path | None,
        typer.Option(
            help="Choices from all runs, written by `tune`; needed for hrf library, "
            "noise_regressors and shrinkage."
        ),
    ] = None,
    options: Annotated[
        str | None, typer.Option(help="Options as YAML or JSON text, or a file with them.")
    ] = None,
) -> None:
    """Estimate one response for each trial and voxel of a run."""
    from braindecode_clip.artifacts import Signals, Tuning
    from braindecode_clip.betas import estimate_run
    from braindecode_clip.errors import DataError
    from braindecode_clip.io.hdf5 import load_artifact, save_artifact
    from braindecode_clip.io.tables import read_tsv
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.provenance import make_provenance

    logger = get_logger(__name__)
    config = read_options(options, BetasConfig)
    table = read_tsv(events, text=("trial_type", "stimulus_id"))
    if not {"trial_type", "stimulus_id"} & set(table.columns):
        raise DataError(
            f"{events}: has neither 'trial_type' nor 'stimulus_id', so nothing says what was "
            "shown. Add one of the columns."
        )
    run_signals = load_artifact(signals, Signals)
    with milestone(logger, f"estimated the trials of {events.name}") as note:
        chosen = load_artifact(tuning, Tuning) if tuning is not None else None
        result = estimate_run(run_signals, table, config=config, tuning=chosen, where=str(events))
        note(f"{result.data.shape[0]} trials x {result.data.shape[1]} voxels, {config.method}")
    inputs = [signals, events, *([tuning] if tuning is not None else [])]
    provenance = make_provenance("betas", options=config.model_dump(mode="json"), inputs=inputs)
    save_artifact(out, result, provenance)
    logger.info("wrote %s", out)


betas.__doc__ = f"{betas.__doc__}\n\n{options_help(BetasConfig)}"
