"""The table of what was fitted on what, and the column of transductive steps."""

from __future__ import annotations

import json
import re

import pandas as pd

from braindecode_clip.cli.main import main
from braindecode_clip.report.decoder_tables import comparison_table
from braindecode_clip.report.fitted import fitted_table, steps_of, with_steps
from braindecode_clip.report.tables import Cell, Table

ROW = {
    "source": "sub-01",
    "digest": "a",
    "labels_used": True,
    "transductive": False,
    "reason": "",
    "overlap": 0,
    "n_runs": 3,
}
STEPS = "z-scoring within runs; <b>"


def rows() -> list[dict]:
    mean = ROW | {"statistic": "mean", "stage": "voxels"}
    return [
        ROW | {"statistic": "penalty", "stage": "decode", "fold": "a", "n_stimuli": 9},
        mean | {"fold": "a", "n_stimuli": 9},
        mean | {"fold": "b", "n_stimuli": 1200},
        mean | {"fold": "b", "n_stimuli": 1200},
        ROW
        | {"statistic": "z", "stage": "voxels", "fold": "", "n_stimuli": 11, "overlap": 4}
        | {"transductive": True, "labels_used": False, "reason": "because"},
    ]


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def test_statistics_are_grouped_in_the_order_of_the_stages() -> None:
    table = fitted_table(pd.DataFrame(rows()))
    assert texts(table) == [
        ["voxels", "mean", "2", "9–1,200".replace(",", "\u202f"), "3", "0", "yes", "no"],
        ["voxels", "z", "1", "11", "3", "4", "no", "yes"],
        ["decode", "penalty", "1", "9", "3", "0", "yes", "no"],
    ]
    assert table.rows[1][-1].detail == "because"
    assert fitted_table(pd.DataFrame()) is None


def test_the_column_is_there_where_there_are_steps() -> None:
    table = Table("c", ("a",), ((Cell("1"),), (Cell("2"),)))
    assert with_steps(table, ["", float("nan")]) is table
    assert texts(with_steps(table, ["x; y", ""])) == [["1", "x; y"], ["2", "–"]]
    same = with_steps(table, ["x; y", "x; y"])
    assert texts(same) == [["1"], ["2"]]
    assert same.caption == "c. Transductive in every row: x; y"
    assert steps_of([{"transductive": "x; y"}, {"transductive": "y; z"}, {}]) == "x; y; z"


def test_the_page_shows_both(make_study, tmp_path, parse) -> None:
    study = make_study(tmp_path / "s", subjects=("01",), rois=("visual",), pictures=False)
    for path in study.listing["metrics"]:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        content["fitted"] = rows()
        for row in content["rows"]:
            row["transductive"] = STEPS
        with open(path, "w", encoding="utf-8") as file:
            json.dump(content, file)
    assert main(study.arguments(tmp_path / "page.html")) == 0
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<h3>What was fitted on what</h3>" in text
    n_tables = text.count('<th scope="col">Transductive</th>')
    # The table of the records; in the captions of two summaries and of two decoders' tables.
    assert n_tables == 1
    captions = re.findall(r"<caption.*?</caption>", text, re.DOTALL)
    named = "Transductive in every row: z-scoring within runs; &lt;b&gt;"
    assert sum(named in caption for caption in captions) == 4
    assert not any(named in title for title in re.findall(r"<summary>.*?</summary>", text))
    assert "<b>" not in text.replace("<body", "")
    parse(text)


def test_the_comparison_names_the_steps() -> None:
    row = dict.fromkeys(("subject", "roi", "split", "encoder", "decoder", "gallery"), "x")
    row |= dict.fromkeys(("best", "best_of_roi", "transductive"), False)
    numbers = ("validation_pairwise", "validation_r2", "test_pairwise", "test_top_1")
    row |= dict.fromkeys((*numbers, "test_pairwise_ci_low", "test_pairwise_ci_high"), 0.5)
    row |= {"validation_by": "cross_fit", "transductive_steps": STEPS}
    table = comparison_table(pd.DataFrame([row]))
    assert table.caption.endswith(f". Transductive in every row: {STEPS}")
    other = row | {"transductive_steps": ""}
    table = comparison_table(pd.DataFrame([row, other]))
    assert table.columns[-1] == "Transductive"
    assert [own[-1] for own in texts(table)] == [STEPS, "–"]
