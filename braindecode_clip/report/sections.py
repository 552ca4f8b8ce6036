"""The plotted and pictured parts of the page: what goes into each block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from braindecode_clip.artifacts import Retrieval
from braindecode_clip.report import theme
from braindecode_clip.report.content import Inputs
from braindecode_clip.report.figures import Dot, accuracy_figure, pool_figure, rank_figure
from braindecode_clip.report.fitted import steps_of, with_steps
from braindecode_clip.report.numbers import count
from braindecode_clip.report.results import (
    BRAIN_TO_IMAGE,
    DIRECTION_MEANINGS,
    DIRECTIONS,
    PAIRWISE,
    SETTING,
    TOP_1,
    Order,
    interval_level,
    label_text,
    matching,
    metric_name,
    null_apart,
    series_names,
)
from braindecode_clip.report.tables import Table, summary_table


@dataclass(frozen=True)
class Drawing:
    """A figure on the page, with what is said to those who see it and to those who do not."""

    svg: Markup
    alt: str
    caption: str
    small: bool = False


@dataclass(frozen=True)
class Block:
    """A titled block of drawings, folded away or open; each may have a table below it."""

    title: str
    drawings: tuple[Drawing, ...]
    folded: bool
    tables: tuple[Table, ...] = ()
    intro: str = ""

    @property
    def drawing(self) -> Drawing:
        """The first drawing."""
        return self.drawings[0]


@dataclass
class Studio:
    """Turns figures into drawings and gives each its own key on the page."""

    n_drawn: int = field(default=0)

    def draw(self, figure: Figure, *, alt: str, caption: str, small: bool = False) -> Drawing:
        """Return the drawing of a figure."""
        self.n_drawn += 1
        svg = theme.to_svg(figure, key=f"f{self.n_drawn}")
        # Our own drawing: matplotlib has escaped every label in it.
        return Drawing(Markup(svg), alt, caption, small)


def accuracy_blocks(inputs: Inputs, order: Order, studio: Studio) -> list[Block]:
    """One block for each setting: a figure for each direction, and the summary table."""
    blocks = []
    series = series_names(inputs.metrics, order)
    for setting in order.settings(inputs.metrics):
        rows = order.sort(matching(inputs.metrics, **setting))
        title = _capital(order.setting_title(setting))
        drawings, summaries = [], []
        for direction, name in DIRECTIONS.items():
            part = matching(rows, direction=direction)
            panels = _accuracy_panels(part, order)
            if not panels:
                continue
            n = ", ".join(count(n) for n in sorted(set(part["n"])))
            drawings.append(
                studio.draw(
                    accuracy_figure(panels, series),
                    alt=f"{title}, {name}: {_spoken(panels)}",
                    caption=f"{_capital(name)}: {DIRECTION_MEANINGS[direction]}; n = {n}.",
                )
            )
            caption = f"{title}, {name}: values with {interval_level(part)} intervals"
            steps = [
                steps_of(own.to_dict("records"))
                for _, own in order.sort(part).groupby(["subject", "roi", "decoder"], sort=False)
            ]
            summaries.append(with_steps(summary_table(part, order, caption), steps))
        blocks.append(Block(title, tuple(drawings), folded=bool(blocks), tables=tuple(summaries)))
    return blocks


def _accuracy_panels(rows: pd.DataFrame, order: Order) -> dict[str, list[Dot]]:
    panels: dict[str, list[Dot]] = {}
    for metric in (TOP_1, "top_5", PAIRWISE):
        for row in matching(rows, metric=metric).to_dict("records"):
            numbers = [
                float(row.get(key, np.nan)) if row.get(key) is not None else np.nan
                for key in ("value", "ci_low", "ci_high", "chance")
            ]
            null = null_apart(row)
            dot = Dot(
                order.row_label(row),
                str(row["decoder"]),
                *numbers,
                np.nan if null is None else null,
            )
            panels.setdefault(metric_name(metric), []).append(dot)
    return panels


def _spoken(panels: Mapping[str, Iterable[Dot]]) -> str:
    return "; ".join(
        f"{title}: "
        + ", ".join(
            f"{dot.row} {dot.series} {100 * dot.value:.1f} % (chance {100 * dot.chance:.1f} %)"
            for dot in dots
        )
        for title, dots in panels.items()
    )


def pool_blocks(inputs: Inputs, order: Order, studio: Studio) -> list[Block]:
    """Accuracy against pool size: one block for each setting, one panel for each subject."""
    if not len(inputs.pools):
        return []
    pools = matching(inputs.pools, direction=BRAIN_TO_IMAGE, metric=TOP_1)
    blocks = []
    series = series_names(inputs.metrics, order)
    for setting in order.settings(pools):
        panels: dict[str, dict[str, pd.DataFrame]] = {}
        part = order.sort(matching(pools, **setting))
        for (subject, roi, decoder), rows in part.groupby(
            ["subject", "roi", "decoder"], sort=False
        ):
            title = order.row_label({"subject": subject, "roi": roi})
            panels.setdefault(title, {})[str(decoder)] = rows.sort_values("pool_size")
        title = f"Accuracy against pool size: {order.setting_title(setting)}"
        last = part[part["pool_size"] == part["pool_size"].max()]
        drawing = studio.draw(
            pool_figure(panels, series, columns=panel_columns(panels, order)),
            alt=f"{title}. At {count(last['pool_size'].max())} candidates: "
            + ", ".join(
                f"subject {row['subject']} {row['roi']} {row['decoder']} {100 * row['value']:.1f} %"
                for row in last.to_dict("records")
            ),
            caption="Expected share of samples whose true candidate comes first, brain → image, "
            "when the pool holds the true one and others drawn from the gallery; bands: "
            f"{interval_level(inputs.metrics)} intervals.",
        )
        blocks.append(Block(title, (drawing,), folded=bool(blocks)))
    return blocks


def rank_blocks(inputs: Inputs, order: Order, studio: Studio) -> list[Block]:
    """How far down the list the true candidate is: one block for each setting."""
    series = series_names(inputs.metrics, order)
    blocks = []
    for setting in order.settings(inputs.metrics):
        panels: dict[str, dict[str, np.ndarray]] = {}
        sizes = set()
        for retrieval in ordered_retrievals(inputs.retrievals, order, **setting):
            title = order.row_label(retrieval.info)
            ranks = retrieval.queries["rank"].to_numpy(dtype=float)
            panels.setdefault(title, {})[str(retrieval.info["decoder"])] = ranks
            sizes.add(len(retrieval.gallery_ids))
        if not panels:
            continue
        title = f"How far down the list: {order.setting_title(setting)}"
        medians = ", ".join(
            f"{row} {name} median rank {np.median(ranks):.1f}"
            for row, groups in panels.items()
            for name, ranks in groups.items()
        )
        drawing = studio.draw(
            rank_figure(panels, series, n_gallery=max(sizes), columns=panel_columns(panels, order)),
            alt=f"{title}. {medians}",
            caption="Share of samples whose true candidate is among the first k, for every k.",
        )
        blocks.append(Block(title, (drawing,), folded=bool(blocks)))
    return blocks


def panel_columns(panels: Mapping[str, object], order: Order) -> int:
    """One row for each subject where regions differ, else up to three panels a row."""
    n_rois = len(order.names["roi"])
    return min(len(panels), n_rois if 2 <= n_rois <= 4 else 3)


def ordered_retrievals(
    retrievals: Iterable[Retrieval], order: Order, **setting: str
) -> list[Retrieval]:
    """Return the retrievals of a setting in the order of subjects, ROIs and decoders."""
    keys = ("subject", "roi", *SETTING, "decoder")
    chosen = [
        retrieval
        for retrieval in retrievals
        if all(str(retrieval.info.get(key)) == name for key, name in setting.items())
        and all(str(retrieval.info.get(key)) in order.names[key] for key in keys)
    ]
    return sorted(chosen, key=lambda r: [order.names[key].index(str(r.info[key])) for key in keys])


def labels_text(info: Mapping[str, Any], order: Order) -> str:
    """Name subject and decoder, and every other label that varies."""
    named = [f"subject {info['subject']}", str(info["decoder"])]
    named += [label_text(label, info[label]) for label in order.varying(("roi", *SETTING))]
    return _capital(", ".join(named))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
