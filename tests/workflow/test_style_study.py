"""Adapting the scenes CLIP to a style helps to decode pictures of it, if it did not know it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from braindecode_clip.cli.common import read_options
from braindecode_clip.cli.main import main
from braindecode_clip.config.clip import ClipRecipe
from braindecode_clip.evaluate.paired import paired_intervals
from braindecode_clip.io.pairs import read_pairs

STYLE = str(Path(__file__).with_name("style.yaml"))
CLIP = Path(__file__).resolve().parents[2] / "config/clip"
# Fewer pairs than the recipe's 10,000; its other options stay.
N_PAIRS = 3000


def recall(model: str, pairs: Path, out: Path) -> float:
    """Image-to-text R@1 in pools of 100."""
    assert (
        main(["clip", "evaluate", "--model", model, "--pairs", str(pairs), "--out", str(out)]) == 0
    )
    return json.loads(out.read_text())[pairs.stem]["image_to_text"]["r1"]


def run_study(project: Path, snakemake, style: str) -> dict:
    """Draw pairs, adapt, scan a subject, decode with both; return what came of it."""
    folder = project / "results/adapted"
    folder.mkdir(parents=True, exist_ok=True)
    pairs, held_out = folder / f"{style}-train.h5", folder / f"{style}-heldout.h5"
    for path, n, seed in ((pairs, N_PAIRS, 31), (held_out, 400, 32)):
        command = ["simulate", "scenes", "--style", style, "--n", str(n), "--seed", str(seed)]
        assert main([*command, "--out", str(path)]) == 0
    model = folder / f"{style}-model"
    command = [
        "clip",
        "train",
        "--recipe",
        str(CLIP / f"scenes-{style}.yaml"),
        "--pairs",
        str(pairs),
    ]
    command += ["--initial", str(project / "data/models/scenes"), "--validation", str(held_out)]
    assert main([*command, "--out", str(model), "--threads", "1"]) == 0
    overlay = project / f"{style}.yaml"
    overlay.write_text(
        Path(STYLE)
        .read_text()
        .replace("results/adapted/model", str(model))
        .replace("  reliability", f"  style: {style}\n  reliability")
        + f"study: style-{style}\n"
    )
    done = snakemake("--configfile", "config/demo.yaml", str(overlay), "--until", "evaluate")
    assert done.returncode == 0, done.stdout + done.stderr
    results = project / f"results/style-{style}"
    scores = {}
    for encoder in ("original", "adapted"):
        (path,) = (results / "evaluate/sub-01").glob(f"*enc-{encoder}_*_items.tsv")
        items = pd.read_csv(path, sep="\t")
        items = items[(items["direction"] == "brain_to_image") & (items["level"] == "picture")]
        scores[encoder] = items.set_index("name")["top_1"].astype(float)
    return {
        "scores": scores,
        "pairs": pairs,
        "stimuli": pd.read_csv(results / "simulate/stimuli/stimuli.tsv", sep="\t"),
        "before": recall("scenes", held_out, folder / "before.json"),
        "after": recall(str(model), held_out, folder / "after.json"),
    }


@pytest.fixture(scope="module")
def studies(project: Path, snakemake) -> dict[str, dict]:
    """Run the study with pictures of the new style, and with those of the known one."""
    return {style: run_study(project, snakemake, style) for style in ("lines", "filled")}


def difference(study: dict) -> dict:
    """Top-1 with the adapted model less that with the original, by picture, with interval."""
    original, adapted = study["scores"]["original"], study["scores"]["adapted"].sort_index()
    original = original.sort_index()
    assert list(original.index) == list(adapted.index) and len(original) == 80
    differences = (adapted - original).to_numpy()[:, None]
    options = {"n_bootstrap": 2000, "confidence": 0.95, "rng": np.random.default_rng(0)}
    (found,) = paired_intervals(differences, np.arange(len(original)), **options)
    return found


@pytest.mark.slow
def test_the_new_style_is_learnt_and_the_known_one_was_known(studies: dict[str, dict]) -> None:
    assert studies["lines"]["before"] < 0.6 < 0.85 < studies["lines"]["after"]
    assert studies["filled"]["before"] > 0.95 and studies["filled"]["after"] > 0.95


@pytest.mark.slow
def test_identification_improves_for_the_new_style_alone(studies: dict[str, dict]) -> None:
    new, known = difference(studies["lines"]), difference(studies["filled"])
    assert new["ci_low"] > 0, new
    assert known["ci_low"] <= 0 <= known["ci_high"], known
    assert known["difference"] < new["difference"]


@pytest.mark.slow
def test_no_test_picture_was_adapted_on(studies: dict[str, dict]) -> None:
    for study in studies.values():
        tested = study["stimuli"].query("split == 'test'")
        trained = set(read_pairs(study["pairs"]).scenes)
        assert len(tested) == 80 and not trained & set(tested["scene"])
        assert tested["held_out"].sum() == 40


def test_both_recipes_take_the_same_effort() -> None:
    lines, filled = (
        read_options(str(CLIP / f"scenes-{name}.yaml"), ClipRecipe) for name in ("lines", "filled")
    )
    assert lines.model_copy(update={"name": "x"}) == filled.model_copy(update={"name": "x"})
