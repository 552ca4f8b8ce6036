"""A picture grid as one picture, for slides and for machines without a browser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from braindecode_clip.report import theme
from braindecode_clip.report.grid import MARK_WORDS, GridPage, Part, Tile
from braindecode_clip.report.pictures import open_small

_WIDTH_PX, _MARGIN_PX, _GAP_PX, _PAD_PX = 1240, 40, 16, 12
_COLUMNS = 6
_TILE_PX = (_WIDTH_PX - 2 * _MARGIN_PX - (_COLUMNS - 1) * _GAP_PX) // _COLUMNS
_PICTURE_PX = _TILE_PX - 2 * _PAD_PX
_LINE_PX = 20
_TILE_HEIGHT_PX = _PICTURE_PX + 2 * _PAD_PX + 2 * _LINE_PX + 6
_FRAMES = {"": theme.GRID, "right": theme.SERIES[2], "wrong": theme.SERIES[1]}
_TEXTS = {"right": theme.SERIES[2], "wrong": theme.SERIES[1]}


def draw_grid(page: GridPage, *, most_parts: int = 8) -> Image.Image:
    """Draw a page's grids below each other, in the colours of the light page.

    Parameters
    ----------
    page : GridPage
        Its tables and drawings are left to the HTML page.
    most_parts : int
        Grids drawn; a line says how many more the HTML page has.

    Returns
    -------
    PIL image
        RGB, 1,240 pixels wide.

    Raises
    ------
    OSError
        A picture that cannot be read; :func:`~braindecode_clip.report.grid.build_grid_page`
        names all of them.
    """
    parts = list(page.parts[:most_parts])
    if len(parts) == 1 and parts[0].title == page.title:
        # The title stands above already.
        parts = [replace(parts[0], title="")]
    n_more = len(page.parts) - len(parts)
    height = _MARGIN_PX + 52 + sum(map(_height, parts)) + (30 if n_more else 0)
    canvas = Image.new("RGB", (_WIDTH_PX, height), theme.LIGHT[theme.PAPER])
    draw = ImageDraw.Draw(canvas)
    draw.text(
        (_MARGIN_PX, _MARGIN_PX - 8),
        _cut(draw, page.title, _font(26, bold=True), _inner()),
        fill=theme.LIGHT[theme.INK],
        font=_font(26, bold=True),
    )
    top = _MARGIN_PX + 44
    for part in parts:
        _draw_part(canvas, part, top)
        top += _height(part)
    if n_more:
        note = f"and {n_more} more, on the HTML page"
        draw.text((_MARGIN_PX, top), note, fill=theme.LIGHT[theme.MUTED], font=_font(15))
    return canvas


def _inner() -> int:
    return _WIDTH_PX - 2 * _MARGIN_PX


def _height(part: Part) -> int:
    n_tiles = len(part.asked) + len(part.tiles)
    return _head(part) + max(1, -(-n_tiles // _COLUMNS)) * (_TILE_HEIGHT_PX + _GAP_PX) + 14


def _head(part: Part) -> int:
    return 34 if part.title else 8


def _draw_part(canvas: Image.Image, part: Part, top: int) -> None:
    draw = ImageDraw.Draw(canvas)
    font = _font(18, bold=True)
    title = _cut(draw, part.title, font, _inner())
    draw.text((_MARGIN_PX, top), title, fill=theme.LIGHT[theme.INK], font=font)
    for place, tile in enumerate((*part.asked, *part.tiles)):
        row, column = divmod(place, _COLUMNS)
        left = _MARGIN_PX + column * (_TILE_PX + _GAP_PX)
        is_asked = place < len(part.asked)
        _draw_tile(
            canvas,
            tile,
            left,
            top + _head(part) + row * (_TILE_HEIGHT_PX + _GAP_PX),
            asked=is_asked,
        )


def _draw_tile(canvas: Image.Image, tile: Tile, left: int, top: int, *, asked: bool) -> None:
    draw = ImageDraw.Draw(canvas)
    colour = theme.LIGHT[theme.MUTED if asked else _FRAMES[tile.mark]]
    box = (left, top, left + _TILE_PX - 1, top + _TILE_HEIGHT_PX - 1)
    draw.rounded_rectangle(box, radius=9, outline=colour, width=3 if tile.mark else 1)
    inner = (left + _PAD_PX, top + _PAD_PX)
    if tile.picture is None:
        _draw_word(draw, tile.name, *inner)
    else:
        small = _enlarged(open_small(tile.picture, _PICTURE_PX))
        offset = ((_PICTURE_PX - small.width) // 2, (_PICTURE_PX - small.height) // 2)
        canvas.paste(small, (inner[0] + offset[0], inner[1] + offset[1]))
    line = inner[1] + _PICTURE_PX + 6
    value = "asked with" if asked else " ".join(filter(None, (tile.value, MARK_WORDS[tile.mark])))
    ink = theme.LIGHT[_TEXTS.get(tile.mark, theme.INK)]
    draw.text((inner[0], line), _cut(draw, value, _font(14), _PICTURE_PX), fill=ink, font=_font(14))
    detail = tile.detail if tile.picture is None else tile.detail or tile.name
    draw.text(
        (inner[0], line + _LINE_PX),
        _cut(draw, detail, _font(12), _PICTURE_PX),
        fill=theme.LIGHT[theme.MUTED],
        font=_font(12),
    )


def _enlarged(image: Image.Image) -> Image.Image:
    """Fill the place with a picture that is smaller than it, so that all are seen alike."""
    scale = _PICTURE_PX / max(image.size)
    if scale <= 1:
        return image
    size = tuple(max(1, round(side * scale)) for side in image.size)
    return image.resize(size, Image.Resampling.BICUBIC)


def _draw_word(draw: ImageDraw.ImageDraw, text: str, left: int, top: int) -> None:
    """Write a name in the place of a picture, in as many lines as fit."""
    font = _font(15)
    lines, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if draw.textlength(longer, font=font) <= _PICTURE_PX or not line:
            line = longer
        else:
            lines.append(line)
            line = word
    lines = [_cut(draw, each, font, _PICTURE_PX) for each in [*lines, line]]
    most = _PICTURE_PX // _LINE_PX
    for k, each in enumerate(lines[:most]):
        place = (left, top + (_PICTURE_PX - min(len(lines), most) * _LINE_PX) // 2 + k * _LINE_PX)
        draw.text(place, each, fill=theme.LIGHT[theme.INK], font=font)


def _cut(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Shorten a text in its middle until it fits: ends of file names tell them apart."""
    text = " ".join(text.split())
    if draw.textlength(text, font=font) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        kept = (low + high + 1) // 2
        if draw.textlength(_middle_out(text, kept), font=font) <= width:
            low = kept
        else:
            high = kept - 1
    return _middle_out(text, low)


def _middle_out(text: str, n_kept: int) -> str:
    first = (n_kept + 1) // 2
    return text[:first] + "…" + text[len(text) - (n_kept - first) :]


def _font(size_px: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    # matplotlib brings this font along, so that the picture is the same everywhere.
    properties = font_manager.FontProperties(
        family="DejaVu Sans", weight="bold" if bold else "normal"
    )
    path = font_manager.findfont(properties, fallback_to_default=False)
    return ImageFont.truetype(str(Path(path)), size_px)
