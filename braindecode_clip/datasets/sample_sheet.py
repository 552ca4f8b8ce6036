"""The sample sheet: one row for each run, found in BIDS, listed in a table, or simulated.

Nothing here opens an image, so the sheet of a large study is there at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from braindecode_clip.checks import Problems, some
from braindecode_clip.errors import DataError
from braindecode_clip.spaces import ImageKind, image_kind

#: The hemispheres that a pattern with {hemi} names, as BIDS does.
HEMISPHERES = ("L", "R")
#: Task of a run whose files name none.
UNKNOWN_TASK = "unknown"
#: Run of a session that holds but one, whose files name none.
ONLY_RUN = "01"


@dataclass(frozen=True)
class Run:
    """One run and its files.

    Attributes
    ----------
    subject, session, run, task : str
        Labels without prefix; ``session`` is empty where the data set has none, ``run`` is
        "01" where the file names carry none.
    bold : tuple of str
        One NIfTI or CIFTI file, or one GIFTI file a hemisphere.
    events : str
        Path.
    mask : tuple of str
        One mask, or one a hemisphere; empty where data on surfaces have none, and where the
        mask of a volume is to be computed.
    confounds : str or None
        fMRIPrep-style confounds table, where there is one.
    tr_s : float or None
        Repetition time (s) of the nearest BIDS sidecar, where one names it.
    sidecars : tuple of str
        The JSON files that speak of the run by BIDS' inheritance, the nearest first.
    confounds_json : str or None
        The JSON file beside the confounds table, where there is one.
    """

    subject: str
    session: str
    run: str
    task: str
    bold: tuple[str, ...]
    events: str
    mask: tuple[str, ...]
    confounds: str | None
    tr_s: float | None = None
    sidecars: tuple[str, ...] = ()
    confounds_json: str | None = None

    @property
    def name(self) -> str:
        """The run in file names, e.g. ``sub-01_ses-02_task-scenes_run-03``."""
        session = f"_ses-{self.session}" if self.session else ""
        return f"sub-{self.subject}{session}_task-{self.task}_run-{self.run}"

    @property
    def kind(self) -> ImageKind:
        """Whether the run is a volume, grayordinates (CIFTI) or surfaces (GIFTI)."""
        return image_kind(self.bold[0])


def map_ending(runs: Sequence[Run]) -> str:
    """Return the ending of maps in the space of these runs."""
    return "nii.gz" if all(run.kind == "volume" for run in runs) else "dscalar.nii"


def check_kinds(runs: Sequence[Run], problems: Problems) -> None:
    """Note runs of different kinds or hemispheres: they cannot share voxels."""
    kinds: dict[str, list[str]] = {}
    for run in runs:
        n_files = f", {len(run.bold)} files a run" if run.kind == "gifti" else ""
        kinds.setdefault(f"{run.kind}{n_files}", []).append(run.name)
    if len(kinds) > 1:
        found = "; ".join(f"{kind}: {some(names, limit=2)}" for kind, names in kinds.items())
        problems.add(f"the runs are of different kinds ({found}). Use one kind in a study.")


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


def fill_hemispheres(pattern: str, **entities: str) -> list[str]:
    """Fill a path pattern that may hold {hemi}: one path, or one for each hemisphere."""
    if "{hemi}" not in pattern:
        return [fill_pattern(pattern, **entities)]
    return [fill_pattern(pattern, hemi=side, **entities) for side in HEMISPHERES]
