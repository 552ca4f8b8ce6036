"""The repetition time of a run: all who state one must agree."""

from __future__ import annotations

from pathlib import Path

from braindecode_clip.checks import Problems
from braindecode_clip.io.tables import read_json

#: Two repetition times that differ by less (s) are the same: headers hold float32.
TR_TOLERANCE_S = 1e-3

#: Longest repetition time (s) that is believed; more is milliseconds without their unit.
LONGEST_TR_S = 60.0

_ENDINGS = (".gz", ".nii", ".dtseries", ".gii", ".func")


def stated_times(path: Path, *, given_s: float | None) -> dict[str, float]:
    """Return what the caller and the JSON sidecar say, in seconds, by who says it.

    The sidecar is named like the run without any ending, or without its last one, as
    fMRIPrep does it for CIFTI (``*_bold.dtseries.json``).
    """
    known: dict[str, float] = {}
    if given_s is not None:
        known["--tr-s"] = given_s
    stem = path.name
    stems = []
    for ending in _ENDINGS:
        if stem.endswith(ending):
            stem = stem.removesuffix(ending)
            stems.append(stem)
    for name in dict.fromkeys(f"{stem}.json" for stem in stems if not stem.endswith(".nii")):
        sidecar = path.with_name(name)
        content = read_json(sidecar) if sidecar.is_file() else None
        value = content.get("RepetitionTime") if isinstance(content, dict) else None
        if isinstance(value, int | float):
            known[name] = float(value)
    return known


def agree_on_tr(known: dict[str, float], problems: Problems) -> float:
    """Return the one TR (s) that all state, or note what is wrong and return 0 or one of them.

    Parameters
    ----------
    known : dict
        Who states it, e.g. "the header", to seconds.
    problems : Problems
        Takes what is wrong: none stated, contradictions, values that are no seconds.
    """
    for name, seconds in known.items():
        if not 0 < seconds <= LONGEST_TR_S:
            problems.add(
                f"the TR by {name} is {seconds:g} s, expected seconds above 0 and at most "
                f"{LONGEST_TR_S:g}. Is it in milliseconds? Correct it there."
            )
    if not known:
        problems.add("the header has no repetition time. Give it: --tr-s SECONDS.")
        return 0.0
    if max(known.values()) - min(known.values()) > TR_TOLERANCE_S:
        found = ", ".join(f"{seconds:g} s by {name}" for name, seconds in known.items())
        problems.add(f"the TR is contradictory: {found}. Correct the one that is wrong.")
    return next(iter(known.values()))
