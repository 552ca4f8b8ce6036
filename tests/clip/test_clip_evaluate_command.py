from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from braindecode_clip.cli.main import main
from braindecode_clip.clip.encoders import load_encoder
from braindecode_clip.clip.evaluation import evaluate_model
from braindecode_clip.simulate.pairs import make_pairs
from braindecode_clip.simulate.scenes import scene_from_json


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of single objects with several captions, a label by shape, and two splits."""
    folder = tmp_path_factory.mktemp("pairs")
    drawn = make_pairs(180, rng=np.random.default_rng(31))
    with (folder / "objects.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "caption1", "caption2", "label", "split"])
        rows = zip(drawn.images, drawn.captions, drawn.scenes, strict=True)
        for k, (picture, captions, scene) in enumerate(rows):
            objects = scene_from_json(scene).objects
            if len(objects) == 1:
                Image.fromarray(picture).save(folder / f"{k}.png")
                split = "train" if k % 2 else "test"
                writer.writerow([f"{k}.png", *captions[:2], objects[0].shape, split])
    return folder / "objects.csv"


def run(table, out, *options):
    command = ["clip", "evaluate", "--model", "scenes", "--device", "cpu", "--pairs", str(table)]
    return main([*command, "--out", str(out), "--n-bootstrap", "100", *options])


def test_every_figure_has_n_chance_and_interval(table, tmp_path):
    out = tmp_path / "m.json"
    options = ["--fold-size", "20", "--probe-share", "0.6", "--pool-size", "20"]
    assert run(table, out, *options, "--templates", "generic") == 0
    record = json.loads(out.read_text(encoding="utf-8"))
    found = record["objects"]
    n = found["n_pairs"]
    assert found["retrieval"]["n_images"] == n > 40
    assert found["retrieval"]["n_captions"] == 2 * n
    assert found["retrieval"]["folds"]["n_folds"] == n // 20
    parts = [found["retrieval"], found["retrieval"]["folds"]]
    scores = [
        score
        for part in parts
        for kind in ("grouped", "ungrouped")
        for own in part[kind].values()
        for score in own.values()
    ]
    scores += found["geometry"].values()
    assert len(scores) == 2 * 2 * 2 * 5 + len(found["geometry"])
    for score in scores:
        assert score["n"] >= 20
        assert {"chance", "ci_low", "ci_high", "ci_method", "n_resampled"} <= set(score)
    grouped = found["retrieval"]["grouped"]["text_to_image"]["r1"]
    assert grouped["ci_low"] <= grouped["value"] <= grouped["ci_high"]
    assert grouped["chance"] == pytest.approx(1 / n, rel=0.2)
    assert len(found["classification"]["label"]["templates"]) > 3
    top = found["classification"]["label"]["metrics"]["top_1"]
    assert top["value"] == found["zero_shot"]["label"]["accuracy"] > 0.7
    assert (top["n"], top["chance"]) == (n, pytest.approx(1 / 6))
    probe = found["probe"]["label"]
    assert probe["n_train"] + probe["n_test"] == n
    assert probe["n_train"] == pytest.approx(0.6 * n, abs=1)
    assert probe["metrics"]["top_1"]["value"] > 0.6
    for words in ("grouped", "chance", "probe", "modality_gap", "ci_low, ci_high"):
        assert len(record["definitions"][words]) > 40


def test_the_pooled_figures_are_those_of_the_first_captions(table, tmp_path):
    """What the JSON held before it knew more, number for number."""
    out = tmp_path / "m.json"
    assert run(table, out, "--pool-size", "15", "--seed", "3") == 0
    found = json.loads(out.read_text(encoding="utf-8"))["objects"]
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    pictures = [Image.open(table.parent / row["image"]) for row in rows]
    captions = [row["caption1"] for row in rows]
    encoder = load_encoder("scenes", device="cpu")
    want = evaluate_model(encoder, pictures, captions, tasks={}, seed=3, pool_size=15)
    for direction in ("image_to_text", "text_to_image"):
        assert found[direction] == pytest.approx(want[direction], abs=1e-12)
    assert found["n_pairs"] == want["n_pairs"]


def test_the_probe_learns_on_one_split_and_never_on_a_tested_file(table, tmp_path):
    options = ["--split", "test", "--probe-train", str(table)]
    assert run(table, tmp_path / "a.json", *options, "--probe-train-split", "train") == 0
    assert run(table, tmp_path / "b.json", *options) == 0
    split, whole = (
        json.loads((tmp_path / f"{k}.json").read_text(encoding="utf-8"))["objects"]["probe"][
            "label"
        ]
        for k in "ab"
    )
    assert split["n_train_left_out_as_tested"] == 0
    assert whole["n_train_left_out_as_tested"] == split["n_test"]
    assert whole["n_train"] == split["n_train"]
    assert whole["metrics"]["top_1"]["value"] == split["metrics"]["top_1"]["value"]


def test_folders_without_captions_are_classified_alone(table, tmp_path):
    folder = tmp_path / "shapes"
    with table.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            (folder / row["label"]).mkdir(parents=True, exist_ok=True)
            shutil.copy(table.parent / row["image"], folder / row["label"])
    assert run(folder, tmp_path / "m.json") == 0
    found = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))["shapes"]
    assert found["n_pairs"] == 0
    assert "retrieval" not in found
    assert "image_to_text" not in found
    assert found["zero_shot"]["label"]["accuracy"] > 0.7


def test_several_sets_are_measured_alone_and_together(table, tmp_path):
    other = tmp_path / "objects2.csv"
    text = table.read_text(encoding="utf-8").splitlines()
    rows = [text[0], *(f"{table.parent}/{line}" for line in text[-30:][::-1])]
    other.write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert run(table, tmp_path / "m.json", "--pairs", str(other)) == 0
    found = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    n = [found[name]["retrieval"]["n_images"] for name in ("objects", "objects2", "all")]
    assert n[2] == n[0] + n[1]
    # The second set repeats pictures and captions of the first: grouped, they count as one.
    both = found["all"]["retrieval"]
    assert both["n_distinct_images"] == n[0]
    name = "text_to_image"
    assert both["grouped"][name]["r1"]["value"] > both["ungrouped"][name]["r1"]["value"] + 0.1
    assert both["grouped"][name]["r1"]["value"] == pytest.approx(
        found["objects"]["retrieval"]["grouped"][name]["r1"]["value"], abs=0.1
    )
    tasks = [found[name]["zero_shot"]["label"] for name in ("objects", "objects2", "all")]
    hits = [task["accuracy"] * task["n"] for task in tasks]
    assert [task["n"] for task in tasks] == n
    assert hits[2] == pytest.approx(hits[0] + hits[1])


def test_mistakes_end_with_one_message(table, tmp_path, capsys):
    out = tmp_path / "m.json"
    for options, message in (
        (["--pairs", str(table)], "'objects' stand twice"),
        (["--probe-share", "0.5", "--probe-train", str(table)], "exclude each other"),
        (["--label-by", "colour"], "--label-by 'colour' is unknown"),
        (["--split", "val"], "no rows of split 'val'"),
        (["--templates", "nonsense"], "nonsense"),
        (["--classes", "circle, heart"], "labels are none of the 2 classes"),
    ):
        assert run(table, out, *options) == 1, options
        printed = capsys.readouterr().err
        assert message in printed
        assert "Traceback" not in printed
        assert not out.exists()


def test_damaged_pictures_are_all_named(table, tmp_path, capsys):
    folder = tmp_path / "damaged"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.png").write_bytes(b"no picture")
        (folder / f"{name}.txt").write_text(f"caption {name}", encoding="utf-8")
    assert run(folder, tmp_path / "m.json") == 1
    printed = capsys.readouterr().err
    assert "3 problems" in printed
    assert "c.png" in printed


def test_cocos_json_and_groups_as_classes(table, tmp_path):
    """Pictures elsewhere, several captions each; and a column 'group' that names the class."""
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    content = {
        "images": [{"id": k, "file_name": row["image"]} for k, row in enumerate(rows)],
        "annotations": [
            {"id": 2 * k + j, "image_id": k, "caption": row[f"caption{j + 1}"]}
            for k, row in enumerate(rows)
            for j in (0, 1)
        ],
    }
    coco = tmp_path / "captions.json"
    coco.write_text(json.dumps(content), encoding="utf-8")
    assert run(coco, tmp_path / "a.json", "--images", str(table.parent)) == 0
    assert run(table, tmp_path / "b.json") == 0
    found, want = (
        json.loads((tmp_path / name).read_text(encoding="utf-8"))[key]
        for name, key in (("a.json", "captions"), ("b.json", "objects"))
    )
    assert found["retrieval"] == want["retrieval"]
    assert found["classification"] == {}
    grouped = table.with_name("grouped.csv")
    text = table.read_text(encoding="utf-8").replace("label", "group", 1)
    grouped.write_text(text, encoding="utf-8")
    assert run(grouped, tmp_path / "c.json", "--label-by", "group") == 0
    by_group = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))["grouped"]
    assert by_group["classification"] == want["classification"]
    assert run(grouped, tmp_path / "d.json", "--label-by", "none") == 0
    none = json.loads((tmp_path / "d.json").read_text(encoding="utf-8"))["grouped"]
    assert none["classification"] == {}
