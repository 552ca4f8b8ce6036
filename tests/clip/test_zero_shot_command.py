"""`braindecode-clip zero-shot` end to end, with the shipped model."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix

from braindecode_clip.cli.main import main
from braindecode_clip.clip.encoders import ClipEncoder, load_encoder
from braindecode_clip.simulate.pairs import make_pairs
from braindecode_clip.simulate.scenes import COLOURS, SHAPES, scene_from_json


@pytest.fixture(scope="module")
def drawn():
    return make_pairs(160, rng=np.random.default_rng(8))


@pytest.fixture(scope="module")
def folder(drawn, tmp_path_factory):
    """Return a folder with pairs, a table of the scenes with one object, and templates."""
    folder = tmp_path_factory.mktemp("zero-shot")
    with h5py.File(folder / "pairs.h5", "w") as file:
        file["images"] = drawn.images
        for name in ("captions", "scenes"):
            values = np.asarray(getattr(drawn, name)).tolist()
            file.create_dataset(name, data=values, dtype=h5py.string_dtype())
    lines = ["stimulus_id\timage\tshape\tboth"]
    for k, (pixels, text) in enumerate(zip(drawn.images, drawn.scenes, strict=True)):
        objects = scene_from_json(text).objects
        if len(objects) == 1:
            item = objects[0]
            place = folder / "pictures" / item.shape
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place / f"{k:03d}.png")
            path = f"pictures/{item.shape}/{k:03d}.png"
            lines.append(f"{k:03d}\t{path}\t{item.shape}\t{item.shape} | {item.colour}")
    (folder / "single.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "shape.txt").write_text("\n".join(f"a {c} {{}}" for c in COLOURS) + "\n")
    (folder / "classes.txt").write_text("\n".join(SHAPES) + "\n")
    return folder


@pytest.fixture(autouse=True)
def _index(monkeypatch, folder):
    monkeypatch.setenv("BRAINDECODE_CLIP_CACHE", str(folder / "index"))


def run(*arguments):
    return main(["zero-shot", *map(str, arguments)])


def read(path):
    return pd.read_csv(path, sep="\t", dtype={"stimulus_id": str, "label": str})


@pytest.fixture(scope="module")
def truth(folder):
    """Return ids, labels, cosines and the temperature, computed without the command."""
    table = read(folder / "single.tsv")
    encoder = load_encoder("scenes", device="cpu")
    images = encoder.encode_image([folder / name for name in table["image"]]).astype(np.float64)
    prototypes = []
    for shape in SHAPES:
        prompts = encoder.encode_text([f"a {c} {shape}" for c in COLOURS]).astype(np.float64)
        prototypes.append(prompts.sum(axis=0) / np.sqrt((prompts.sum(axis=0) ** 2).sum()))
    scale = float(np.exp(encoder.model.logit_scale.item()))
    return table, images @ np.stack(prototypes).T, scale


def test_it_agrees_with_clip_evaluate_and_with_its_parts(folder, truth, tmp_path):
    table, cosine, scale = truth
    options = ("--classes", folder / "classes.txt", "--templates", folder / "shape.txt")
    options += ("--images", folder / "single.tsv", "--label-column", "shape", "--out", tmp_path)
    assert run(*options) == 0
    evaluate = ["clip", "evaluate", "--model", "scenes", "--pairs", str(folder / "pairs.h5")]
    assert main([*evaluate, "--out", str(tmp_path / "e.json")]) == 0
    want = json.loads((tmp_path / "e.json").read_text())["pairs"]["zero_shot"]["shape"]
    metrics = read(tmp_path / "metrics.tsv").set_index("metric")
    row = metrics.loc["top_1"]
    assert row["n"] == want["n"] == len(table) > 30
    assert (row.value, row.ci_low, row.ci_high, row.chance) == pytest.approx(
        tuple(want[key] for key in ("accuracy", "low", "high", "chance"))
    )
    predictions = read(tmp_path / "predictions.tsv")
    assert predictions["stimulus_id"].tolist() == table["stimulus_id"].tolist()
    order = np.argsort(-cosine, axis=1)
    names, rows = np.array(SHAPES), np.arange(len(table))
    probability = np.exp(scale * cosine)
    probability /= probability.sum(axis=1, keepdims=True)
    for place in range(5):
        assert predictions[f"class_{place + 1}"].tolist() == names[order[:, place]].tolist()
        for name, values in (("score", cosine), ("probability", probability)):
            found = predictions[f"{name}_{place + 1}"]
            np.testing.assert_allclose(found, values[rows, order[:, place]], rtol=2e-4, atol=1e-6)
    own = np.array([SHAPES.index(label) for label in table["shape"]])
    rank = (cosine > cosine[rows, own][:, None]).sum(axis=1) + 1
    assert predictions["rank"].tolist() == rank.tolist()
    counts = pd.read_csv(tmp_path / "confusion.tsv", sep="\t", index_col="true_class")
    guessed = names[order[:, 0]]
    np.testing.assert_array_equal(counts, confusion_matrix(table["shape"], guessed, labels=names))
    assert read(tmp_path / "classes.tsv")["class"].tolist() == list(SHAPES)
    for name in ("confusion.png", "zero-shot.png"):
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 200
    page = (tmp_path / "zero-shot.html").read_text(encoding="utf-8")
    assert "✓ right" in page and f"{len(table)} pictures, {len(SHAPES)} classes" in page


def test_folders_as_labels_give_the_same_scores(folder, tmp_path):
    options = ("--classes", folder / "classes.txt", "--templates", folder / "shape.txt")
    table = ("--images", folder / "single.tsv", "--label-column", "shape")
    assert run(*options, *table, "--out", tmp_path / "a") == 0
    images = ("--images", folder / "pictures", "--folder-labels")
    assert run(*options, *images, "--out", tmp_path / "b") == 0
    first, second = (read(tmp_path / name / "classes.tsv") for name in "ab")
    pd.testing.assert_frame_equal(first, second)


def test_many_labels_synonyms_and_a_template_set(folder, tmp_path):
    lines = ["class\tname"]
    lines += [f"{c}\t{c}" for c in COLOURS] + [f"{s}\t{s}" for s in SHAPES]
    lines += ["circle\tdisc", "square\tbox", "cross\tplus"]
    (tmp_path / "c.tsv").write_text("\n".join(lines) + "\n")
    options = ("--images", folder / "single.tsv", "--classes", tmp_path / "c.tsv")
    assert run(*options, "--label-column", "both", "--out", tmp_path) == 0
    metrics = read(tmp_path / "metrics.tsv").set_index("metric")
    n_all = len(COLOURS) + len(SHAPES)
    # Two of the classes are true of each picture.
    assert metrics.loc["top_1", "chance"] == pytest.approx(2 / n_all)
    assert metrics.loc["top_1", "value"] > 0.8
    assert metrics.loc["mean_average_precision", "value"] > 0.5
    classes = read(tmp_path / "classes.tsv")
    assert classes["n"].sum() == 2 * metrics.loc["top_1", "n"]
    assert not (tmp_path / "confusion.tsv").exists()
    predictions = read(tmp_path / "predictions.tsv")
    assert predictions["label"].str.contains("|", regex=False).all()
    # The rank is that of the better one of the two.
    assert (predictions["rank"] <= 1).mean() == pytest.approx(metrics.loc["top_1", "value"])
    first = [
        one in label.split("|")
        for one, label in zip(predictions["class_1"], predictions["label"], strict=True)
    ]
    assert (predictions["rank"] <= 1).tolist() == first


def test_another_temperature_changes_probabilities_alone(folder, tmp_path):
    options = ("--images", folder / "pictures", "--classes", "circle, square, star")
    assert run(*options, "--out", tmp_path / "a") == 0
    assert run(*options, "--logit-scale", 3, "--out", tmp_path / "b") == 0
    own, other = (read(tmp_path / name / "predictions.tsv") for name in "ab")
    scores = other[[f"score_{k}" for k in (1, 2, 3)]].to_numpy()
    np.testing.assert_array_equal(own[[f"score_{k}" for k in (1, 2, 3)]], scores)
    want = np.exp(3 * scores) / np.exp(3 * scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(other[[f"probability_{k}" for k in (1, 2, 3)]], want, rtol=1e-6)
    assert (own["probability_1"] > other["probability_1"]).all()


def test_without_labels_there_are_predictions_alone(folder, tmp_path):
    options = ("--images", folder / "pictures", "--classes", "circle, square, star")
    assert run(*options, "--out", tmp_path) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "predictions.tsv",
        "zero-shot.html",
        "zero-shot.png",
    }
    predictions = read(tmp_path / "predictions.tsv")
    assert "rank" not in predictions and "class_3" in predictions
    total = predictions[[f"probability_{k}" for k in (1, 2, 3)]].sum(axis=1)
    np.testing.assert_allclose(total, 1.0, rtol=1e-9)
    assert "nothing is scored" in (tmp_path / "zero-shot.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "{0}/none"], "no such gallery"),
        (["--classes", "{0}/none.txt"], "no such file"),
        (["--classes", "circle, circle"], "stand twice"),
        (["--classes", "circle, star"], "labels are none of the 2 classes"),
        (["--templates", "{1}/bad.txt"], "every template needs"),
        (["--templates", "imagenet"], "simple, generic, openai"),
        (["--label-column", "form"], "lacks the column 'form'"),
        (["--folder-labels"], "is no folder of pictures"),
        (["--encoder", "nothing"], "neither 'scenes' nor"),
    ],
)
def test_mistakes_end_with_one_message_and_no_files(folder, tmp_path, capsys, arguments, message):
    (tmp_path / "bad.txt").write_text("a picture\n")
    options = {
        "--images": folder / "single.tsv",
        "--classes": folder / "classes.txt",
        "--label-column": "shape",
        "--out": tmp_path / "out",
    }
    options |= dict.fromkeys(arguments[::2], None) if len(arguments) == 1 else {}
    if len(arguments) == 2:
        options[arguments[0]] = arguments[1].format(folder, tmp_path)
    flat = [str(part) for pair in options.items() for part in pair if part is not None]
    assert run(*flat) == 1
    text = capsys.readouterr().err
    assert message in text and "Traceback" not in text
    assert not (tmp_path / "out").exists()


def test_an_encoder_without_a_text_tower_says_so(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.delattr(ClipEncoder, "encode_text")
    options = ("--images", folder / "pictures", "--classes", "circle, star", "--out", tmp_path)
    assert run(*options) == 1
    assert "has no text tower" in capsys.readouterr().err
