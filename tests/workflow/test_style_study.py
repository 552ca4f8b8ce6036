"""Adapting the scenes CLIP to a style helps to decode pictures of it, if it did not know it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from braindecode_clip.cli.common import read_options
from braindecode_clip.cli.main import main
from braindecode_clip.config.clip import ClipRecipe
from braindecode_clip.io.pairs import read_pairs

ROOT = Path(__file__).resolve().parents[2]
STUDY = Path(__file__).with_name("style.yaml")
# As many pairs as config/style-unseen.yaml has, with other seeds, and its recipe.
N_PAIRS, N_HELD_OUT = 10000, 400


def recall(model: str, pairs: Path, out: Path) -> float:
    """Image-to-text R@1 in pools of 100."""
    assert main(["clip", "evaluate", f"--model={model}", f"--pairs={pairs}", f"--out={out}"]) == 0
    return json.loads(out.read_text())[pairs.stem]["image_to_text"]["r1"]


def run(snakemake, style: str, *what: str) -> None:
    """Run a part of the workflow."""
    done = snakemake(*what, "--configfile", "config/demo.yaml", f"{style}/study.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def run_study(project: Path, snakemake, style: str) -> dict:
    """Draw pairs unlike the test pictures, then let the workflow adapt, decode and audit."""
    folder = project / style
    folder.mkdir()
    files = {name: folder / f"{name}.h5" for name in ("pairs", "validation")}
    study = yaml.safe_load(STUDY.read_text()) | {"study": f"style-{style}"}
    study["simulate"]["style"] = style
    study["adaptations"][0] |= {"recipe": f"config/clip/scenes-{style}.yaml"}
    for key, path in zip(("pairs", "validation"), files.values(), strict=True):
        study["adaptations"][0][key] = {"source": str(path.relative_to(project))}
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    results = f"results/style-{style}"
    stimuli = f"{results}/simulate/stimuli/stimuli.tsv"
    run(snakemake, style, stimuli)
    for path, n, seed in zip(files.values(), (N_PAIRS, N_HELD_OUT), (31, 32), strict=True):
        command = ["simulate", "scenes", f"--style={style}", f"--n={n}", f"--seed={seed}"]
        assert main([*command, f"--leave-out={project / stimuli}", f"--out={path}"]) == 0
    run(snakemake, style, "--until", "audit")
    model = str(project / results / "clip/style")
    return {
        "audit": json.loads((project / results / "audit/audit.json").read_text()),
        "stimuli": pd.read_csv(project / stimuli, sep="\t"),
        "trained": set(read_pairs(files["pairs"]).scenes),
        "before": recall("scenes", files["validation"], folder / "before.json"),
        "after": recall(model, files["validation"], folder / "after.json"),
    }


@pytest.fixture(scope="module")
def studies(project: Path, snakemake) -> dict[str, dict]:
    """Run the study with pictures of the new style, and with those of the known one."""
    return {style: run_study(project, snakemake, style) for style in ("lines", "filled")}


def top_1(study: dict) -> dict:
    """The row of the audit on top-1 identification of all test pictures."""
    wanted = {"metric": "top_1", "direction": "brain_to_image", "subset": "all"}
    (row,) = [r for r in study["audit"]["rows"] if wanted.items() <= r.items()]
    assert row["n"] == 80
    return row


@pytest.mark.slow
def test_the_new_style_is_learnt_and_the_known_one_was_known(studies: dict[str, dict]) -> None:
    assert studies["lines"]["before"] < 0.6 < 0.85 < studies["lines"]["after"]
    assert studies["filled"]["before"] > 0.95 and studies["filled"]["after"] > 0.95


@pytest.mark.slow
def test_the_audit_finds_help_for_the_new_style_alone(studies: dict[str, dict]) -> None:
    new, known = top_1(studies["lines"]), top_1(studies["filled"])
    assert new["ci_low"] > 0 and new["p"] < 0.05, new
    assert not known["verdict"].startswith(("helped", "hurt")), known
    assert known["difference"] < new["ci_low"], (known, new)


@pytest.mark.slow
def test_no_test_picture_was_adapted_on(studies: dict[str, dict]) -> None:
    for study in studies.values():
        tested = study["stimuli"].query("split == 'test'")
        assert len(tested) == 80 and not study["trained"] & set(tested["scene"])
        assert tested["held_out"].sum() == 40
        (record,) = study["audit"]["leakage"].values()
        assert record["n_test_stimuli"] == 80
        assert N_PAIRS - 40 < record["training"]["n_pairs"] <= N_PAIRS
        assert not any(
            n for kind, n in record["training"]["n_shared"].items() if kind != "mirrored"
        )


def test_both_recipes_take_the_same_effort() -> None:
    lines, filled = (
        read_options(str(ROOT / f"config/clip/scenes-{name}.yaml"), ClipRecipe)
        for name in ("lines", "filled")
    )
    assert lines.name != filled.name
    assert lines.model_copy(update={"name": "x"}) == filled.model_copy(update={"name": "x"})


def test_both_studies_differ_in_style_alone() -> None:
    unseen, known = (
        yaml.safe_load((ROOT / f"config/style-{name}.yaml").read_text())
        for name in ("unseen", "known")
    )
    for study in (unseen, known):
        for key in ("study", "report"):
            study.pop(key)
        study["adaptations"][0].pop("controls")
    assert unseen != known
    assert (
        json.loads(json.dumps(unseen).replace("lines", "filled").replace("unseen", "known"))
        == known
    )


@pytest.mark.parametrize(
    ("name", "style"),
    [("unseen", "lines"), pytest.param("known", "filled", marks=pytest.mark.slow)],
)
def test_pairs_come_from_the_workflow(name: str, style: str, snakemake) -> None:
    study = f"config/style-{name}.yaml"
    done = snakemake("--configfile", study, "-n", "-p", "--until", "clip_adapt")
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    drawn = re.findall(r"simulate scenes --style (\w+) --n (\d+) --seed (\d+)", text)
    assert set(drawn) == {(style, "10000", "11"), (style, "1000", "12")}
    train = next(line for line in text.splitlines() if "clip train" in line)
    assert f"--recipe config/clip/scenes-{style}.yaml --initial data/models/scenes" in train
    assert f"--forbid results/style-{name}/simulate/stimuli/stimuli.tsv" in train
