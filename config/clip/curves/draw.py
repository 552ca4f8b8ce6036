"""Draw the curves of a training run for these pages: its loss, and held-out retrieval.

python config/clip/curves/draw.py --log RUN/training_log.csv --out config/clip/curves/NAME.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from braindecode_clip.io.atomic import atomic_path
from braindecode_clip.report import theme
from braindecode_clip.report.figures import look_of

_DIRECTIONS = {
    "val_image_to_text_r1": "picture to caption",
    "val_text_to_image_r1": "caption to picture",
}


def curves(log: pd.DataFrame, *, chance: float | None) -> Figure:
    """Draw the loss beside held-out R@1 in both directions.

    Parameters
    ----------
    log : DataFrame
        ``training_log.csv`` of a run: step, loss and, in the rows that have them,
        val_image_to_text_r1 and val_text_to_image_r1 (shares).
    chance : float, optional
        R@1 of a random order.
    """
    with theme.style():
        figure = theme.new_figure(8.4, 2.9)
        loss, held = figure.subplots(1, 2)
        loss.plot(log["step"], log["loss"], color=look_of(0)["color"], lw=1.2)
        loss.set(title="Contrastive loss of a batch", xlabel="step")
        loss.set_ylim(bottom=0)
        for place, (column, name) in enumerate(_DIRECTIONS.items()):
            known = log[log[column].notna()]
            held.plot(known["step"], 100 * known[column], **look_of(place), ms=3.5, label=name)
        if chance is not None:
            held.axhline(100 * chance, color=theme.CHANCE, ls="--", label="chance")
        held.set(title="Held-out pairs of the training source", xlabel="step", ylabel="R@1 (%)")
        held.set_ylim(bottom=0)
        held.legend(frameon=False, fontsize="small")
    return figure


def main() -> None:
    """Read a log, write a PNG."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", type=Path, required=True, action="append")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--chance", type=float, help="R@1 of a random order")
    options = parser.parse_args()
    figure = curves(pd.concat(map(pd.read_csv, options.log)), chance=options.chance)
    with atomic_path(options.out) as temporary:
        temporary.write_bytes(theme.to_png(figure, dots_per_inch=90))


if __name__ == "__main__":
    main()
