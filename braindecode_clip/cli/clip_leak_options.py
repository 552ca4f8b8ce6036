"""Options of ``clip train`` that keep test stimuli and held-out pairs apart from training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ForbidOption = Annotated[
    Path | None,
    typer.Option(
        help="Table of a study's stimuli (stimulus_id, image, caption) that must not be among the "
        "pairs: same file, same pixels or near duplicate stops the run. What was looked for is "
        "written to leakage.json in OUT."
    ),
]
ForbidSplitOption = Annotated[
    str | None, typer.Option(help="Forbid the stimuli of this split alone, e.g. test.")
]
ForbidCaptionsOption = Annotated[
    str,
    typer.Option(
        help="Captions that a forbidden stimulus has too, word by word: error, warn or ignore."
    ),
]
CheckPairsOption = Annotated[
    bool,
    typer.Option(
        help="Look for held-out pictures among the training pictures, where both come from "
        "separate sources; every picture is read once for it."
    ),
]
ShuffleOption = Annotated[
    bool,
    typer.Option(
        "--shuffle-captions",
        help="Give every training picture the captions of another one: a control for the audit.",
    ),
]
