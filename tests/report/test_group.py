"""The part about the group: what figures draw, what tables say, what is read."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from braindecode_clip.config.group import GroupConfig
from braindecode_clip.config.study import parse_study
from braindecode_clip.constants import SCHEMA_VERSION
from braindecode_clip.errors import DataError
from braindecode_clip.evaluate.group import group
from braindecode_clip.evaluate.group_labels import exchange_of
from braindecode_clip.io.atomic import write_json
from braindecode_clip.provenance import Provenance
from braindecode_clip.report import theme
from braindecode_clip.report.group import group_topics
from braindecode_clip.report.html import build_page
from braindecode_clip.report.inputs import read_inputs
from braindecode_clip.report.listing import list_results
from braindecode_clip.report.methods_group import describe_group
from braindecode_clip.report.numbers import THIN
from braindecode_clip.report.results import Order
from braindecode_clip.report.sections import Studio
from braindecode_clip.report.sources import Citations

OPTIONS = GroupConfig(n_bootstrap=200, n_permutations=199)
RECORD = Provenance(stage="group", options={}, inputs={}, seed=1, code_digest="0" * 16)


def found_of(study, subjects: tuple[str, ...]) -> dict[str, pd.DataFrame]:
    """Run `group` on the first directions of a written study, as if of these subjects."""
    items = [
        replace(item, info={**item.info, "subject": subject})
        for subject in subjects
        for item in study.retrievals
        # The study in miniature has two subjects, taken in turn.
        if item.info["subject"] == ("01", "02")[int(subject) % 2]
    ]
    samples = {
        item.info["subject"]: (
            item.queries["stimulus_id"].to_numpy().astype(str),
            item.queries["group"].to_numpy().astype(str),
        )
        for item in items
    }
    result = group(items, exchange_of(samples, "stimulus"), options=OPTIONS, seed=1)
    notes = pd.DataFrame({"note": result.notes})
    return {"rows": pd.DataFrame(result.rows), "pairs": pd.DataFrame(result.pairs), "notes": notes}


@pytest.fixture(scope="module")
def study(make_study, tmp_path_factory: pytest.TempPathFactory):
    return make_study(tmp_path_factory.mktemp("group"), maps=False)


@pytest.fixture(scope="module")
def tables(study) -> dict[str, pd.DataFrame]:
    return found_of(study, ("01", "02"))


def order_of(study, tables: dict[str, pd.DataFrame]) -> Order:
    rows = tables["rows"]
    return Order.of(parse_study(study.config, where="study"), rows[rows["level"] == "subject"])


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []
    to_svg = theme.to_svg

    def keep(figure: Figure, *, key: str) -> str:
        figures.append(figure)
        return to_svg(figure, key=key)

    monkeypatch.setattr(theme, "to_svg", keep)
    return figures


def texts(cells) -> list[str]:
    return [cell.text.replace(THIN, "") for cell in cells]


def test_a_forest_shows_mean_interval_subjects_and_chance(study, tables, drawn) -> None:
    topics = group_topics(tables, order_of(study, tables), Studio(), options=OPTIONS)
    assert [topic.title for topic in topics] == [
        "Over subjects",
        "Corrected for all that was tried",
        "Decoders and ROIs in pairs",
    ]
    axis = drawn[0].axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        f"{roi} · {decoder}" for roi in ("visual", "early") for decoder in ("ridge", "mlp")
    ]
    rows = tables["rows"]
    chosen = rows[(rows["metric"] == "top_1") & (rows["roi"] == "visual")]
    chosen = chosen[chosen["decoder"] == "mlp"].set_index("subject")
    lines = [line for line in axis.lines if np.allclose(np.mean(line.get_ydata()), 1)]
    seen = {tuple(np.round(np.sort(line.get_xdata()), 6)) for line in lines}
    share = 100 * chosen["value"]
    for numbers in (
        [share["all"]],
        sorted([share["01"], share["02"]]),
        [100 / 23] * 2,
        sorted(100 * chosen.loc["all", ["ci_low", "ci_high"]].to_numpy(float)),
    ):
        assert tuple(np.round(numbers, 6)) in seen, (numbers, seen)
    alt = topics[0].blocks[0].drawing.alt.replace(THIN, "")
    assert f"visual · mlp {share['all']:.1f}% (" in alt
    assert "n = 2 subjects" in topics[0].blocks[0].drawing.caption


def test_tables_say_who_is_above_chance_and_what_pairs_are(study, tables) -> None:
    means, corrected, pairs = group_topics(
        tables, order_of(study, tables), Studio(), options=OPTIONS
    )
    rows = tables["rows"]
    names = dict(zip(means.table.columns, texts(means.table.rows[0]), strict=True))
    assert names["Mean"] and names["Above chance"].endswith("of 2")
    assert names["ROI"] == "visual" and names["Decoder"] == "ridge"
    shown = rows[(rows["level"] == "group") & rows["metric"].isin(["top_1", "pairwise"])]
    assert len(means.table.rows) == len(shown) == 8
    assert all(cell.title.startswith("Subjects: ") for cell in means.table.rows[0][-3:-1])
    assert len(corrected.table.rows) == 16 and "4 tests" in corrected.intro
    # Pairs of the group: 2 ROIs, 2 decoders, two scores.
    assert len(pairs.table.rows) == 8
    frame = tables["pairs"]
    frame = frame[(frame["level"] == "group") & frame["metric"].isin(["top_1", "pairwise"])]
    assert sorted(texts(row)[-1] for row in pairs.table.rows) == sorted(frame["verdict"])
    assert "Subject" not in pairs.table.columns


def test_pairs_are_marked_by_their_verdict(study, tables, drawn) -> None:
    frame = tables["pairs"].copy()
    words = ["better", "worse in these subjects", "equivalent", "undecided"]
    means = frame["level"] == "group"
    frame.loc[means, "verdict"] = [words[i % 4] for i in range(means.sum())]
    group_topics({"pairs": frame}, order_of(study, tables), Studio(), options=OPTIONS)
    assert len(drawn) == 2
    names = {text.get_text() for figure in drawn for text in figure.legends[0].get_texts()}
    assert names == {
        "different",
        "different in these subjects",
        "equivalent within the margin",
        "undecided",
        "one subject",
        "margin",
        "no difference",
    }
    spans = [
        axis.patches[0].get_extents().transformed(axis.transData.inverted())
        for axis in drawn[0].axes
    ]
    assert [round(span.x1, 6) for span in spans] == [5.0, 2.0]


def test_one_subject_has_no_means(study) -> None:
    tables = found_of(study, ("01",))
    order = order_of(study, tables)
    topics = group_topics(tables, order, Studio(), options=OPTIONS)
    assert [topic.title for topic in topics] == [
        "Corrected for all that was tried",
        "Decoders and ROIs in pairs",
    ]
    assert len(topics[1].table.rows) == 8
    assert group_topics({}, order, Studio(), options=OPTIONS) == []
    said = " ".join(describe_group(tables, OPTIONS, Citations()))
    assert "Within each subject" in said and "Means over" not in said
    assert describe_group({}, OPTIONS, Citations()) == []


def test_it_stands_on_the_page_and_in_the_methods(study, tables, tmp_path: Path, parse) -> None:
    config = parse_study(study.config, where="study")
    path = tmp_path / "group.json"
    content = {
        "schema_version": SCHEMA_VERSION,
        "provenance": asdict(RECORD),
        **{name: tables[name].to_dict("records") for name in ("rows", "pairs")},
        "notes": list(tables["notes"]["note"]),
    }
    write_json(path, content)
    inputs = read_inputs(config, {**study.listing, "group": [str(path)]}, where="list")
    page = build_page(inputs)
    parse(page)
    assert "Group and comparisons" in page and 'href="#group"' in page
    assert "Student's t with 1 degree of freedom" in page.replace("&#39;", "'")
    text = page.replace(THIN, " ")
    assert "Means over 2 subjects have" in text and "Nichols TE, Holmes AP" in text
    assert "Bayesian inference of population prevalence" in text
    without = build_page(read_inputs(config, study.listing, where="list"))
    assert "Group and comparisons" not in without and "Nichols TE" not in without
    write_json(path, {"rows": 3})
    with pytest.raises(DataError, match="Expected the JSON that `group` writes"):
        read_inputs(config, {**study.listing, "group": [str(path)]}, where="list")


def test_one_file_is_listed_for_each_split_and_gallery(study) -> None:
    config = {**study.config, "galleries": [{"name": "test"}, {"name": "all"}]}
    listing = list_results(
        parse_study(config, where="study"), "r", subjects=["01"], backgrounds={}, stimuli=None
    )
    assert listing["group"] == [
        f"r/group/split-stimulus_enc-scenes_gal-{name}_group.json" for name in ("test", "all")
    ]
