"""Where the brain says nothing, the workflow finds nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

NULL = str(Path(__file__).with_name("null.yaml"))


@pytest.fixture(scope="module")
def rows(project: Path, snakemake) -> list[dict]:
    """Run the study up to its scores."""
    done = snakemake("--configfile", "config/demo.yaml", NULL, "--until", "evaluate")
    assert done.returncode == 0, done.stdout + done.stderr
    files = sorted((project / "results/nothing/evaluate").rglob("*_metrics.json"))
    assert len(files) == 2
    return [row for path in files for row in json.loads(path.read_text())["rows"]]


def test_identification_is_not_significant(rows: list[dict]) -> None:
    scores = [r for r in rows if r["metric"] in {"top_1", "top_5", "pairwise"}]
    assert len(scores) == 12
    assert all(row["p"] > 0.05 for row in scores)


def test_no_score_survives_correction(rows: list[dict]) -> None:
    tested = [row for row in rows if row["p"] is not None]
    assert len(tested) >= 20
    assert min(row["p"] for row in tested) > 0.05 / len(tested)


def test_intervals_hold_chance(rows: list[dict]) -> None:
    for row in rows:
        if row["metric"] in {"top_1", "pairwise"}:
            assert row["ci_low"] <= row["chance"] <= row["ci_high"], row
