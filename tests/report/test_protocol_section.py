"""Published protocols on the page: every row in a table, every interval in the figure."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from braindecode_clip.report.numbers import percent
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
        assert cells[7] == f"{row['n']} {row['n_unit']}"
        drawn = row["value_of_draws"] is not None
        assert cells[8].endswith("(30)") == drawn


def test_the_figure_is_told_to_those_who_do_not_see_it(rows, section) -> None:
    told = " ".join(plot.attributes["aria-label"] for plot in section.find("div", "plot"))
    for row in rows:
        if row["metric"] == "top_1" or row["metric"].startswith("pairwise"):
            assert f"{score_label(row)}, {row['decoder']} {percent(row['value'])}" in told
    assert "Brain → image" in told and "Image → brain" in told
    assert len(section.find("svg")) == len({(row["subject"], row["roi"]) for row in rows})


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
