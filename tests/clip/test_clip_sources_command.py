from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from pair_files import (
    SavedPart,
    captions_of,
    content,
    encoded,
    picture,
    stand_in_for_datasets,
    write_coco,
    write_folder,
    write_scenes,
    write_table,
    write_tars,
)
from PIL import Image
from safetensors.numpy import load_file

from braindecode_clip.cli.clip_pairs import divide
from braindecode_clip.cli.main import main
from braindecode_clip.config.clip_data import SplitConfig
from braindecode_clip.io.pairs import read_pairs


@pytest.fixture
def write_recipe(tiny_recipe, tmp_path):
    """Return a maker of recipe files: 5 steps of 4 pictures, and a section ``data``."""

    def make(data=None, **training):
        content = tiny_recipe.model_dump(mode="json")
        content["data"] = data or {}
        content["training"] |= {"epochs": 1, "batch_size": 4, "validate_every": 5, **training}
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    return make


def train(recipe, pairs, out, *more):
    command = [
        "clip",
        "train",
        "--recipe",
        str(recipe),
        "--pairs",
        str(pairs),
        "--out",
        str(out),
        "--no-report",
    ]
    return main([*command, "--threads", "1", *map(str, more)])


def weights(folder):
    return load_file(folder / "open_clip_model.safetensors")


WRITERS = {
    "table": lambda folder, n: write_table(folder, n),
    "folder": write_folder,
    "coco": write_coco,
    "tar": write_tars,
    "scenes": lambda folder, n: write_scenes(folder / "s.h5", n),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_five_steps_from_every_kind_of_source(kind, write_recipe, tmp_path, capsys):
    pairs = WRITERS[kind](tmp_path, 25)
    data = {"split": {"by": "picture", "validation": 0.2}}
    assert train(write_recipe(data), pairs, tmp_path / "m") == 0
    assert "step 5 of 5" in capsys.readouterr().err
    record = json.loads((tmp_path / "m" / "data.json").read_text(encoding="utf-8"))
    assert record["training"]["kind"] == kind
    assert record["training"]["source"] == pairs.name
    assert (record["training"]["n_pictures"], record["validation"]["n_pictures"]) == (20, 5)
    assert record["training"]["steps_per_epoch"] == 5


def test_five_steps_from_a_saved_data_set(write_recipe, tmp_path, monkeypatch, capsys):
    """By a stand-in for the library `datasets`, which need not be installed."""
    parts = {
        name: SavedPart(
            {
                "image": [{"bytes": content(k)[1], "path": None} for k in rows],
                "caption": [captions_of(k) for k in rows],
            }
        )
        for name, rows in (("train", range(20)), ("validation", range(20, 25)))
    }
    pairs = stand_in_for_datasets(monkeypatch, tmp_path, parts)
    assert train(write_recipe({"split": {"by": "column"}}), pairs, tmp_path / "m") == 0
    assert "step 5 of 5" in capsys.readouterr().err


def test_the_same_pairs_as_arrays_and_as_files_end_with_the_same_weights(write_recipe, tmp_path):
    scenes = write_scenes(tmp_path / "s.h5", 20)
    folder = tmp_path / "f"
    folder.mkdir()
    source = read_pairs(scenes)
    for k, (pixels, own) in enumerate(zip(source.pixels, source.captions, strict=True)):
        Image.fromarray(pixels).save(folder / f"{k:02d}.png")
        (folder / f"{k:02d}.txt").write_text("\n".join(own), encoding="utf-8")
    recipe = write_recipe()
    for name, pairs in (("a", scenes), ("b", folder)):
        assert train(recipe, pairs, tmp_path / name, "--validation", pairs) == 0
    second = weights(tmp_path / "b")
    for name, value in weights(tmp_path / "a").items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def test_equal_pictures_are_found_by_their_files(write_recipe, tmp_path):
    source = read_pairs(write_scenes(tmp_path / "s.h5", 8))
    folder = tmp_path / "f"
    folder.mkdir()
    for k in range(8):
        # Two files of every picture, with captions of their own.
        Image.fromarray(source.pixels[k // 2]).save(folder / f"{k:02d}.png")
        (folder / f"{k:02d}.txt").write_text(f"number {k}", encoding="utf-8")
    found = {}
    for by, cache in (("picture", "none"), ("picture", "memory"), ("caption", "none")):
        recipe = write_recipe(false_negatives="mask", false_negatives_by=[by], batch_size=8)
        out = tmp_path / f"{by}-{cache}"
        assert train(recipe, folder, out, "--validation", folder, "--cache", cache) == 0
        found[by, cache] = weights(out)
    same, other = found["picture", "memory"], found["caption", "none"]
    for name, value in found["picture", "none"].items():
        np.testing.assert_array_equal(value, same[name], err_msg=name)
    assert any((value != other[name]).any() for name, value in same.items())


def test_workers_and_cache_end_with_the_same_weights(write_recipe, tmp_path):
    pairs = write_table(tmp_path, 24)
    (tmp_path / "p05.jpg").write_bytes(b"no picture")
    data = {
        "split": {"by": "group", "seed": 1},
        "max_corrupt_share": 0.1,
        "crop_scale": [0.5, 1.0],
        "no_duplicates": ["group", "file"],
    }
    recipe = write_recipe(data)
    for name, how in {"a": ("0", "none"), "b": ("4", "auto")}.items():
        how = ("--workers", how[0], "--cache", how[1])
        assert train(recipe, pairs, tmp_path / name, *how) == 0
    first, second = weights(tmp_path / "a"), weights(tmp_path / "b")
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)
    record = json.loads((tmp_path / "a" / "data.json").read_text(encoding="utf-8"))
    assert record["training"]["corrupt"] == ["p05.jpg: is no picture of a known format"]
    assert train(recipe, pairs, tmp_path / "c", "--cache", "memory") == 1


def test_held_out_by_group_by_column_or_by_options(write_recipe, tmp_path, capsys):
    pairs = write_table(tmp_path, 24)

    def counts(name, data, *more):
        assert train(write_recipe(data), pairs, tmp_path / name, *more) == 0
        record = json.loads((tmp_path / name / "data.json").read_text(encoding="utf-8"))
        return [record[part]["n_pictures"] for part in ("training", "validation")]

    # Eight groups of three.
    assert counts("a", {"split": {"by": "group", "validation": 0.25}}) == [18, 6]
    capsys.readouterr()
    (tmp_path / "p03.jpg").write_bytes((tmp_path / "p01.jpg").read_bytes())
    assert counts("b", {"split": {"by": "column"}}) == [18, 6]
    printed = capsys.readouterr().err
    assert "6 groups stand in the training and in the held-out part" in printed
    assert "1 identical files stand in" in printed
    assert counts("c", {}, "--split", "train", "--validation-split", "val") == [18, 6]
    capsys.readouterr()
    split = {"split": {"by": "picture"}}
    assert train(write_recipe(split), pairs, tmp_path / "d", "--validation", pairs) == 1
    assert "Use one of them" in capsys.readouterr().err
    assert train(write_recipe({}), pairs, tmp_path / "d") == 1
    assert "no held-out pairs" in capsys.readouterr().err
    folder = write_folder(tmp_path / "f", 12)
    assert train(write_recipe({"split": {}}), folder, tmp_path / "d") == 1
    assert "there are no groups" in capsys.readouterr().err
    assert train(write_recipe({"split": {"by": "column"}}), folder, tmp_path / "d") == 1
    assert "there are no splits" in capsys.readouterr().err


def test_identical_files_are_held_out_together(write_recipe, tmp_path):
    pairs = write_folder(tmp_path / "f", 20)
    for k in range(10):
        (pairs / f"q{k}.png").write_bytes((pairs / "p00.png").read_bytes())
        (pairs / f"q{k}.txt").write_text(f"copy {k}", encoding="utf-8")

    def held(together):
        split = {"by": "picture", "validation": 0.4, "same_file_together": together}
        out = tmp_path / f"m{together}"
        assert train(write_recipe({"split": split}), pairs, out) == 0
        parts = divide(read_pairs(pairs), SplitConfig.model_validate(split), n_workers=2)
        return [sum(name[0] == "q" or name == "p00.png" for name in p.names) for p in parts]

    assert 0 in held(True)
    assert 0 not in held(False)


def test_captions_from_labels(write_recipe, tmp_path, capsys):
    for label in ("sea_lion", "tea_cup"):
        (tmp_path / "f" / label).mkdir(parents=True)
        for k in range(8):
            data = encoded(picture(k + 10 * (label == "tea_cup")))
            (tmp_path / "f" / label / f"{k}.png").write_bytes(data)
    templates = tmp_path / "templates.txt"
    templates.write_text("# ours\na photo of a {}\nthe {}\n", encoding="utf-8")
    split = {"by": "picture", "validation": 0.25}
    data = {"templates": str(templates), "split": split}
    recipe = write_recipe(data)
    assert train(recipe, tmp_path / "f", tmp_path / "m") == 0
    words = json.loads((tmp_path / "m" / "vocabulary.json").read_text(encoding="utf-8"))["words"]
    assert words == ["a", "cup", "lion", "of", "photo", "sea", "tea", "the"]
    capsys.readouterr()
    assert main(["clip", "data", str(tmp_path / "f"), "--recipe", str(recipe)]) == 0
    printed = capsys.readouterr().out
    assert "16 pictures, 32 captions (2 to 2 for each" in printed
    assert "labels: 2 (sea_lion 8, tea_cup 8)" in printed
    data["templates"] = ["a photo"]
    assert train(write_recipe(data), tmp_path / "f", tmp_path / "n") == 1
    assert "every template needs '{}'" in capsys.readouterr().err
    assert train(write_recipe({"split": split}), tmp_path / "f", tmp_path / "n") == 1
    assert "make captions of them with data.templates" in capsys.readouterr().err


def test_corrupt_pictures_are_skipped_up_to_a_share(write_recipe, tmp_path, capsys):
    pairs = write_table(tmp_path, 24)
    for k in (0, 3, 4):
        ending = "jpg" if k % 2 else "png"
        (tmp_path / f"p{k:02d}.{ending}").write_bytes(b"\x89PNG")
    split = ("--split", "train", "--validation-split", "val")
    data = {"max_corrupt_share": 0.2}
    assert train(write_recipe(data), pairs, tmp_path / "a", *split) == 0
    assert "1 of 6 held-out pictures cannot be decoded" in capsys.readouterr().err
    record = json.loads((tmp_path / "a" / "data.json").read_text(encoding="utf-8"))
    assert record["training"]["n_corrupt"] == 2
    assert [line.split(":")[0] for line in record["training"]["corrupt"]] == ["p00.png", "p04.png"]
    # The same without a cache: found in the midst of the run.
    assert train(write_recipe(data), pairs, tmp_path / "b", *split, "--cache", "none") == 0
    for name, value in weights(tmp_path / "a").items():
        np.testing.assert_array_equal(value, weights(tmp_path / "b")[name], err_msg=name)
    for other in ({"max_corrupt_share": 0.05}, {**data, "on_corrupt": "error"}):
        assert train(write_recipe(other), pairs, tmp_path / "c", *split) == 1
        printed = capsys.readouterr().err
        assert "p00.png" in printed and "Traceback" not in printed


def test_cut_captions_are_counted(write_recipe, tmp_path, capsys):
    pairs = write_folder(tmp_path / "f", 12)
    (pairs / "p00.txt").write_text("one two three four five six seven\nshort", encoding="utf-8")
    recipe = write_recipe({"split": {"by": "picture", "validation": 0.25, "seed": 2}})
    assert train(recipe, pairs, tmp_path / "m") == 0
    assert "1 texts are longer than 6 words and are cut" in capsys.readouterr().err
    record = json.loads((tmp_path / "m" / "data.json").read_text(encoding="utf-8"))
    assert record["training"]["n_captions_truncated"] == 1
    assert main(["clip", "data", str(pairs), "--recipe", str(recipe)]) == 0
    printed = capsys.readouterr().out
    assert "1 captions are longer than the context of 7 and would be cut" in printed
    assert "  one two three four five six seven" in printed


def test_a_source_is_described(tmp_path, capsys):
    path = write_table(tmp_path, 8)
    (tmp_path / "p02.png").write_bytes((tmp_path / "p00.png").read_bytes())
    (tmp_path / "p07.jpg").write_bytes((tmp_path / "p00.png").read_bytes())
    (tmp_path / "p01.jpg").write_bytes(b"")
    (tmp_path / "p06.png").write_bytes(encoded(picture(6, (90, 20))))
    with path.open("a", encoding="utf-8") as file:
        file.write(f"p05.jpg,a red thing 4,g1,train\np05.jpg,{'very ' * 80}long,g1,train\n")
        # Twice for one picture: no caption that it shares with another.
        file.write("p00.png,a red thing 0,g0,train\n")
    assert main(["clip", "data", str(path), "--out", str(tmp_path / "d.json")]) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "d.json").read_text(encoding="utf-8"))
    pictures, texts = found["pictures"], found["captions"]
    assert pictures["n_pictures"] == 8
    assert pictures["corrupt"] == ["p01.jpg: the file is empty"]
    assert pictures["n_identical_files"] == 2
    assert pictures["identical_files"] == [["p00.png", "p02.png", "p07.jpg"]]
    assert (pictures["width_px"]["max"], pictures["height_px"]["min"]) == (90, 20)
    n = sum(len(captions_of(k)) for k in range(8)) + 3
    assert texts["n_captions"] == n
    assert texts["captions_per_picture"]["max"] == 5
    assert texts["n_captions_of_several_pictures"] == 1
    assert texts["n_pictures_that_share_a_caption"] == 2
    # CLIP's own tokens: one for each "very", one for "long", start and end.
    assert texts["tokens_per_caption"]["max"] == 83
    assert (texts["context_length"], texts["n_captions_truncated"]) == (77, 1)
    assert found["groups"]["n"] == 3
    assert found["splits"]["largest"] == {"train": 6, "val": 2}
    assert found["in_several_splits"] == {"groups": 2, "identical files": 1}
    assert "identical files in more than one split: 1" in printed
    assert "corrupt pictures: 1\n  p01.jpg: the file is empty" in printed


def test_a_source_that_cannot_be_read_ends_with_one_message(tmp_path, capsys):
    assert main(["clip", "data", str(tmp_path / "none.csv")]) == 1
    printed = capsys.readouterr().err
    assert "no such file of pairs" in printed and "Traceback" not in printed


def test_mistakes_in_the_section_data(write_recipe, tmp_path, capsys):
    pairs = write_table(tmp_path, 12)
    for data, words in (
        ({"crop_scale": [0.9, 0.5]}, "0 < smallest <= largest <= 1"),
        ({"no_duplicate": ["group"]}, "Did you mean 'no_duplicates'"),
        ({"background": "nocolour"}, "data.background"),
    ):
        recipe = write_recipe(data)
        split = ("--split", "train", "--validation-split", "val")
        assert train(recipe, pairs, tmp_path / "m", *split) == 1
        assert words in capsys.readouterr().err
