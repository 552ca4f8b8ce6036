"""The part about decoders: who is marked as chosen, what figures draw, what is read."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure

from braindecode_clip.checks import Problems
from braindecode_clip.config.decode import ContrastiveConfig
from braindecode_clip.config.study import StudyConfig, parse_study
from braindecode_clip.errors import DataError
from braindecode_clip.report import theme
from braindecode_clip.report.curve_figure import curve_figure
from braindecode_clip.report.decoder_figures import (
    Contender,
    bottleneck_figure,
    forest_figure,
)
from braindecode_clip.report.decoding import Topic, decoding_topics
from braindecode_clip.report.figures import look_of, rank_figure
from braindecode_clip.report.inputs import CURVE_COLUMNS, _Reader
from braindecode_clip.report.listing import list_results
from braindecode_clip.report.methods import _contrastive
from braindecode_clip.report.methods_decode import describe_measures
from braindecode_clip.report.numbers import THIN
from braindecode_clip.report.results import Order
from braindecode_clip.report.sections import Studio
from braindecode_clip.report.sources import Citations

DEMO = Path(__file__).resolve().parents[2] / "config/demo.yaml"
LABELS = {key: key for key in ("subject", "split", "encoder")}


@pytest.fixture
def order() -> Order:
    names = {key: (key,) for key in (*LABELS, "gallery")}
    return Order({**names, "roi": ("visual", "early"), "decoder": ("ridge", "b-transductive")})


@pytest.fixture(scope="module")
def study() -> StudyConfig:
    return parse_study(yaml.safe_load(DEMO.read_text()), where="demo.yaml")


@pytest.fixture
def topics(order, study):
    """Return the function that lays out tables, its numbers without thin blanks."""

    def lay_out(**tables: pd.DataFrame) -> list[Topic]:
        return decoding_topics(tables, order, Studio(), study=study)

    return lay_out


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """Collect the figures before they become SVG."""
    figures: list[Figure] = []
    to_svg = theme.to_svg

    def keep(figure: Figure, *, key: str) -> str:
        figures.append(figure)
        return to_svg(figure, key=key)

    monkeypatch.setattr(theme, "to_svg", keep)
    return figures


def compared(**columns: object) -> dict[str, object]:
    scores = {"validation_pairwise": 0.8, "validation_r2": 0.1, "test_pairwise": 0.75}
    scores |= {"test_pairwise_ci_low": 0.7, "test_pairwise_ci_high": 0.8, "test_top_1": 0.2}
    scores |= {"validation_by": "cross_fit"}
    flags = {"transductive": False, "best": False, "best_of_roi": False}
    return {**LABELS, "gallery": "gallery", **scores, **flags, **columns}


COMPARED = pd.DataFrame(
    [
        compared(roi="early", decoder="ridge", best_of_roi=True, validation_by="stopping_rows"),
        compared(roi="visual", decoder="ridge", best_of_roi=True, best=True),
        compared(roi="visual", decoder="b-transductive", transductive=True, test_pairwise=0.95),
    ]
)


def readable(text: str) -> str:
    return text.replace(THIN, " ")


def titles(figure: Figure) -> list[str]:
    return [axis.get_title(loc="left") for axis in figure.axes]


def points_of(axis, marker: str) -> list[tuple[float, float]]:
    return [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
        for line in axis.lines
        if line.get_marker() == marker and len(line.get_xdata()) == 1
    ]


def test_the_choice_of_validation_is_marked_and_transductive_named(topics) -> None:
    (topic,) = topics(comparison=COMPARED, bottleneck=pd.DataFrame())
    rows = topic.table.rows
    chosen = [(row[1].text, row[4].text, row[4].detail, row[-1].text) for row in rows]
    assert chosen[0] == ("visual", "ridge", "", "of all")
    assert chosen[1][:3] == ("visual", "b-transductive", "transductive")
    assert chosen[1][3] not in ("of all", "in its ROI")
    assert chosen[2] == ("early", "ridge", "", "in its ROI")
    assert [row[6].clear for row in rows] == [True, False, False]
    assert rows[0][8].detail.startswith("70.0")
    assert "never by a test score" in topic.intro and "optimistic" in topic.intro
    assert [row[6].detail for row in rows] == ["", "", "optimistic"]
    assert "by cross-validation, in which the scored rows too had a part" in topic.table.caption
    assert "Without a validation score" not in topic.table.caption


def test_a_decoder_without_a_validation_score_is_explained(topics) -> None:
    none = compared(roi="visual", decoder="ridge", validation_pairwise=np.nan, validation_r2=np.nan)
    (topic,) = topics(comparison=pd.DataFrame([*COMPARED.to_dict("records"), none]))
    assert "–" in [row[6].text for row in topic.table.rows]
    assert "Without a validation score: decoders that keep no out-of-fold" in topic.table.caption


def test_the_forest_marks_the_choice_not_the_best_test_score(topics, drawn) -> None:
    (topic,) = topics(comparison=COMPARED)
    (figure,) = drawn
    visual, early = figure.axes
    assert [label.get_text() for label in visual.get_yticklabels()] == ["ridge", "b-transductive"]
    # Star: chosen of all regions; diamond: in its region; cross: never chosen.
    assert points_of(visual, "*") == [(75.0, 0.0)] and points_of(early, "D") == [(75.0, 0.0)]
    assert points_of(visual, "X") == [(95.0, 1.0)] and not points_of(early, "X")
    assert not points_of(visual, "D") and not points_of(early, "*")
    for axis in (visual, early):
        rings = [line for line in axis.lines if line.get_markerfacecolor() == "none"]
        assert {float(line.get_xdata()[0]) for line in rings} == {80.0}
        intervals = [tuple(line.get_xdata()) for line in axis.lines if line.get_linewidth() == 2.6]
        assert set(intervals) == {(70.0, 80.0)}
        assert [50.0, 50.0] in [list(line.get_xdata()) for line in axis.lines]
    alt = readable(topic.blocks[0].drawing.alt)
    assert "ridge 75.0 % (70.0 % to 80.0 %), validation 80.0 %, chosen" in alt
    assert "b-transductive 95.0 %" in alt and "early: ridge" in alt and "chance 50 %" in alt


def test_a_forest_of_many_decoders_keeps_their_rows_apart() -> None:
    names = [f"decoder-{i}" for i in range(12)]
    own = [Contender(name, 0.5 + i / 40, 0.4, 0.9, np.nan) for i, name in enumerate(names)]
    figure = forest_figure({"Subject 01": own, "Subject 02": own[:3]}, names, columns=2)
    first, second = figure.axes
    assert points_of(first, "o") == [(pytest.approx(50 + 2.5 * i), i) for i in range(12)]
    assert len(points_of(second, "o")) == 3
    assert first.get_ylim() == second.get_ylim() == (11.5, -0.5)


def test_series_beyond_the_colours_are_told_apart() -> None:
    looks = [tuple(look_of(place).values()) for place in range(20)]
    assert len(set(looks)) == 20
    groups = {f"d{i}": np.arange(1.0, 9.0) for i in range(10)}
    figure = rank_figure({"one": groups}, list(groups), n_gallery=30, columns=1)
    lines = [(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines]
    assert lines[0][0] == lines[8][0] and lines[0] != lines[8]


def ranked(roi: str, lift: float) -> list[dict[str, object]]:
    rows = [("prior", 0, 0.48), ("learned", 30, 0.8), ("learned", 1, 0.6), ("random", 1, 0.5)]
    rows += [("random", 30, 0.7)]
    return [
        {**LABELS, "roi": roi, "map": name, "rank": rank, "pairwise": value + lift}
        | {"ci_low": value + lift - 0.1, "ci_high": value + lift + 0.1, "cosine": 0.1, "n": 20}
        for name, rank, value in rows
    ]


def test_the_bottleneck_is_drawn_over_a_logarithmic_axis(topics, drawn) -> None:
    (topic,) = topics(bottleneck=pd.DataFrame(ranked("visual", 0.1) + ranked("early", 0.0)))
    (figure,) = drawn
    assert titles(figure) == ["Subject subject · visual", "Subject subject · early"]
    visual = figure.axes[0]
    lines = {line.get_label(): line for line in visual.lines}
    assert visual.get_xscale() == "log"
    # In the order of the rank, whatever the order of the table.
    np.testing.assert_allclose(lines["learned map"].get_xdata(), [1, 30])
    np.testing.assert_allclose(lines["learned map"].get_ydata(), [70, 90])
    np.testing.assert_allclose(lines["random map"].get_ydata(), [60, 80])
    np.testing.assert_allclose(lines["random prior, no voxel"].get_ydata(), 58)
    np.testing.assert_allclose(lines["chance"].get_ydata(), 50)
    # Bands of both maps and of the prior.
    bands = [band.get_datalim(visual.transData) for band in visual.collections]
    assert [(round(b.y0, 6), round(b.y1, 6)) for b in bands] == [(60, 100), (50, 90)]
    (prior,) = visual.patches
    assert prior.get_y() == pytest.approx(48) and prior.get_height() == pytest.approx(20)
    low, high = visual.get_ylim()
    assert low < 38 and high > 100
    alt = readable(topic.blocks[0].drawing.alt)
    assert "learned map rank 1 70.0 %, rank 30 90.0 %" in alt and "random prior 58.0 %" in alt
    assert len(topic.table.rows) == 10


def test_a_bottleneck_of_one_rank_is_drawn() -> None:
    table = pd.DataFrame([row for row in ranked("visual", 0.0) if row["rank"] < 30])
    figure = bottleneck_figure({"one": table}, columns=1)
    assert figure.axes[0].get_xlim()[0] < 1 < figure.axes[0].get_xlim()[1]


def curve(**extra: object) -> pd.DataFrame:
    rows = []
    for metric, chance in (("pairwise", 0.5), ("top_1", 0.1), ("another", 0.1)):
        for decoder, value in (("ridge", 0.3), ("together", 0.5), ("together - ridge", 0.2)):
            for minutes in (4.0, 2.0):
                rows.append(
                    {"decoder": decoder, "metric": metric, "minutes": minutes}
                    | {"value": value + minutes / 20, "low": value, "high": 0.9}
                    | {"chance": np.nan if "-" in decoder else chance, **extra}
                )
    return pd.DataFrame(rows)


def test_the_curve_draws_scores_in_percent_against_minutes() -> None:
    figure = curve_figure(curve())
    assert titles(figure) == ["Top-1 identification", "Pairwise identification"]
    for axis, chance in zip(figure.axes, (10, 50), strict=True):
        lines = {line.get_label(): line for line in axis.lines}
        assert set(lines) == {"ridge", "together", "chance"}
        np.testing.assert_allclose(lines["ridge"].get_xdata(), [2, 4])
        np.testing.assert_allclose(lines["together"].get_ydata(), [60, 70])
        np.testing.assert_allclose(lines["chance"].get_ydata(), chance)
        bands = [band.get_paths()[0].vertices[:, 1] for band in axis.collections]
        ends = [(band.min(), band.max()) for band in bands]
        np.testing.assert_allclose(ends, [(30, 90), (50, 90)])
    only = curve_figure(curve().query("metric == 'pairwise'"))
    assert len(only.axes) == 1


def write_curve(folder: Path, table: pd.DataFrame) -> dict[str, str]:
    path = folder / "curve.tsv"
    table.to_csv(path, sep="\t", index=False, na_rep="n/a")
    return {**LABELS, "roi": "early", "decoder": "together", "path": str(path)}


def test_a_curve_is_read_by_the_names_of_its_columns(tmp_path, topics) -> None:
    mixed = curve(n_runs=3, subject="other", novel="x").sample(frac=1, axis=1, random_state=0)
    read = _Reader(Problems("list")).curves([write_curve(tmp_path, mixed)])
    assert set(CURVE_COLUMNS) < set(read) and set(read["subject"]) == {"subject"}
    (topic,) = topics(curves=read)
    assert topic.blocks[0].title == "Subject subject · early"
    alt = readable(topic.blocks[0].drawing.alt)
    assert "Top-1, ridge: 40.0 % after 2.0 minutes and 50.0 % after 4.0 minutes" in alt
    assert {row[5].text for row in topic.table.rows} == {"ridge", "together", "together - ridge"}


def test_a_curve_without_a_column_is_named_with_it(tmp_path) -> None:
    problems = Problems("list")
    item = write_curve(tmp_path, curve().drop(columns=["minutes", "chance"]))
    assert not len(_Reader(problems).curves([item, {"path": "x"}]))
    with pytest.raises(DataError, match="lacks the columns") as caught:
        problems.raise_if_any()
    message = str(caught.value)
    assert "minutes" in message and "chance" in message and item["path"] in message
    assert "'subject'" in message and "2 problems" in message


def test_curves_of_every_helped_decoder_are_listed(study) -> None:
    options = {"name": "together", "kind": "shared"}
    config = study.model_dump(mode="json") | {
        "decoders": [{"name": "ridge", "kind": "ridge"}, options],
        "calibration_curve": {"enabled": True, "trial_s": 4.0},
    }
    listing = list_results(
        parse_study(config, where="x"), "r", subjects=["01", "02"], backgrounds={}, stimuli=None
    )
    assert len(listing["curves"]) == 2 * 3
    assert listing["curves"][0]["path"] == (
        "r/decode/sub-01/sub-01_roi-visual_split-stimulus_enc-scenes_dec-together_curve.tsv"
    )
    config["calibration_curve"]["enabled"] = False
    study = parse_study(config, where="x")
    off = list_results(study, "r", subjects=["01"], backgrounds={}, stimuli=None)
    assert off["curves"] == []


def lost(left_out: object, decoder: str, loss: float) -> dict[str, object]:
    row = {"left_out": left_out, "n_voxels": 10.0, "out_of_fold_pairwise": 0.8, "pairwise": 0.7}
    ends = {"loss": loss, "loss_ci_low": loss - 0.1, "loss_ci_high": loss + 0.15}
    return {**row, **ends, **LABELS, "roi": "visual", "decoder": decoder}


def test_the_loss_without_a_region_is_drawn_with_its_interval(topics, drawn) -> None:
    table = pd.DataFrame(
        [lost(np.nan, "ridge", 0.0), lost("early", "ridge", 0.2), lost("higher", "ridge", -0.05)]
    )
    (topic,) = topics(importance=table)
    assert [row[4].text for row in topic.table.rows] == ["–", "early", "higher"]
    (axis,) = drawn[0].axes
    assert [t.get_text() for t in axis.get_yticklabels()] == ["without early", "without higher"]
    values = [x for x, _ in points_of(axis, "o")]
    np.testing.assert_allclose(values, [20, -5])
    intervals = [line.get_xdata() for line in axis.lines if line.get_linewidth() == 2.6]
    np.testing.assert_allclose([list(x) for x in intervals if len(x)], [[10, 35], [-15, 10]])
    references = [line.get_xdata() for line in axis.lines if line.get_linewidth() == 2.2]
    assert all(list(x) == [0, 0] for x in references if len(x))
    low, high = axis.get_xlim()
    assert low < -15 and 35 < high < 60
    alt = readable(topic.blocks[0].drawing.alt)
    assert "without early, ridge 20.0 (10.0 to 35.0)" in alt


def test_topics_come_in_order_and_what_was_not_measured_is_left_out(topics) -> None:
    found = topics(
        importance=pd.DataFrame([lost("early", "ridge", 0.1)]),
        comparison=COMPARED,
        bottleneck=pd.DataFrame(),
        curves=curve(**{**LABELS, "roi": "early", "fitted": "together"}),
    )
    assert [topic.title for topic in found] == [
        "Which decoder",
        "How many minutes of data",
        "Without one region",
    ]
    for topic in found:
        svg = topic.blocks[0].drawing.svg
        assert svg.startswith("<svg") and not re.search(r"#0[a0][0-9a0]{4}", svg)


def test_settings_are_drawn_apart(order, study) -> None:
    order.names["split"] = ("run", "category")
    rows = [{**row, "split": split} for split in ("category", "run") for row in ranked("early", 0)]
    (topic,) = decoding_topics({"bottleneck": pd.DataFrame(rows)}, order, Studio(), study=study)
    assert [(block.title, block.folded) for block in topic.blocks] == [
        ("Accuracy against rank: split run", False),
        ("Accuracy against rank: split category", True),
    ]


def test_methods_tell_what_was_measured_and_nothing_else(study) -> None:
    config = study.model_dump(mode="json")
    assert len(describe_measures(study, Citations())) == 2
    surface = readable(describe_measures(study, Citations())[1])
    assert "Decoders (ridge) were fitted again on 12.5 %, 25.0 %, 50.0 %, 100.0 %" in surface
    config["surface"]["enabled"] = False
    alone = parse_study({**config, "decoders": config["decoders"][:1]}, where="x")
    assert describe_measures(alone, Citations()) == []
    config |= {
        "decoders": [*config["decoders"], {"name": "together", "kind": "shared"}],
        "bottleneck": {"enabled": True, "ranks": [1, 7], "n_bootstrap": 555, "confidence": 0.9},
        "importance": {"enabled": True, "roi": "visual", "parts": ["early", "higher"]},
        "calibration_curve": {"enabled": True, "trial_s": 4.5},
    }
    cite = Citations()
    text = readable(" ".join(describe_measures(parse_study(config, where="x"), cite)))
    assert "no test score had a part" in text and "ranks of 1, 7" in text
    assert "(90 %) are percentiles of 555" in text and "times 4.5 s" in text
    assert "ROI visual were fitted again without the voxels of early, higher" in text
    assert any("BrainBits" in work for work in cite.references)
    config["calibration_curve"] = {"enabled": True}
    text = " ".join(describe_measures(parse_study(config, where="x"), Citations()))
    assert "minutes are those that its runs with training trials took." in text


@pytest.mark.parametrize(
    ("options", "wanted", "unwanted"),
    [
        ({}, ["trained, and whose choices were made, without the fold"], ["epochs", "optimistic"]),
        ({"cross_fit": False}, ["had a part in these choices"], ["cross-fitted", "optimistic"]),
        ({"loss": "softclip"}, [], ["Scotti"]),
        (
            {"loss": "softclip", "max_epochs": 7, "cross_fit": False},
            ["(at most 7)", "models were stopped, and optimistic", "Scotti"],
            ["cross-fitted"],
        ),
    ],
)
def test_methods_tell_how_contrastive_decoders_choose(options, wanted, unwanted) -> None:
    cite = Citations()
    config = ContrastiveConfig(**options)
    text = " ".join([_contrastive(config, cite), *cite.references])
    assert "one penalty for all dimensions" in text
    assert all(part in text for part in wanted)
    assert not any(part in text for part in unwanted)


def test_the_page_has_a_part_about_decoders_where_any_was_measured(decoded, words, parse) -> None:
    page = parse(decoded[1])
    (part,) = [
        section for section in page.find("section") if section.attributes["id"] == "decoders"
    ]
    assert [head.text for head in part.find("h3")] == [
        "Which decoder",
        "Through how narrow a bottleneck",
        "How many minutes of data",
        "Without one region",
    ]
    assert len(part.find("figure")) == len(part.find("table")) == 4
    for plot in part.find("div", "plot"):
        assert plot.attributes["role"] == "img" and len(plot.attributes["aria-label"]) > 60
    links = [link.attributes["href"] for link in page.find("nav")[0].find("a")]
    assert "#decoders" in links
    assert not parse(words[1]).find("section", id="decoders")
