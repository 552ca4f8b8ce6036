"""The command: JSON and TSV out, one message and no damage when something is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import pytest

from braindecode_clip.artifacts import Predictions, Records
from braindecode_clip.cli.main import main
from braindecode_clip.constants import SCHEMA_VERSION
from braindecode_clip.io.hdf5 import load_artifact, save_artifact
from braindecode_clip.io.tables import read_tsv
from braindecode_clip.provenance import Provenance

RECORD = Provenance(stage="test", options={}, inputs={}, seed=None, code_digest="0")
FAST = "{n_bootstrap: 200, n_permutations: 99, n_permutations_dims: 99, pool_sizes: 4}"


@pytest.fixture
def files(make_case: Callable, tmp_path: Path) -> Path:
    """Return a folder with everything that ``evaluate`` reads."""
    case = make_case(9, signal=0.8, n_embedded=13)
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
    code = call(
        files,
        f"--reverse={files / 'back.h5'}",
        f"--out-table={files / 'metrics.tsv'}",
        f"--out-dimensions={files / 'dimensions.tsv'}",
    )
    assert code == 0
    content = json.loads((files / "metrics.json").read_text())
    assert list(content) == [
        "schema_version",
        "provenance",
        "rows",
        "pool_curve",
        "dimensions",
        "power",
        "nulls",
        "notes",
        "protocols",
        "transductive",
        "fitted",
    ]
    assert {row["metric"] for row in content["power"]} == {"top_1", "pairwise"}
    assert {item["overlap"] for item in content["fitted"]} == {0}
    assert content["schema_version"] == SCHEMA_VERSION
    assert content["provenance"]["seed"] == 7
    assert set(content["provenance"]["inputs"]) == {"forth.h5", "back.h5", "pred.h5", "emb.h5"}
    assert {row["direction"] for row in content["rows"]} == {
        "brain_to_image",
        "image_to_brain",
        "none",
    }
    table = read_tsv(files / "metrics.tsv", required=["metric", "value", "p"])
    rows = [*content["rows"], *content["protocols"]]
    assert table["metric"].tolist() == [row["metric"] for row in rows]
    assert table["value"].tolist() == pytest.approx([row["value"] for row in rows])
    assert table["protocol"].tolist() == [row["protocol"] for row in rows]
    assert {"gallery", "full-pool"} <= set(table["protocol"])
    assert {row["transductive"] for row in rows} == {"; ".join(content["transductive"])}
    dimensions = read_tsv(files / "dimensions.tsv", required=["dimension", "correlation", "p", "q"])
    assert len(dimensions) == content["dimensions"]["n_dims"] == 6
    assert content["dimensions"]["n_significant"] == (dimensions["q"] < 0.05).sum()
    means = {row["metric"]: row["value"] for row in content["rows"]}
    assert dimensions["correlation"].mean() == pytest.approx(means["correlation_mean"])
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


def test_categories_come_from_the_stimuli_table(files: Path) -> None:
    shown = sorted({f"stim-{i:03d}" for i in range(9)})
    lines = [f"{name}\t{'xyz'[i % 3]}" for i, name in enumerate(shown[:-1])]
    stimuli = files / "stimuli.tsv"
    stimuli.write_text("\n".join(["stimulus_id\tkind", *lines, f"{shown[-1]}\tn/a", ""]))
    flags = (f"--stimuli={stimuli}", f"--out-items={files / 'items.tsv'}")
    options = "{n_bootstrap: 200, n_permutations: 99, n_permutations_dims: 99"
    assert call(files, *flags, options=options + ", category_column: kind}") == 0
    items = read_tsv(files / "items.tsv", required=["level", "name", "pairwise", "n"])
    counts = items["level"].value_counts()
    assert (counts["picture"], counts["category"]) == (9, 3)
    assert items[items["level"] == "category"].set_index("name")["n"].to_dict() == {
        "x": 3,
        "y": 3,
        "z": 2,
    }
    content = json.loads((files / "metrics.json").read_text())
    assert "god-category" in {row["protocol"] for row in content["protocols"]}
    assert "stimuli.tsv" in content["provenance"]["inputs"]
    assert call(files, *flags, options=options + "}") == 0
    content = json.loads((files / "metrics.json").read_text())
    assert any("no column 'category'" in note for note in content["notes"])


def test_an_unknown_protocol_is_named(files: Path, capsys: pytest.CaptureFixture) -> None:
    assert call(files, options="{protocols: [mindeye]}") == 1
    assert "mindeye-300" in capsys.readouterr().err


def edited(path: Path, edit: Callable[[h5py.File], None]) -> None:
    with h5py.File(path, "r+") as file:
        edit(file)


@pytest.mark.parametrize("what", ["bits", "names", "flag"])
def test_records_that_were_changed_by_hand(
    files: Path, capsys: pytest.CaptureFixture, what: str
) -> None:
    def edit(file: h5py.File) -> None:
        columns = json.loads(file["records/table"].attrs["columns"])
        column = f"records/table/column_{columns.index('transductive'):03d}"
        if what == "bits":
            file["records/sets"][0, 0] ^= 128
        elif what == "names":
            file["records/names"][0] = "another"
        else:
            file[column][...] = ~file[column][...]

    edited(files / "pred.h5", edit)
    assert call(files) == 1
    error = capsys.readouterr().err
    assert "pred.h5: the records of what was fitted were changed" in error
    assert "Re-run the stage that wrote the file" in error
    assert "Traceback" not in error
    assert not (files / "metrics.json").exists()


def test_files_of_an_older_version(files: Path, capsys: pytest.CaptureFixture) -> None:
    edited(files / "pred.h5", lambda file: file.__delitem__("records"))
    assert call(files) == 1
    error = capsys.readouterr().err
    for stage in ("betas", "voxels", "decode"):
        assert f"re-run `{stage}`" in error
    assert "Traceback" not in error


def test_a_leak_ends_with_a_message(files: Path, capsys: pytest.CaptureFixture) -> None:
    predictions = load_artifact(files / "pred.h5", Predictions)
    tested = str(predictions.stimulus_id[3])
    items = [
        replace(item, stimuli=item.stimuli | {tested}) if item.statistic in culprits else item
        for culprits in [("mean", "calibration")]
        for item in predictions.records.items
    ]
    leaky = replace(predictions, records=Records.of(items))
    save_artifact(files / "pred.h5", leaky, RECORD)
    assert call(files) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: evaluate (01, v, s, ridge): 2 problems")
    assert (
        f"'mean' of stage `voxels` (made up, fold 'all') was fitted on 1 tested stimuli: '{tested}'"
        in error
    )
    assert "'calibration' of stage `decode`" in error
    assert "Traceback" not in error


def test_voxels_and_decoder_come_together(files: Path, capsys: pytest.CaptureFixture) -> None:
    assert call(files, f"--voxels={files / 'pred.h5'}") == 1
    assert "--voxels and --decoder together; got only --voxels" in capsys.readouterr().err
    assert not (files / "metrics.json").exists()
