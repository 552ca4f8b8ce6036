"""``braindecode-clip report``: everything a study found, as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    study: Annotated[
        str, typer.Option(help="The resolved config of the study: YAML or JSON, or a file with it.")
    ],
    results_list: Annotated[
        Path, typer.Option(help="JSON that names the files to read: metrics, retrievals, ...")
    ],
    out: Annotated[Path, typer.Option(help="HTML page to write.")],
) -> None:
    """Write the results of a study into one self-contained HTML page."""
    from braindecode_clip.cli.common import read_mapping
    from braindecode_clip.io.atomic import write_text
    from braindecode_clip.io.tables import read_json
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.report.html import build_page
    from braindecode_clip.report.inputs import read_inputs

    log = get_logger(__name__)
    config, _ = read_mapping(study, flag="--study")
    listing = read_json(results_list)
    with milestone(log, "report: read") as note:
        inputs = read_inputs(config, listing, where=str(results_list))
        note(f"{len(inputs.metrics)} scores, {len(inputs.retrievals)} rankings")
    with milestone(log, f"report: {out}") as note:
        page = build_page(inputs)
        write_text(out, page)
        note(f"{len(page.encode()) / 1e6:.1f} MB")
