"""``braindecode-clip calibration-curve``: how soon a new subject can be decoded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from braindecode_clip.cli.common import options_help, read_options
from braindecode_clip.config.decode import AlphaGrid, RidgeConfig, SharedConfig

if TYPE_CHECKING:
    import numpy as np

    from braindecode_clip.artifacts import Embeddings, Predictions


def calibration_curve(
    voxels: Annotated[Path, typer.Argument(help="Voxels of the new subject.")],
    other: Annotated[list[Path], typer.Option(help="Voxels of another subject; repeatable.")],
    embeddings: Annotated[Path, typer.Option(help="Targets, from `embed`.")],
    trial_s: Annotated[
        float, typer.Option(min=0.01, help="Seconds from one trial to the next, pause included.")
    ],
    out: Annotated[Path, typer.Option(help="Table to write (TSV).")],
    out_figure: Annotated[Path | None, typer.Option(help="Figure to write (PNG).")] = None,
    points: Annotated[int, typer.Option(min=1, help="Most points of the curve.")] = 10,
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

    Runs count in their order; minutes are training trials times --trial-s. The table holds
    top-1 and pairwise identification among the test pictures with 95 % intervals over
    pictures, for both decoders and for their difference.
    """
    import numpy as np
    import pandas as pd

    from braindecode_clip.artifacts import Embeddings, VoxelSet
    from braindecode_clip.decode import decode
    from braindecode_clip.decode.first_runs import first_runs, runs_in_order
    from braindecode_clip.decode.fit_shared import FEWEST_ROWS, decode_new_subject
    from braindecode_clip.errors import DataError
    from braindecode_clip.io.hdf5 import load_artifact
    from braindecode_clip.io.tables import write_tsv
    from braindecode_clip.logs import get_logger, milestone

    logger = get_logger(__name__)
    config = read_options(options, SharedConfig)
    alone = RidgeConfig(alphas=config.alphas, cv=config.cv, calibration=config.calibration)
    new, targets = load_artifact(voxels, VoxelSet), load_artifact(embeddings, Embeddings)
    others = [load_artifact(path, VoxelSet) for path in other]
    n_runs = len(runs_in_order(new))
    rows = []
    for last in np.unique(np.linspace(1, n_runs, min(points, n_runs)).round().astype(int)):
        with milestone(logger, f"calibration curve, {last} of {n_runs} runs") as note:
            part = first_runs(new, int(last))
            if min(len(fold.train.data) for fold in part.folds) < FEWEST_ROWS:
                note(f"left out: fewer than {FEWEST_ROWS} training rows")
                continue
            ridge, _ = decode(part, targets, config=alone, seed=seed)
            shared, _ = decode_new_subject(part, others, targets, config=config)
            n_trials = int(np.mean([fold.train.n_repeats.sum() for fold in part.folds]))
            found = _score(
                {alone.name: ridge, config.name: shared},
                targets,
                n_bootstrap=n_bootstrap,
                seed=seed,
            )
            size = {"n_runs": int(last), "n_trials": n_trials, "minutes": n_trials * trial_s / 60}
            rows += [size | row for row in found]
            note(f"{n_trials} trials, {size['minutes']:.1f} minutes")
    if not rows:
        raise DataError(
            f"{voxels}: fewer than {FEWEST_ROWS} training rows in all runs. There is no curve."
        )
    table = pd.DataFrame(rows)
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


def _score(
    predictions: dict[str, Predictions], targets: Embeddings, *, n_bootstrap: int, seed: int
) -> list[dict[str, object]]:
    """Return the rows of one point: both decoders and the second less the first."""
    import numpy as np

    from braindecode_clip.evaluate import identification
    from braindecode_clip.evaluate.bootstrap import (
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
                "ci_low": low,
                "ci_high": high,
                "ci_method": method,
                "chance": None if difference else chance,
                "n": len(shown),
                "n_gallery": len(gallery),
            }
        )
    return rows
