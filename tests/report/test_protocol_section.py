"""Published protocols on the page: every row in a table, every interval in the figure."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from braindecode_clip.report.figures import Dot
from braindecode_clip.report.numbers import percent
from braindecode_clip.report.protocol_figure import protocol_figure
from braindecode_clip.report.protocols import NAMES, protocol_blocks, score_label
from braindecode_clip.report.results import DIRECTIONS, Order
from braindecode_clip.report.sections import Studio


@pytest.fixture(scope="module")
def rows(full) -> list[dict]:
    found = []
    for path in full[0].listing["metrics"]:
        found += json.loads(Path(path).read_text())["protocols"]
    return found


@pytest.fixture(scope="module")
def section(full, parse):
    (found,) = parse(full[1]).find("section", id="protocols")
    return found


def test_every_row_stands_in_a_table_with_chance_and_interval(rows, section) -> None:
    tables: dict[tuple[str, ...], list[str]] = {}
    for table in section.find("table"):
        title = table.find("caption")[0].text
        for row in table.find("tr")[1:]:
            cells = [cell.text for cell in row.children]
            tables[(title, *cells[:4])] = cells
    assert len(tables) == len(rows) > 20
    for row in rows:
        title = f"Subject {row['subject']} · {row['roi']}: gallery test: protocols"
        name, way = NAMES[row["protocol"]], DIRECTIONS[row["direction"]]
        cells = tables[title, name, way, score_label(row), row["decoder"]]
        ends = (row["ci_low"], row["ci_high"])
        low, high = (percent(end).removesuffix("\u202f%") for end in ends)
        assert cells[4] == " ".join(f"{percent(row['value'])} {low}–{high}".split())
        assert cells[5] == " ".join(percent(row["chance"]).split())
        assert cells[7] == str(row["n"])
        drawn = row["value_of_draws"] is not None
        assert cells[8].endswith("(30)") == drawn


def test_the_figure_is_told_to_those_who_do_not_see_it(rows, section) -> None:
    told = " ".join(plot.attributes["aria-label"] for plot in section.find("div", "plot"))
    for row in rows:
        if row["metric"] == "top_1" or row["metric"].startswith("pairwise"):
            assert f"{score_label(row)}, {row['decoder']} {percent(row['value'])}" in told
    assert "brain → image: " in told and "image → brain: " in told
    assert len(section.find("svg")) == len({(row["subject"], row["roi"]) for row in rows})


def test_every_score_has_a_line_of_its_own_with_its_interval_and_chance() -> None:
    panels = {
        "brain → image": [Dot("a", "x", 0.4, 0.3, 0.5, 0.1), Dot("a", "y", 0.6, 0.5, 0.7, 0.2)],
        "image → brain": [Dot("a", "x", 0.45, 0.35, 0.55, 0.1), Dot("b", "y", 0.9, 0.8, 1.0, 0.5)],
    }
    (axis,) = protocol_figure(panels, ["x", "y"]).axes
    lines = [(tuple(line.get_xdata()), tuple(line.get_ydata())) for line in axis.lines]
    heights = []
    for dot in (dot for dots in panels.values() for dot in dots):
        (height,) = (y[0] for x, y in lines if x == (100 * dot.value,))
        heights.append(height)
        assert ((100 * dot.low, 100 * dot.high), (height, height)) in lines
        strokes = [sum(y) / 2 for x, y in lines if x == (100 * dot.chance,) * 2 and len(y) == 2]
        assert any(abs(stroke - height) < 1e-9 for stroke in strokes)
    assert len({round(height, 6) for height in heights}) == 4
    assert {text.get_text() for text in axis.texts} == {"a", "b"}
    one = protocol_figure(
        {"brain → image": panels["brain → image"], "image → brain": []}, ["x", "y"]
    )
    (legend,) = one.legends
    assert "image → brain" not in [text.get_text() for text in legend.get_texts()]


def test_no_rows_no_section(full) -> None:
    order = Order.of(_study(), pd.DataFrame(full[0].rows))
    assert protocol_blocks(pd.DataFrame(), order, Studio()) == []


def _study():
    from braindecode_clip.config.study import parse_study

    names = {"decoders": "ridge", "galleries": "test", "encoders": "scenes", "splits": "stimulus"}
    kinds = {"decoders": "kind", "encoders": "kind", "splits": "scheme"}
    parts = {
        key: [{"name": name} | ({kinds[key]: name} if key in kinds else {})]
        for key, name in names.items()
    }
    rois = [{"name": "v", "mask": "m.nii.gz"}]
    return parse_study({"study": "x", "rois": rois, **parts}, where="here")
