"""The workflow on real fMRI: one subject of Haxby et al. (2001), real CLIP text vectors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from braindecode_clip.io.tables import read_tsv

DECODERS = Path(__file__).resolve().parents[2] / "config/haxby-decoders.yaml"
ONLY_RIDGE = "decoders: [{name: ridge, kind: ridge}]\n"


@pytest.fixture(scope="module")
def metrics(shared_data: Path, project: Path, snakemake) -> dict[tuple[str, str], dict]:
    """Run config/haxby.yaml with its ridge and return the rows by split and gallery."""
    (project / "only_ridge.yaml").write_text(ONLY_RIDGE)
    done = snakemake("--configfile", "config/haxby.yaml", "only_ridge.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    found = {}
    for path in (project / "results/haxby/evaluate").rglob("*_metrics.json"):
        rows = json.loads(path.read_text())["rows"]
        first = rows[0]
        found[first["split"], first["gallery"]] = {
            row["metric"]: row for row in rows if row["direction"] == "brain_to_image"
        }
    return found


def test_seven_way_identification_of_real_categories(metrics: dict) -> None:
    rows = metrics["run", "categories"]
    assert rows["top_1"]["n"] == 84
    assert rows["top_1"]["chance"] == pytest.approx(1 / 7)
    assert rows["top_1"]["value"] >= 0.70
    assert rows["top_1"]["p"] < 0.001
    assert rows["pairwise"]["value"] >= 0.87


def test_all_names_as_candidates(metrics: dict) -> None:
    rows = metrics["run", "names"]
    assert rows["top_1"]["chance"] == pytest.approx(1 / 1466)
    assert rows["top_10"]["value"] > 10 * rows["top_10"]["chance"]


def test_zero_shot_is_reported(metrics: dict) -> None:
    rows = metrics["category", "categories"]
    assert rows["top_1"]["n"] == 84
    assert 0 <= rows["pairwise"]["value"] <= 1


ONE_SPLIT = """
splits: [{name: run, scheme: leave_one_run_out}]
galleries: [{name: categories, candidates: test}]
"""


@pytest.mark.slow
def test_every_decoder_tells_categories_apart(shared_data: Path, project: Path, snakemake) -> None:
    (project / "one_split.yaml").write_text(ONE_SPLIT)
    done = snakemake("--configfile", "config/haxby-decoders.yaml", "one_split.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    results = project / "results/haxby-decoders"
    table = read_tsv(results / "compare/compare.tsv").set_index("decoder")
    wanted = [item["name"] for item in yaml.safe_load(DECODERS.read_text())["decoders"]]
    assert table.index.tolist() == wanted
    assert table.loc["ridge", "test_top_1"] == pytest.approx(60 / 84)
    # The smallest network on 77 rows is behind; all others are about as good as ridge.
    closed = table.drop(index="mlp")
    assert (closed["test_top_1"] > 0.65).all() and (closed["test_pairwise"] > 0.85).all()
    assert table.loc["mlp", "test_top_1"] > 3 / 7
    eligible = table[~table["transductive"].astype(bool)]
    best = table.index[table["best"].astype(bool)].tolist()
    assert best == [eligible["validation_pairwise"].idxmax()]
    page = (results / "report/report.html").read_text(encoding="utf-8")
    assert "Accuracy against rank" in page and "Which decoder" in page
