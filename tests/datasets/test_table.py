"""Runs listed in a table: every problem of it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from braindecode_clip.datasets.table import runs_from_table
from braindecode_clip.errors import DataError

ROOT = Path(__file__).resolve().parents[2]


def write(folder: Path, *rows: dict[str, str], header: str = "") -> Path:
    """Write a table beside the files that it names; ``missing`` files are not made."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [header or "\t".join(names)]
    lines += ["\t".join(row.get(name, "") for name in names) for row in rows]
    (folder / "runs.tsv").write_text("# made for a test\n" + "\n".join(lines) + "\n")
    for row in rows:
        for column in ("bold", "events", "mask", "confounds"):
            for name in row.get(column, "").split(","):
                if name and "missing" not in name and name not in {"n/a", "epi"}:
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / name).touch()
    return folder / "runs.tsv"


VOLUME = {"subject": "01", "bold": "a/r1.nii.gz", "events": "e.tsv", "mask": "m.nii"}


def test_a_full_table(tmp_path: Path) -> None:
    second = VOLUME | {"session": "b", "run": "2", "task": "scenes", "tr_s": "1.6"}
    second["confounds"] = "c.tsv"
    (tmp_path / "c.json").touch()
    runs = runs_from_table(write(tmp_path, second | {"subject": "02"}, VOLUME, second))
    assert [run.name for run in runs] == [
        "sub-01_task-unknown_run-01",
        "sub-01_ses-b_task-scenes_run-2",
        "sub-02_ses-b_task-scenes_run-2",
    ]
    assert runs[0].bold == (str(tmp_path / "a/r1.nii.gz"),)
    assert runs[0].events == str(tmp_path / "e.tsv")
    assert (runs[0].confounds, runs[0].confounds_json, runs[0].tr_s) == (None, None, None)
    assert runs[1].confounds == str(tmp_path / "c.tsv") and runs[1].tr_s == 1.6
    assert runs[1].confounds_json == str(tmp_path / "c.json")


def test_hemispheres_and_no_mask(tmp_path: Path) -> None:
    row = {"subject": "1", "bold": "lh.func.gii,rh.func.gii", "events": "e.tsv", "mask": "n/a"}
    (run,) = runs_from_table(write(tmp_path, row))
    assert run.bold == (str(tmp_path / "lh.func.gii"), str(tmp_path / "rh.func.gii"))
    assert run.mask == () and run.kind == "gifti"


def test_absolute_paths_stay(tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    row = VOLUME | {"bold": str(tmp_path / "else/r.nii")}
    assert runs_from_table(write(tmp_path, row))[0].bold == (str(tmp_path / "else/r.nii"),)


def test_every_problem_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        VOLUME | {"confound": "c.tsv", "tr_s": "fast"},
        VOLUME | {"bold": "missing.nii"},
        VOLUME | {"subject": "sub-03", "mask": "n/a", "run": "2"},
        VOLUME | {"subject": "04", "events": "", "tr_s": "-2"},
        VOLUME | {"subject": "05", "bold": "a.nii,b.nii"},
        {"subject": "06", "bold": "x.dtseries.nii", "events": "e.tsv,f.tsv"},
    )
    with pytest.raises(DataError) as caught:
        runs_from_table(path)
    message = str(caught.value)
    for words in (
        "11 problems",
        "unknown column 'confound'. Did you mean 'confounds'?",
        "line 3: tr_s is 'fast', expected seconds above 0",
        f"line 4: bold: no file at {tmp_path / 'missing.nii'}",
        "line 5: subject 'sub-03' is no label",
        "line 5: a volume needs a brain mask",
        "line 6: 'events' is empty",
        "line 6: tr_s is '-2'",
        "line 7: bold names several files",
        "line 8: events names 2 files",
        "runs listed twice: 'sub-01_task-unknown_run-01'",
        "different kinds",
    ):
        assert words in message, words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("subject,bold,events\n1,a,b\n", "lacks the columns .* separated by commas, not tabs"),
        ("subject\tbold\n1\ta.nii\n", "lacks the columns 'events'; it has 'subject', 'bold'"),
        ("# nothing\n", "is empty. Its first line names the columns"),
        ("subject\tbold\tevents\n", "lists no run"),
        ("subject\tbold\tevents\tbold\n", "named twice: 'bold'"),
        ("subject\tbold\tevents\n1\ta\tb\tc\n", "line 2: 4 cells, expected 3"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "runs.tsv").write_text(text)
    with pytest.raises(DataError, match=words):
        runs_from_table(tmp_path / "runs.tsv")


def test_no_table_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file. Set `runs`"):
        runs_from_table(tmp_path / "none.tsv")
    (tmp_path / "runs.tsv").write_bytes(b"subject\tb\xff\xfe")
    with pytest.raises(DataError, match="no text in UTF-8"):
        runs_from_table(tmp_path / "runs.tsv")


def test_the_shipped_table_holds_its_columns_and_an_example(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lists no run"):
        runs_from_table(ROOT / "config/runs.tsv")
    lines = (ROOT / "config/runs.tsv").read_text().splitlines()
    header = lines[-1].split("\t")
    examples = [line.removeprefix("# ") for line in lines if line.count("\t") > 2][:-1]
    rows = [dict(zip(header, line.split("\t"), strict=True)) for line in examples]
    assert len(rows) == 2
    folder = tmp_path / "config"
    folder.mkdir()
    assert runs_from_table(write(folder, rows[0]))[0].tr_s == 1.6
    assert len(runs_from_table(write(folder, rows[1]))[0].bold) == 2


def test_a_mask_may_be_computed(tmp_path: Path) -> None:
    (run,) = runs_from_table(write(tmp_path, VOLUME | {"mask": "epi"}))
    assert run.mask == () and run.kind == "volume"
