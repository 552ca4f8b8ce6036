"""The sample sheet: one row for each run, found in BIDS or known from the simulation.

Nothing here opens an image, so the sheet of a large study is there at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from braindecode_clip.checks import Problems, some
from braindecode_clip.config.datasets import BidsConfig
from braindecode_clip.errors import DataError

_ENTITY = re.compile(r"([a-zA-Z]+)-([A-Za-z0-9+]+)")


@dataclass(frozen=True)
class Run:
    """One run and its files.

    Attributes
    ----------
    subject, session, run, task : str
        Labels without prefix; ``session`` is empty where the data set has none, ``run`` is
        "01" where the file names carry none.
    bold, events, mask : str
        Paths.
    confounds : str or None
        fMRIPrep-style confounds table, where there is one.
    tr_s : float or None
        Repetition time (s) of the nearest BIDS sidecar, where one names it.
    sidecars : tuple of str
        The JSON files that speak of the run by BIDS' inheritance, the nearest first.
    """

    subject: str
    session: str
    run: str
    task: str
    bold: str
    events: str
    mask: str
    confounds: str | None
    tr_s: float | None = None
    sidecars: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The run in file names, e.g. ``sub-01_ses-02_task-scenes_run-03``."""
        session = f"_ses-{self.session}" if self.session else ""
        return f"sub-{self.subject}{session}_task-{self.task}_run-{self.run}"


def fill_pattern(pattern: str, **entities: str) -> str:
    """Fill a path pattern; the parts of an empty session are left out."""
    if not entities.get("session"):
        pattern = pattern.replace("ses-{session}/", "").replace("_ses-{session}", "")
    try:
        return pattern.format(**entities)
    except KeyError as error:
        raise DataError(
            f"path pattern '{pattern}': unknown placeholder {error}. Known: "
            f"{some(sorted(entities), limit=10)}."
        ) from error


def runs_from_bids(config: BidsConfig) -> list[Run]:
    """Find the runs of a BIDS data set or an fMRIPrep derivative.

    Parameters
    ----------
    config : BidsConfig

    Returns
    -------
    list of Run
        Sorted by subject, session, task, run.

    Raises
    ------
    DataError
        No such folder, no run that fits, or runs without events or mask: all at once.
    """
    root = Path(config.root)
    if not root.is_dir():
        raise DataError(
            f"bids.root: {root} is no folder. Set it to the folder that holds sub-*/ "
            "(see 'Your own data' in the README)."
        )
    problems = Problems(str(root))
    runs = [
        _describe(path, entities, config, problems)
        for path, entities in _bold_files(root)
        if _is_wanted(entities, config)
    ]
    if not runs:
        problems.add(_nothing_found(root, config))
    if config.subjects:
        missing = sorted(set(config.subjects) - {run.subject for run in runs})
        if missing and runs:
            problems.add(f"no run of the subjects {some(missing)} (bids.subjects).")
    names = [run.name for run in runs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        problems.add(
            f"several BOLD files for {some(twice)}. Choose one with bids.space and bids.desc."
        )
    problems.raise_if_any()
    return sorted(runs, key=lambda run: (run.subject, run.session, run.task, run.run))


def _bold_files(root: Path) -> Iterable[tuple[Path, dict[str, str]]]:
    for folder in ("sub-*/func", "sub-*/ses-*/func"):
        for path in sorted(root.glob(f"{folder}/*_bold.nii*")):
            if path.name.endswith((".nii", ".nii.gz")):
                yield path, dict(_ENTITY.findall(path.name))


def _is_wanted(entities: dict[str, str], config: BidsConfig) -> bool:
    return (
        (config.subjects is None or entities.get("sub") in config.subjects)
        and (config.task is None or entities.get("task") == config.task)
        and entities.get("space") == config.space
        and entities.get("desc") == config.desc
    )


def _describe(bold: Path, entities: dict[str, str], config: BidsConfig, problems: Problems) -> Run:
    labels = {
        "subject": entities["sub"],
        "session": entities.get("ses", ""),
        "run": entities.get("run", "01"),
        "task": entities.get("task", "unknown"),
        "space": config.space or "",
    }
    # Events and confounds belong to the acquisition, so their names carry no space, no desc.
    stem = re.sub(r"_(space|desc|res|den)-[A-Za-z0-9+]+", "", bold.name.split("_bold.nii")[0])
    events_folder = bold.parent
    if config.events_root is not None:
        events_folder = Path(config.events_root) / bold.parent.relative_to(config.root)
    events = events_folder / f"{stem}_events.tsv"
    if not events.is_file():
        problems.add(
            f"{bold.name}: no events file at {events}. Add it, or set bids.events_root to the "
            "raw data set."
        )
    confounds = bold.parent / f"{stem}_desc-confounds_timeseries.tsv"
    mask = Path(config.root) / fill_pattern(config.mask, **labels)
    if not mask.is_file():
        problems.add(f"{bold.name}: no brain mask at {mask}. Set bids.mask.")
    sidecars = _sidecars(bold, stem, Path(config.root))
    return Run(
        subject=labels["subject"],
        session=labels["session"],
        run=labels["run"],
        task=labels["task"],
        bold=str(bold),
        events=str(events),
        mask=str(mask),
        confounds=str(confounds) if confounds.is_file() else None,
        tr_s=_repetition_time(sidecars, problems),
        sidecars=tuple(map(str, sidecars)),
    )


def _repetition_time(sidecars: list[Path], problems: Problems) -> float | None:
    """Return the RepetitionTime of the first file that names one."""
    for path in sidecars:
        try:
            tr_s = json.loads(path.read_text(encoding="utf-8")).get("RepetitionTime")
        except ValueError as error:
            problems.add(f"{path} is no valid JSON ({error}).")
            return None
        if tr_s is not None:
            return float(tr_s)
    return None


def _sidecars(bold: Path, stem: str, root: Path) -> list[Path]:
    """Return the JSON files that speak of a run by BIDS' inheritance, the nearest first."""
    wanted = set(stem.split("_"))
    own = bold.with_name(bold.name.split(".nii")[0] + ".json")
    candidates = [own] if own.is_file() else []
    folder = bold.parent
    while folder == root or root in folder.parents:
        fitting = [
            path
            for path in folder.glob("*_bold.json")
            if set(path.name.removesuffix("_bold.json").split("_")) <= wanted
        ]
        candidates += sorted(fitting, key=lambda path: -len(path.name))
        folder = folder.parent
    return list(dict.fromkeys(candidates))


def _nothing_found(root: Path, config: BidsConfig) -> str:
    found = list(_bold_files(root))
    if not found:
        return (
            "no file like sub-*/[ses-*/]func/*_bold.nii.gz. Set bids.root to the folder that "
            "holds sub-*/."
        )
    seen = {
        key: sorted({str(entities.get(key)) for _, entities in found})
        for key in ("sub", "task", "space", "desc")
    }
    return (
        f"{len(found)} BOLD files, none of which fits bids.subjects={config.subjects}, "
        f"task={config.task}, space={config.space}, desc={config.desc}. Found: subjects "
        f"{some(seen['sub'])}; tasks {some(seen['task'])}; spaces {some(seen['space'])}; "
        f"desc {some(seen['desc'])}."
    )
