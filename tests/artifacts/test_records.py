"""Records of what was fitted on what: packed, stored, read back, and proof against changes."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from braindecode_clip.artifacts import Fitted, Ledger, Predictions, Records, Samples
from braindecode_clip.artifacts.records import digest, merged, run_name, runs_of
from braindecode_clip.errors import ArtifactError
from braindecode_clip.io.hdf5 import load_artifact, save_artifact
from braindecode_clip.provenance import Provenance

RECORD = Provenance(stage="test", options={}, inputs={}, seed=None, code_digest="0")


def fitted(statistic: str = "mean", fold: str = "f", *, n: int = 5, **more: object) -> Fitted:
    stimuli = frozenset(f"stim-{i:03d} é" for i in range(n))
    return Fitted(statistic, "voxels", "sub-01", fold, stimuli, frozenset({"run-1"}), **more)


def stored(path: Path, records: Records) -> Records:
    one = np.ones(1)
    text = np.array(["a"])
    predictions = Predictions(
        one[:, None].astype(np.float32), text, text, text, one, text, "stimulus", {}, {}, records
    )
    save_artifact(path, predictions, RECORD)
    return load_artifact(path, Predictions).records


def test_records_come_back_from_a_file(tmp_path: Path) -> None:
    items = (
        fitted(),
        fitted("sd", fold="", n=11, labels_used=False, transductive=True, reason="because"),
        replace(fitted("nothing"), stimuli=frozenset(), groups=frozenset()),
    )
    found = stored(tmp_path / "a.h5", Records.of(items))
    assert found.items == items
    assert stored(tmp_path / "b.h5", Records()).items == ()
    text = "\n".join(f"stim-{i:03d} é" for i in range(5)) + "\0run-1"
    assert found.table["digest"][0] == hashlib.sha256(text.encode()).hexdigest()
    assert len(set(found.table["digest"])) == 3


def test_equal_sets_and_records_are_kept_once() -> None:
    records = Records.of([fitted("mean"), fitted("sd"), fitted("mean"), fitted("sd", "g", n=9)])
    assert [item.statistic for item in records.items] == ["mean", "sd", "sd"]
    # Two sets of stimuli and one of runs.
    assert records.sets.shape == (3, 2)
    assert records.items[0].stimuli is records.items[1].stimuli
    joined = records.joined([fitted("mean"), fitted("penalty")], [fitted("sd")])
    assert [item.statistic for item in joined.items] == ["mean", "sd", "sd", "penalty"]


def test_a_digest_tells_stimuli_from_runs_and_order_from_content() -> None:
    assert digest(["b", "a"], ["r"]) == digest({"a", "b"}, ("r",))
    assert len({digest(["a", "r"]), digest(["a"], ["r"]), digest([], ["a", "r"])}) == 3


@pytest.mark.parametrize("column", ["statistic", "fold", "labels_used", "digest", "stimuli"])
def test_a_table_that_was_changed_is_refused(column: str) -> None:
    records = Records.of([fitted("mean"), fitted("sd", n=9)])
    changed = {"stimuli": 2, "labels_used": False}.get(column, "other")
    table = records.table.copy()
    table[column] = [changed, table[column][1]]
    with pytest.raises(ArtifactError, match="changed after they were written"):
        replace(records, table=table)
    with pytest.raises(ArtifactError, match="damaged"):
        replace(records, table=records.table.assign(stimuli=7))


def test_a_ledger_notes_the_rows_that_are_used() -> None:
    rows = Samples(
        np.zeros((3, 1), np.float32),
        np.array(["a", "b", "c"]),
        np.array(["run-1+run-2", "run-1", "run-3"]),
        np.ones(3),
    )
    ledger = Ledger("decode", "ridge")
    ledger.add("penalty", rows, fold="x")
    ledger.add("early stop", rows, np.array([True, False, False]))
    every, some = ledger.items
    assert (every.stimuli, every.groups) == ({"a", "b", "c"}, {"run-1", "run-2", "run-3"})
    assert (some.stimuli, some.groups, some.fold) == ({"a"}, {"run-1", "run-2"}, "")
    assert runs_of(rows.group[1:]) == {"run-1", "run-3"}
    assert (run_name("", "02"), run_name("01", "02")) == ("run-02", "ses-01_run-02")


def test_records_of_single_runs_are_joined() -> None:
    other = replace(fitted(), stimuli=frozenset({"x"}), groups=frozenset({"run-2"}))
    found = merged([fitted(), fitted("sd"), other])
    assert [item.statistic for item in found] == ["mean", "sd"]
    assert found[0].stimuli == fitted().stimuli | {"x"}
    assert found[0].groups == {"run-1", "run-2"}


def test_many_stimuli_in_many_folds_stay_small_and_quick(tmp_path: Path) -> None:
    names = [f"nsd-{i:05d}" for i in range(10_000)]
    folds = [frozenset(names) - frozenset(names[i::40]) for i in range(40)]
    items = [
        Fitted(f"statistic {k}", "decode", "ridge", f"fold {i}", seen, frozenset({f"run-{i}"}))
        for i, seen in enumerate(folds)
        for k in range(12)
    ]
    start = time.process_time()
    found = stored(tmp_path / "a.h5", Records.of(items))
    taken = time.process_time() - start
    assert found.items == tuple(items)
    assert (tmp_path / "a.h5").stat().st_size < 1_500_000
    # Far above what it takes, far below what a table of names for each record would.
    assert taken < 10
