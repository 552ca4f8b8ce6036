"""The command, its files, and the part of the report that is made of them."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted_subjects import predicted

from braindecode_clip.artifacts import Embeddings
from braindecode_clip.checks import Problems
from braindecode_clip.cli.main import main
from braindecode_clip.config.study import parse_study
from braindecode_clip.io.hdf5 import save_artifact
from braindecode_clip.io.tables import read_json, read_tsv
from braindecode_clip.provenance import Provenance, make_provenance
from braindecode_clip.report.controls import n_suspicious, suspicions
from braindecode_clip.report.inputs import _Reader
from braindecode_clip.report.sections import Studio

OPTIONS = "{n_clusters: 6, n_matched: 1, n_shuffles: 2, n_bootstrap: 200}"


@functools.cache
def record_of(stage: str) -> Provenance:
    """Return a provenance; digesting the code of a stage takes a while."""
    return make_provenance(stage, options={}, inputs=[])


def write(folder: Path, voxels, embeddings) -> dict[str, str]:
    predictions, fitted = predicted(voxels, embeddings)
    parts = {"voxels": voxels, "embeddings": embeddings, "predictions": predictions}
    record = record_of("decode")
    paths = {}
    for name, artefact in {**parts, "decoder": fitted}.items():
        path = folder / f"{name}.h5"
        save_artifact(path, artefact, record)
        paths[name] = str(path)
    return paths


def arguments(paths: dict[str, str], out: Path, options: str = OPTIONS) -> list[str]:
    flags = [word for name, path in paths.items() for word in (f"--{name}", path)]
    table = out.with_suffix(".tsv")
    return [
        "controls",
        *flags,
        *("--options", options, "--out", str(out), "--out-table", str(table)),
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory, clustered):
    folder = tmp_path_factory.mktemp("controls")
    paths, out = write(folder, *clustered), folder / "controls.json"
    assert main(arguments(paths, out)) == 0
    return paths, out


def test_the_files_hold_the_same_rows_and_the_labels(written):
    paths, out = written
    content, table = read_json(out), read_tsv(out.with_suffix(".tsv"), text=["subject"])
    labels = {"subject": "01", "roi": "visual", "split": "planted", "encoder": "planted"}
    assert {key: content[key] for key in labels} == labels
    assert content["provenance"]["options"]["n_clusters"] == 6
    assert len(content["provenance"]["inputs"]) == len(paths)
    np.testing.assert_allclose(table["value"], [row["value"] for row in content["rows"]])
    assert table["subject"].unique().tolist() == ["01"]
    whats = [(item["what"], item["decoder"]) for item in content["spectra"]]
    assert ("training predictions", "ridge") in whats and ("training targets", None) in whats
    assert "NaN" not in out.read_text()
    assert len(content["transductive"]) == 1


def test_the_same_command_writes_the_same_numbers(written, tmp_path):
    paths, out = written
    assert main(arguments(paths, tmp_path / "again.json")) == 0
    assert read_json(tmp_path / "again.json")["rows"] == read_json(out)["rows"]


def test_tokens_are_answered_with_a_reason(tmp_path, clustered):
    voxels, embeddings = clustered
    paths = write(tmp_path, voxels, embeddings)
    tokens = np.repeat(embeddings.vectors[:, None], 3, axis=1)
    several = replace(embeddings, vectors=tokens)
    save_artifact(Path(paths["embeddings"]), several, record_of("embed"))
    assert main(arguments(paths, tmp_path / "out.json")) == 0
    content = read_json(tmp_path / "out.json")
    assert content["rows"] == content["transductive"] == [] and len(content["verdicts"]) == 6
    assert {item["level"] for item in content["verdicts"]} == {"not applicable"}
    assert "tokens" in content["verdicts"][0]["sentence"]


def test_bad_input_ends_with_one_message_and_writes_nothing(tmp_path, clustered, linear, capsys):
    paths = write(tmp_path, *clustered)
    (tmp_path / "other").mkdir()
    foreign = write(tmp_path / "other", *linear)
    # Another encoder's embeddings of the same pictures.
    _, embeddings = clustered
    other = Embeddings(embeddings.ids, embeddings.vectors, "image", {"name": "another"})
    save_artifact(Path(foreign["embeddings"]), other, record_of("embed"))
    out = tmp_path / "out.json"
    cases = [
        ({**paths, "embeddings": foreign["embeddings"]}, OPTIONS, "another encoder"),
        (paths, "{n_cluster: 3}", "Did you mean 'n_clusters'?"),
        (paths, "{decoder: {alpha: 3}}", "'decoder.alpha'"),
    ]
    for given, options, words in cases:
        assert main(arguments(given, out, options)) == 1
        message = capsys.readouterr().err
        assert message.startswith("error: ") and words in message and "Traceback" not in message
        assert not out.exists() and not out.with_suffix(".tsv").exists()


class Order:
    """The labels of a study of one condition."""

    names = {  # noqa: RUF012
        "subject": ["01"],
        "roi": ["visual"],
        "split": ["planted"],
        "encoder": ["planted"],
        "decoder": ["ridge"],
    }


def test_the_report_shows_a_figure_and_the_suspicious_findings_first(written):
    content = read_json(written[1])
    found = suspicions([content, {**content, "subject": "99"}], Order, Studio())
    assert len(found) == 1
    (item,) = found
    levels = [level for level, *_ in item.findings]
    assert levels[0] == "suspicious" and n_suspicious(found) == levels.count("suspicious") >= 2
    assert sorted(levels, key=["suspicious", "note", "fine"].index) == levels
    (drawing,) = item.block.drawings
    for words in ("real score", "nearest training picture", "cluster left out", "shuffled pairs"):
        assert words in drawing.svg and words in drawing.alt
    scores, ranks, quantiles = item.block.tables
    assert len(scores.rows) == len(content["rows"])
    assert len(ranks.rows) == len(content["spectra"]) and len(quantiles.rows) == 2


def test_controls_ruled_out_alike_make_one_line(by_run, tmp_path):
    paths = write(tmp_path, *by_run)
    assert main(arguments(paths, tmp_path / "out.json")) == 0
    (item,) = suspicions([read_json(tmp_path / "out.json")], Order, Studio())
    out = [name for level, name, _ in item.findings if level == "does not apply"]
    assert out == ["nearest training picture, overlap of test and train, cluster left out"]
    assert len(item.block.tables) == 2


def test_a_damaged_file_is_named_with_all_that_it_lacks(written, tmp_path):
    content = read_json(written[1])
    del content["rows"], content["verdicts"]
    (tmp_path / "lacking.json").write_text(json.dumps(content))
    (tmp_path / "cut.json").write_text(written[1].read_text()[:200])
    reader = _Reader(Problems("here"))
    paths = [str(tmp_path / name) for name in ("lacking.json", "cut.json", "absent.json")]
    assert reader.controls([*paths, str(written[1])])[0]["subject"] == "01"
    first, second, third = reader.problems.messages
    assert "'rows', 'verdicts'" in first and "not valid JSON" in second and "no such" in third


def test_controls_are_on_unless_a_study_turns_them_off():
    wanted = {"study": "s", "rois": [{"name": "v", "mask": "m"}], "splits": [{"name": "a"}]}
    wanted |= {"encoders": [{"name": "e"}], "galleries": [{"name": "g"}]}
    wanted |= {"decoders": [{"name": "ridge", "kind": "ridge"}]}
    assert parse_study(wanted, where="s").controls.enabled
    assert not parse_study(wanted | {"controls": {"enabled": False}}, where="s").controls.enabled
