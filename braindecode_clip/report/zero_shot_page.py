"""A zero-shot classification as a page: scores, confusions, and pictures of every class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from braindecode_clip.report.confusion_figure import MOST_CLASSES, confusion_figure
from braindecode_clip.report.grid import GridPage, Mark, Part, Tile
from braindecode_clip.report.numbers import NOTHING, count, decimal, percent
from braindecode_clip.report.sections import Drawing, Studio
from braindecode_clip.report.tables import Cell, Table

_METRICS = {
    "top_1": "Right first",
    "top_5": "Right among the first five",
    "mean_per_class_top_1": "Right first, mean over classes",
    "mean_per_class_top_5": "Right among the first five, mean over classes",
    "mean_average_precision": "Average precision, mean over classes",
}


def zero_shot_page(
    probability: np.ndarray,
    classes: Sequence[str],
    *,
    is_true: np.ndarray | None,
    names: Sequence[str],
    pictures: Sequence[Any],
    scores: pd.DataFrame | None,
    by_class: pd.DataFrame | None,
    confusions: np.ndarray | None,
    facts: Sequence[tuple[str, str]],
    n_examples: int = 12,
) -> GridPage:
    """Lay out a classification.

    Parameters
    ----------
    probability : ndarray (n, n_classes)
    classes : sequence of str (n_classes,)
    is_true : bool ndarray (n, n_classes), or None
        None where no labels are known.
    names : sequence of str (n,)
        Of the pictures; unique.
    pictures : sequence of path, PIL image or None (n,)
    scores, by_class : DataFrame, or None
        From :mod:`braindecode_clip.clip.class_scores`.
    confusions : ndarray (n_classes, n_classes), or None
    facts : sequence of (str, str)
    n_examples : int
        Pictures of a class: those that it is most probable for, and of its own that were taken
        for others, most surely first; of these at most half.
    """
    chosen = probability.argmax(axis=1)
    parts = []
    for column, label in enumerate(classes[:MOST_CLASSES]):
        tiles = _examples(probability, chosen, column, is_true, n_examples)
        shown = tuple(
            _tile(row, probability, classes, chosen, column, is_true, names, pictures)
            for row in tiles
        )
        parts.append(Part(label, _note(column, chosen, is_true), shown))
    tables = [table for table in (_score_table(scores), _class_table(by_class)) if table]
    return GridPage(
        kicker="Zero-shot classification",
        title=f"{count(len(names))} pictures, {count(len(classes))} classes",
        lead=_lead(scores, len(classes)),
        parts=tuple(parts),
        tables=tuple(tables),
        drawings=_drawings(confusions, classes),
        facts=tuple(facts),
    )


def _examples(
    probability: np.ndarray,
    chosen: np.ndarray,
    column: int,
    is_true: np.ndarray | None,
    n_examples: int,
) -> list[int]:
    """Return the pictures taken for a class, then its own that were taken for others."""
    taken = np.flatnonzero(chosen == column)
    taken = taken[np.argsort(-probability[taken, column], kind="stable")]
    if is_true is None:
        return taken[:n_examples].tolist()
    missed = np.flatnonzero(is_true[:, column] & ~is_true[np.arange(len(chosen)), chosen])
    missed = missed[np.argsort(-probability[missed, chosen[missed]], kind="stable")]
    n_missed = min(len(missed), max(n_examples // 2, n_examples - len(taken)))
    return [*taken[: n_examples - n_missed].tolist(), *missed[:n_missed].tolist()]


def _tile(
    row: int,
    probability: np.ndarray,
    classes: Sequence[str],
    chosen: np.ndarray,
    column: int,
    is_true: np.ndarray | None,
    names: Sequence[str],
    pictures: Sequence[Any],
) -> Tile:
    first = chosen[row]
    mark: Mark = ""
    detail = names[row]
    if is_true is not None and is_true[row].any():
        mark = "right" if is_true[row, first] else "wrong"
        own = ", ".join(classes[c] for c in np.flatnonzero(is_true[row]))
        if mark == "wrong":
            detail = f"is {own}" if first == column else f"taken for {classes[first]}"
    return Tile(
        name=names[row],
        value=percent(probability[row, first], digits=0),
        detail=detail,
        picture=pictures[row],
        mark=mark,
    )


def _note(column: int, chosen: np.ndarray, is_true: np.ndarray | None) -> str:
    n_taken = int((chosen == column).sum())
    text = f"{count(n_taken)} pictures were taken for it"
    if is_true is not None:
        text += f"; {count(int(is_true[:, column].sum()))} are of it"
    return f"{text}."


def _lead(scores: pd.DataFrame | None, n_classes: int) -> str:
    if scores is None:
        return (
            "Each picture goes to the class whose prompts are nearest in CLIP space. No labels "
            "were given, so nothing is scored."
        )
    row = scores.set_index("metric").loc["top_1"] if "top_1" in set(scores["metric"]) else None
    if row is None:
        return "Each picture goes to the class whose prompts are nearest in CLIP space."
    return (
        f"{percent(row['value'])} of {count(row['n'])} pictures go to their class (95 % interval "
        f"{percent(row['ci_low'])} to {percent(row['ci_high'])}; by chance "
        f"{percent(row['chance'])})."
    )


def _score_table(scores: pd.DataFrame | None) -> Table | None:
    if scores is None:
        return None
    rows = tuple(
        (
            Cell(_METRICS.get(row.metric, row.metric)),
            Cell(percent(row.value), number=True, clear=row.ci_low > row.chance),
            Cell(_span(row.ci_low, row.ci_high), number=True, detail=row.ci_method),
            Cell(percent(row.chance), number=True),
            Cell(count(row.n), number=True),
            Cell(count(row.n_classes), number=True),
        )
        for row in scores.itertuples()
    )
    columns = ("Score", "Value", "95 % interval", "Chance", "Pictures", "Classes")
    return Table("Scores; bold where the whole interval lies above chance", columns, rows)


def _class_table(by_class: pd.DataFrame | None) -> Table | None:
    if by_class is None:
        return None
    rows = tuple(
        (
            Cell(row["class"]),
            Cell(count(row["n"]), number=True),
            Cell(percent(row["top_1"]), share=100 * row["top_1"] if row["n"] else None),
            Cell(_span(row["ci_low"], row["ci_high"]), number=True),
            Cell(count(row["n_predicted"]), number=True),
            Cell(percent(row["precision"]), number=True),
            Cell(decimal(row["average_precision"]), number=True),
        )
        for row in by_class.to_dict("records")
    )
    columns = (
        "Class",
        "Pictures",
        "Right first",
        "95 % interval",
        "Taken for it",
        "Of these right",
        "Average precision",
    )
    return Table("Every class", columns, rows)


def _span(low: float, high: float) -> str:
    return f"{percent(low)} to {percent(high)}" if np.isfinite([low, high]).all() else NOTHING


def _drawings(confusions: np.ndarray | None, classes: Sequence[str]) -> tuple[Drawing, ...]:
    if confusions is None or len(classes) > MOST_CLASSES:
        return ()
    n_right, n = int(np.trace(confusions)), int(confusions.sum())
    figure = confusion_figure(confusions, classes)
    alt = f"Confusions of {len(classes)} classes: {n_right} of {n} pictures on the diagonal."
    caption = "Each row is a true class, each column the nearest one, in percent of the row."
    return (Studio().draw(figure, alt=alt, caption=caption, small=True),)
