"""Plain files of any folder, listed in a table with one row for each run."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from braindecode_clip.checks import Problems, some
from braindecode_clip.config.datasets import EPI_MASK
from braindecode_clip.datasets.sample_sheet import ONLY_RUN, UNKNOWN_TASK, Run, check_kinds
from braindecode_clip.errors import DataError
from braindecode_clip.spaces import image_kind

REQUIRED = ("subject", "bold", "events")
OPTIONAL = ("session", "run", "task", "mask", "confounds", "tr_s")
_LABEL = re.compile(r"[A-Za-z0-9]+")
_MISSING = {"", "n/a"}


def runs_from_table(path: str | Path) -> list[Run]:
    """Read the runs of a tab-separated table.

    Parameters
    ----------
    path : path
        Columns subject, bold, events; optional: session, run ("01" where there is none), task,
        mask (volumes need one; "epi" to compute it), confounds, tr_s (s). Several files of one
        run (hemispheres in GIFTI) are separated by a comma. Paths are relative to the table's
        folder. Lines that begin with # are comments; empty cells and n/a are missing values.

    Returns
    -------
    list of Run
        Sorted by subject, session, task, run.

    Raises
    ------
    DataError
        With every problem of the table at once: unknown or missing columns, missing values and
        files, labels, numbers, runs listed twice.
    """
    path = Path(path)
    problems = Problems(str(path))
    rows = _read(path, problems)
    runs = [_run(number, row, path.parent, problems) for number, row in rows]
    if not runs and not problems:
        problems.add("lists no run. Add one row for each run.")
    names = [run.name for run in runs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        problems.add(f"runs listed twice: {some(twice)}. Give each its own session, task or run.")
    check_kinds([run for run in runs if run.bold[0]], problems)
    problems.raise_if_any()
    return sorted(runs, key=lambda run: (run.subject, run.session, run.task, run.run))


def _read(path: Path, problems: Problems) -> list[tuple[int, dict[str, str]]]:
    """Return (line number, cells by column) of every row."""
    if not path.is_file():
        raise DataError(f"runs: {path}: no such file. Set `runs` to the table of your runs.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text in UTF-8 ({error}). Save it as such.") from error
    lines = [
        (number, line)
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.startswith("#")
    ]
    if not lines:
        raise DataError(f"{path}: is empty. Its first line names the columns: {some(REQUIRED)}.")
    cells = list(csv.reader((line for _, line in lines), delimiter="\t", quoting=csv.QUOTE_NONE))
    header = [name.strip() for name in cells[0]]
    _check_header(header, problems)
    rows = []
    for (number, _), values in zip(lines[1:], cells[1:], strict=True):
        if len(values) > len(header):
            problems.add(f"line {number}: {len(values)} cells, expected {len(header)}.")
        found = dict(zip(header, (value.strip() for value in values), strict=False))
        rows.append((number, {k: "" if v in _MISSING else v for k, v in found.items()}))
    return [] if set(REQUIRED) - set(header) else rows


def _check_header(header: Sequence[str], problems: Problems) -> None:
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        hint = " Its columns are separated by commas, not tabs." if "," in header[0] else ""
        problems.add(f"lacks the columns {some(missing)}; it has {some(header, limit=12)}.{hint}")
    known = [*REQUIRED, *OPTIONAL]
    for name in header:
        if name not in known and "," not in name:
            near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
            hint = f"Did you mean '{near[0]}'? " if near else ""
            problems.add(f"unknown column '{name}'. {hint}Known: {', '.join(known)}.")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        problems.add(f"columns named twice: {some(twice)}.")


def _run(number: int, row: dict[str, str], folder: Path, problems: Problems) -> Run:
    where = f"line {number}"
    labels = {
        "subject": row.get("subject", ""),
        "session": row.get("session", ""),
        "run": row.get("run", "") or ONLY_RUN,
        "task": row.get("task", "") or UNKNOWN_TASK,
    }
    for key, label in labels.items():
        if label and not _LABEL.fullmatch(label):
            problems.add(
                f"{where}: {key} '{label}' is no label. Expected letters and digits, without a "
                "prefix such as 'sub-'."
            )
    for key in REQUIRED:
        if not row.get(key):
            problems.add(f"{where}: '{key}' is empty.")
    computed = row.get("mask") == EPI_MASK
    files = {
        key: _files(
            "" if key == "mask" and computed else row.get(key, ""),
            folder,
            f"{where}: {key}",
            problems,
        )
        for key in ("bold", "events", "mask", "confounds")
    }
    for key in ("events", "confounds"):
        if len(files[key]) > 1:
            problems.add(f"{where}: {key} names {len(files[key])} files, expected one.")
    bold = files["bold"]
    if len(bold) > 1 and any(image_kind(path) != "gifti" for path in bold):
        problems.add(f"{where}: bold names several files, which only GIFTI hemispheres may be.")
    if bold and image_kind(bold[0]) == "volume" and not files["mask"] and not computed:
        problems.add(
            f"{where}: a volume needs a brain mask. Fill the column 'mask'; 'epi' computes one."
        )
    confounds = files["confounds"][0] if files["confounds"] else None
    sidecar = None if confounds is None else Path(confounds).with_suffix(".json")
    return Run(
        **labels,
        bold=bold or ("",),
        events=files["events"][0] if files["events"] else "",
        mask=files["mask"],
        confounds=confounds,
        tr_s=_seconds(row.get("tr_s", ""), where, problems),
        confounds_json=str(sidecar) if sidecar is not None and sidecar.is_file() else None,
    )


def _files(cell: str, folder: Path, where: str, problems: Problems) -> tuple[str, ...]:
    paths = [folder / name.strip() for name in cell.split(",") if name.strip()]
    for path in paths:
        if not path.is_file():
            problems.add(f"{where}: no file at {path}.")
    return tuple(str(path) for path in paths)


def _seconds(cell: str, where: str, problems: Problems) -> float | None:
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        problems.add(f"{where}: tr_s is '{cell}', expected seconds above 0.")
    return value
