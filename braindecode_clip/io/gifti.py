"""GIFTI: the two hemispheres of a run, and masks on surfaces.

GIFTI is XML, so one hemisphere is in memory as a whole while it is read.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from xml.parsers.expat import ExpatError

import nibabel as nib
import numpy as np

from braindecode_clip.checks import Problems
from braindecode_clip.errors import DataError
from braindecode_clip.io.cifti import check_finite, choose_columns, measured_columns
from braindecode_clip.io.repetition import LONGEST_TR_S, agree_on_tr, stated_times
from braindecode_clip.spaces import STRUCTURE_PREFIX, VoxelSpace, join_spaces, surface_space

_SIDES = {"L": "CORTEX_LEFT", "R": "CORTEX_RIGHT"}
#: How file names tell the hemisphere: BIDS, Connectome Workbench, FreeSurfer.
_SIDE_IN_NAME = re.compile(r"(?:hemi-([LR])(?=[_.])|\.([LR])\.|(?:^|\.)([lr])h\.)")


def read_gifti_run(
    paths: Sequence[str | Path],
    space: VoxelSpace | None = None,
    *,
    mask_name: str = "the mask",
    tr_s: float | None = None,
) -> tuple[np.ndarray, VoxelSpace, float]:
    """Read a run of one file a hemisphere; see :func:`braindecode_clip.io.runs.read_run`."""
    where = " + ".join(str(path) for path in paths)
    problems = Problems(where)
    parts: dict[str, np.ndarray] = {}
    known: dict[str, float] = {}
    for path in map(Path, paths):
        image = _load(path)
        structure = _structure(path, image)
        if structure in parts:
            problems.add(
                f"{path.name} is of {structure.removeprefix(STRUCTURE_PREFIX)}, like a file before "
                "it. Give each hemisphere once."
            )
        series = _series(path, image)
        if series.ndim != 2 or len(series) < 2:
            problems.add(f"{path.name} holds {len(series)} volumes, expected at least 2.")
        parts[structure] = series
        known |= stated_times(path, given_s=tr_s) | _time_step(path, image)
    lengths = {structure: len(series) for structure, series in parts.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(
            f"{n} in {structure.removeprefix(STRUCTURE_PREFIX)}" for structure, n in lengths.items()
        )
        problems.add(f"the hemispheres differ in their volumes: {found}. Are they of one run?")
    tr_s = agree_on_tr(known, problems)
    problems.raise_if_any(DataError)
    whole = join_spaces(
        [
            surface_space(structure, np.arange(series.shape[1]), series.shape[1])
            for structure, series in parts.items()
        ]
    )
    if space is None:
        measured = np.concatenate([measured_columns(series) for series in parts.values()])
        columns = np.flatnonzero(measured)
        kept = whole.subset(columns)
    else:
        columns, kept = choose_columns(whole, space, where=where, mask_name=mask_name)
    data = np.empty((next(iter(lengths.values())), len(columns)), dtype=np.float32)
    start = 0
    for series in parts.values():
        stop = start + series.shape[1]
        own = np.flatnonzero((columns >= start) & (columns < stop))
        data[:, own] = series[:, columns[own] - start]
        start = stop
    check_finite(data, kept, where=where)
    return data, kept, tr_s


def read_gifti_mask(path: str | Path) -> VoxelSpace:
    """Read a mask: every vertex that is not zero (and not NaN) belongs to it."""
    path = Path(path)
    image = _load(path)
    series = _series(path, image)
    if len(series) != 1:
        raise DataError(f"{path}: holds {len(series)} maps, expected one. Take one out.")
    inside = np.flatnonzero((series[0] != 0) & ~np.isnan(series[0]))
    if not len(inside):
        raise DataError(f"{path}: the mask is empty (nothing above zero among {series.shape[1]}).")
    return surface_space(_structure(path, image), inside, series.shape[1])


def _load(path: Path) -> nib.GiftiImage:
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    try:
        return nib.load(path)
    except (
        nib.filebasedimages.ImageFileError,
        ExpatError,
        EOFError,
        OSError,
        ValueError,
        zlib.error,
    ) as error:
        raise DataError(
            f"{path}: is no readable GIFTI file, or is truncated ({str(error).splitlines()[0]}). "
            "Fetch or write it again."
        ) from error


def _series(path: Path, image: nib.GiftiImage) -> np.ndarray:
    """Return (n_volumes, n_vertices): one array for each volume, or all in one array."""
    arrays = [np.squeeze(array.data) for array in image.darrays if array.data is not None]
    sizes = {array.shape for array in arrays}
    if len(sizes) != 1 or arrays[0].ndim not in (1, 2) or (arrays[0].ndim == 2 and len(arrays) > 1):
        raise DataError(
            f"{path}: holds arrays of the shapes {sorted(sizes)}, expected one value a vertex "
            "(.func.gii, .shape.gii, .label.gii). Is it a surface?"
        )
    return np.stack(arrays) if arrays[0].ndim == 1 else arrays[0].T


def _structure(path: Path, image: nib.GiftiImage) -> str:
    """Return the structure on which the metadata and the file name agree."""
    metadata = [image.meta, *(array.meta for array in image.darrays[:1])]
    named = {
        f"{STRUCTURE_PREFIX}{_upper(meta['AnatomicalStructurePrimary'])}"
        for meta in metadata
        if meta.get("AnatomicalStructurePrimary")
    }
    found = _SIDE_IN_NAME.search(path.name)
    if found:
        named.add(f"{STRUCTURE_PREFIX}{_SIDES[next(filter(None, found.groups())).upper()]}")
    if not named:
        raise DataError(
            f"{path}: neither its metadata (AnatomicalStructurePrimary) nor its name (hemi-L, "
            "hemi-R) tells the hemisphere. Name it so: e.g. sub-01_hemi-L_mask.shape.gii."
        )
    if len(named) > 1:
        raise DataError(
            f"{path}: is {' and '.join(sorted(named))} by its metadata and its name. Correct the "
            "one that is wrong."
        )
    return named.pop()


def _upper(name: str) -> str:
    """Turn GIFTI's CortexLeft into CIFTI's CORTEX_LEFT."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()


def _time_step(path: Path, image: nib.GiftiImage) -> dict[str, float]:
    """Return the TR (s) of the metadata: FreeSurfer writes milliseconds, others seconds."""
    for meta in (image.meta, *(array.meta for array in image.darrays[:1])):
        try:
            value = float(meta.get("TimeStep") or 0)
        except ValueError:
            continue
        if value > 0:
            return {f"{path.name}": value / 1000 if value > LONGEST_TR_S else value}
    return {}
