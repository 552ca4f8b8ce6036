"""``braindecode-clip report``: everything a study found, as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    study: Annotated[
        str, typer.Option(help="The resolved config of the study: YAML or JSON, or a file with it.")
    ],
    out: Annotated[Path, typer.Option(help="HTML page to write.")],
    results: Annotated[
        Path | None, typer.Option(help="Results folder of the study, as the workflow fills it.")
    ] = None,
    subject: Annotated[
        list[str] | None, typer.Option(help="Label without 'sub-'; once for each subject.")
    ] = None,
    background: Annotated[
        list[str] | None,
        typer.Option(help="SUBJECT=PATH of an image to draw maps on; once for each subject."),
    ] = None,
    stimuli: Annotated[Path | None, typer.Option(help="Table of the stimuli.")] = None,
    map_ending: Annotated[
        str, typer.Option(help="How maps end: nii.gz, or dscalar.nii for data on surfaces.")
    ] = "nii.gz",
    results_list: Annotated[
        Path | None,
        typer.Option(help="Instead of --results: JSON that names the files (metrics, ...)."),
    ] = None,
) -> None:
    """Write the results of a study into one self-contained HTML page."""
    from braindecode_clip.cli.common import read_mapping
    from braindecode_clip.config.study import parse_study
    from braindecode_clip.io.atomic import write_text
    from braindecode_clip.io.tables import read_json
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.report.html import build_page
    from braindecode_clip.report.inputs import read_inputs
    from braindecode_clip.report.listing import list_results

    if (results is None) == (results_list is None):
        raise typer.BadParameter("give either --results or --results-list")
    log = get_logger(__name__)
    config, where = read_mapping(study, flag="--study")
    studied = parse_study(config, where=where)
    if results_list is not None:
        listing = read_json(results_list)
    else:
        listing = list_results(
            studied,
            str(results),
            subjects=subject or [],
            backgrounds=_read_backgrounds(background or []),
            stimuli=str(stimuli) if stimuli else None,
            map_ending=map_ending,
        )
    with milestone(log, "report: read") as note:
        inputs = read_inputs(studied, listing, where=str(results_list or results))
        note(f"{len(inputs.metrics)} scores, {len(inputs.retrievals)} rankings")
    with milestone(log, f"report: {out}") as note:
        page = build_page(inputs)
        write_text(out, page)
        note(f"{len(page.encode()) / 1e6:.1f} MB")


def _read_backgrounds(pairs: list[str]) -> dict[str, str]:
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise typer.BadParameter(f"--background {wrong[0]}: expected SUBJECT=PATH")
    return dict(pair.split("=", 1) for pair in pairs)
