"""Picture grids: the page's text, its layout in a browser, and the pixels of the PNG."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from headless import BROWSER, MISSING, measure
from PIL import Image

from braindecode_clip.errors import DataError
from braindecode_clip.report.confusion_figure import confusion_figure
from braindecode_clip.report.grid import GridPage, Part, Tile, build_grid_page
from braindecode_clip.report.grid_image import draw_grid
from braindecode_clip.report.search_page import duplicates_page, search_page
from braindecode_clip.report.theme import style, to_png, to_svg
from braindecode_clip.report.zero_shot_page import zero_shot_page

HOSTILE = '<script>alert("x")</script> & a "circle"'
PAINTS = [(200, 30, 40), (20, 160, 60), (40, 60, 220), (230, 180, 20)]


@pytest.fixture
def files(tmp_path):
    found = []
    for k, paint in enumerate(PAINTS):
        path = tmp_path / f"picture {k}.png"
        Image.new("RGB", (90 + 10 * k, 100), paint).save(path)
        found.append(path)
    return found


@pytest.fixture
def page(files):
    tiles = [
        Tile(str(k), value=f"{k}. 0.5", detail=f"file {k}", picture=path, mark=mark)
        for k, (path, mark) in enumerate(zip(files, ["right", "wrong", "", ""], strict=True))
    ]
    parts = (
        Part("first", "A note.", tuple(tiles[:3]), asked=(Tile("asked", picture=files[3]),)),
        Part(HOSTILE, "", (tiles[1], Tile("a word without picture", value="0.1"))),
        Part("nothing", "", ()),
    )
    return GridPage(
        "Kicker", "Title", "Lead.", parts, facts=(("Encoder", HOSTILE), ("Weights", 64 * "0a"))
    )


def test_the_page_is_well_formed_and_fetches_nothing(page, parse):
    text = build_grid_page(page)
    document = parse(text)
    ids = [e.attributes["id"] for e in document.walk() if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    assert len(document.find("h1")) == len(document.find("main")) == 1
    for element in document.walk():
        assert element.name not in {"script", "link", "iframe", "object", "embed"}
        for name in ("src", "href"):
            value = element.attributes.get(name, "#")
            assert value.startswith(("#", "data:")), value[:60]
            if value.startswith("#"):
                assert value == "#" or value[1:] in ids
    assert "http" not in text and not re.search(r"url\((?!#)", text)
    assert "<script" not in text and text.count("&lt;script&gt;") >= 3
    assert build_grid_page(page) == text


def test_every_tile_has_its_picture_its_words_and_an_alternative_text(page, parse):
    document = parse(build_grid_page(page))
    images = {e.attributes["id"]: e.attributes["href"] for e in document.find("image")}
    # Four files, of which one stands in two places.
    assert len(images) == len(set(images.values())) == 4
    tiles = document.find("li", "tile")
    assert [tile.text for tile in tiles] == [
        "0: file 0, 0. 0.5, ✓ right 0. 0.5 ✓ right file 0",
        "1: file 1, 1. 0.5, ✗ wrong 1. 0.5 ✗ wrong file 1",
        "2: file 2, 2. 0.5 2. 0.5 file 2",
        "1: file 1, 1. 0.5, ✗ wrong 1. 0.5 ✗ wrong file 1",
        "a word without picture 0.1",
    ]
    assert [sorted(tile.classes) for tile in tiles[:3]] == [
        ["right", "tile"],
        ["tile", "wrong"],
        ["tile"],
    ]
    for svg in document.find("svg", "picture"):
        assert svg.attributes["role"] == "img" and svg.attributes["aria-label"]
    assert len(document.find("figure", "tile")) == 1
    assert document.find("li", "none")[0].text == "None."


def test_pictures_shrink_to_the_budget_and_bad_ones_are_all_named(page, files, tmp_path):
    rng = np.random.default_rng(0)
    for path in files:
        Image.fromarray(rng.integers(0, 256, (300, 300, 3), dtype=np.uint8)).save(path)
    large, small = build_grid_page(page), build_grid_page(page, budget_mb=0.03)
    assert len(small) < 0.6 * len(large)
    files[0].unlink()
    files[2].write_bytes(b"no picture")
    with pytest.raises(DataError, match="2 problems") as caught:
        build_grid_page(page)
    assert "picture 0.png" in str(caught.value) and "picture 2.png" in str(caught.value)


def test_the_png_holds_every_picture_in_its_place(page, tmp_path):
    drawn = np.asarray(draw_grid(page))
    assert drawn.shape[1] == 1240 and drawn.dtype == np.uint8

    def centres(paint):
        """Return the columns' and rows' middle of each patch of a colour, from its pixels."""
        rows, columns = np.nonzero((drawn == paint).all(axis=2))
        return rows.min(), rows.max(), np.median(columns), len(rows)

    found = [centres(paint) for paint in PAINTS]
    # The asked one first, then 0, 1, 2 in a row from left to right.
    order = np.argsort([column for _, _, column, _ in found if column])
    assert found[3][2] < found[0][2] < found[2][2]
    assert order[0] == 3
    # In the first of the six columns, within the margin.
    assert 40 < found[3][2] < 40 + 180
    assert abs(found[0][0] - found[2][0]) < 15
    # The second stands in two parts, one below the other.
    assert found[1][1] > found[0][1] + 200
    assert all(n > 10_000 for *_, n in found)
    # Frames of the light page: right and wrong.
    for frame in ((0x25, 0x82, 0x5D), (0xC2, 0x4D, 0x18)):
        assert (drawn == frame).all(axis=2).sum() > 300


def test_more_parts_than_the_png_shows_are_counted(page):
    whole = draw_grid(page)
    part = draw_grid(page, most_parts=1)
    assert part.height < whole.height
    rest = np.asarray(part)[-40:]
    assert (rest != 255).any()


def test_transparent_pictures_stand_on_white(tmp_path):
    ink = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    ink.paste((0, 0, 0, 255), (40, 40, 60, 60))
    ink.save(tmp_path / "ink.png")
    tile = Tile("ink", picture=tmp_path / "ink.png")
    drawn = np.asarray(draw_grid(GridPage("k", "t", "l", (Part("p", "", (tile,)),))))
    n_black = (drawn < 30).all(axis=2).sum()
    # A patch of a fifth of the side, 156 pixels wide, and the letters.
    assert 0.5 * 31**2 < n_black < 2.5 * 31**2


@pytest.mark.skipif(BROWSER is None, reason=MISSING)
@pytest.mark.parametrize("width_px", [1200, 400])
def test_layout_in_a_browser(page, width_px, tmp_path):
    script = """{
      overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
      width: document.documentElement.clientWidth,
      tiles: [...document.querySelectorAll("#part-1 ol .tile")].map(e => {
        const r = e.getBoundingClientRect(); return [r.left, r.top, r.width]; }),
      pictures: [...document.querySelectorAll("svg.picture")].map(
        e => e.getBoundingClientRect().width),
    }"""
    found, complaints = measure(build_grid_page(page), script, width_px=width_px, folder=tmp_path)
    assert not complaints
    assert width_px - 20 <= found["width"] <= width_px
    assert found["overflow"] <= 0
    assert min(found["pictures"]) > 70
    left, top, width = np.array(found["tiles"]).T
    assert len(np.unique(top)) == 1 and (np.diff(left) >= width[:-1]).all()
    assert left.min() >= 0 and (left + width).max() <= found["width"]


def test_search_pages_keep_the_order_of_the_results(files, parse):
    results = pd.DataFrame(
        {
            "query": ["red", "red", "blue", "blue"],
            "rank": [1, 2, 1, 2],
            "id": ["a", "b", "c", "a"],
            "score": [0.91234, 0.5, 0.4, -0.25],
        }
    )
    page = search_page(
        results,
        asked=[("red", None), ("blue", files[3])],
        pictures=[files[0], files[1], files[2], files[0]],
        details=["A", "B", "C", "A"],
        n_gallery=1234,
        facts=[("Encoder", "scenes")],
    )
    document = parse(build_grid_page(page))
    values = [tile.find("p", "value")[0].text for tile in document.find("li", "tile")]
    assert values == ["1. 0.912", "2. 0.500", "1. 0.400", "2. −0.250"]
    assert [h.text for h in document.find("h2")] == ["red", "blue", "What ran"]
    assert len(document.find("image")) == 4
    assert "1\u202f234 candidates" in page.lead


def test_duplicates_pages_show_groups_with_their_highest_cosine(parse):
    pairs = pd.DataFrame(
        {
            "id_1": ["a", "a", "x"],
            "id_2": ["b", "c", "y"],
            "score": [0.99, 0.97, 0.98],
            "group": [1, 1, 2],
        }
    )
    page = duplicates_page(
        pairs,
        pictures=dict.fromkeys("abcxy"),
        threshold=0.95,
        n_compared="9 candidates",
        facts=[],
        most_groups=1,
        most_tiles=2,
    )
    (part,) = page.parts
    assert [(tile.name, tile.value) for tile in part.tiles] == [("a", "0.9900"), ("b", "0.9900")]
    assert part.note == "2 pairs among 3 candidates; the first 2 are shown."
    assert "in 2 groups" in page.lead and "The 1 largest are shown" in page.lead


def test_examples_of_a_class_are_its_surest_and_its_worst_misses():
    probability = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.05, 0.95], [0.7, 0.3]])
    is_true = np.eye(2, dtype=bool)[[0, 1, 0, 1, 0]]
    page = zero_shot_page(
        probability,
        ["cat", "dog"],
        is_true=is_true,
        names=list("abcde"),
        pictures=[None] * 5,
        scores=None,
        by_class=None,
        confusions=None,
        facts=[],
        n_examples=3,
    )
    cat, dog = page.parts
    assert [(t.name, t.mark, t.detail) for t in cat.tiles] == [
        ("a", "right", "a"),
        ("e", "right", "e"),
        ("c", "wrong", "taken for dog"),
    ]
    assert [(t.name, t.mark, t.detail) for t in dog.tiles] == [
        ("d", "right", "d"),
        ("c", "wrong", "is cat"),
        ("b", "wrong", "taken for cat"),
    ]
    assert cat.note == "3 pictures were taken for it; 3 are of it."


def test_confusions_are_drawn_cell_by_cell():
    counts = np.array([[3, 1, 0], [0, 0, 0], [0, 2, 2]])
    figure = confusion_figure(counts, ["a", "b", "c"])
    (axis,) = figure.axes
    texts = {
        (round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in axis.texts
    }
    assert texts == {(0, 0): "75", (0, 1): "25", (2, 1): "50", (2, 2): "50"}
    shades = [p.get_alpha() for p in axis.patches if p.get_fill()]
    np.testing.assert_allclose(shades, 0.78 * np.array([0.75, 0.25, 0.5, 0.5]))
    with style():
        svg = to_svg(figure, key="f1")
    assert "var(--series-1)" in svg and "#0a0a01" not in svg
    assert to_png(confusion_figure(counts, ["a", "b", "c"]))[:4] == b"\x89PNG"
