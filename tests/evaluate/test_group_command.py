"""The command: JSON and two tables out, one message and no damage when something is wrong."""

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
FAST = "{n_bootstrap: 200, n_permutations: 99}"


@pytest.fixture
def files(make_case: Callable, tmp_path: Path) -> Path:
    """Return a folder with predictions and retrievals of two subjects and two decoders."""
    for subject in ("01", "02"):
        for decoder in ("ridge", "mlp"):
            case = make_case(9, signal=0.8, seed=int(subject))
            labels = {"subject": subject, "decoder": decoder}
            artefacts = {"pred": case.predictions, "forth": case.forth, "back": case.back}
            for name, item in artefacts.items():
                path = tmp_path / f"{subject}_{decoder}_{name}.h5"
                save_artifact(path, replace(item, info={**item.info, **labels}), RECORD)
    return tmp_path


def call(folder: Path, *more: str, only: str = "*", options: str = FAST) -> int:
    flags = {"retrieval": "forth", "reverse": "back", "predictions": "pred"}
    given = [
        f"--{flag}={path}"
        for flag, name in flags.items()
        for path in sorted(folder.glob(f"{only}_{name}.h5"))
    ]
    where = [f"--out={folder / 'group.json'}", f"--out-pairs={folder / 'pairs.tsv'}"]
    return main(["group", *given, *where, f"--options={options}", "--seed=7", *more])


def test_writes_json_and_tables(files: Path) -> None:
    assert call(files, f"--out-table={files / 'group.tsv'}") == 0
    content = json.loads((files / "group.json").read_text())
    assert list(content) == [
        *("schema_version", "provenance", "rows", "pairs", "notes", "transductive")
    ]
    assert content["schema_version"] == SCHEMA_VERSION
    assert content["provenance"]["stage"] == "group"
    assert len(content["provenance"]["inputs"]) == 12
    # Four scores in two directions by two decoders: two subjects and the group.
    assert len(content["rows"]) == 3 * 16
    assert len(content["pairs"]) == 3 * 2 * 3
    table = read_tsv(files / "group.tsv", required=["level", "p_corrected"], text=["subject"])
    assert table["value"].tolist() == pytest.approx([row["value"] for row in content["rows"]])
    assert set(table["subject"]) == {"01", "02", "all"}
    pairs = read_tsv(files / "pairs.tsv", required=["q", "verdict"])
    assert pairs["difference"].tolist() == pytest.approx(
        [row["difference"] for row in content["pairs"]]
    )
    assert "NaN" not in (files / "group.json").read_text()


def test_the_same_seed_gives_the_same_file(files: Path) -> None:
    call(files)
    first = (files / "group.json").read_bytes()
    call(files)
    assert (files / "group.json").read_bytes() == first


def test_one_subject_and_one_decoder_are_enough(files: Path) -> None:
    assert call(files, only="01_ridge", options=FAST) == 0
    content = json.loads((files / "group.json").read_text())
    assert content["pairs"] == [] and {row["level"] for row in content["rows"]} == {"subject"}
    assert any("one subject" in note for note in content["notes"])


def test_stimuli_of_unequal_repeats_change_places_on_request(
    make_case: Callable, tmp_path: Path
) -> None:
    case = make_case(4, repeats=(1, 2, 3, 4))
    for name, item in {"pred": case.predictions, "forth": case.forth}.items():
        save_artifact(tmp_path / f"01_ridge_{name}.h5", item, RECORD)
    found = {}
    for flag in ("false", "true"):
        options = f"{{n_bootstrap: 200, n_permutations: 99, exchange_unequal: {flag}}}"
        assert call(tmp_path, options=options) == 0
        found[flag] = json.loads((tmp_path / "group.json").read_text())
    assert {row["p"] for row in found["false"]["rows"]} == {None}
    assert any("4 sets; 100% of the stimuli" in note for note in found["false"]["notes"])
    assert None not in {row["p"] for row in found["true"]["rows"]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"options": "{n_permutation: 9}"}, "Did you mean 'n_permutations'"),
        ({"options": "{compare: [ridge, svm]}"}, "no results of 'svm'"),
        ({"lost": "02_mlp_back.h5"}, "missing: subject 02, roi v, decoder mlp, direction image_to"),
        ({"lost": "02_*_pred.h5"}, "no predictions of subjects '02'"),
        ({"damaged": "01_mlp_forth.h5"}, "01_mlp_forth.h5"),
    ],
)
def test_bad_input_gives_one_message_and_leaves_the_old_result(
    files: Path, capsys: pytest.CaptureFixture, change: dict, words: str
) -> None:
    (files / "group.json").write_text("old")
    for path in files.glob(change.pop("lost", "-")):
        path.unlink()
    for path in files.glob(change.pop("damaged", "-")):
        path.write_bytes(b"nothing")
    assert call(files, **change) == 1
    message = capsys.readouterr().err
    assert message.count("error:") == 1
    assert "Traceback" not in message
    assert re.search(words, message), message
    assert (files / "group.json").read_text() == "old"
    assert not (files / "pairs.tsv").exists()
