"""Snakemake for real, on a small study: run, do nothing, re-run what an edit touches."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import h5py
import pytest

from braindecode_clip.cli.main import main
from braindecode_clip.io.hdf5 import read_provenance
from braindecode_clip.io.tables import read_tsv

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
    "compare",
    "controls",
    "card",
    "group",
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


def test_scores_come_with_what_was_fitted_on_what(finished: Path) -> None:
    for path in finished.glob("evaluate/sub-01/*_metrics.json"):
        content = json.loads(path.read_text())
        fitted = content["fitted"]
        assert {"tune", "betas", "voxels", "decode"} == {item["stage"] for item in fitted}
        seen = {item["n_stimuli"] for item in fitted if not item["transductive"]}
        assert max(seen) <= 60
        assert {item["overlap"] for item in fitted if not item["transductive"]} == {0}
        assert "cleaning of the run" in content["transductive"]
        assert all("cleaning of the run" in row["transductive"] for row in content["rows"])


def test_a_record_that_was_changed_is_refused(finished: Path, tmp_path: Path, capsys) -> None:
    (retrieval,) = finished.glob("retrieve/sub-01/*dec-ridge*_retrieval.h5")
    (source,) = finished.glob("decode/sub-01/*dec-ridge*_predictions.h5")
    (embeddings,) = finished.glob("embed/*_embeddings.h5")
    predictions = shutil.copy(source, tmp_path / "predictions.h5")
    flags = {"--retrieval": retrieval, "--predictions": predictions, "--embeddings": embeddings}
    command = ["evaluate", *(f"{name}={path}" for name, path in flags.items()), "--seed=1"]
    command += [f"--out={tmp_path / 'metrics.json'}", "--options={n_permutations: 99}"]
    assert main(command) == 0
    (tmp_path / "metrics.json").unlink()
    with h5py.File(predictions, "r+") as file:
        bits = file["records/sets"][...]
        file["records/sets"][...] = ~bits
    capsys.readouterr()
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "changed after they were written" in error
    assert "Traceback" not in error
    assert not (tmp_path / "metrics.json").exists()


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
        ("evaluate", {"evaluate", "compare", "controls", "card", "group", "report"}),
        (
            "decode",
            {"decode", "retrieve", "evaluate", "compare", "interpret", "report"}
            | {"controls", "card", "group"},
        ),
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
    assert planned(snakemake, "--config", "evaluate={n_bootstrap: 300}") == {
        "evaluate",
        "compare",
        "card",
        "report",
    }


def test_decoders_are_compared(finished: Path) -> None:
    table = read_tsv(finished / "compare/compare.tsv")
    assert sorted(table["decoder"]) == ["mlp", "ridge"]
    best = table["validation_pairwise"].idxmax()
    assert table["best"].astype(str).tolist() == [str(i == best) for i in range(2)]
    assert "Best on validation" in (finished / "report/report.html").read_text()


def test_an_option_of_group_reruns_it_and_the_report(finished: Path, snakemake) -> None:
    assert planned(snakemake, "--config", "group={n_bootstrap: 300}") == {"group", "report"}


def test_subjects_and_decoders_are_put_together(finished: Path) -> None:
    (path,) = finished.glob("group/*_group.json")
    assert path.name == "split-stimulus_enc-scenes_gal-test_group.json"
    content = json.loads(path.read_text())
    rows, pairs = content["rows"], content["pairs"]
    # One subject: ridge and mlp in two directions are one family of four.
    assert {row["level"] for row in rows} == {"subject"} and {r["n_family"] for r in rows} == {4}
    assert all(row["p"] <= row["p_corrected"] <= 1 for row in rows)
    assert {(pair["first"], pair["second"]) for pair in pairs} == {("ridge", "mlp")}
    assert any("one subject" in note for note in content["notes"])
    table = read_tsv(path.with_name(path.name.replace("group.json", "pairs.tsv")))
    assert len(table) == len(pairs) == 6
    page = (finished / "report/report.html").read_text()
    assert "Group and comparisons" in page and "Decoders and ROIs in pairs" in page


@pytest.mark.slow
def test_bands_bottleneck_importance_and_surface_on_request(finished: Path, snakemake) -> None:
    extras = str(Path(__file__).with_name("extras.yaml"))
    done = snakemake("--configfile", "config/demo.yaml", TINY, extras)
    assert done.returncode == 0, done.stdout + done.stderr
    results = finished.parent / "extras"
    curves = [read_tsv(path) for path in sorted(results.glob("bottleneck/sub-01/*.tsv"))]
    assert [set(curve["rank"]) for curve in curves] == [{0, 1, 4}] * 3
    tables = [read_tsv(path) for path in sorted(results.glob("importance/sub-01/*.tsv"))]
    for table, decoder in zip(tables, ("banded", "ridge"), strict=True):
        assert list(table["left_out"])[1:] == ["early", "higher"]
        assert set(table["roi"]) == {"visual"} and set(table["decoder"]) == {decoder}
    (path,) = results.glob("surface/sub-01/*.tsv")
    table = read_tsv(path)
    assert set(table["roi"]) == {"visual"} and set(table["n_repeats"]) == {1, 2, 4}
    assert path.with_suffix(".png").is_file()
    page = (results / "report/report.html").read_text()
    assert "Bottleneck: identification" in page and "Leave one ROI out" in page
    assert "banded ridge regression" in page
    assert "Accuracy against training data, repeats and candidates" in page
    assert "Without noise" in page


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
