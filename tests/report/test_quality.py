"""The quality of the runs on the page: grouped, marked in words, the worst run open."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import matplotlib.colors
import numpy as np
import pytest
from PIL import Image

from braindecode_clip.config.report import ReportConfig
from braindecode_clip.report import theme
from braindecode_clip.report.quality import grouped_warnings, quality_part, quality_table
from braindecode_clip.report.run_figure import run_figure
from braindecode_clip.report.sections import Studio


@pytest.fixture(scope="session")
def section(full, parse):
    (found,) = parse(full[1]).find("section", id="quality")
    return found


def test_warnings_stand_once_with_the_runs_that_have_them(section):
    items = section.find("ul", "notes")[0].children
    heads = [item.find("strong")[0].text for item in items]
    assert heads == [
        "Problem: High motion",
        "Problem: Collinear trials",
        "Warning: Many censored volumes",
    ]
    assert "in 2 of 4 runs" in items[0].text and "in 1 of 4 runs" in items[1].text
    assert re.search(r"sub-01 ses-1 run-3: mean displacement 0\.\d\d mm", items[0].text)
    assert "sub-01 ses-1 run-1" not in items[0].text
    assert "Space the trials further apart" in items[1].text


def test_numbers_beyond_a_limit_say_so_in_words(section):
    (table,) = section.find("table")
    heads = [head.text for head in table.find("thead")[0].find("th")]
    rows = table.find("tbody")[0].find("tr")
    by_run = {row.children[1].text: dict(zip(heads, row.children, strict=True)) for row in rows}
    assert list(by_run) == ["1", "2", "3", "4"]
    marked = {
        (run, head)
        for run, cells in by_run.items()
        for head, cell in cells.items()
        if "clear" in cell.classes
    }
    assert marked == {
        *(("2", "FD (mm): mean, max"), ("2", "FD > 0.5 mm (%)")),
        *(("3", "FD (mm): mean, max"), ("3", "FD > 0.5 mm (%)"), ("3", "Censored (%)")),
        ("3", "VIF: median, worst"),
    }
    for run, head in marked:
        assert re.search(r"\d high", by_run[run][head].text)
    assert by_run["3"]["VIF: median, worst"].text == "9.0 high 18.0 high"
    assert by_run["1"]["VIF: median, worst"].text == "1.4 2.8"
    assert by_run["1"]["tSNR"].text == "60.0"
    assert by_run["3"]["Efficiency (%)"].text == "11.1"
    assert by_run["1"]["df left"].text == "99"


def test_each_run_has_a_figure_and_the_worst_is_open(section):
    titles = {
        item.find("summary")[0].text: item
        for item in section.find("details")
        if item.find("figure", "panel")
    }
    assert list(titles) == [
        "sub-01 ses-1 run-1: no warnings",
        "sub-01 ses-1 run-2: high motion",
        "sub-01 ses-1 run-3: high motion, collinear trials, many censored volumes",
        "sub-01 ses-1 run-4: no warnings",
    ]
    opened = [title for title, item in titles.items() if "open" in item.attributes]
    assert len(opened) == 1 and "run-3" in opened[0]
    alt = titles[opened[0]].find("div", "plot")[0].attributes["aria-label"]
    assert re.search(r"mean displacement 0\.\d\d mm, .* 20 trials; \d+ of 120 volumes", alt)
    texts = {text.text for text in titles[opened[0]].find("text")}
    assert {"time in the run (s)", "displacement", "(mm)", "limit 0.5 mm"} <= texts
    assert "censored volume" in texts
    assert "censored volume" not in titles["sub-01 ses-1 run-1: no warnings"].text


def test_a_study_without_records_has_no_such_part(words, parse):
    document = parse(words[1])
    assert not document.find("section", id="quality")
    assert "#quality" not in {a.attributes["href"] for a in document.find("a")}


def test_clean_runs_are_said_to_be_clean(make_run):
    runs = [make_run("01", "1", motion_mm=0.1), make_run("01", "4", motion_mm=0.1)]
    assert grouped_warnings(runs) == []
    part = quality_part(runs, ReportConfig(), Studio())
    assert [figure["open"] for figure in part["figures"]].count(True) == 1


def test_only_the_runs_most_in_need_are_drawn(make_run):
    motion_mm = {"1": 0.1, "2": 0.2, "3": 0.9, "4": 0.3}
    runs = [make_run("01", run, motion_mm=mm) for run, mm in motion_mm.items()]
    part = quality_part(runs, ReportConfig(quality_runs=2), Studio())
    titles = [figure["title"].split(":")[0] for figure in part["figures"]]
    assert titles == ["sub-01 ses-1 run-3", "sub-01 ses-1 run-4"]
    assert "2 of 4 runs are drawn" in part["left_out"]
    assert "'sub-01 ses-1 run-1', 'sub-01 ses-1 run-2'" in part["left_out"]
    none = quality_part(runs, ReportConfig(quality_runs=0), Studio())
    assert none["figures"] == [] and none["tables"][0].rows


def test_what_is_not_known_is_a_dash_and_never_a_limit(make_run):
    run = make_run("01", "1", motion_mm=0.1)
    unknown = replace(run, numbers=dict.fromkeys(run.numbers), session="")
    table = quality_table("01", [unknown])
    assert table.columns[0] == "Run" and table.n_heads == 1
    assert {cell.text for cell in table.rows[0][1:]} == {"–"}
    assert not any(cell.clear or cell.detail for cell in table.rows[0])


def test_a_picture_alone_has_the_colours_of_the_light_page(make_run):
    pixels = np.asarray(
        Image.open(io.BytesIO(theme.to_png(run_figure(make_run("01", "3", motion_mm=0.7)))))
    )[..., :3]
    colours = {tuple(int(v) for v in colour) for colour in pixels.reshape(-1, 3)[::7]}
    for name in (theme.SERIES[0], theme.SERIES[2], theme.SERIES[3], theme.MUTED, theme.GRID):
        light = tuple(round(255 * v) for v in matplotlib.colors.to_rgb(theme.LIGHT[name]))
        assert light in colours, name
    assert (255, 255, 255) in colours
    # Pure stand-ins are nearly black and occur nowhere outside the carpet's own greys.
    stand_ins = {tuple(round(255 * v) for v in matplotlib.colors.to_rgb(s)) for s in theme.SERIES}
    assert not colours & stand_ins


def test_the_light_colours_are_those_of_the_page():
    style = Path(theme.__file__).with_name("templates").joinpath("style.css").read_text()
    light = dict(re.findall(r"--([\w-]+): (#\w{6});", style.split("}")[0]))
    names = {
        **{theme.INK: "ink", theme.MUTED: "muted", theme.GRID: "grid"},
        **{theme.PAPER: "card", theme.CHANCE: "chance"},
        **{colour: f"series-{i}" for i, colour in enumerate(theme.SERIES, start=1)},
    }
    assert {stand_in: light[name] for stand_in, name in names.items()} == theme.LIGHT


def test_a_run_without_motion_or_moving_voxels_can_be_drawn(make_run):
    run = make_run("01", "1", motion_mm=0.1)
    volumes = run.volumes.assign(framewise_displacement=np.nan, dvars_standardised=np.nan)
    bare = replace(run, volumes=volumes, carpet=run.carpet[:0], trials=run.trials.iloc[:0])
    svg = theme.to_svg(run_figure(bare), key="f1")
    assert "not known: no motion parameters" in svg and "no voxel varies" in svg


def test_one_trial_beyond_the_limit_is_marked(make_run):
    run = make_run("01", "1", motion_mm=0.1)
    table = quality_table("01", [replace(run, numbers={**run.numbers, "vif_max": 10.5})])
    (cell,) = [cell for cell in table.rows[0] if cell.clear]
    assert cell.text == "1.4" and cell.detail.split() == ["10.5", "high"]
    shrunken = {**run.numbers, "vif_max": 10.5, "shrunken": True}
    table = quality_table("01", [replace(run, numbers=shrunken)])
    assert not [cell for cell in table.rows[0] if cell.clear]


def test_figures_stay_small(make_run):
    run = make_run("01", "1", motion_mm=0.1)
    long = replace(
        run,
        volumes=run.volumes.loc[np.arange(1200) % 120].assign(time_s=np.arange(1200.0)),
        carpet=np.random.default_rng(0).integers(-126, 127, (600, 1200)).astype(np.int8),
    )
    assert len(theme.to_svg(run_figure(long), key="f1")) < 150_000
