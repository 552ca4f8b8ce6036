"""What was fitted on what, and which steps are transductive: a table and a column of others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from braindecode_clip.report.numbers import NOTHING, count
from braindecode_clip.report.tables import Cell, Table

_STAGES = ("tune", "betas", "voxels", "decode", "retrieve")
#: Heading of the column that names transductive steps.
HEAD = "Transductive"


def fitted_table(fitted: pd.DataFrame) -> Table | None:
    """Return one row for each statistic over all results; None without records.

    Parameters
    ----------
    fitted : DataFrame
        The entries ``fitted`` of all metrics.
    """
    if not len(fitted):
        return None
    place = {name: i for i, name in enumerate(_STAGES)}
    ordered = fitted.assign(place=[place.get(stage, len(place)) for stage in fitted["stage"]])
    keys = ["place", "stage", "statistic", "transductive"]
    rows = []
    for (_, stage, statistic, transductive), group in ordered.groupby(keys, sort=False):
        reasons = " or ".join(dict.fromkeys(filter(None, group["reason"])))
        own = (
            Cell(str(stage)),
            Cell(str(statistic)),
            Cell(count(len(group[["source", "fold", "digest"]].drop_duplicates())), number=True),
            Cell(_span(group["n_stimuli"]), number=True),
            Cell(_span(group["n_runs"]), number=True),
            Cell(_span(group["overlap"]), number=True),
            Cell("yes" if group["labels_used"].any() else "no"),
            Cell("yes" if transductive else "no", detail=reasons),
        )
        rows.append((place.get(stage, len(place)), own))
    rows.sort(key=lambda item: item[0])
    columns = ("Stage", "Statistic", "Fits", "Stimuli seen", "Runs seen", "Tested among them")
    caption = (
        "What was fitted on what, over all results. Tested among them: test stimuli of the same "
        "fold, or test runs where runs are held out. Scores are refused where a statistic that is "
        "not transductive saw any."
    )
    return Table(caption, (*columns, "Knew labels", HEAD), tuple(own for _, own in rows), n_heads=2)


def _span(values: pd.Series) -> str:
    return NOTHING.join(dict.fromkeys(count(int(n)) for n in (values.min(), values.max())))


def with_steps(table: Table, steps: Iterable[Any]) -> Table:
    """Name the transductive steps: in the caption where all rows have the same, else in a column.

    Parameters
    ----------
    table : Table
    steps : iterable of str
        One for each row: names joined by "; ", or "".
    """
    texts = [text if isinstance(text, str) else "" for text in steps]
    if not any(texts):
        return table
    if len(set(texts)) == 1:
        caption = f"{table.caption.rstrip('.')}. {HEAD} in every row: {texts[0]}"
        return Table(caption, table.columns, table.rows, table.n_heads)
    rows = zip(table.rows, texts, strict=True)
    return Table(
        table.caption,
        (*table.columns, HEAD),
        tuple((*row, Cell(text or NOTHING)) for row, text in rows),
        table.n_heads,
    )


def steps_of(rows: Iterable[Mapping[str, Any]]) -> str:
    """Join the transductive steps of several rows, each once."""
    texts = [row.get("transductive") for row in rows]
    names = [name for text in texts if isinstance(text, str) for name in text.split("; ")]
    return "; ".join(dict.fromkeys(filter(None, names)))
