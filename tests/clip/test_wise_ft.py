"""Mixtures of two models: their weights, their figures, and how one of them is chosen."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from pair_files import write_table
from PIL import Image
from safetensors.numpy import load_file
from scipy import stats

from braindecode_clip.cli.main import main
from braindecode_clip.clip.data import Pairs
from braindecode_clip.clip.encoders import load_encoder
from braindecode_clip.clip.models import CONFIG_FILE, WEIGHTS_FILE, open_clip
from braindecode_clip.clip.recall import pooled_recall
from braindecode_clip.clip.train import Trainer
from braindecode_clip.clip.wise_ft import chosen_alpha, read_ends, write_mixed
from braindecode_clip.errors import DataError

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 50, 210)}


def trained(recipe, pairs, folder, **options):
    trainer = Trainer(recipe, pairs, validation=pairs, state_dir=folder / "state", **options)
    trainer.run(stop_after=3)
    trainer.export(folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def words():
    return [
        "red",
        "green",
        "blue",
        "dark",
        "light",
        "stripe",
        "left",
        "right",
        "a",
        "picture",
        "of",
        "thing",
        "is",
    ]


@pytest.fixture
def models(tiny_recipe, words, tmp_path):
    """A model and what a few steps made of it."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    captions = [[" ".join(rng.permutation(words))] for _ in range(16)]
    pairs = Pairs(images, captions)
    content = tiny_recipe.model_dump()
    content["model"]["text_cfg"]["context_length"] = 12
    content["training"]["epochs"] = 2
    recipe = type(tiny_recipe).model_validate(content)
    before = trained(recipe, pairs, tmp_path / "before")
    after = trained(
        recipe.model_copy(update={"seed": 9}), pairs, tmp_path / "after", initial=before
    )
    return before, after


def weights(folder):
    return load_file(folder / WEIGHTS_FILE)


def test_the_ends_are_the_two_models_to_the_bit(models):
    ends = read_ends(*models)
    for alpha, folder in zip((0, 1), models, strict=True):
        own, mixed = weights(folder), ends.mixed(alpha)
        assert own.keys() == mixed.keys()
        for name, value in own.items():
            np.testing.assert_array_equal(mixed[name].numpy(), value, err_msg=name)


def test_between_them_weights_and_statistics_are_mixed(models):
    ends, (start, end) = read_ends(*models), map(weights, models)
    mixed = ends.mixed(0.3)
    n_statistics = 0
    for name, a in start.items():
        b = end[name]
        if name.endswith("num_batches_tracked"):
            assert int(mixed[name]) == int(a) != int(b)
            assert int(ends.mixed(0.5)[name]) == int(b)
            continue
        want = 0.7 * a.astype(np.float64) + 0.3 * b.astype(np.float64)
        np.testing.assert_allclose(mixed[name].numpy(), want, rtol=2e-7, atol=1e-12, err_msg=name)
        n_statistics += "running" in name and not np.array_equal(a, b)
    assert n_statistics > 10
    factors = [math.exp(float(state["logit_scale"])) for state in (start, end)]
    got = math.exp(float(mixed["logit_scale"]))
    assert got == pytest.approx(factors[0] ** 0.7 * factors[1] ** 0.3, rel=1e-6)
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(DataError, match="expected 0"):
            ends.mixed(alpha)


def test_a_mixture_is_a_model_that_open_clip_loads(models, tmp_path):
    ends = read_ends(*models)
    write_mixed(tmp_path / "mixed", ends, 0.25, before=models[0], after=models[1])
    loaded = open_clip.create_model(f"local-dir:{tmp_path / 'mixed'}").state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in ends.mixed(0.25).items())
    files = {path.name for path in (tmp_path / "mixed").iterdir()}
    assert files == {WEIGHTS_FILE, CONFIG_FILE, "vocabulary.json", "wise_ft.json"}
    encoder = load_encoder(str(tmp_path / "mixed"), device="cpu")
    ours = load_encoder(str(models[1]), device="cpu")
    ours.model.load_state_dict(ends.mixed(0.25))
    np.testing.assert_array_equal(
        encoder.encode_text(["red thing left"]), ours.encode_text(["red thing left"])
    )
    record = json.loads((tmp_path / "mixed" / "wise_ft.json").read_text("utf-8"))
    assert record == {"alpha": 0.25, "before": "model", "after": "model"}


def test_models_that_do_not_belong_together_are_refused(
    models, tiny_recipe, vit_recipe, make_pairs, tmp_path
):
    pairs = make_pairs(16, 0)
    other = trained(vit_recipe, pairs, tmp_path / "vit")
    with pytest.raises(DataError, match="cannot be mixed") as caught:
        read_ends(models[0], other)
    for part in ("towers differ in", "vision_cfg", "vocabularies differ", "weights of other names"):
        assert part in str(caught.value)
    # A number of heads leaves no trace in the weights.
    config = json.loads((models[1] / CONFIG_FILE).read_text("utf-8"))
    config["model_cfg"]["text_cfg"]["heads"] = 4
    (models[1] / CONFIG_FILE).write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(DataError, match=r"towers differ in text_cfg.heads \(2 and 4\)"):
        read_ends(*models)


def points_of(scores):
    return [
        {
            "alpha": alpha,
            "sets": {
                name: {"image_to_text": {"r1": a}, "text_to_image": {"r1": b}}
                for name, (a, b) in own.items()
            },
        }
        for alpha, own in scores.items()
    ]


def test_the_highest_mean_chooses_and_of_equal_ones_the_lowest_alpha():
    points = points_of(
        {
            0.0: {"d": (0.2, 0.2), "g": (0.9, 0.9)},
            0.5: {"d": (0.7, 0.5), "g": (0.7, 0.7)},
            0.75: {"d": (0.5, 0.7), "g": (0.2, 0.2)},
            1.0: {"d": (0.6, 0.5), "g": (0.1, 0.1)},
        }
    )
    assert chosen_alpha(points, ["d"]) == 0.5
    assert chosen_alpha(points, ["d", "g"]) == 0.5
    assert chosen_alpha(points, ["g"]) == 0.0
    accuracy = [{"alpha": a, "sets": {"d": {"zero_shot": {"accuracy": a}}}} for a in (0.0, 0.4)]
    assert chosen_alpha(accuracy, ["d"]) == 0.4


def coloured(folder, n, seed):
    """Labelled pictures of one colour each; captions for all but the last three."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    lines = ["image,caption,label"]
    for k in range(n):
        name = list(COLOURS)[k % 3]
        noise = rng.integers(-20, 20, (32, 32, 3))
        pixels = np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{k:02d}.png")
        caption = "" if k >= n - 3 else f"a {name} thing {'left' if k % 2 else 'right'}"
        lines.append(f"{k:02d}.png,{caption},{name}")
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "pairs.csv"


def run(models, tmp_path, *more):
    command = ["clip", "wise-ft", "--before", models[0], "--after", models[1]]
    return main([*map(str, command), "--out", str(tmp_path / "out"), *map(str, more)])


def expected(folder, table, *, seed=2026):
    """Figures of one model, read and ranked by itself."""
    encoder = load_encoder(str(folder), device="cpu")
    rows = pd.read_csv(table, keep_default_na=False)
    pictures = [Image.open(table.parent / name) for name in rows["image"]]
    images = encoder.encode_image(pictures)
    has = (rows["caption"] != "").to_numpy()
    captions = rows["caption"][has].to_numpy()
    recall = pooled_recall(
        images[has],
        encoder.encode_text(list(captions)),
        captions,
        rng=np.random.default_rng(seed),
        pool_size=4,
    )
    classes = sorted(set(rows["label"]))
    vectors = encoder.encode_text([f"a picture of a {name}" for name in classes])
    right = np.array(classes)[(images @ vectors.T).argmax(1)] == rows["label"].to_numpy()
    return recall, right


def test_the_table_holds_what_each_end_does_by_itself(models, tmp_path, capsys):
    domain, general = coloured(tmp_path / "d", 18, 1), coloured(tmp_path / "g", 15, 2)
    options = ["--pairs", domain, "--general", general, "--alphas", "1 0.5,0", "--pool-size", 4]
    assert run(models, tmp_path, *options) == 0, capsys.readouterr().err
    table = pd.read_csv(tmp_path / "out" / "wise_ft.csv")
    assert len(table) == 3 * 2 * 3
    for alpha, folder in zip((0, 1), models, strict=True):
        for name, path in (("domain", domain), ("general", general)):
            recall, right = expected(folder, path)
            own = table[(table["alpha"] == alpha) & (table["set"] == name)].set_index("task")
            for task, want in zip(("image_to_text", "text_to_image"), recall, strict=True):
                got = own.loc[task]
                for key, value in (
                    ("value", want.r1),
                    ("low", want.r1_low),
                    ("high", want.r1_high),
                    ("r5", want.r5),
                    ("n", want.n),
                    ("chance", 1 / 4),
                    ("n_candidates", 4),
                ):
                    np.testing.assert_allclose(got[key], value, err_msg=f"{task} {key}")
            got = own.loc["zero_shot"]
            assert (got["value"], got["n"]) == (pytest.approx(right.mean()), len(right))
            assert (got["chance"], got["n_candidates"]) == (pytest.approx(1 / 3), 3)
            interval = stats.binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
            assert (got["low"], got["high"]) == pytest.approx(tuple(interval))
    record = json.loads((tmp_path / "out" / "wise_ft.json").read_text("utf-8"))
    assert record["choice"]["alpha"] is None
    assert "choose on other pairs (--choose-on)" in record["choice"]["note"]
    assert [point["alpha"] for point in record["points"]] == [0, 0.5, 1]
    assert str(tmp_path) not in json.dumps(record)
    assert "No alpha was chosen" in capsys.readouterr().err
    with Image.open(tmp_path / "out" / "wise_ft.png") as figure:
        assert figure.width > 1000
    assert not (tmp_path / "out" / "model").exists()


def test_other_pairs_choose_alpha_and_its_model_is_written(models, tmp_path, capsys):
    domain, deciding = coloured(tmp_path / "d", 12, 1), coloured(tmp_path / "c", 15, 3)
    options = ["--pairs", domain, "--choose-on", deciding, "--alphas", "0 0.25 0.5 0.75 1"]
    assert run(models, tmp_path, *options, "--write", "chosen") == 0, capsys.readouterr().err
    record = json.loads((tmp_path / "out" / "wise_ft.json").read_text("utf-8"))
    scores = {
        p["alpha"]: p["sets"]["choose-on"]["image_to_text"]["r1"]
        + p["sets"]["choose-on"]["text_to_image"]["r1"]
        for p in record["points"]
    }
    best = max(scores, key=lambda alpha: (scores[alpha], -alpha))
    assert record["choice"]["alpha"] == best
    assert record["choice"]["deciding_sets"] == ["choose-on"]
    mixed = read_ends(*models).mixed(best)
    written = weights(tmp_path / "out" / "model")
    assert all(np.array_equal(written[name], value.numpy()) for name, value in mixed.items())
    # One pool has no spread, and JSON has no NaN.
    assert record["points"][0]["sets"]["domain"]["image_to_text"]["r1_low"] is None


def test_pictures_that_choose_and_are_reported_on_are_refused(models, tmp_path, capsys):
    domain, deciding = coloured(tmp_path / "d", 12, 1), coloured(tmp_path / "c", 12, 3)
    copied = (tmp_path / "d" / "04.png").read_bytes()
    (tmp_path / "c" / "07.png").write_bytes(copied)
    assert run(models, tmp_path, "--pairs", domain, "--choose-on", deciding) == 1
    assert "1 of the 12 pictures of 'choose-on' are in 'domain' too" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_splits_of_one_table_choose_and_report(models, tmp_path, capsys):
    table = coloured(tmp_path / "d", 14, 1)
    head, *rows = table.read_text("utf-8").splitlines()
    rows = [f"{row},{'val' if k < 6 else 'test'}" for k, row in enumerate(rows)]
    table.write_text("\n".join([f"{head},split", *rows]) + "\n", encoding="utf-8")
    options = ["--pairs", table, "--split", "test", "--choose-on", table, "--choose-split", "val"]
    assert run(models, tmp_path, *options, "--alphas", "0 1") == 0, capsys.readouterr().err
    record = json.loads((tmp_path / "out" / "wise_ft.json").read_text("utf-8"))
    sets = record["points"][0]["sets"]
    assert {name: own["n_pictures"] for name, own in sets.items()} == {"domain": 8, "choose-on": 6}


def test_options_that_make_no_sense_are_refused_at_once(models, tmp_path, capsys):
    table = write_table(tmp_path / "pairs", 6)
    for options, message in (
        (["--alphas", "0 2"], "expected numbers from 0 to 1"),
        (["--alphas", "half"], "could not convert"),
        (["--write", "chosen"], "nothing chooses"),
        (["--write", "1.5"], "expected a number from 0 to 1"),
        (["--choose-general-on", table], "without --choose-on"),
        (["--choose-split", "val"], "without --choose-on"),
    ):
        assert run(models, tmp_path, "--pairs", table, *options) == 1
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error
    single = coloured(tmp_path / "one", 3, 0)
    rows = single.read_text("utf-8").splitlines()
    single.write_text("\n".join(rows[:2]) + "\n", encoding="utf-8")
    assert run(models, tmp_path, "--pairs", single) == 1
    assert "nothing can be measured" in capsys.readouterr().err
