"""What a search and a hunt for near duplicates found, as pages of picture grids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from braindecode_clip.report.grid import GridPage, Part, Tile
from braindecode_clip.report.numbers import count, decimal


def search_page(
    results: pd.DataFrame,
    *,
    asked: Sequence[tuple[str, Path | None]],
    pictures: Sequence[Any],
    details: Sequence[str],
    n_gallery: int,
    facts: Sequence[tuple[str, str]],
) -> GridPage:
    """Lay out what was found for every query.

    Parameters
    ----------
    results : DataFrame
        query, rank, id, score; the ranks of a query stand together.
    asked : sequence of (str, path or None)
        Name of each query, and the picture that it was asked with.
    pictures : sequence of path, PIL image or None (n_results,)
        Of each row.
    details : sequence of str (n_results,)
        Shown below the score.
    n_gallery : int
    facts : sequence of (str, str)
    """
    parts = []
    rows = results.assign(position=range(len(results)))
    for name, picture in asked:
        own = rows[rows["query"] == name]
        tiles = tuple(
            Tile(
                name=row.id,
                value=f"{row.rank}. {decimal(row.score)}",
                detail=details[row.position],
                picture=pictures[row.position],
            )
            for row in own.itertuples()
        )
        shown = () if picture is None else (_asked(picture),)
        parts.append(Part(name, "", tiles, asked=shown))
    title = asked[0][0] if len(asked) == 1 else f"{count(len(asked))} queries"
    return GridPage(
        kicker="Search",
        title=title,
        lead=f"The nearest of {count(n_gallery)} candidates, best first, with the cosine of "
        "their CLIP vector and the query's.",
        parts=tuple(parts),
        facts=tuple(facts),
    )


def duplicates_page(
    pairs: pd.DataFrame,
    *,
    pictures: dict[str, Any],
    threshold: float,
    n_compared: str,
    facts: Sequence[tuple[str, str]],
    most_groups: int = 60,
    most_tiles: int = 24,
) -> GridPage:
    """Lay out groups of near duplicates.

    Parameters
    ----------
    pairs : DataFrame
        id_1, id_2, score, group.
    pictures : dict of str to path, PIL image or None
        By id; ids of two sets are told apart by their prefix.
    threshold : float
    n_compared : str
        What was compared, in words.
    facts : sequence of (str, str)
    most_groups, most_tiles : int
        Shown of all groups, and of one group; the table holds everything.
    """
    groups = list(pairs.groupby("group", sort=True))
    parts = []
    for number, (_, own) in enumerate(groups[:most_groups], start=1):
        best: dict[str, float] = {}
        for row in own.itertuples():
            for name in (row.id_1, row.id_2):
                best[name] = max(best.get(name, -1.0), float(row.score))
        names = list(best)[:most_tiles]
        tiles = tuple(
            Tile(name, value=decimal(best[name], digits=4), detail=name, picture=pictures[name])
            for name in names
        )
        note = f"{count(len(own))} pairs among {count(len(best))} candidates"
        if len(best) > len(names):
            note += f"; the first {len(names)} are shown"
        parts.append(Part(f"Group {number}", f"{note}.", tiles))
    shown = f" The {most_groups} largest are shown." if len(groups) > most_groups else ""
    return GridPage(
        kicker="Near duplicates",
        title=f"{count(len(pairs))} pairs",
        lead=f"Among {n_compared}: pairs whose cosine is at least {threshold:g}, in "
        f"{count(len(groups))} groups; below each picture its highest cosine.{shown}",
        parts=tuple(parts),
        facts=tuple(facts),
    )


def _asked(picture: Path) -> Tile:
    return Tile(name=f"query {picture}", detail=picture.name, picture=picture)
