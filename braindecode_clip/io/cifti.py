"""CIFTI-2: dense time series, masks and maps over grayordinates.

A ``.dtseries.nii`` is an uncompressed NIfTI-2 file in which the time series of one grayordinate
lies in one piece, so it is read by blocks of grayordinates.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np
from nibabel.cifti2 import BrainModelAxis, Cifti2Image, ScalarAxis, SeriesAxis

from braindecode_clip.checks import Problems
from braindecode_clip.errors import DataError
from braindecode_clip.io.atomic import atomic_path
from braindecode_clip.io.nifti import load_image
from braindecode_clip.io.repetition import agree_on_tr, stated_times
from braindecode_clip.spaces import VoxelSpace

#: Grayordinates read at a time.
BLOCK_COLUMNS = 4096


def read_cifti_run(
    path: str | Path,
    space: VoxelSpace | None = None,
    *,
    mask_name: str = "the mask",
    tr_s: float | None = None,
) -> tuple[np.ndarray, VoxelSpace, float]:
    """Read a dense time series; see :func:`braindecode_clip.io.runs.read_run`."""
    path = Path(path)
    image = _load(path)
    problems = Problems(str(path))
    axes = [image.header.get_axis(i) for i in range(image.ndim)]
    if len(axes) != 2 or not isinstance(axes[1], BrainModelAxis) or image.shape[0] < 2:
        found = " x ".join(type(axis).__name__.removesuffix("Axis") for axis in axes)
        problems.add(
            f"holds {found} of shape {image.shape}, expected a dense time series (.dtseries.nii) "
            "of at least 2 volumes."
        )
    _check_numbers(image, problems)
    tr_s = _repetition_time(path, axes[0], tr_s, problems)
    problems.raise_if_any(DataError)
    whole = _space(axes[1])
    if space is None:
        data, kept = _read_columns(path, image, np.arange(whole.n_voxels)), whole
        measured = measured_columns(data)
        if not measured.all():
            data, kept = data[:, measured], whole.subset(np.flatnonzero(measured))
    else:
        columns, kept = choose_columns(whole, space, where=str(path), mask_name=mask_name)
        data = _read_columns(path, image, columns)
    check_finite(data, kept, where=str(path))
    return data, kept, tr_s


def read_cifti_map(path: str | Path) -> tuple[np.ndarray, VoxelSpace]:
    """Read one map (n_grayordinates,) float32 of a ``.dscalar.nii`` or ``.dlabel.nii``."""
    image = _load(Path(path))
    axes = [image.header.get_axis(i) for i in range(image.ndim)]
    if len(axes) != 2 or not isinstance(axes[1], BrainModelAxis) or image.shape[0] != 1:
        raise DataError(
            f"{path}: has shape {image.shape}, expected one map over grayordinates "
            "(.dscalar.nii or .dlabel.nii). Take one map out: wb_command -cifti-merge with -column."
        )
    problems = Problems(str(path))
    _check_numbers(image, problems)
    problems.raise_if_any(DataError)
    return np.asarray(image.dataobj, dtype=np.float32)[0], _space(axes[1])


def read_cifti_mask(path: str | Path) -> VoxelSpace:
    """Read a mask: every grayordinate that is not zero (and not NaN) belongs to it."""
    values, space = read_cifti_map(path)
    inside = np.flatnonzero((values != 0) & ~np.isnan(values))
    if not len(inside):
        raise DataError(f"{path}: the mask is empty (nothing above zero among {len(values)}).")
    return space.subset(inside)


def write_cifti_map(path: str | Path, space: VoxelSpace, values: np.ndarray) -> None:
    """Write one map as ``.dscalar.nii`` that holds the columns of ``space`` and no others.

    Vertices and voxels keep the numbers that they have in the input. Connectome Workbench
    shows the rest of the surface as empty.
    """
    # CIFTI wants each structure in one piece.
    names = list(dict.fromkeys(map(str, space.structure)))
    order = np.concatenate([np.flatnonzero(space.structure == name) for name in names])
    on_surface = np.isin(space.structure[order], list(space.n_vertices))
    vertex = np.where(on_surface, space.ijk[order, 0], -1)
    voxel = np.where(on_surface[:, None], -1, space.ijk[order])
    shape = tuple(int(size) for size in space.shape)
    models = BrainModelAxis(
        space.structure[order].astype(object),
        voxel=voxel,
        vertex=vertex,
        affine=None if on_surface.all() else space.affine,
        volume_shape=None if on_surface.all() else shape,
        nvertices={name: size for name, size in space.n_vertices.items() if name in names},
    )
    title = Path(path).name.removesuffix(".dscalar.nii")
    data = np.asarray(values, dtype=np.float32)[None, order]
    image = Cifti2Image(data, (ScalarAxis([title]), models))
    image.nifti_header.set_intent("NIFTI_INTENT_CONNECTIVITY_DENSE_SCALARS")
    image.update_headers()
    with atomic_path(path) as temporary:
        temporary.write_bytes(image.to_bytes())


def choose_columns(
    whole: VoxelSpace, space: VoxelSpace, *, where: str, mask_name: str
) -> tuple[np.ndarray, VoxelSpace]:
    """Return the columns of a run that a mask keeps, in the mask's order, and their space."""
    if not space.fits(whole):
        kind = "is a volume" if space.is_volume else f"has {space.describe()}"
        raise DataError(
            f"{where}: has {whole.describe()}, but {mask_name} {kind}. Give a mask of the same "
            "surfaces, or none."
        )
    found = space.locate(whole)
    inside = np.flatnonzero(found >= 0)
    if not len(inside):
        raise DataError(
            f"{where}: holds none of the {space.n_voxels} grayordinates of {mask_name}. Is it a "
            "mask of the other hemisphere?"
        )
    return found[inside], space.subset(inside)


def measured_columns(data: np.ndarray) -> np.ndarray:
    """Tell which columns (n_columns,) hold any number but NaN and zero.

    Data on surfaces mark the medial wall in one of these ways.
    """
    measured = np.zeros(data.shape[1], dtype=bool)
    for volume in data:
        measured |= (volume != 0) & ~np.isnan(volume)
    return measured


def check_finite(data: np.ndarray, space: VoxelSpace, *, where: str) -> None:
    """Raise for NaN or infinite numbers, and for a run without any signal."""
    if not space.n_voxels:
        raise DataError(f"{where}: is NaN or zero everywhere. Is this the right file?")
    bad = np.zeros(space.n_voxels, dtype=bool)
    for volume in data:
        bad |= ~np.isfinite(volume)
    if bad.any():
        first = space.place(int(np.flatnonzero(bad)[0]))
        raise DataError(
            f"{where}: {bad.sum()} of {space.n_voxels} grayordinates are NaN or infinite at some "
            f"volume (first: {first}). Give a mask without them, or repair the run."
        )


def _load(path: Path) -> Cifti2Image:
    if path.suffix == ".gz":
        raise DataError(f"{path}: is compressed, which CIFTI files never are. Unpack it: gunzip.")
    image = load_image(path)
    if not isinstance(image, Cifti2Image):
        raise DataError(
            f"{path}: is a {type(image).__name__} file, expected CIFTI-2. Rename it if it is a "
            "volume; convert CIFTI-1 with wb_command -file-convert."
        )
    proxy = image.dataobj
    n_bytes = int(np.prod(image.shape)) * proxy.dtype.itemsize
    found = os.path.getsize(path) - int(proxy.offset)
    if found < n_bytes:
        raise DataError(
            f"{path}: is truncated: {max(found, 0)} of {n_bytes} bytes of data are there. Fetch or "
            "write it again."
        )
    return image


def _check_numbers(image: Cifti2Image, problems: Problems) -> None:
    dtype = image.dataobj.dtype
    if dtype.kind not in "iuf":
        problems.add(f"holds {dtype} numbers, expected integers or real numbers.")


def _space(models: BrainModelAxis) -> VoxelSpace:
    """Return the space of a brain-model axis, all columns."""
    on_surface = models.surface_mask
    ijk = np.zeros((len(models), 3), dtype=np.int32)
    ijk[on_surface, 0] = models.vertex[on_surface]
    ijk[~on_surface] = models.voxel[~on_surface]
    has_grid = models.volume_shape is not None and not on_surface.all()
    return VoxelSpace(
        affine=np.asarray(models.affine, dtype=np.float64) if has_grid else np.eye(4),
        shape=np.array(models.volume_shape if has_grid else (0, 0, 0), dtype=np.int64),
        ijk=ijk,
        structure=np.asarray(models.name, dtype=str),
        n_vertices={str(name): int(size) for name, size in models.nvertices.items()},
    )


def _repetition_time(path: Path, axis: object, given_s: float | None, problems: Problems) -> float:
    """Return the TR on which the caller, the sidecar and the series axis agree."""
    known = stated_times(path, given_s=given_s)
    if isinstance(axis, SeriesAxis):
        if axis.unit != "SECOND":
            problems.add(
                f"its series counts in {axis.unit.lower()}, expected seconds. Is it a time series?"
            )
        elif axis.step > 0:
            known["the header"] = float(axis.step)
    return agree_on_tr(known, problems)


def _read_columns(path: Path, image: Cifti2Image, columns: np.ndarray) -> np.ndarray:
    """Read some columns (n_volumes, n_columns) float32, a block of the file at a time."""
    data = np.empty((image.shape[0], len(columns)), dtype=np.float32)
    order = np.argsort(columns, kind="stable")
    sorted_columns = columns[order]
    for start in range(0, image.shape[1], BLOCK_COLUMNS):
        stop = min(start + BLOCK_COLUMNS, image.shape[1])
        low, high = np.searchsorted(sorted_columns, (start, stop))
        if low == high:
            continue
        try:
            block = np.asarray(image.dataobj[:, start:stop])
        except (EOFError, OSError, ValueError, zlib.error) as error:
            raise DataError(
                f"{path}: cannot be read ({error}). Fetch or write it again."
            ) from error
        data[:, order[low:high]] = block[:, sorted_columns[low:high] - start]
    return data
