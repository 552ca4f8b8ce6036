"""A study that adapts a CLIP model, decodes with it, and asks whether that helped."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from braindecode_clip.cli.main import main
from braindecode_clip.io.tables import read_tsv

HERE = Path(__file__).parent
ARGUMENTS = (
    "--configfile",
    "config/demo.yaml",
    *(str(HERE / f"{n}.yaml") for n in ("tiny", "adapted")),
)


@pytest.fixture(scope="module")
def with_pairs(project: Path) -> Path:
    """Write pairs and a recipe of a few steps into the copy of the project."""
    for name, n, seed in (("pairs", 300, 11), ("validation", 40, 12)):
        assert (
            main(["simulate", "scenes", f"--n={n}", f"--seed={seed}", f"--out={project / name}.h5"])
            == 0
        )
    recipe = yaml.safe_load((project / "config/clip/scenes.yaml").read_text())
    recipe["name"] = "few"
    recipe["optimiser"]["lr"] = 5e-4
    recipe["training"] |= {"batch_size": 100, "log_every": 1, "validate_every": 3}
    (project / "few.yaml").write_text(yaml.safe_dump(recipe))
    return project


def test_adapting_comes_before_embedding_and_the_audit_at_the_end(with_pairs, snakemake) -> None:
    done = snakemake(*ARGUMENTS, "--dry-run", "--printshellcmds")
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    counts = dict(re.findall(r"^(\w+) +(\d+)$", text, flags=re.MULTILINE))
    made = ("clip_adapt", "clip_adapt_shuffled", "clip_perturb", "audit", "report")
    assert [counts[name] for name in made] == ["1"] * 5 and counts["embed"] == "4"
    trained = [line for line in text.splitlines() if "clip train" in line]
    for command in trained:
        assert (
            "--forbid results/adapted/simulate/stimuli/stimuli.tsv --forbid-split test" in command
        )
        assert "--initial data/models/scenes" in command and "--forbid-captions warn" in command
    assert sorted("--shuffle-captions" in command for command in trained) == [False, True]
    (command,) = [line for line in text.splitlines() if "enc-tuned_embeddings.h5 >" in line]
    # As the scenes CLIP, which it is compared with.
    assert '"precision":"fp32"' in command and "results/adapted/clip/few" in command
    (command,) = [line for line in text.splitlines() if "braindecode-clip audit" in line]
    assert "--pair tuned-weight-noise=scenes" in command
    assert "--leakage tuned=results/adapted/clip/few/leakage.json" in command


def test_every_stimulus_is_forbidden_where_each_is_tested_once(with_pairs, snakemake) -> None:
    splits = "splits=[{name: stimulus, scheme: stimulus}, {name: runs, scheme: leave_one_run_out}]"
    done = snakemake(
        *ARGUMENTS, "--dry-run", "--printshellcmds", "--until", "clip_adapt", "--config", splits
    )
    assert done.returncode == 0, done.stdout + done.stderr
    command = next(line for line in done.stdout.splitlines() if "clip train" in line)
    assert "--forbid results" in command and "--forbid-split" not in command


@pytest.mark.slow
def test_a_study_adapts_and_audits(with_pairs: Path, snakemake) -> None:
    done = snakemake(*ARGUMENTS)
    assert done.returncode == 0, done.stdout + done.stderr
    results = with_pairs / "results/adapted"
    content = json.loads((results / "audit/audit.json").read_text())
    table = read_tsv(results / "audit/audit.tsv")
    assert len(table) == len(content["rows"])
    encoders = {"tuned", "tuned-shuffled-captions", "tuned-weight-noise"}
    assert {item["adapted"] for item in content["findings"]} == encoders
    for row in content["rows"]:
        if row["subset"] != "all":
            continue
        stem = (
            f"sub-01_roi-visual_split-stimulus_enc-{{}}_dec-ridge_gal-{row['gallery']}_metrics.json"
        )
        for side in ("original", "adapted"):
            path = results / "evaluate/sub-01" / stem.format(row[side])
            scores = json.loads(path.read_text())["rows"]
            (own,) = [
                s
                for s in scores
                if (s["metric"], s["direction"]) == (row["metric"], row["direction"])
            ]
            assert own["value"] == pytest.approx(row[f"{side}_value"], abs=1e-12)
        assert row["difference"] == pytest.approx(row["adapted_value"] - row["original_value"])
        if row["direction"] == "brain_to_image":
            assert row["geometry"] + row["beyond_geometry"] == pytest.approx(row["difference"])
            assert np.isfinite([row["original_space"], row["adapted_space"]]).all()
    for record in content["leakage"].values():
        assert record["n_test_stimuli"] == 10 and record["training"]["n_pairs"] == 300
    folder = results / "clip"
    assert json.loads((folder / "few_shuffled-captions/data.json").read_text())["captions_shuffled"]
    page = (results / "report/report.html").read_text()
    assert "Did adapting the encoder help?" in page and "Beyond geometry" in page
    assert "a CLIP model adapted in this study (few)" in page
    done = snakemake(*ARGUMENTS)
    assert "Nothing to be done" in done.stdout + done.stderr
