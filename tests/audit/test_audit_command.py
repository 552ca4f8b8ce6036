"""The command: JSON and a table out; refused are leaks and what cannot be compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audit_sides import side_of
from fitted_records import with_records
from PIL import Image

from braindecode_clip.artifacts import Fitted, Records
from braindecode_clip.audit import audit
from braindecode_clip.audit.common_space import SpaceMap
from braindecode_clip.audit.compare import compare
from braindecode_clip.audit.places import Side
from braindecode_clip.cli.main import main
from braindecode_clip.clip.overlap import pixel_digest
from braindecode_clip.config.adaptations import AuditConfig
from braindecode_clip.io.hdf5 import save_artifact
from braindecode_clip.io.tables import read_tsv
from braindecode_clip.provenance import Provenance

RECORD = Provenance(stage="test", options={}, inputs={}, seed=None, code_digest="0")
OPTIONS = "{n_bootstrap: 200, n_permutations: 99, geometry_draws: 2}"
N_TEST, N_TRAIN = 9, 30


@pytest.fixture
def world(make_sides, tmp_path: Path) -> tuple[Path, dict[tuple[str, str], Side]]:
    """Write two subjects decoded with two encoders, the stimuli and the record of the second."""
    rng = np.random.default_rng(0)
    one, two = make_sides(n_test=N_TEST, n_train=N_TRAIN, seed=4)
    known = {"scenes": one.embeddings, "tuned": two.embeddings}
    for name, item in known.items():
        item.fingerprint.update({"weights_sha256": f"w-{name}"})
        save_artifact(tmp_path / f"{name}.h5", item, RECORD)
    sides = {}
    for subject in ("01", "02"):
        for name, item in known.items():
            noise = 0.5 * rng.standard_normal((N_TEST, item.vectors.shape[1]))
            place = ("stimulus", "test", subject, "visual", "ridge")
            side = side_of(item, noise, encoder=name, n_test=N_TEST, place=place)
            sides[subject, name] = write_side(tmp_path, subject, name, side)
    rows, digests = ["stimulus_id\timage\theld_out"], []
    for k, stimulus in enumerate(known["scenes"].ids):
        picture = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        picture.save(tmp_path / f"{stimulus}.png")
        rows.append(f"{stimulus}\t{stimulus}.png\t{k % 3 == 0}")
        digests.append(pixel_digest(picture))
    (tmp_path / "stimuli.tsv").write_text("\n".join(rows) + "\n")
    write_record(tmp_path, {"pixels_sha256": digests[:N_TEST]})
    return tmp_path, sides


def write_side(folder: Path, subject: str, name: str, side: Side) -> Side:
    predictions = with_records(side.predictions)
    ranked = {k: replace(v, records=predictions.records) for k, v in side.ranked.items()}
    save_artifact(folder / f"{subject}_{name}_pred.h5", predictions, RECORD)
    for direction, item in ranked.items():
        save_artifact(folder / f"{subject}_{name}_{direction}.h5", item, RECORD)
    return Side(ranked, predictions, side.embeddings)


def write_record(folder: Path, test: dict, **more: object) -> None:
    nothing = {"same_file": 0, "same_pixels": 0, "near_duplicate": 0, "mirrored": 0}
    part = {"n_pairs": 5, "n_shared": nothing}
    record = {"weights_sha256": "w-tuned", "test": test, "training": part, "validation": part}
    (folder / "leakage.json").write_text(json.dumps(record | more))


def call(folder: Path, *more: str, pair: str = "tuned=scenes") -> int:
    flags = {"retrieval": "brain_to_image", "reverse": "image_to_brain", "predictions": "pred"}
    given = [
        f"--{flag}={path}"
        for flag, ending in flags.items()
        for path in sorted(folder.glob(f"*_{ending}.h5"))
    ]
    given += [f"--embeddings={name}={folder / name}.h5" for name in ("scenes", "tuned")]
    given += [f"--leakage=tuned={folder / 'leakage.json'}", f"--pair={pair}"]
    given += [f"--stimuli={folder / 'stimuli.tsv'}", f"--options={OPTIONS}", "--seed=7"]
    return main(["audit", *given, f"--out={folder / 'audit.json'}", *more])


def test_it_writes_what_the_stage_finds(world) -> None:
    folder, sides = world
    assert call(folder, f"--out-table={folder / 'audit.tsv'}") == 0
    content = json.loads((folder / "audit.json").read_text())
    options = AuditConfig(n_bootstrap=200, n_permutations=99, geometry_draws=2)
    embeddings = [sides["01", name].embeddings for name in ("scenes", "tuned")]
    maps = (SpaceMap(*reversed(embeddings)), SpaceMap(*embeddings))
    items = []
    for subject in ("01", "02"):
        place = ("stimulus", "test", subject, "visual", "ridge")
        both = (sides[subject, "scenes"], sides[subject, "tuned"])
        items += compare(("scenes", "tuned"), place, *both, maps=maps, options=options, seed=7)
    held_out = frozenset(embeddings[0].ids[::3].tolist())
    expected = audit(items, held_out=held_out, options=options, seed=7)
    assert content["rows"] == json.loads(json.dumps(expected.rows))
    assert content["findings"] == json.loads(json.dumps(expected.findings))
    # Four scores, two directions, three subsets, two subjects and the group.
    assert len(content["rows"]) == 4 * 2 * 3 * 3 == len(read_tsv(folder / "audit.tsv"))
    forth = [r for r in content["rows"] if r["direction"] == "brain_to_image"]
    for row in forth:
        assert row["geometry"] + row["beyond_geometry"] == pytest.approx(row["difference"])
        gap = row["synthetic_adapted_value"] - row["synthetic_original_value"]
        assert row["geometry"] == pytest.approx(gap, abs=1e-12)
    assert content["leakage"]["tuned"]["n_test_stimuli"] == N_TEST
    assert content["provenance"]["stage"] == "audit" and len(content["provenance"]["inputs"]) == 16


def test_only_the_decoders_named_are_compared(world, capsys) -> None:
    folder, _ = world
    options = "{n_bootstrap: 200, n_permutations: 99, decoders: [mlp]}"
    assert call(folder, f"--options={options}") == 1
    assert "no ranks of the adapted encoder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("no record", "no leakage.json"),
        ("other weights", "leakage.json is of weights w-else"),
        ("other stimuli", "1 of 9 test stimuli were not looked for"),
        ("no picture", "lacks the pictures of 's0002'"),
        ("leak of the decoder", "was fitted on 1 tested stimuli: 's0001'"),
        ("other trials", "'stimulus_id' of the test samples differs in 9 of 9 and 9 rows"),
        ("no original", "no ranks of the original encoder"),
        ("no embeddings", "no --embeddings of the encoders 'third'"),
    ],
)
def test_what_cannot_be_trusted_is_refused(world, capsys, change: str, words: str) -> None:
    folder, sides = world
    record = json.loads((folder / "leakage.json").read_text())
    pair = "tuned=scenes"
    if change == "no record":
        (folder / "leakage.json").unlink()
    elif change == "other weights":
        write_record(folder, record["test"], weights_sha256="w-else")
    elif change == "other stimuli":
        write_record(folder, {"pixels_sha256": record["test"]["pixels_sha256"][1:]})
    elif change == "no picture":
        text = (folder / "stimuli.tsv").read_text().splitlines()
        (folder / "stimuli.tsv").write_text("\n".join(t for t in text if "s0002" not in t) + "\n")
    elif change == "leak of the decoder":
        own = sides["02", "tuned"]
        item = Fitted("early stop", "decode", "made up", "all", frozenset(["s0001"]), frozenset())
        records = Records.of([*own.predictions.records.items, item])
        leaky = replace(own.predictions, records=records)
        save_artifact(folder / "02_tuned_pred.h5", leaky, RECORD)
    elif change == "other trials":
        own = sides["01", "tuned"]
        item = own.ranked["brain_to_image"]
        queries = item.queries.assign(stimulus_id=np.roll(item.queries["stimulus_id"], 1))
        save_artifact(folder / "01_tuned_brain_to_image.h5", replace(item, queries=queries), RECORD)
    elif change == "no original":
        for path in folder.glob("02_scenes_*_to_*.h5"):
            path.unlink()
    else:
        pair = "tuned=third"
    assert call(folder, pair=pair) == 1
    error = capsys.readouterr().err
    assert words in error and "Traceback" not in error
    assert not (folder / "audit.json").exists()


def test_an_option_that_names_nothing_is_refused(world, capsys) -> None:
    folder, _ = world
    assert call(folder, "--leakage=tuned") == 1
    assert "expected NAME=VALUE" in capsys.readouterr().err
