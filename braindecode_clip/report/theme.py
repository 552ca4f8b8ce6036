"""Colours and type of the figures, and matplotlib figures as inline SVG.

A figure is drawn with stand-in colours, which become CSS variables in the SVG, so that one
drawing serves the light page, the dark page and the printer. Text stays text: it can be read
aloud, searched and scaled.
"""

from __future__ import annotations

import base64
import contextlib
import io
import re
import warnings
from collections.abc import Iterator

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

#: Stand-in colour in the drawing -> CSS variable of the page (templates/style.css).
INK, MUTED, GRID, PAPER, CHANCE = "#010101", "#020202", "#030303", "#040404", "#050505"
SERIES = tuple(f"#0a0a{index:02x}" for index in range(1, 9))
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    PAPER: "var(--card)",
    CHANCE: "var(--chance)",
    **{colour: f"var(--series-{index})" for index, colour in enumerate(SERIES, start=1)},
}
#: The same colours on the light page, for pictures that stand alone.
LIGHT = {
    INK: "#1c2430",
    MUTED: "#59636f",
    GRID: "#e7e5df",
    PAPER: "#ffffff",
    CHANCE: "#767c85",
    SERIES[0]: "#1d6fb8",
    SERIES[1]: "#c24d18",
    SERIES[2]: "#25825d",
    SERIES[3]: "#8049a0",
    SERIES[4]: "#a07400",
    SERIES[5]: "#4b5563",
    SERIES[6]: "#c03a72",
    SERIES[7]: "#0f8496",
}
#: A series is told by its marker as well as by its colour.
MARKERS = ("o", "D", "s", "^", "v", "P", "X", "h")

_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11.0,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10.0,
    "axes.labelsize": 11.0,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "figure.facecolor": "none",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 10.0,
    "ytick.labelsize": 10.0,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 10.5,
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Draw in the page's style inside this context; other figures stay as they are."""
    with mpl.rc_context(_STYLE):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure (inches) that belongs to no window and no global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure


def to_svg(figure: Figure, *, key: str) -> str:
    """Return a figure as SVG that can stand inside an HTML page.

    Parameters
    ----------
    figure : Figure
        Drawn inside :func:`style`.
    key : str
        Unique on the page: ids inside the drawing begin with it.

    Returns
    -------
    str
        One ``<svg>`` element: colours as CSS variables, no ids but those referred to, nothing
        fetched from elsewhere; the same figure gives the same text.
    """
    buffer = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": key}), warnings.catch_warnings():
        # A caption may hold a character that matplotlib's own font lacks; the text goes into
        # the SVG as it is, and the browser has the glyph.
        warnings.filterwarnings("ignore", message=r".*[Gg]lyph .* missing from")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return _inline(buffer.getvalue(), key)


def to_png(figure: Figure, *, dots_per_inch: int = 110) -> bytes:
    """Return a figure as a PNG that stands alone, in the colours of the light page.

    Parameters
    ----------
    figure : Figure
        Drawn inside :func:`style`; its colours are changed in place.
    dots_per_inch : int
    """
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE):
        # Ticks and labels come to be while drawing; those of later would have other colours.
        figure.draw_without_rendering()
        for artist in figure.findobj():
            _lighten(artist)
        figure.savefig(
            buffer,
            format="png",
            dpi=dots_per_inch,
            facecolor=LIGHT[PAPER],
            metadata={"Software": None},
        )
    return buffer.getvalue()


def _lighten(artist: Artist) -> None:
    """Replace the stand-in colours of one artist."""
    for name in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
        getter, setter = (getattr(artist, f"{verb}_{name}", None) for verb in ("get", "set"))
        if getter is None or setter is None:
            continue
        colours = mpl.colors.to_rgba_array(getter())
        for colour in colours:
            light = LIGHT.get(mpl.colors.to_hex(colour))
            if light is not None:
                colour[:3] = mpl.colors.to_rgb(light)
        if len(colours):
            setter(colours if len(colours) > 1 else tuple(colours[0]))


def _inline(text: str, key: str) -> str:
    svg = text[text.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"data:image/png;base64,([^\"]+)", _smaller_image, svg)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s+xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")
    used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', svg))
    used_ids = {name for pair in used for name in pair if name}

    def keep(match: re.Match[str]) -> str:
        name = match.group(1)
        return f' id="{key}-{name}"' if name in used_ids else ""

    svg = re.sub(r'\s+id="([^"]+)"', keep, svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{key}-\1"', svg)
    # The page sets the typeface; sizes stay.
    svg = re.sub(r"font-family: [^;\"]+", "font-family: var(--sans)", svg)
    svg = re.sub(r'<svg [^>]*viewBox="([^"]+)"[^>]*>', _open_tag, svg, count=1)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg


def _smaller_image(match: re.Match[str]) -> str:
    """Store an opaque picture of few colours, such as a carpet, with a palette: a third in size."""
    image = Image.open(io.BytesIO(base64.b64decode(match.group(1))))
    colours = image.getcolors(256)
    if colours is None or any(colour[3:] != (255,) for _, colour in colours):
        return match.group(0)
    buffer = io.BytesIO()
    palette = image.convert("RGB").quantize(len(colours), dither=Image.Dither.NONE)
    palette.save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _open_tag(match: re.Match[str]) -> str:
    width = float(match.group(1).split()[2])
    # Points become CSS pixels one to one and a third: the natural size of the type.
    return (
        f'<svg viewBox="{match.group(1)}" style="--natural:{width * 4 / 3:.0f}px" '
        'aria-hidden="true" focusable="false">'
    )
