"""``braindecode-clip quality``: cleaned signals and trials of a run to numbers and warnings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from braindecode_clip.provenance import Provenance
    from braindecode_clip.quality import RunQuality

_ENDING = "_quality"


def quality(
    signals: Annotated[Path, typer.Option(help="Signals of a run, written by `preprocess`.")],
    betas: Annotated[Path, typer.Option(help="Trials of the same run, written by `betas`.")],
    out: Annotated[
        Path,
        typer.Option(
            help="File to write (HDF5), e.g. run-01_quality.h5. Beside it come the numbers and "
            "warnings (.json), the numbers as one row (.tsv), the figure (.png), and the map of "
            "the temporal signal-to-noise ratio (run-01_tsnr.nii.gz)."
        ),
    ],
) -> None:
    """Describe the quality of a run: numbers, warnings to act on, and a figure.

    The figure shows framewise displacement, DVARS, the trials and the carpet of all cleaned
    signals. Limits are conventions that say where to look; no data are left out because of them.
    """
    from braindecode_clip.artifacts import Betas, Signals
    from braindecode_clip.io.hdf5 import load_artifact, save_artifact
    from braindecode_clip.io.runs import write_map
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.provenance import make_provenance
    from braindecode_clip.quality import describe_run, tsnr_map
    from braindecode_clip.quality.advice import as_sentence

    logger = get_logger(__name__)
    run_signals = load_artifact(signals, Signals)
    trials = load_artifact(betas, Betas)
    with milestone(logger, f"described {signals.name}") as note:
        result = describe_run(run_signals, trials, where=str(betas))
        note(f"{len(result.volumes)} volumes, {len(result.warnings)} warnings")
    for row in result.warnings.to_dict("records"):
        logger.warning("%s: %s", result.name, as_sentence(row))
    provenance = make_provenance("quality", options={}, inputs=[signals, betas])
    space = run_signals.space
    write_map(_beside(out, f"_tsnr.{space.map_ending}"), space, tsnr_map(run_signals))
    _write_record(out, result, provenance)
    save_artifact(out, result, provenance)
    logger.info("wrote %s", out)


def _beside(out: Path, ending: str) -> Path:
    """Return ``run-01_tsnr.nii.gz`` for ``run-01_quality.h5``."""
    return out.with_name(out.stem.removesuffix(_ENDING) + ending)


def _write_record(out: Path, result: RunQuality, provenance: Provenance) -> None:
    """Write what a reader without HDF5 wants: JSON, a row of a table, and the figure."""
    import json
    from dataclasses import asdict

    import pandas as pd

    from braindecode_clip.io.atomic import atomic_path, write_json
    from braindecode_clip.io.tables import write_tsv
    from braindecode_clip.quality.advice import as_sentence
    from braindecode_clip.report.run_figure import run_figure
    from braindecode_clip.report.theme import to_png

    labels = {"subject": result.subject, "session": result.session, "run": result.run}
    warnings: list[dict[str, Any]] = [
        {**row, "sentence": f"{result.name}: {as_sentence(row)}"}
        for row in result.warnings.to_dict("records")
    ]
    content = {
        **labels,
        "numbers": result.numbers,
        "warnings": warnings,
        "provenance": asdict(provenance),
    }
    write_json(_beside(out, f"{_ENDING}.json"), json.loads(json.dumps(content)))
    kinds = ", ".join(row["kind"] for row in warnings)
    row = pd.DataFrame([{**labels, **result.numbers, "warnings": kinds or None}])
    write_tsv(_beside(out, f"{_ENDING}.tsv"), row)
    with atomic_path(_beside(out, f"{_ENDING}.png")) as temporary:
        temporary.write_bytes(to_png(run_figure(result)))
