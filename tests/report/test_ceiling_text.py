"""Ceilings in the tables: beside the scores where there are some, nowhere else."""

from __future__ import annotations

import pandas as pd
import pytest

from braindecode_clip.report.ceiling_text import has_ceilings
from braindecode_clip.report.results import Order
from braindecode_clip.report.tables import metrics_table, summary_table


@pytest.fixture
def row() -> dict:
    return {
        **dict.fromkeys(("subject", "roi", "split", "encoder", "decoder", "gallery"), "a"),
        **{"metric": "top_1", "direction": "brain_to_image", "value": 0.5, "chance": 0.1},
        **{"ci_low": 0.4, "ci_high": 0.6, "null_mean": 0.1, "p": 0.01, "n_permutations": 99},
        **{"n": 10, "n_unit": "rows", "n_resampled": 10, "resampled": "stimuli"},
        **{"ceiling": 0.9, "ceiling_low": 0.85, "ceiling_high": 0.95, "ceiling_share": 0.5},
        **{"ceiling_method": "ideal observer", "ceiling_uses": "test repeats"},
        **{"noise_free": 0.7, "noise_free_low": 0.6, "noise_free_high": 0.8},
    }


def order() -> Order:
    return Order(dict.fromkeys(("subject", "roi", "split", "encoder", "decoder", "gallery"), "a"))


def texts(table: object) -> dict[str, list[tuple[str, str]]]:
    return {
        name: [(row[i].text, row[i].detail) for row in table.rows]
        for i, name in enumerate(table.columns)
    }


def test_every_score_has_its_ceiling_beside_it(row: dict) -> None:
    none = {name: None for name in row if name.startswith(("ceiling", "noise_free"))}
    other = {**row, **none, "metric": "r2_mean", "direction": "none"}
    other["ceiling_method"] = "none: not defined for this score"
    found = metrics_table(pd.DataFrame([row, other]), order(), "all")
    columns = texts(found)
    assert columns["Ceiling"] == [("90.0\u202f%", "85.0–95.0"), ("–", "")]
    assert columns["Share of ceiling"] == [("50\u202f%", ""), ("–", "")]
    assert columns["Without noise"] == [("70.0\u202f%", "60.0–80.0"), ("–", "")]
    assert found.rows[0][-3].title == "By ideal observer"
    assert found.rows[1][-3].title == "not defined for this score"
    assert texts(summary_table(pd.DataFrame([row]), order(), "main"))[
        "Share of ceiling, Top-1"
    ] == [("50\u202f%", "")]


def test_without_ceilings_there_are_no_columns(row: dict) -> None:
    bare = {name: value for name, value in row.items() if not name.startswith("ceiling")}
    for rows in ([bare], [{**row, "ceiling": None}]):
        table = pd.DataFrame(rows)
        assert not has_ceilings(table)
        assert "Ceiling" not in metrics_table(table, order(), "all").columns
        assert "Share of ceiling, Top-1" not in summary_table(table, order(), "main").columns
