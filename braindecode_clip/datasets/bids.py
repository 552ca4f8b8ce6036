"""The runs of a BIDS data set or an fMRIPrep derivative, in any output space."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from braindecode_clip.checks import Problems, some
from braindecode_clip.config.datasets import DEFAULT_MASK, EPI_MASK, BidsConfig
from braindecode_clip.datasets.sample_sheet import (
    ONLY_RUN,
    UNKNOWN_TASK,
    Run,
    check_kinds,
    fill_hemispheres,
    fill_pattern,
)
from braindecode_clip.errors import DataError
from braindecode_clip.spaces import image_kind

_ENTITY = re.compile(r"([a-zA-Z]+)-([A-Za-z0-9+]+)")
_ENDINGS = ("_bold.nii", "_bold.nii.gz", "_bold.dtseries.nii", "_bold.func.gii")
#: What tells files of one acquisition apart; its events and confounds carry none of these.
_OF_OUTPUT = re.compile(r"_(space|desc|res|den|hemi)-[A-Za-z0-9+]+")
#: fMRIPrep's name of the confounds, then its name before version 20.
_CONFOUNDS = ("desc-confounds_timeseries.tsv", "desc-confounds_regressors.tsv")


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
        No such folder, no run that fits, several files for one run, or runs without events or
        mask: all at once.
    """
    root = Path(config.root)
    if not root.is_dir():
        raise DataError(
            f"bids.root: {root} is no folder. Set it to the folder that holds sub-*/ "
            "(see 'Your own data' in the README)."
        )
    problems = Problems(str(root))
    found: dict[str, list[Path]] = {}
    for path, entities in _bold_files(root):
        if _is_wanted(path, entities, config):
            # The hemispheres of a surface make one run.
            one_run = re.sub(r"_hemi-[LR](?=_)", "", path.name)
            found.setdefault(f"{path.parent}/{one_run}", []).append(path)
    runs = [_describe(paths, config, problems) for paths in found.values()]
    if not runs:
        problems.add(_nothing_found(root, config))
    if config.subjects:
        missing = sorted(set(config.subjects) - {run.subject for run in runs})
        if missing and runs:
            problems.add(f"no run of the subjects {some(missing)} (bids.subjects).")
    _check_single(runs, problems)
    check_kinds(runs, problems)
    problems.raise_if_any()
    return sorted(runs, key=lambda run: (run.subject, run.session, run.task, run.run))


def _check_single(runs: Sequence[Run], problems: Problems) -> None:
    files: dict[str, list[str]] = {}
    for run in runs:
        files.setdefault(run.name, []).append(Path(run.bold[0]).name)
    twice = {name: paths for name, paths in files.items() if len(paths) > 1}
    if twice:
        problems.add(
            f"several BOLD files for {some(sorted(twice))}, e.g. "
            f"{some(next(iter(twice.values())))}. Choose one with bids.space, bids.res, bids.den "
            "and bids.desc."
        )


def _bold_files(root: Path) -> Iterable[tuple[Path, dict[str, str]]]:
    for folder in ("sub-*/func", "sub-*/ses-*/func"):
        for path in sorted(root.glob(f"{folder}/*_bold.*")):
            if path.name.endswith(_ENDINGS):
                yield path, dict(_ENTITY.findall(path.name))


def _is_wanted(path: Path, entities: dict[str, str], config: BidsConfig) -> bool:
    descs = [config.desc]
    if image_kind(path) != "volume":
        # fMRIPrep's surfaces carry no desc-preproc.
        descs.append(None)
    return (
        (config.subjects is None or entities.get("sub") in config.subjects)
        and (config.task is None or entities.get("task") == config.task)
        and entities.get("space") == config.space
        and (config.res is None or entities.get("res") == config.res)
        and (config.den is None or entities.get("den") == config.den)
        and entities.get("desc") in descs
    )


def _describe(paths: Sequence[Path], config: BidsConfig, problems: Problems) -> Run:
    bold = paths[0]
    entities = dict(_ENTITY.findall(bold.name))
    labels = {
        "subject": entities["sub"],
        "session": entities.get("ses", ""),
        "run": entities.get("run", ONLY_RUN),
        "task": entities.get("task", UNKNOWN_TASK),
        "space": entities.get("space", ""),
        "res": entities.get("res", ""),
        "den": entities.get("den", ""),
    }
    stem = _OF_OUTPUT.sub("", bold.name.split("_bold.")[0])
    events_folder = bold.parent
    if config.events_root is not None:
        events_folder = Path(config.events_root) / bold.parent.relative_to(config.root)
    events = events_folder / f"{stem}_events.tsv"
    if not events.is_file():
        problems.add(
            f"{bold.name}: no events file at {events}. Add it, or set bids.events_root to the "
            "raw data set."
        )
    tables = [bold.parent / f"{stem}_{ending}" for ending in _CONFOUNDS]
    confounds = next((path for path in tables if path.is_file()), None)
    described = None if confounds is None else confounds.with_suffix(".json")
    sidecars = _sidecars(bold, stem, Path(config.root))
    return Run(
        subject=labels["subject"],
        session=labels["session"],
        run=labels["run"],
        task=labels["task"],
        bold=tuple(str(path) for path in paths),
        events=str(events),
        mask=_masks(bold, config, labels, problems),
        confounds=None if confounds is None else str(confounds),
        tr_s=_repetition_time(sidecars, problems),
        sidecars=tuple(map(str, sidecars)),
        confounds_json=str(described) if described and described.is_file() else None,
    )


def _masks(
    bold: Path, config: BidsConfig, labels: dict[str, str], problems: Problems
) -> tuple[str, ...]:
    """Return the masks of a run: those of the config, or its own beside it."""
    root = Path(config.root)
    if config.mask == EPI_MASK:
        return ()
    if config.mask is not None:
        named = [root / path for path in fill_hemispheres(config.mask, **labels)]
        for path in named:
            if not path.is_file():
                problems.add(f"{bold.name}: no brain mask at {path}. Set bids.mask.")
        return tuple(str(path) for path in named)
    if image_kind(bold) != "volume":
        return ()
    stem = re.sub(r"(_desc-[A-Za-z0-9+]+)?_bold\.nii(\.gz)?$", "", bold.name)
    own = [bold.with_name(f"{stem}_desc-brain_mask{ending}") for ending in (".nii.gz", ".nii")]
    default = root / fill_pattern(DEFAULT_MASK, **labels)
    found = next((path for path in (*own, default) if path.is_file()), None)
    if found is None:
        problems.add(
            f"{bold.name}: no brain mask at {own[0]} nor at {default}. Set bids.mask to the path "
            "pattern of your masks, or to 'epi' to compute one from the runs."
        )
        return ()
    return (str(found),)


def _sidecars(bold: Path, stem: str, root: Path) -> list[Path]:
    """Return the JSON files that speak of a run by BIDS' inheritance, the nearest first."""
    wanted = set(stem.split("_"))
    name = bold.name.split("_bold.")[0]
    own = [bold.with_name(f"{name}_bold.{ending}") for ending in ("json", "dtseries.json")]
    candidates = [path for path in own if path.is_file()]
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


def _repetition_time(sidecars: list[Path], problems: Problems) -> float | None:
    """Return the RepetitionTime of the first file that names one."""
    for path in sidecars:
        try:
            tr_s = json.loads(path.read_text(encoding="utf-8")).get("RepetitionTime")
            if tr_s is not None:
                return float(tr_s)
        except (ValueError, TypeError, AttributeError) as error:
            problems.add(f"{path} holds no JSON object with a number of seconds ({error}).")
            return None
    return None


def _nothing_found(root: Path, config: BidsConfig) -> str:
    found = list(_bold_files(root))
    if not found:
        return (
            "no file like sub-*/[ses-*/]func/*_bold.nii.gz (or _bold.dtseries.nii, "
            "_bold.func.gii). Set bids.root to the folder that holds sub-*/."
        )
    seen = {
        key: some(sorted({str(entities.get(key)) for _, entities in found}), limit=8)
        for key in ("sub", "task", "space", "res", "den", "desc")
    }
    return (
        f"{len(found)} BOLD files, none of which fits bids.subjects={config.subjects}, "
        f"task={config.task}, space={config.space}, res={config.res}, den={config.den}, "
        f"desc={config.desc}. Found: subjects {seen['sub']}; tasks {seen['task']}; spaces "
        f"{seen['space']}; res {seen['res']}; den {seen['den']}; desc {seen['desc']}."
    )
