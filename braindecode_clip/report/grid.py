"""Pages of picture grids: what a search found, and examples of a classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from braindecode_clip import __version__
from braindecode_clip.report.layout import render
from braindecode_clip.report.pictures import Picture, embed_pictures
from braindecode_clip.report.sections import Drawing
from braindecode_clip.report.tables import Table

Mark = Literal["", "right", "wrong"]

#: What a mark says in words; colour alone would not do.
MARK_WORDS: dict[str, str] = {"": "", "right": "✓ right", "wrong": "✗ wrong"}


@dataclass(frozen=True)
class Tile:
    """One place of a grid.

    Attributes
    ----------
    name : str
        Of the picture; tiles of one name share its pixels. Shown where there is no picture.
    value : str
        First line below it, e.g. the score.
    detail : str
        Second line, e.g. the file or the caption.
    picture : path or PIL image, or None
    mark : {"", "right", "wrong"}
        A frame, and a word.
    """

    name: str
    value: str = ""
    detail: str = ""
    picture: Path | Image.Image | None = None
    mark: Mark = ""

    @property
    def alt(self) -> str:
        """What is said of the picture to those who do not see it."""
        said = ", ".join(part for part in (self.detail, self.value, MARK_WORDS[self.mark]) if part)
        return f"{self.name}: {said}" if said and self.detail != self.name else self.name


@dataclass(frozen=True)
class Part:
    """A titled grid.

    Attributes
    ----------
    title : str
    note : str
        A sentence below the title.
    asked : tuple of Tile
        Pictures that were asked with; they stand before the grid.
    tiles : tuple of Tile
        Best first.
    """

    title: str
    note: str
    tiles: tuple[Tile, ...]
    asked: tuple[Tile, ...] = ()


@dataclass(frozen=True)
class GridPage:
    """What stands on a page.

    Attributes
    ----------
    kicker, title, lead : str
        From small to large; the lead is one sentence.
    parts : tuple of Part
    tables : tuple of Table
        Above the grids.
    drawings : tuple of Drawing
        Below the tables.
    facts : tuple of (str, str)
        What ran: name and value, at the end.
    """

    kicker: str
    title: str
    lead: str
    parts: tuple[Part, ...]
    tables: tuple[Table, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()


def build_grid_page(page: GridPage, *, picture_px: int = 240, budget_mb: float = 12.0) -> str:
    """Return a page as HTML that holds all its pictures; the same page gives the same text.

    Parameters
    ----------
    page : GridPage
    picture_px : int
        Longer side of the pictures.
    budget_mb : float
        Most that all pictures may take together; they become smaller until they fit.

    Raises
    ------
    DataError
        Pictures that are missing or cannot be read, all in one message.
    """
    tiles = [tile for part in page.parts for tile in (*part.asked, *part.tiles)]
    wanted = {tile.name: tile.picture for tile in tiles if tile.picture is not None}
    pictures = embed_pictures(wanted, longer_side_px=picture_px, budget_mb=budget_mb)
    context: dict[str, Any] = {
        "page": page,
        "parts": [_laid_out(part, pictures) for part in page.parts],
        "library": list(pictures.values()),
        "version": __version__,
    }
    return render("grid.html.j2", context, styles=("style.css", "grid.css"))


def _laid_out(part: Part, pictures: Mapping[str, Picture]) -> dict[str, Any]:
    return {
        "title": part.title,
        "note": part.note,
        "asked": _items(part.asked, pictures),
        "tiles": _items(part.tiles, pictures),
    }


def _items(tiles: Sequence[Tile], pictures: Mapping[str, Picture]) -> list[dict[str, Any]]:
    return [
        {
            "name": tile.name,
            "alt": tile.alt,
            "value": tile.value,
            "detail": tile.detail,
            "mark": tile.mark,
            "tag": MARK_WORDS[tile.mark],
            "picture": pictures.get(tile.name),
        }
        for tile in tiles
    ]
