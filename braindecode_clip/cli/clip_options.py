"""Options that the commands of CLIP training share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeOption = Annotated[
    str, typer.Option(help="Recipe: a YAML file, e.g. config/clip/scenes.yaml.")
]
InitialOption = Annotated[
    Path | None,
    typer.Option(
        help="Model folder to start from, or the name of an embedded model; the recipe may then "
        "leave 'model' out."
    ),
]
TeacherOption = Annotated[
    Path | None,
    typer.Option(help="Model folder to imitate, or to ask which captions are alike."),
]
SplitOption = Annotated[
    str | None, typer.Option(help="Train on this split of PAIRS, e.g. of a column 'split'.")
]
KindOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="Kind of the pairs, held-out ones too: table, folder, coco, tar, datasets or "
        "scenes; recognised by default.",
    ),
]
ImagesOption = Annotated[Path | None, typer.Option(help="Folder of the pictures of COCO's JSON.")]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="Threads of torch; its own choice by default.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
