"""The command: JSON and TSV out, one message and no damage when something is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from braindecode_clip.cli.main import main
from braindecode_clip.constants import SCHEMA_VERSION
from braindecode_clip.io.hdf5 import save_artifact
from braindecode_clip.io.tables import read_tsv
from braindecode_clip.provenance import Provenance

RECORD = Provenance(stage="test", options={}, inputs={}, seed=None, code_digest="0")
FAST = "{n_bootstrap: 200, n_permutations: 99, n_permutations_dims: 99, pool_sizes: 4}"


@pytest.fixture
def files(make_case: Callable, tmp_path: Path) -> Path:
    """Return a folder with everything that ``evaluate`` reads."""
    case = make_case(9, signal=0.8)
    other = replace(case.embeddings, fingerprint={"model": "other"})
    for name, artefact in {
        "pred": case.predictions,
        "emb": case.embeddings,
        "other": other,
        "forth": case.forth,
        "back": case.back,
    }.items():
        save_artifact(tmp_path / f"{name}.h5", artefact, RECORD)
    return tmp_path


def call(folder: Path, *more: str, embeddings: str = "emb.h5", options: str = FAST) -> int:
    return main(
        [
            "evaluate",
            f"--retrieval={folder / 'forth.h5'}",
            f"--predictions={folder / 'pred.h5'}",
            f"--embeddings={folder / embeddings}",
            f"--options={options}",
            "--seed=7",
            f"--out={folder / 'metrics.json'}",
            *more,
        ]
    )


def test_writes_json_and_table(files: Path) -> None:
    code = call(files, f"--reverse={files / 'back.h5'}", f"--out-table={files / 'metrics.tsv'}")
    assert code == 0
    content = json.loads((files / "metrics.json").read_text())
    assert list(content) == ["schema_version", "provenance", "rows", "pool_curve", "notes"]
    assert content["schema_version"] == SCHEMA_VERSION
    assert content["provenance"]["seed"] == 7
    assert set(content["provenance"]["inputs"]) == {"forth.h5", "back.h5", "pred.h5", "emb.h5"}
    assert {row["direction"] for row in content["rows"]} == {
        "brain_to_image",
        "image_to_brain",
        "none",
    }
    table = read_tsv(files / "metrics.tsv", required=["metric", "value", "p"])
    assert table["metric"].tolist() == [row["metric"] for row in content["rows"]]
    assert table["value"].tolist() == pytest.approx([row["value"] for row in content["rows"]])
    assert {"direction", "pool_size", "value", "chance", "subject"} <= set(content["pool_curve"][0])


def test_numbers_that_do_not_exist_are_null(files: Path) -> None:
    call(files)
    text = (files / "metrics.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    rows = json.loads(text)["rows"]
    assert all(row["ceiling"] is None for row in rows)


def test_the_same_seed_gives_the_same_file(files: Path) -> None:
    call(files)
    first = (files / "metrics.json").read_bytes()
    call(files)
    assert (files / "metrics.json").read_bytes() == first


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"embeddings": "other.h5"}, "another encoder.*model: 'tiny' != 'other'"),
        ({"options": "{n_bootstraps: 9}"}, "Did you mean 'n_bootstrap'"),
        ({"options": "{top_k: [5, 1]}"}, "ascending"),
        ({"options": "{confidence: 95}"}, "'confidence': got 95"),
        ({"embeddings": "forth.h5"}, "holds Retrieval, expected Embeddings"),
    ],
)
def test_bad_input_gives_one_message_and_leaves_the_old_result(
    files: Path, capsys: pytest.CaptureFixture, change: dict, words: str
) -> None:
    (files / "metrics.json").write_text("old")
    assert call(files, **change) == 1
    message = capsys.readouterr().err
    assert message.count("error:") == 1
    assert "Traceback" not in message
    assert re.search(words, message), message
    assert (files / "metrics.json").read_text() == "old"


def test_voxels_and_decoder_come_together(files: Path, capsys: pytest.CaptureFixture) -> None:
    assert call(files, f"--voxels={files / 'pred.h5'}") == 1
    assert "--voxels and --decoder together; got only --voxels" in capsys.readouterr().err
    assert not (files / "metrics.json").exists()
