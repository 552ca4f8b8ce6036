"""``clip train`` refuses test stimuli, in whatever form, and counts shared held-out pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from braindecode_clip.cli.main import main
from braindecode_clip.simulate.captions import caption
from braindecode_clip.simulate.render import render
from braindecode_clip.simulate.scenes import sample_scene

ROOT = Path(__file__).resolve().parents[2]
N_TRAIN, N_VALIDATION, N_STIMULI = 24, 8, 10


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write training and held-out pairs, a study's stimuli and a recipe of one step."""
    folder = tmp_path_factory.mktemp("leaks")
    rng = np.random.default_rng(31)

    def draw(name: str, n: int, split: str = "") -> list[str]:
        (folder / name).mkdir(exist_ok=True)
        rows = []
        for k in range(n):
            scene = sample_scene(rng)
            render(scene, size_px=64).save(folder / name / f"{name}{split}{k}.png")
            rows.append(f"{name}{split}{k}.png\t{caption(scene, rng)}")
        return rows

    for name, n in (("train", N_TRAIN), ("validation", N_VALIDATION)):
        rows = draw(name, n)
        (folder / name / "pairs.tsv").write_text("\n".join(["image\tcaption", *rows]) + "\n")
    lines = ["stimulus_id\timage\tcaption\tsplit"]
    for split in ("test", "train"):
        for k, row in enumerate(draw("stimuli", N_STIMULI, split)):
            lines.append(f"{split}-{k}\t{row}\t{split}")
    (folder / "stimuli/stimuli.tsv").write_text("\n".join(lines) + "\n")
    recipe = yaml.safe_load((ROOT / "config/clip/scenes.yaml").read_text())
    recipe["training"] |= {"batch_size": 8, "epochs": 1, "word_loss_weight": 0.0}
    recipe["model"]["embed_dim"] = 8
    recipe["model"]["text_cfg"] |= {"width": 16, "heads": 2, "layers": 1}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def train(world: Path, out: Path, *more: str, pairs: Path | None = None) -> int:
    return main(
        [
            "clip",
            "train",
            f"--recipe={world / 'recipe.yaml'}",
            f"--pairs={pairs or world / 'train/pairs.tsv'}",
            f"--validation={world / 'validation/pairs.tsv'}",
            f"--out={out}",
            *more,
        ]
    )


def with_rows(world: Path, tmp_path: Path, extra: dict[str, tuple[Image.Image, str]]) -> Path:
    """Write the training pairs with more of them, whose pictures are given."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    rows = (world / "train/pairs.tsv").read_text().splitlines()
    for path in (world / "train").glob("*.png"):
        (folder / path.name).symlink_to(path)
    for name, (picture, text) in extra.items():
        picture.save(folder / name, **({"quality": 70} if name.endswith("jpg") else {}))
        rows.append(f"{name}\t{text}")
    (folder / "pairs.tsv").write_text("\n".join(rows) + "\n")
    return folder / "pairs.tsv"


def forbid(world: Path) -> str:
    return f"--forbid={world / 'stimuli/stimuli.tsv'}"


def test_what_was_looked_for_is_recorded(world: Path, tmp_path: Path) -> None:
    assert train(world, tmp_path / "m", forbid(world), "--forbid-split=test") == 0
    record = json.loads((tmp_path / "m/leakage.json").read_text())
    assert record["test"]["n_stimuli"] == N_STIMULI == len(record["test"]["pixels_sha256"])
    assert record["training"]["n_pairs"] == N_TRAIN and record["validation"]["n_pairs"] == 8
    nothing = {"same_file": 0, "same_pixels": 0, "near_duplicate": 0, "mirrored": 0}
    assert record["training"]["n_shared"] == record["validation"]["n_shared"] == nothing
    assert record["training"]["nearest_grey_levels"] > 10
    assert record["thresholds"]["max_difference_grey_levels"] == 10
    shared = json.loads((tmp_path / "m/data.json").read_text())["shared_pictures"]
    assert shared["n_shared"] == nothing
    # A later model in the same folder, of which nothing is known.
    assert train(world, tmp_path / "m", f"--state={tmp_path / 's'}") == 0
    assert not (tmp_path / "m/leakage.json").exists()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("copy.png", "same file"), ("again.bmp", "same pixels"), ("small.jpg", "near duplicate")],
)
def test_a_planted_test_stimulus_is_refused_by_name(
    world: Path, tmp_path: Path, capsys, name: str, kind: str
) -> None:
    picture = Image.open(world / "stimuli/stimulitest3.png")
    if name == "small.jpg":
        picture = picture.convert("RGB").resize((48, 52), Image.Resampling.BICUBIC)
    pairs = with_rows(world, tmp_path, {name: (picture, "a small red circle")})
    if name == "copy.png":
        content = (world / "stimuli/stimulitest3.png").read_bytes()
        (pairs.parent / name).write_bytes(content)
    capsys.readouterr()
    assert train(world, tmp_path / "m", forbid(world), "--forbid-split=test", pairs=pairs) == 1
    error = capsys.readouterr().err
    assert f"1 pictures are test stimuli of {world / 'stimuli/stimuli.tsv'} ({kind})" in error
    assert f"{name} = test-3" in error and "Traceback" not in error
    assert not (tmp_path / "m").exists()


def test_held_out_pairs_must_not_be_test_stimuli_either(
    world: Path, tmp_path: Path, capsys
) -> None:
    picture = Image.open(world / "stimuli/stimulitest0.png")
    pairs = with_rows(world, tmp_path, {"x.png": (picture, "a circle")})
    command = ["clip", "train", f"--recipe={world / 'recipe.yaml'}", f"--validation={pairs}"]
    command += [f"--pairs={world / 'train/pairs.tsv'}", f"--out={tmp_path / 'm'}", forbid(world)]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "x.png = test-0" in error and str(pairs) in error


def test_a_training_stimulus_may_be_trained_on_where_it_is_never_tested(
    world: Path, tmp_path: Path, capsys
) -> None:
    picture = Image.open(world / "stimuli/stimulitrain2.png")
    pairs = with_rows(world, tmp_path, {"x.png": (picture, "a circle")})
    assert train(world, tmp_path / "m", forbid(world), pairs=pairs) == 1
    assert "x.png = train-2" in capsys.readouterr().err
    assert train(world, tmp_path / "m", forbid(world), "--forbid-split=test", pairs=pairs) == 0


def test_a_mirrored_test_stimulus_is_reported(world: Path, tmp_path: Path) -> None:
    turned = Image.open(world / "stimuli/stimulitest5.png").transpose(
        Image.Transpose.FLIP_LEFT_RIGHT
    )
    pairs = with_rows(world, tmp_path, {"turned.png": (turned, "a circle")})
    assert train(world, tmp_path / "m", forbid(world), pairs=pairs) == 0
    record = json.loads((tmp_path / "m/leakage.json").read_text())
    assert record["training"]["n_shared"]["mirrored"] == 1
    shared = {"pair": "turned.png", "other": "test-5", "found_as": "mirrored"}
    assert record["training"]["shared"] == [shared]


def test_captions_of_test_stimuli_are_counted_or_refused(
    world: Path, tmp_path: Path, capsys
) -> None:
    line = (world / "stimuli/stimuli.tsv").read_text().splitlines()[1]
    text = line.split("\t")[2].upper() + "!"
    picture = Image.open(world / "train/train0.png").rotate(90)
    pairs = with_rows(world, tmp_path, {"x.png": (picture, text)})
    how = (forbid(world), "--forbid-split=test")
    assert train(world, tmp_path / "m", *how, "--forbid-captions=error", pairs=pairs) == 1
    error = capsys.readouterr().err
    assert "1 captions are those of test stimuli" in error and "'test-0'" in error
    assert train(world, tmp_path / "m", *how, pairs=pairs) == 0
    record = json.loads((tmp_path / "m/leakage.json").read_text())["training"]
    assert record["n_shared_captions"] == record["n_test_stimuli_with_them"] == 1
    ignore = (*how, "--forbid-captions=ignore", f"--state={tmp_path / 's'}")
    assert train(world, tmp_path / "n", *ignore, pairs=pairs) == 0
    record = json.loads((tmp_path / "n/leakage.json").read_text())["training"]
    assert record["n_shared_captions"] is None
    assert train(world, tmp_path / "o", *how, "--forbid-captions=maybe") == 1


def test_held_out_pictures_among_the_training_pictures_are_counted(
    world: Path, tmp_path: Path
) -> None:
    extra = {
        "a.jpg": (Image.open(world / "validation/validation1.png").convert("RGB"), "a circle"),
        "b.png": (Image.open(world / "validation/validation4.png"), "a square"),
    }
    pairs = with_rows(world, tmp_path, extra)
    assert train(world, tmp_path / "m", pairs=pairs) == 0
    shared = json.loads((tmp_path / "m/data.json").read_text())["shared_pictures"]
    n = shared["n_shared"]
    assert n["same_file"] + n["same_pixels"] == 1 and n["near_duplicate"] == 1
    assert {item["pair"] for item in shared["shared"]} == {"a.jpg", "b.png"}
    assert not (tmp_path / "m/leakage.json").exists()
    state = f"--state={tmp_path / 's'}"
    assert train(world, tmp_path / "n", state, "--no-check-pairs", pairs=pairs) == 0
    assert json.loads((tmp_path / "n/data.json").read_text())["shared_pictures"] is None


def test_test_stimuli_that_cannot_be_read_stop_the_run(world: Path, tmp_path: Path, capsys) -> None:
    table = tmp_path / "stimuli.tsv"
    (tmp_path / "broken.png").write_bytes(b"no picture")
    table.write_text("stimulus_id\timage\ns1\tbroken.png\ns2\tabsent.png\n")
    assert train(world, tmp_path / "m", f"--forbid={table}") == 1
    error = capsys.readouterr().err
    assert "2 problems" in error and "s1: is no picture" in error and "s2: no such file" in error
    assert train(world, tmp_path / "m", f"--forbid={table}", "--forbid-split=test") == 1
    assert "split" in capsys.readouterr().err


def test_shuffled_captions_are_those_of_other_pictures(world: Path, tmp_path: Path) -> None:
    from braindecode_clip.io.pair_source import with_shuffled_captions
    from braindecode_clip.io.pairs import read_pairs

    source = read_pairs(world / "train/pairs.tsv")
    shuffled = with_shuffled_captions(source, seed=4)
    assert shuffled.names == source.names
    assert sorted(shuffled.captions) == sorted(source.captions)
    moved = [a is not b for a, b in zip(source.captions, shuffled.captions, strict=True)]
    assert all(moved)
    assert with_shuffled_captions(source, seed=5).captions != shuffled.captions
    assert with_shuffled_captions(source, seed=4).captions == shuffled.captions
    assert train(world, tmp_path / "m", "--shuffle-captions") == 0
    assert json.loads((tmp_path / "m/data.json").read_text())["captions_shuffled"] is True
    assert train(world, tmp_path / "plain") == 0
    weights = [tmp_path / name / "open_clip_model.safetensors" for name in ("m", "plain")]
    assert weights[0].read_bytes() != weights[1].read_bytes()
