from __future__ import annotations

import csv
import itertools
import json
import math

import numpy as np
import pytest
from PIL import Image

from braindecode_clip.cli.main import main
from braindecode_clip.clip.evaluation import ZeroShotTask
from braindecode_clip.clip.forgetting import (
    ModelOnSet,
    class_measures,
    compare_on_set,
    with_verdicts,
)
from braindecode_clip.clip.grouped_recall import Captioned
from braindecode_clip.clip.probe import linear_probe
from braindecode_clip.clip.score import differences, mean_measure, scored
from braindecode_clip.seeds import make_rng

WORDS = [f"word{k}" for k in range(6)]


class Prompts:
    """An encoder whose prompts have the vectors of the classes that they name."""

    def __init__(self, vectors):
        self.vectors = vectors

    def encode_text(self, texts):
        rows = [next(k for k, word in enumerate(WORDS) if word in text) for text in texts]
        return self.vectors[rows].astype(np.float32)


def unit_rows(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def make_model(rng, base, texts, image_of_text, captions, classes, noise, *, files):
    images = unit_rows(base + noise * rng.standard_normal(base.shape)).astype(np.float32)
    captioned = Captioned.of(images, texts, image_of_text, captions, pictures=files)
    return ModelOnSet(Prompts(classes), images, captioned)


@pytest.fixture(scope="module")
def compared():
    """A model, and the same with more noise on its pictures."""
    rng = np.random.default_rng(0)
    n = 90
    classes = unit_rows(rng.standard_normal((6, 16)))
    label = rng.integers(0, 6, n)
    base = unit_rows(classes[label] + 0.9 * rng.standard_normal((n, 16)))
    image_of_text = np.repeat(np.arange(n), 2)
    texts = unit_rows(base[image_of_text] + 0.1 * rng.standard_normal((2 * n, 16)))
    captions = [f"c{k % 170}" for k in range(2 * n)]
    files = np.array([f"f{k}" for k in range(n)])
    shared = (base, texts, image_of_text, captions, classes)
    models = [make_model(rng, *shared, noise, files=files) for noise in (0.15, 0.5)]
    tasks = {"label": ZeroShotTask(np.arange(n), [WORDS[k] for k in label], WORDS, ["a {}"])}
    rows = compare_on_set(*models, tasks, files, seed=1, n_bootstrap=500, n_permutations=999)
    return rows, models, label, classes


def row_of(rows, kind, metric):
    return next(row for row in rows if (row["kind"], row["metric"]) == (kind, metric))


def test_figures_are_those_of_each_model(compared):
    rows, models, label, classes = compared
    hits = [np.argmax(model.images @ classes.T, axis=1) == label for model in models]
    row = row_of(rows, "zero_shot label", "top_1")
    assert (row["before"], row["after"]) == pytest.approx([own.mean() for own in hits])
    assert row["difference"] == pytest.approx(row["after"] - row["before"])
    assert (row["chance_before"], row["n"], row["n_resampled"]) == (pytest.approx(1 / 6), 90, 90)
    per_class = [np.mean([own[label == k].mean() for k in range(6)]) for own in hits]
    row = row_of(rows, "zero_shot label", "mean_per_class_top_1")
    assert (row["before"], row["after"]) == pytest.approx(per_class)
    for k, name in enumerate(("before", "after")):
        data = models[k].captioned
        similarity = data.images.astype(float) @ data.texts.T
        words = [f"c{t % 170}" for t in range(180)]
        hits = [
            words[t] in [words[2 * i], words[2 * i + 1]]
            for i, t in enumerate(similarity.argmax(axis=1))
        ]
        assert row_of(rows, "image_to_text", "r1")[name] == pytest.approx(np.mean(hits))


def test_probes_of_both_models_answer_the_same_pictures(compared):
    _, models, label, _ = compared
    task = ZeroShotTask(np.arange(90), [WORDS[k] for k in label], WORDS, ["a {}"])
    is_test = np.arange(90) % 3 == 0
    files = np.array([f"f{k // 2}" for k in range(90)])
    rows = compare_on_set(
        *models, {"label": task}, files, seed=1, probe_tests={"label": is_test}, n_bootstrap=100
    )
    row, names = row_of(rows, "probe label", "top_1"), np.array(task.labels)
    for model, value in zip(models, (row["before"], row["after"]), strict=True):
        want = linear_probe(
            model.images[~is_test],
            names[~is_test].tolist(),
            model.images[is_test],
            names[is_test].tolist(),
            rng=make_rng(1, "probe", "label"),
            n_bootstrap=100,
        )
        assert value == pytest.approx(want.metrics.set_index("metric").loc["top_1", "value"])
    assert (row["n"], row["n_resampled"]) == (30, 30)


def test_noise_costs_what_it_must(compared):
    rows = with_verdicts(compared[0])
    for kind in ("image_to_text", "text_to_image"):
        row = row_of(rows, kind, "r1")
        assert row["verdict"] == "lost"
        assert row["ci_low"] <= row["difference"] <= row["ci_high"] < 0
        assert row["p"] == pytest.approx(0.001)
    gap = row_of(rows, "geometry", "cosine_true")
    assert gap["verdict"] == "fell"
    assert math.isnan(gap["p"])
    assert math.isnan(gap["q"])
    assert math.isfinite(row_of(rows, "geometry", "image_effective_rank")["ci_low"])


def test_a_model_against_itself_has_no_difference(compared):
    _, models, label, _ = compared
    tasks = {"label": ZeroShotTask(np.arange(90), [WORDS[k] for k in label], WORDS, ["a {}"])}
    files = np.array([f"f{k}" for k in range(90)])
    rows = with_verdicts(
        compare_on_set(models[0], models[0], tasks, files, seed=1, n_bootstrap=100)
    )
    assert {row["verdict"] for row in rows} == {"same"}
    assert {row["p"] for row in rows if math.isfinite(row["p"])} == {1.0}


def test_the_interval_is_paired():
    """Two models that fail on the same pictures differ by far less than their own intervals."""
    rng = np.random.default_rng(2)
    hard = rng.random(200) < 0.5
    before, after = hard.astype(float), hard.copy().astype(float)
    after[:4] = 1 - after[:4]
    sides = [[mean_measure({"x": own}, np.arange(200), chance={})] for own in (before, after)]
    found = differences(*sides, rng=rng, n_bootstrap=2000)["x"]
    alone = scored(sides[0], rng=rng, n_bootstrap=2000)["x"]
    assert found.ci_high - found.ci_low < 0.5 * (alone.ci_high - alone.ci_low)
    change = after - before
    draws = change[np.random.default_rng(3).integers(0, 200, (20_000, 200))].mean(axis=1)
    assert (found.ci_low, found.ci_high) == pytest.approx(
        np.quantile(draws, [0.025, 0.975]), abs=0.008
    )


def test_p_is_that_of_all_exchanges_of_whole_clusters():
    rng = np.random.default_rng(5)
    clusters = np.array([0, 0, 1, 2, 2, 2, 3, 4, 5, 5])
    before, after = rng.random(10), rng.random(10) + 0.3
    sides = [[mean_measure({"x": own}, clusters, chance={})] for own in (before, after)]
    found = differences(*sides, rng=rng, n_bootstrap=100, n_permutations=99)["x"]
    change = after - before
    null = [
        abs(np.mean(np.array(signs)[clusters] * change))
        for signs in itertools.product([1, -1], repeat=6)
    ]
    want = np.mean(np.array(null) >= abs(change.mean()) - 1e-12)
    assert found.p == pytest.approx(want)
    assert 0 < found.p < 1
    terms = sides[1][0].terms
    assert terms.shape == (6, 1)
    assert terms.sum() == pytest.approx(after.mean())


def test_exchanges_in_parts_give_a_p_as_good(monkeypatch):
    rng = np.random.default_rng(8)
    before = rng.random(80)
    after = before + 0.1 * rng.standard_normal(80) + 0.02
    sides = [[mean_measure({"x": own}, np.arange(80), chance={})] for own in (before, after)]
    how = {"n_bootstrap": 100, "n_permutations": 4000}
    whole = differences(*sides, rng=np.random.default_rng(0), **how)["x"].p
    monkeypatch.setattr("braindecode_clip.clip.score._SIGNS_AT_ONCE", 80 * 700)
    parts = differences(*sides, rng=np.random.default_rng(1), **how)["x"].p
    assert 0.01 < whole < 0.5
    assert parts == pytest.approx(whole, abs=4 * math.sqrt(whole / 4000) * math.sqrt(2))
    assert (parts * 4001) % 1 == pytest.approx(0, abs=1e-6) or (parts * 4001) % 1 > 1 - 1e-6


def test_a_mean_per_class_has_the_p_of_its_own_statistic():
    """Exchanging the models in a picture of a rare class moves the mean per class more."""
    rng = np.random.default_rng(14)
    label = np.array([0] * 7 + [1] * 3)
    is_true = np.eye(2, dtype=bool)[label]
    both = [rng.random((10, 2)) for _ in range(2)]
    sides = [class_measures(own, is_true, np.arange(10), ks=(1,)) for own in both]
    found = differences(*sides, rng=rng, n_bootstrap=100, n_permutations=2000)
    hits = np.array([np.argmax(own, axis=1) == label for own in both]).astype(float)

    def mean_per_class(own):
        return (own[label == 0].mean() + own[label == 1].mean()) / 2

    value = mean_per_class(hits[1]) - mean_per_class(hits[0])
    null = []
    for swap in itertools.product([False, True], repeat=10):
        swapped = np.where(swap, hits[::-1], hits)
        null.append(mean_per_class(swapped[1]) - mean_per_class(swapped[0]))
    want = np.mean(np.abs(null) >= abs(value) - 1e-12)
    assert found["mean_per_class_top_1"].difference == pytest.approx(value)
    assert found["mean_per_class_top_1"].p == pytest.approx(want)
    assert found["top_1"].p != pytest.approx(want, rel=0.2)
    for measure in itertools.chain(*sides):
        np.testing.assert_allclose(measure.terms.sum(axis=0), measure.values())


def test_q_corrects_over_all_rows_and_verdicts_follow_it():
    base = {"kind": "image_to_text", "metric": "r1", "difference": 0.2, "ci_low": 0.1}
    rows = [{**base, "ci_high": 0.3, "p": p} for p in (0.01, 0.04, 0.9, math.nan)]
    rows.append({**rows[0], "metric": "median_rank"})
    rows.append({**rows[0], "kind": "geometry"})
    rows.append({**rows[0], "ci_low": -0.1})
    found = with_verdicts(rows)
    tested = np.sort([row["p"] for row in rows if math.isfinite(row["p"])])
    ranks = np.arange(1, len(tested) + 1)
    want = np.minimum.accumulate((tested * len(tested) / ranks)[::-1])[::-1]
    got = np.sort([row["q"] for row in found if math.isfinite(row["q"])])
    np.testing.assert_allclose(got, want)
    verdicts = [row["verdict"] for row in found]
    assert verdicts == ["gained", "gained", "undecided", "gained", "lost", "rose", "undecided"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures in subfolders by shape, some with captions: scenes with one object."""
    from braindecode_clip.simulate.pairs import make_pairs
    from braindecode_clip.simulate.scenes import scene_from_json

    out = tmp_path_factory.mktemp("shapes") / "shapes"
    drawn = make_pairs(200, rng=np.random.default_rng(12))
    rows = zip(drawn.images, drawn.captions, drawn.scenes, strict=True)
    for k, (picture, captions, scene) in enumerate(rows):
        objects = scene_from_json(scene).objects
        if len(objects) == 1:
            path = out / objects[0].shape / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
            if k % 3:
                path.with_suffix(".txt").write_text("\n".join(captions), encoding="utf-8")
    return out


@pytest.fixture(scope="module")
def worse_model(tmp_path_factory):
    """The shipped model with noise on all its weights."""
    import shutil
    from pathlib import Path

    import torch
    from safetensors.torch import load_file, save_file

    source = Path(__file__).resolve().parents[2] / "data" / "models" / "scenes"
    out = tmp_path_factory.mktemp("model") / "worse"
    shutil.copytree(source, out)
    path = out / "open_clip_model.safetensors"
    weights, generator = load_file(path), torch.Generator().manual_seed(0)
    for name, value in weights.items():
        if value.is_floating_point() and value.ndim > 1:
            noise = torch.randn(value.shape, generator=generator)
            weights[name] = value + 0.6 * value.std() * noise
    save_file(weights, path)
    return out


def test_the_command_says_what_it_cost(folder, worse_model, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["clip", "forgetting", "--before", "scenes", "--after", str(worse_model)]
    command += ["--general", str(folder), "--out", str(out), "--device", "cpu"]
    command += ["--probe-share", "0.5"]
    assert main([*command, "--n-bootstrap", "200", "--n-permutations", "499"]) == 0
    printed = capsys.readouterr().out
    assert "| zero_shot label top_1 |" in printed
    assert "lost" in printed
    found = json.loads((out / "forgetting.json").read_text(encoding="utf-8"))
    assert found["sets"][0]["tasks"] == {"label": 6}
    assert found["sets"][0]["n_captions"] > 20
    top = row_of(found["rows"], "zero_shot label", "top_1")
    assert top["before"] > 0.8 > top["after"]
    assert (top["verdict"], top["role"], top["set"]) == ("lost", "general", "shapes")
    # A third of the pictures has no caption: vectors and captions must not shift.
    assert row_of(found["rows"], "image_to_text", "r1")["before"] > 0.8
    probe = row_of(found["rows"], "probe label", "top_1")
    assert probe["n"] < top["n"] < 2 * probe["n"] + 2
    assert probe["before"] > 0.5
    for row in found["rows"]:
        assert row["n"] > 0
        assert set(row) >= {"p", "q", "ci_low", "ci_high", "ci_method", "chance_before"}
    assert {"r1, r5, r10", "p", "q", "chance"} <= set(found["definitions"])
    with (out / "forgetting.csv").open(encoding="utf-8", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(found["rows"])
    page = (out / "forgetting.md").read_text(encoding="utf-8")
    assert page.count("\n| ") > len(found["rows"])


def test_the_command_names_what_is_wrong(folder, tmp_path, capsys):
    command = ["clip", "forgetting", "--before", "scenes", "--after", "scenes"]
    command += ["--general", str(folder), "--domain", str(folder), "--out", str(tmp_path / "o")]
    assert main(command) == 1
    assert "'shapes' stand twice" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
