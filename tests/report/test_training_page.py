"""The page of a training run: its text, its marks, its figures, and its layout in a browser."""

from __future__ import annotations

import re

import numpy as np
import pytest
from headless import BROWSER, MISSING, measure
from PIL import Image

from braindecode_clip.clip.held_out import HeldOut
from braindecode_clip.clip.run_files import Run
from braindecode_clip.clip.run_notes import notes
from braindecode_clip.clip.training_log import LogRow
from braindecode_clip.config.clip import ClipRecipe
from braindecode_clip.report import theme
from braindecode_clip.report.training_examples import (
    N_QUERIES,
    choose_queries,
    image_examples,
    shown_rows,
    text_examples,
)
from braindecode_clip.report.training_figures import Curve, curve_figure, matrix_figure
from braindecode_clip.report.training_page import TrainingPage, build_training_page
from braindecode_clip.report.training_tables import (
    changed_options,
    figure_tables,
    findings,
    log_table,
    run_table,
)
from braindecode_clip.report.training_words import lead, status_text

HOSTILE = '<script>alert("x")</script> & a "circle" $x$'


def make_log(n=30, every=5):
    return [
        LogRow(
            step=10 * (k + 1),
            epoch=0.1 * (k + 1),
            loss=5.0 / (k + 1),
            lr=1e-3 * (1 - k / n),
            logit_scale=14.0 + k,
            grad_norm=3.0,
            val_image_to_text_r1=0.02 * k if k % every == every - 1 else None,
            val_text_to_image_r1=0.01 * k if k % every == every - 1 else None,
            seconds=2.0,
            pairs_per_second=640.0,
        )
        for k in range(n)
    ]


def make_recipe(**training):
    towers = {"vision_cfg": {"image_size": 32, "width": 8}, "text_cfg": {"context_length": 7}}
    options = {"name": "tiny", "seed": 3, "model": towers, "training": training}
    return ClipRecipe.model_validate(options).model_dump(mode="json")


def make_run(*, training=None, log=None, is_model=True, data=None, **record):
    known = {
        "status": "finished",
        "step": 300,
        "n_steps": 300,
        "pairs_per_step": 128,
        "n_pictures": 2000,
        "n_captions": 6000,
        "parameters": {"image_tower": 390_000, "text_tower": 432_000, "total": 822_001},
        "start": {"kind": "fresh weights", "name": None, "weights_sha256": "ab" * 32},
        "versions": {"torch": "2.9"},
    }
    return Run(
        name="tiny",
        recipe=make_recipe(**(training or {})),
        log=make_log() if log is None else log,
        record={**known, **record},
        data=data or {},
        is_model=is_model,
    )


@pytest.fixture(scope="module")
def held_out():
    rng = np.random.default_rng(3)
    texts = rng.standard_normal((40, 8)).astype(np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    images = texts + 0.35 * rng.standard_normal((40, 8)).astype(np.float32)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    captions = [f"a caption of many words about number {k}" for k in range(40)]
    captions[0] = HOSTILE
    return HeldOut(images, texts, tuple(captions), tuple(f"private-{k}.png" for k in range(40)))


@pytest.fixture(scope="module")
def page(held_out):
    queries = choose_queries(held_out)
    pictures = {
        row: Image.new("RGB", (50, 40), (5 * row, 200 - row, 90))
        for row in shown_rows(held_out, queries)
    }
    figures = {"source": "held.csv", "model": held_out.figures()}
    run = make_run(
        held_out=figures,
        data={
            "training": {"source": "train.csv", "n_pictures": 2000, "n_corrupt": 3},
            "validation": {"n_pictures": 40, "n_pictures_in_training": None},
        },
    )
    return TrainingPage(run, figures, held_out, queries, pictures)


@pytest.fixture(scope="module")
def text(page):
    return build_training_page(page)


def test_the_page_is_well_formed_and_fetches_nothing(page, text, parse):
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
    assert "<script" not in text and "&lt;script&gt;" in text
    # What a picture's file is called may tell of a person.
    assert "private-" not in text
    assert [e.text for e in document.find("nav")[0].find("a")] == [
        "Result",
        "Curves",
        "Similarity",
        "Examples",
        "Data",
        "Recipe",
        "Run",
    ]
    assert build_training_page(page) == text


def test_headlines_and_table_say_value_chance_interval_and_n(held_out, text, parse):
    figures = {"model": held_out.figures()}
    to_text, to_image = findings(figures)
    own = figures["model"]["pools"]["image_to_text"]["r1"]
    assert to_text["percent"] == pytest.approx(100 * own["value"])
    assert (to_text["low"], to_text["high"]) == (100 * own["low"], 100 * own["high"])
    assert to_text["chance"] == pytest.approx(2.5)
    assert "of 40 held-out pictures find their caption first among 40" in to_text["sentence"]
    assert "of 40 held-out captions find their picture first" in to_image["sentence"]
    (table,) = figure_tables(figures)
    r5 = next(row for row in table.rows if row[1].text == "R@5")
    wanted = figures["model"]["image_to_text"]["r5"]
    assert r5[2].text == f"{100 * wanted['value']:.1f}\u202f%" and r5[2].clear
    assert r5[3].text == f"{100 * wanted['low']:.1f}\u202f% to {100 * wanted['high']:.1f}\u202f%"
    assert [cell.text for cell in r5[4:]] == ["12.50\u202f%", "40", "40"]
    median = next(row for row in table.rows if row[1].text == "median rank")
    assert median[4].text == "20.5"
    document = parse(text)
    terms = [e.text for e in document.find("section", id="results")[0].find("dt")]
    assert terms == ["R@k", "picture → caption", "caption → picture", "in pools", "ties"]


def test_bold_is_only_what_lies_above_chance(held_out):
    figures = {"model": held_out.figures()}
    figures["model"]["image_to_text"]["r1"] = {"value": 0.3, "low": 0.1, "high": 0.5, "chance": 0.2}
    (table,) = figure_tables(figures)
    r1 = next(row for row in table.rows if row[1].text == "R@1")
    assert not r1[2].clear


def test_examples_mark_right_and_wrong_and_show_the_worst(held_out):
    queries = choose_queries(held_out)
    ranks = held_out.text_ranks()
    assert set(queries.images_missed) <= set(np.flatnonzero(ranks > 1).tolist())
    assert len(queries.images_missed) == N_QUERIES
    assert min(ranks[list(queries.images_missed)]) >= np.sort(ranks)[-N_QUERIES]
    assert not set(queries.images_drawn) & set(queries.images_missed)
    rows = (*queries.images_drawn, *queries.images_missed)
    for row, example in zip(rows, image_examples(held_out, rows, ranks, {}), strict=True):
        cosines = held_out.texts @ held_out.images[row]
        assert example["is_right"] == (cosines.argmax() == row)
        assert example["rank"] == f"rank {1 + (cosines > cosines[row]).sum()} of 40"
        marked = [c["text"] for c in example["candidates"] if c["true"]]
        shown = [held_out.captions[k] for k in np.argsort(-cosines)[:5]]
        assert [c["text"] for c in example["candidates"]] == shown
        assert marked == ([held_out.captions[row]] if held_out.captions[row] in shown else [])
        assert bool(example["missed"]) == (not marked)
    numbers = (*queries.texts_drawn, *queries.texts_missed)
    examples = text_examples(held_out, numbers, queries.image_ranks, {})
    for number, example in zip(numbers, examples, strict=True):
        row = held_out.first_of_caption[number]
        cosines = held_out.images @ held_out.texts[row]
        assert example["is_right"] == (cosines.argmax() == row)
        shown = np.argsort(-cosines)[:5]
        assert [c["true"] for c in example["candidates"]] == [k == row for k in shown]
    wanted = {*rows} | {k for n in numbers for k, _ in held_out.nearest_images(n, 5)}
    assert set(shown_rows(held_out, queries)) == wanted


def test_the_page_shows_each_example_with_its_picture_and_its_mark(page, text, parse):
    examples = parse(text).find("section", id="examples")[0]
    verdicts = [e.text for e in examples.find("p", "verdict")]
    assert len(verdicts) == 4 * N_QUERIES
    assert {v.split(",")[0] for v in verdicts} == {"✓ right", "✗ wrong"}
    # One picture for a picture's query, five for a caption's.
    assert len(examples.find("svg", "picture")) == 2 * N_QUERIES * (1 + 5)
    answers = examples.find("ol", "answers")
    assert len(answers) == 2 * N_QUERIES
    assert all(len(answer.find("li")) == 5 for answer in answers)


def test_a_model_without_misses_says_so(parse):
    eye = np.eye(8, dtype=np.float32)
    captions = tuple(f"caption {k}" for k in range(8))
    perfect = HeldOut(eye, eye, captions, captions)
    figures = {"source": "x", "model": perfect.figures()}
    page = TrainingPage(make_run(log=[]), figures, perfect, choose_queries(perfect))
    said = parse(build_training_page(page)).find("section", id="examples")[0].text
    assert "every picture found its caption first" in said
    assert "every caption found its picture first" in said
    assert "Pictures were left out of this page" in said


def test_unfinished_runs_are_shown_as_such(parse):
    run = make_run(status="unfinished", step=0, is_model=False, log=make_log(12))
    document = parse(build_training_page(TrainingPage(run, None)))
    (status,) = document.find("p", "status")
    assert "step 120 of 300" in status.text and "no model yet" in status.text
    assert "the run has not ended" in document.find("section", id="results")[0].text
    done = make_run(is_model=False)
    said = (
        parse(build_training_page(TrainingPage(done, None))).find("section", id="results")[0].text
    )
    assert "the folder of the model" in said
    assert not document.find("section", id="examples") and not document.find("section", id="matrix")
    empty = make_run(status="unfinished", step=0, is_model=False, log=[])
    document = parse(build_training_page(TrainingPage(empty, None)))
    assert not document.find("section", id="curves")
    stopped = make_run(status="interrupted", step=37, is_model=False)
    assert status_text(stopped).startswith("Interrupted at step 300 of 300")
    assert status_text(make_run()) == ""


def test_early_stops_name_the_weights_that_were_kept(parse, monkeypatch):
    marked = []

    def draw(curve, steps, *, best_step=None):
        marked.append(best_step)
        return curve_figure(curve, steps, best_step=best_step)

    monkeypatch.setattr("braindecode_clip.report.training_page.curve_figure", draw)
    training = {"early_stop_patience": 2}
    run = make_run(status="stopped early", step=300, n_steps=900, best_step=150, training=training)
    said = status_text(run)
    assert "Stopped early at step 300 of 900" in said and "step 150" in said
    assert any("chosen by retrieval on the held-out pairs" in note for note in notes(run, None))
    document = parse(build_training_page(TrainingPage(run, None)))
    # A stroke in every panel.
    assert document.text.count("weights kept") == 6
    assert marked == 6 * [150]


def test_notes_tell_what_makes_figures_too_good_or_too_poor(held_out):
    data = {
        "training": {"n_captions": 6000, "n_captions_truncated": 7, "n_corrupt": 2},
        "validation": {
            "n_pictures": 40,
            "n_captions": 80,
            "n_pictures_in_training": 3,
            "n_first_captions_in_training": 5,
            "n_captions_with_unknown_words": 9,
            "notes": ["1 row without a caption"],
        },
    }
    figures = {"model": held_out.figures()}
    log = [*make_log(2), LogRow(300, 1.0, 1.0, 0.1, 100.0, 1.0, None, None, 1.0)]
    found = notes(make_run(data=data, log=log), figures)
    for said in (
        "3 of 40 held-out pictures are also training pictures",
        "5 of 40 held-out first captions also stand",
        "7 of 6\u202f000 training captions are longer",
        "2 corrupt training pictures were replaced",
        "9 of 80 held-out captions hold words",
        "held-out: 1 row without a caption",
        "logit_scale has reached its limit of 100",
        "a single pool of 40",
    ):
        assert sum(said in note for note in found) == 1, said
    assert len(found) == 8
    assert notes(make_run(), None) == []


def test_the_lead_says_what_was_trained_from_what():
    assert lead(make_run()) == (
        "A CLIP model of 0.82 million weights, from fresh weights, trained on 2\u202f000 pictures "
        "with 6\u202f000 captions: 300 of 300 steps of 128 pairs."
    )
    start = {"kind": "model folder", "name": "scenes", "weights_sha256": "ab"}
    assert "started from the model folder “scenes”" in lead(make_run(start=start))
    assert lead(Run("old", {}, make_log(3), is_model=True)) == "A CLIP model, 30 steps."


def test_only_options_that_differ_are_listed(parse):
    recipe = make_recipe(batch_size=64, false_negatives_by=["caption", "picture"])
    rows = {row[0].text: (row[1].text, row[2].text) for row in changed_options(recipe).rows}
    assert rows == {
        "seed": ("3", "0"),
        "model.embed_dim": ("128", "–"),
        "model.quick_gelu": ("false", "–"),
        "model.vision_cfg.image_size": ("32", "–"),
        "model.vision_cfg.width": ("8", "–"),
        "model.text_cfg.context_length": ("7", "–"),
        "training.batch_size": ("64", "128"),
        "training.false_negatives_by": ("caption, picture", "caption"),
    }


def test_tables_of_the_log_and_of_the_run():
    table = log_table(make_log(30))
    assert len(table.rows) == 30 and table.caption == "The log"
    long = log_table(make_log(1000, every=5))
    assert len(long.rows) == 100 and "of 1\u202f000 rows" in long.caption
    # The last row and held-out retrieval are among what is left.
    assert long.rows[-1][0].text == "10\u202f000"
    assert all(row[6].text != "–" for row in long.rows)
    facts = {row[0].text: row[1].text for row in run_table(make_run()).rows}
    assert facts["Time of all steps"] == "1\u202fmin 00\u202fs"
    assert facts["Time of a step"] == "0.200 s"
    assert facts["Pairs per second"] == "640 (median over the log)"
    assert facts["Weights of the image tower"] == "390\u202f000"
    assert "Teacher" not in facts


def test_curves_draw_the_numbers_and_the_chance_line():
    curve = Curve("R", "%", {"a": [None, 0.25, 0.5], "b": [0.1, None, 0.2]}, (0.01, "chance"), True)
    (axis,) = curve_figure(curve, [1, 2, 3], best_step=2).axes
    lines = {line.get_label(): np.array(line.get_data()) for line in axis.lines}
    np.testing.assert_allclose(lines["a"], [[2, 3], [25, 50]])
    np.testing.assert_allclose(lines["b"], [[1, 3], [10, 20]])
    assert lines["chance"][1].tolist() == [1, 1]
    assert lines["weights kept"][0].tolist() == [2, 2]


def test_curves_of_a_running_mean_say_so(text):
    assert "running mean" not in text
    run = make_run(training={"ema_decay": 0.9})
    assert "Measured on the running mean of the weights." in build_training_page(
        TrainingPage(run, None)
    )


def test_scales_begin_at_zero_where_asked_and_chance_is_that_of_the_pools():
    for is_from_zero, low in ((True, 0), (False, 9.9)):
        curve = Curve("S", "", {"a": [10.0, 12.0]}, is_from_zero=is_from_zero)
        (axis,) = curve_figure(curve, [1, 2]).axes
        assert axis.get_ylim()[0] == pytest.approx(low)
        assert axis.lines[0].get_ydata().tolist() == [10, 12]
    text = build_training_page(TrainingPage(make_run(n_pool_candidates=50), None))
    assert "chance, 2.0\u202f%" in text
    assert "chance, " not in build_training_page(TrainingPage(make_run(), None))


def test_the_loss_of_guessing_is_that_of_the_contrasted_pairs(text):
    assert "guessing, ln 128" in text
    sigmoid = TrainingPage(make_run(training={"loss": "siglip"}), None)
    assert "guessing" not in build_training_page(sigmoid)


def test_the_matrix_is_drawn_cell_by_cell():
    similarity = np.array([[1.0, 0.0, 0.5], [0.25, 1.0, 0.0], [0.0, 0.75, 0.5]])
    figure = matrix_figure(similarity, ["short", "a$b$c", "word " * 20])
    axis = figure.axes[0]
    (image,) = axis.images
    shown = image.get_array()
    np.testing.assert_allclose(shown[..., 3], similarity, atol=1e-12)
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels[0] == "short  1" and len(labels[2]) < 48 and labels[2].endswith("…  3")
    assert labels[1] == r"a\$b\$c  2"
    numbered = matrix_figure(similarity, None)
    assert [t.get_text() for t in numbered.axes[0].get_yticklabels()] == ["1", "2", "3"]
    with theme.style():
        svg = theme.to_svg(figure, key="f1")
    assert "data:image/png" in svg


def test_the_pairs_of_the_matrix_name_the_caption_nearest_to_each_picture(held_out, text, parse):
    section = parse(text).find("section", id="matrix")[0]
    rows = held_out.sample(32)
    cosines = held_out.images[rows] @ held_out.texts[rows].T
    found = [[cell.text for cell in row.find("td")] for row in section.find("tr")[1:]]
    assert len(found) == 32
    for k, (caption, cosine, nearest) in enumerate(found):
        best = int(cosines[k].argmax())
        assert caption == " ".join(held_out.captions[rows[k]].split())
        assert float(cosine.replace("−", "-")) == pytest.approx(cosines[k, k], abs=6e-4)
        assert nearest == "its own" if best == k else nearest.startswith(f"{best + 1}: ")
    n_right = int((cosines.argmax(axis=1) == np.arange(32)).sum())
    assert 0 < n_right < 32 and f"the nearest of {n_right} pictures" in section.text
    # From the captions' side another number is right.
    assert n_right != int((cosines.argmax(axis=0) == np.arange(32)).sum())


def test_without_captions_the_page_tells_none(held_out, parse):
    figures = {"source": "x", "model": held_out.figures()}
    page = TrainingPage(make_run(), figures, held_out, with_captions=False)
    text = build_training_page(page)
    assert "a caption of many words" not in text
    document = parse(text)
    assert document.find("section", id="matrix") and not document.find("section", id="examples")


SCRIPT = """(() => {
const size = e => { const r = e.getBoundingClientRect(); return Math.min(r.width, r.height); };
document.querySelectorAll("details").forEach(e => { e.open = true; });
return {
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  pictures: [...document.querySelectorAll("svg.picture")].map(size),
  curves: [...document.querySelectorAll(".curves svg")].map(size),
  rows: [...document.querySelectorAll("#data tbody tr, #run tbody tr")].map(
    e => e.getBoundingClientRect().height),
}; })()"""


@pytest.mark.skipif(BROWSER is None, reason=MISSING)
@pytest.mark.parametrize("width_px", [1200, 400])
def test_layout_in_a_browser(text, width_px, tmp_path):
    found, complaints = measure(text, SCRIPT, width_px=width_px, folder=tmp_path)
    assert not complaints
    assert found["overflow"] <= 0
    assert len(found["curves"]) == 6 and min(found["curves"]) > 120
    assert min(found["pictures"]) > 30
    # No cell is squeezed to a letter's width.
    assert max(found["rows"]) < 120
