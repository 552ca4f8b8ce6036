"""Snakemake for real, on a small study: run, do nothing, re-run what an edit touches."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from braindecode_clip.io.hdf5 import read_provenance

TINY = str(Path(__file__).with_name("tiny.yaml"))
ARGUMENTS = ("--configfile", "config/demo.yaml", TINY)
STAGES = [
    "preprocess",
    "tune",
    "betas",
    "voxels",
    "decode",
    "retrieve",
    "evaluate",
    "interpret",
    "report",
    "quality",
]


def planned(snakemake, *arguments: str) -> set[str]:
    """Return the rules that a dry run would execute."""
    done = snakemake(*ARGUMENTS, "--dry-run", "--quiet", "reason", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    text = done.stdout + done.stderr
    jobs = re.findall(r"^(\w+) +\d+$", text, flags=re.MULTILINE)
    return set(jobs) - {"all", "total"}


@pytest.fixture(scope="module")
def finished(project: Path, snakemake) -> Path:
    """Run the small study once and return its results folder."""
    done = snakemake(*ARGUMENTS)
    assert done.returncode == 0, done.stdout + done.stderr
    return project / "results/tiny"


def test_it_ends_with_a_report_and_metrics(finished: Path) -> None:
    assert (finished / "report/report.html").stat().st_size > 50_000
    metrics = sorted(finished.glob("evaluate/sub-01/*_metrics.json"))
    assert len(metrics) == 2
    for path in metrics:
        rows = json.loads(path.read_text())["rows"]
        top_1 = next(r for r in rows if r["metric"] == "top_1")
        assert top_1["n"] == 10 and top_1["chance"] == pytest.approx(0.1)
        assert 0 <= top_1["ci_low"] <= top_1["value"] <= top_1["ci_high"] <= 1


def test_every_artefact_says_where_it_comes_from(finished: Path) -> None:
    files = sorted(finished.glob("*/**/*.h5"))
    files = [path for path in files if "simulate" not in path.parts]
    assert {path.relative_to(finished).parts[0] for path in files} >= set(STAGES[:5]) | {
        "embed",
        "quality",
    }
    for path in files:
        record = read_provenance(path)
        assert record["stage"] == path.relative_to(finished).parts[0]
        assert re.fullmatch(r"[0-9a-f]{16}", record["code_digest"])
        assert record["inputs"] and record["libraries"]["numpy"]


def test_every_run_is_described(finished: Path) -> None:
    records = [json.loads(p.read_text()) for p in sorted(finished.glob("quality/sub-01/*.json"))]
    assert [record["run"] for record in records] == ["01", "02"]
    assert all(record["numbers"]["n_trials"] == 40 for record in records)
    page = (finished / "report/report.html").read_text()
    assert "sub-01 ses-01 run-02 over time" in page
    assert not [record for record in records if record["warnings"]]


def test_logs_and_benchmarks_are_kept(finished: Path) -> None:
    assert len(list(finished.glob("benchmarks/**/*.tsv"))) == len(
        list(finished.glob("logs/**/*.log"))
    )
    assert "trials" in next(finished.glob("logs/betas/**/*.log")).read_text()


def test_a_second_run_does_nothing(finished: Path, snakemake) -> None:
    done = snakemake(*ARGUMENTS)
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("evaluate", {"evaluate", "report"}),
        ("decode", {"decode", "retrieve", "evaluate", "interpret", "report"}),
        ("betas", set(STAGES) - {"preprocess"}),
        ("quality", {"quality", "report"}),
        ("report", {"report"}),
    ],
)
def test_an_edit_reruns_its_stage_and_what_follows(
    finished: Path, project: Path, snakemake, module: str, expected: set[str]
) -> None:
    package = project / "braindecode_clip" / module
    path = package.with_suffix(".py")
    if package.is_dir():
        path = next(p for p in sorted(package.glob("*.py")) if p.name != "__init__.py")
    text = path.read_text()
    try:
        path.write_text(text + "\n# A comment changes nothing.\n")
        assert planned(snakemake) == set()
        path.write_text(text + "\nADDED = 1\n")
        assert planned(snakemake) == expected
    finally:
        path.write_text(text)
    assert planned(snakemake) == set()


def test_an_option_reruns_its_stage_and_what_follows(finished: Path, snakemake) -> None:
    assert planned(snakemake, "--config", "evaluate={n_bootstrap: 300}") == {"evaluate", "report"}


def test_a_study_without_choices_tunes_nothing(finished: Path, snakemake) -> None:
    plain = "betas={method: lss, hrf: spm, noise_regressors: 0, shrinkage: none}"
    assert planned(snakemake, "--config", plain) == set(STAGES) - {"preprocess", "tune"}


def test_a_config_typo_stops_with_a_suggestion(snakemake) -> None:
    done = snakemake(*ARGUMENTS, "--dry-run", "--config", "decoder=[]")
    text = done.stdout + done.stderr
    assert done.returncode == 1
    assert "Did you mean 'decoders'?" in text
    assert "Traceback" not in text


def test_a_failing_stage_leaves_earlier_results_untouched(finished: Path, snakemake) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.glob("betas/**/*.h5")}
    done = snakemake(*ARGUMENTS, "--config", "preprocess={confounds: [trans_xx]}")
    assert done.returncode == 1
    text = done.stdout + done.stderr
    assert "trans_x" in text and "Traceback" not in text
    assert {p: p.stat().st_mtime_ns for p in finished.glob("betas/**/*.h5")} == before
