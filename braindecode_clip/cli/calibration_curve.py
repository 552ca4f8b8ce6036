"""``braindecode-clip calibration-curve``: how soon a new subject can be decoded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from braindecode_clip.cli.common import options_help, read_options
from braindecode_clip.config.decode import AlphaGrid, RidgeConfig, SharedConfig
from braindecode_clip.errors import ConfigError

if TYPE_CHECKING:
    from braindecode_clip.artifacts import Embeddings, Predictions


#: Columns of the table, a row for every decoder, metric and number of runs.
COLUMNS = [
    "subject",
    "decoder",
    "minutes",
    "n_runs",
    "n_trials",
    "metric",
    "value",
    "low",
    "high",
    "chance",
    "n",
    "n_gallery",
    "ci_method",
]


def calibration_curve(
    voxels: Annotated[Path, typer.Argument(help="Voxels of the new subject.")],
    other: Annotated[list[Path], typer.Option(help="Voxels of another subject; repeatable.")],
    embeddings: Annotated[Path, typer.Option(help="Targets, from `embed`.")],
    out: Annotated[Path, typer.Option(help="Table to write (TSV).")],
    signals: Annotated[
        list[Path] | None,
        typer.Option(
            help="Signals of the new subject's runs, from `preprocess`, for their real durations; "
            "repeatable."
        ),
    ] = None,
    trial_s: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help="Instead of --signals: seconds from one trial to the next, pause included.",
        ),
    ] = None,
    out_figure: Annotated[Path | None, typer.Option(help="Figure to write (PNG).")] = None,
    points: Annotated[int, typer.Option(min=1, help="Most points of the curve above 0.")] = 10,
    max_minutes: Annotated[
        float | None, typer.Option(min=0, help="End of the curve; by default all runs.")
    ] = None,
    options: Annotated[
        str | None,
        typer.Option(help="Options of the shared decoder, as YAML or JSON, or a file with them."),
    ] = None,
    n_bootstrap: Annotated[
        int, typer.Option(min=100, help="Bootstrap samples of test pictures.")
    ] = 2000,
    seed: Annotated[int, typer.Option(help="Master seed, of the bootstrap.")] = 2026,
) -> None:
    """Score a new subject after its first runs: ridge alone, and the shared-subject decoder.

    Runs that hold training trials count in their order, with all of their time in the scanner
    (--signals), or training trials times --trial-s. The table holds top-1 and pairwise
    identification among the test pictures with 95 % intervals over pictures, for both decoders
    and for their difference. At 0 minutes nothing is known of the subject's voxels, which differ
    from those of others in number and place: both decoders predict the mean of the training
    targets for every trial, which is chance.
    """
    import pandas as pd

    from braindecode_clip.artifacts import Embeddings, VoxelSet
    from braindecode_clip.decode import decode
    from braindecode_clip.decode.first_runs import first_runs, minutes_of_runs, without_data
    from braindecode_clip.decode.fit_shared import FEWEST_ROWS, decode_new_subject
    from braindecode_clip.errors import DataError
    from braindecode_clip.io.hdf5 import load_artifact
    from braindecode_clip.io.tables import write_tsv
    from braindecode_clip.logs import get_logger, milestone

    logger = get_logger(__name__)
    if (signals is None or not signals) == (trial_s is None):
        raise ConfigError(
            "calibration-curve: give either --signals of every run or --trial-s, so that minutes "
            "can be counted."
        )
    config = read_options(options, SharedConfig)
    alone = RidgeConfig(alphas=config.alphas, cv=config.cv, calibration=config.calibration)
    new, targets = load_artifact(voxels, VoxelSet), load_artifact(embeddings, Embeddings)
    others = [load_artifact(path, VoxelSet) for path in other]
    minutes = minutes_of_runs(
        new,
        trial_s=trial_s,
        durations_s=_run_durations(signals, subject=new.subject) if signals else None,
    )
    rows = []
    for last in _points(minutes, points=points, max_minutes=max_minutes):
        with milestone(logger, f"calibration curve, {last} of {len(minutes)} runs") as note:
            if last == 0:
                blank = without_data(new, others, targets)
                scored, n_trials = {alone.name: blank, config.name: blank}, 0
            else:
                part = first_runs(new, last)
                if min(len(fold.train.data) for fold in part.folds) < FEWEST_ROWS:
                    note(f"left out: fewer than {FEWEST_ROWS} training rows")
                    continue
                ridge, _ = decode(part, targets, config=alone, seed=seed)
                shared, _ = decode_new_subject(part, others, targets, config=config)
                scored = {alone.name: ridge, config.name: shared}
                n_trials = int(np.mean([fold.train.n_repeats.sum() for fold in part.folds]))
            time = minutes[last - 1] if last else 0.0
            size = {"minutes": round(time, 4), "n_runs": last, "n_trials": n_trials}
            found = _score(scored, targets, n_bootstrap=n_bootstrap, seed=seed)
            # At 0 minutes both are the same, and their difference has no interval.
            kept = [row for row in found if last or row["chance"] is not None]
            rows += [{"subject": new.subject} | row | size for row in kept]
            note(f"{n_trials} trials, {time:.1f} minutes")
    if not any(row["n_runs"] for row in rows):
        raise DataError(
            f"{voxels}: fewer than {FEWEST_ROWS} training rows in all runs. There is no curve."
        )
    table = pd.DataFrame(rows)[COLUMNS]
    write_tsv(out, table)
    logger.info("wrote %s", out)
    if out_figure is not None:
        from braindecode_clip.io.atomic import atomic_path
        from braindecode_clip.report.curve_figure import curve_figure
        from braindecode_clip.report.theme import to_png

        with atomic_path(out_figure) as temporary:
            temporary.write_bytes(to_png(curve_figure(table)))
        logger.info("wrote %s", out_figure)


calibration_curve.__doc__ = (
    f"{calibration_curve.__doc__}\n\n{options_help(SharedConfig, AlphaGrid)}"
)


def _points(minutes: np.ndarray, *, points: int, max_minutes: float | None) -> list[int]:
    """Return the numbers of runs to score after: 0, and evenly spaced ones."""
    last = len(minutes)
    if max_minutes is not None:
        last = max(1, int(np.searchsorted(minutes, max_minutes + 1e-9, side="right")))
    return [0, *np.unique(np.linspace(1, last, min(points, last)).round().astype(int)).tolist()]


def _run_durations(paths: list[Path], *, subject: str) -> dict[str, float]:
    """Return the seconds of every run by its name, dummy scans included."""
    from braindecode_clip.artifacts import Signals
    from braindecode_clip.errors import DataError
    from braindecode_clip.io.hdf5 import open_artifact

    found = {}
    for path in paths:
        with open_artifact(path, Signals, lazy=("data", "regressors")) as run:
            if run.subject != subject:
                raise DataError(
                    f"{path}: signals of sub-{run.subject}, expected the runs of sub-{subject}. "
                    "Pass the signals of the new subject."
                )
            name = f"ses-{run.session}_run-{run.run}" if run.session else f"run-{run.run}"
            found[name] = run.first_volume_s + len(run.data) * run.tr_s
    return found


def _score(
    predictions: dict[str, Predictions], targets: Embeddings, *, n_bootstrap: int, seed: int
) -> list[dict[str, object]]:
    """Return the rows of one point: both decoders and the second less the first."""
    from braindecode_clip.evaluate import identification
    from braindecode_clip.resampling.bootstrap import (
        interval,
        resample,
        weighted_mean,
        wilson_of_mean,
    )
    from braindecode_clip.seeds import make_rng

    names = list(predictions)
    shown = predictions[names[0]].stimulus_id
    gallery, true_index = np.unique(shown, return_inverse=True)
    vectors = targets.vectors[targets.rows(gallery)]
    hits: list[np.ndarray] = []
    for item in predictions.values():
        rank = identification(item.vectors, vectors, true_index).rank
        hits += [rank == 1, 1 - (rank - 1) / (len(gallery) - 1)]
    values = np.array([*hits, hits[2].astype(float) - hits[0], hits[3] - hits[1]]).T
    drawn = resample(
        weighted_mean(values),
        shown,
        n_bootstrap=n_bootstrap,
        rng=make_rng(seed, "calibration-curve"),
    )
    labels = [*names, f"{names[1]} - {names[0]}"]
    rows = []
    for column, value in enumerate(values.mean(axis=0)):
        difference = column >= 4
        limits = (-1.0, 1.0) if difference else (0.0, 1.0)
        fallback = wilson_of_mean(float(value), limits, len(gallery))
        low, high, method = interval(float(value), drawn, column, fallback=fallback)
        chance = (1 / len(gallery), 0.5)[column % 2]
        rows.append(
            {
                "decoder": labels[column // 2],
                "metric": ("top_1", "pairwise")[column % 2],
                "value": float(value),
                "low": low,
                "high": high,
                "ci_method": method,
                "chance": None if difference else chance,
                "n": len(shown),
                "n_gallery": len(gallery),
            }
        )
    return rows
