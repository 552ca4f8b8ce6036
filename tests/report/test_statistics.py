"""The part about the tests: every number of the JSON reaches the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from braindecode_clip.report.numbers import count, percent
from braindecode_clip.report.results import Order
from braindecode_clip.report.sections import Studio
from braindecode_clip.report.statistics import null_figure, statistics_topics

ORDER = Order(
    {
        "subject": ("01", "02"),
        "roi": ("v",),
        "split": ("s",),
        "encoder": ("e",),
        "decoder": ("ridge", "mlp"),
        "gallery": ("test",),
    }
)
LABELS = {"subject": "02", "roi": "v", "split": "s", "encoder": "e", "decoder": "mlp"}


def test_the_page_has_the_part(full) -> None:
    study, page = full
    content = json.loads(Path(study.listing["metrics"][0]).read_text())
    assert 'id="tests"' in page and "Scores under permutation" in page
    for row in content["power"]:
        assert count(row["n_sufficient"]) in page
    assert "What n would have sufficed" in page
    assert "Embedding dimensions" in page
    assert content["nulls"][0]["permuted"] in page


def test_no_part_without_numbers() -> None:
    assert statistics_topics({}, ORDER, Studio()) == []
    assert statistics_topics({"power": pd.DataFrame()}, ORDER, Studio()) == []


def test_power_is_told_in_numbers() -> None:
    row = LABELS | {"gallery": "test", "metric": "top_1", "direction": "brain_to_image"}
    row |= {"n": 60, "unit": "stimuli", "alpha": 0.05, "wanted": 0.8}
    row |= {"value": 0.31, "power": 0.97, "n_sufficient": 23}
    row |= {"effect": 0.025, "effect_power": 0.11, "effect_n_sufficient": None}
    (topic,) = statistics_topics({"power": pd.DataFrame([row])}, ORDER, Studio())
    (cells,) = topic.table.rows
    texts = [cell.text for cell in cells]
    assert texts == [
        "02",
        "mlp",
        "Top-1",
        "brain → image",
        "60",
        percent(0.025),
        percent(0.11, digits=0),
        "none",
        percent(0.31),
        percent(0.97, digits=0),
        "23",
    ]
    assert len(topic.table.columns) == len(texts)
    assert "α = 0.05" in topic.intro


def test_dimensions_are_told_once_whatever_the_galleries() -> None:
    row = LABELS | {"n_dims": 512, "n_significant": 128, "q_level": 0.05}
    table = pd.DataFrame([row | {"gallery": name} for name in ("test", "test")])
    (topic,) = statistics_topics({"dimensions": table}, ORDER, Studio())
    (cells,) = topic.table.rows
    assert [cell.text for cell in cells] == ["02", "mlp", "512", "128"]
    assert cells[-1].detail == percent(0.25)


def test_the_figure_marks_value_and_null() -> None:
    row = {"decoder": "mlp", "value": 0.71, "null_mean": 0.5}
    row |= {"centres": [0.45, 0.5, 0.55], "counts": [10, 40, 20]}
    figure = null_figure({"a": [row], "b": [row]}, ["ridge", "mlp"], columns=2)
    for axis in figure.axes:
        line, marker = axis.lines
        assert list(line.get_xdata()) == [71, 71]
        assert marker.get_xdata()[0] == 71
        (filled,) = axis.collections
        points = filled.get_paths()[0].vertices
        assert points[:, 1].max() == 1.0
        assert np.isclose(points[:, 0].min(), 45)
