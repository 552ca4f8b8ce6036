"""The surface on the page: what was extrapolated looks so, and a failed check is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from braindecode_clip.config.study import parse_study
from braindecode_clip.report.decoding import decoding_topics
from braindecode_clip.report.listing import list_results
from braindecode_clip.report.results import Order
from braindecode_clip.report.sections import Studio
from braindecode_clip.report.surface_figure import surface_figure
from braindecode_clip.report.surface_topic import check_text

DEMO = Path(__file__).resolve().parents[2] / "config/demo.yaml"
LABELS = ("subject", "roi", "split", "encoder", "decoder")


@pytest.fixture
def table() -> pd.DataFrame:
    rows = []
    for kind, fraction, repeats, pool in (
        *(("measured", f, r, m) for f in (0.5, 1.0) for r in (1, 3) for m in (2, 60)),
        *(("extrapolated", f, r, 60) for f, r in ((1.0, 6.0), (2.0, 1), (2.0, 3), (2.0, 6.0))),
        *(("candidates", 1.0, r, 180) for r in (1, 3)),
        *(("check", 1.0, r, 60) for r in (1, 3)),
    ):
        value = 0.2 + 0.1 * fraction + 0.05 * repeats - 0.001 * pool
        rows.append(
            {
                **dict.fromkeys(LABELS, "a"),
                **{"kind": kind, "fraction": fraction, "n_train": 480 * fraction, "k": 1},
                **{"n_repeats": repeats, "pool_size": pool, "value": value, "chance": 1 / pool},
                **{"ci_low": value - 0.05, "ci_high": value + 0.05, "n_seeds": 3},
                "measured": value - 0.01 if kind == "check" else np.nan,
                "inside": str(repeats == 1) if kind == "check" else None,
            }
        )
    return pd.DataFrame(rows)


def test_what_was_not_measured_is_dashed_and_open(table: pd.DataFrame) -> None:
    left, right = surface_figure(table).axes
    lines = [line for line in left.get_lines() if line.get_label() != "chance"]
    measured = [line for line in lines if line.get_linestyle() == "-"]
    ahead = [line for line in lines if line.get_linestyle() == "--"]
    assert [list(line.get_xdata()) for line in measured] == [[240, 480]] * 2
    # Joined to the last measured point; six repeats were never measured.
    assert [list(line.get_xdata()) for line in ahead] == [[480, 960]] * 3
    assert all(line.get_markerfacecolor() == "none" for line in ahead)
    end = table[(table["kind"] == "extrapolated") & (table["n_repeats"] == 3)]["value"].iloc[0]
    assert ahead[1].get_ydata()[-1] == pytest.approx(100 * end)
    far = [line.get_xdata()[-1] for line in right.get_lines() if line.get_linestyle() == "--"]
    assert far[:2] == [180, 180]
    assert len(left.collections) == 5


def test_the_check_is_told_and_a_miss_is_a_warning(table: pd.DataFrame) -> None:
    text = check_text(table)
    assert "1 of 2 scores with all data were foreseen" in text
    assert "1.0 points lower than foreseen" in text and "take it with care" in text
    table["inside"] = "True"
    assert "take it with care" not in check_text(table)
    assert "too few amounts" in check_text(table[table["kind"] != "check"])


def test_the_topic_has_figure_table_and_words(table: pd.DataFrame) -> None:
    study = parse_study(yaml.safe_load(DEMO.read_text()), where="demo")
    order = Order(dict.fromkeys((*LABELS, "gallery"), ("a",)))
    (topic,) = decoding_topics({"surface": table}, order, Studio(), study=study)
    assert len(topic.table.rows) == len(table)
    (block,) = topic.blocks
    assert "with 480 training trials" in block.drawings[0].alt
    assert "foreseen" in block.drawings[0].alt
    assert "95\u202f% intervals" in block.drawings[0].caption


def test_only_pooled_encoders_and_named_regions_are_listed(tmp_path: Path) -> None:
    config = yaml.safe_load(DEMO.read_text())
    config["encoders"].append({"name": "t", "kind": "local", "model": "m", "targets": "tokens"})
    study = parse_study(config, where="demo")
    listing = list_results(study, str(tmp_path), subjects=["01"], backgrounds={}, stimuli=None)[
        "surfaces"
    ]
    assert [path.removeprefix(f"{tmp_path}/") for path in listing] == [
        "surface/sub-01/sub-01_roi-visual_split-stimulus_enc-scenes_dec-ridge_surface.tsv"
    ]
    off = parse_study({**config, "surface": {"enabled": False}}, where="demo")
    assert not list_results(off, "r", subjects=["01"], backgrounds={}, stimuli=None)["surfaces"]
