from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import yaml
from PIL import Image

from braindecode_clip.cli.main import main


@pytest.fixture
def recipe_file(tiny_recipe, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tiny_recipe.model_dump(mode="json")), encoding="utf-8")
    return path


def write_pairs(path, pairs):
    with h5py.File(path, "w") as file:
        file["images"] = pairs.images
        file.create_dataset("captions", data=pairs.captions.tolist(), dtype=h5py.string_dtype())
    return path


@pytest.fixture
def files(make_pairs, tmp_path):
    return [write_pairs(tmp_path / f"{k}.h5", make_pairs(n, k)) for k, n in ((1, 18), (2, 9))]


def test_train_then_evaluate(files, recipe_file, tmp_path, capsys):
    model, metrics = tmp_path / "model", tmp_path / "metrics.json"
    train = ["clip", "train", "--recipe", str(recipe_file), "--pairs", str(files[0])]
    train += ["--validation", str(files[1]), "--out", str(model)]
    assert main(train) == 0
    assert "step 6 of 6" in capsys.readouterr().err
    assert main(train) == 1
    assert "--resume" in capsys.readouterr().err
    assert main([*train, "--resume"]) == 0
    evaluate = ["clip", "evaluate", "--model", str(model), "--out", str(metrics)]
    evaluate += ["--pairs", str(files[0]), "--pairs", str(files[1]), "--pool-size", "5"]
    assert main(evaluate) == 0
    found = json.loads(metrics.read_text(encoding="utf-8"))
    assert found["model"]["name"] == "model"
    assert [found[name]["n_pairs"] for name in ("1", "2", "all")] == [18, 9, 27]
    assert found["1"]["image_to_text"]["pool_size"] == 5
    assert found["all"]["zero_shot"] == {}


def test_pairs_from_a_table_are_resized_and_grouped_by_picture(recipe_file, tmp_path, capsys):
    rng = np.random.default_rng(0)
    lines = ["image,caption,split"]
    for k in range(12):
        picture = rng.integers(0, 256, (40 + k, 36, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{k}.png")
        split = "train" if k < 9 else "val"
        wordings = (f"red left {k}", f"red right {k}")[: 1 + k % 2]
        lines += [f"{k}.png,{words},{split}" for words in wordings]
    table = tmp_path / "pairs.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    train = ["clip", "train", "--recipe", str(recipe_file), "--pairs", str(table)]
    train += ["--validation", str(table), "--out", str(tmp_path / "m")]
    train += ["--split", "train", "--validation-split", "val"]
    assert main(train) == 0
    assert "step 2 of 3" in capsys.readouterr().err
    evaluate = ["clip", "evaluate", "--model", str(tmp_path / "m"), "--pairs", str(table)]
    assert main([*evaluate, "--out", str(tmp_path / "metrics.json"), "--pool-size", "4"]) == 0
    found = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert (found["pairs"]["n_pairs"], found["pairs"]["image_to_text"]["n_pools"]) == (12, 3)
    only = ["--split", "val", "--out", str(tmp_path / "val.json"), "--pool-size", "3"]
    assert main([*evaluate, *only]) == 0
    assert json.loads((tmp_path / "val.json").read_text("utf-8"))["pairs"]["n_pairs"] == 3
    (tmp_path / "3.png").unlink()
    assert main([*train[:-4], "--split", "train", "--validation-split", "val", "--resume"]) == 1
    assert "3.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("epochs: 3", "unknown key 'training.epoch'. Did you mean 'epochs'"),
        ("batch_size: 8", "fewer than one batch of 80"),
    ],
)
def test_mistakes_end_with_one_message(files, recipe_file, tmp_path, capsys, change, message):
    text = recipe_file.read_text(encoding="utf-8")
    other = {"epochs: 3": "epoch: 3", "batch_size: 8": "batch_size: 80"}[change]
    assert change in text
    recipe_file.write_text(text.replace(change, other), encoding="utf-8")
    train = ["clip", "train", "--recipe", str(recipe_file), "--pairs", str(files[0])]
    train += ["--validation", str(files[1]), "--out", str(tmp_path / "model")]
    assert main(train) == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed


def test_a_file_that_holds_no_pairs_is_named(tmp_path, capsys):
    path = tmp_path / "pairs.h5"
    path.write_bytes(b"\x89HDF nothing")
    evaluate = ["clip", "evaluate", "--model", "scenes", "--pairs", str(path)]
    assert main([*evaluate, "--out", str(tmp_path / "m.json")]) == 1
    assert "pairs.h5: no readable file of pairs" in capsys.readouterr().err


def test_the_shipped_recipe_is_valid(request):
    from braindecode_clip.cli.common import read_options
    from braindecode_clip.config.clip import ClipRecipe

    path = request.config.rootpath / "config" / "clip" / "scenes.yaml"
    assert read_options(str(path), ClipRecipe).name == "scenes"
