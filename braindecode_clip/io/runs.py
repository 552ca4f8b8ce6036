"""Runs, masks and maps of any kind: volumes, grayordinates (CIFTI), surfaces (GIFTI)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from braindecode_clip.errors import DataError
from braindecode_clip.io.bold import read_bold
from braindecode_clip.io.cifti import (
    read_cifti_map,
    read_cifti_mask,
    read_cifti_run,
    write_cifti_map,
)
from braindecode_clip.io.gifti import read_gifti_mask, read_gifti_run
from braindecode_clip.io.nifti import read_mask, read_volume, write_volume
from braindecode_clip.spaces import VoxelSpace, image_kind


def read_run(
    paths: Sequence[str | Path],
    space: VoxelSpace | None = None,
    *,
    mask_name: str = "the mask",
    tr_s: float | None = None,
    volume_filter: Callable[[np.ndarray], np.ndarray] | None = None,
) -> tuple[np.ndarray, VoxelSpace, float]:
    """Read the time series of a run inside a mask.

    Volumes are streamed (:func:`braindecode_clip.io.bold.read_bold`); a CIFTI dense series is
    read by blocks of grayordinates, with little more memory than the result.

    Parameters
    ----------
    paths : sequence of path
        One NIfTI or one ``.dtseries.nii`` file, or one ``.func.gii`` a hemisphere.
    space : VoxelSpace, optional
        The mask; its order is that of the columns. Volumes need one. Without one, data on
        surfaces keep every grayordinate but those that are NaN, or zero, at every volume: so
        the medial wall is marked. Of a mask, grayordinates that the run does not hold are left
        out.
    mask_name : str
        The mask's file, for messages.
    tr_s : float, optional
        Repetition time (s) that the caller knows; the JSON sidecar, the header, the series axis
        of CIFTI and ``TimeStep`` of GIFTI must agree with it where they state one.
    volume_filter : callable, optional
        Applied to every whole volume before masking; there is none for surfaces.

    Returns
    -------
    data : ndarray (n_volumes, n_voxels) float32
    space : VoxelSpace
        Where the columns lie.
    tr_s : float

    Raises
    ------
    DataError
        No readable time series, no or another mask's grid, no or contradictory TR, truncated
        files, NaN inside the mask, hemispheres of different runs.
    """
    kinds = sorted({image_kind(path) for path in paths})
    names = ", ".join(str(path) for path in paths)
    if len(kinds) != 1 or (kinds[0] != "gifti" and len(paths) != 1):
        raise DataError(
            f"{names}: {len(paths)} files for one run. Expected one NIfTI or CIFTI file, or one "
            "GIFTI file for each hemisphere."
        )
    if kinds[0] == "volume":
        if space is None:
            raise DataError(f"{names}: is a volume, which needs a mask. Give one: --mask FILE.")
        if not space.is_volume:
            raise DataError(
                f"{names}: is a volume, but {mask_name} is none. Give a mask in NIfTI on its grid."
            )
        data, tr_s = read_bold(
            paths[0], space, mask_name=mask_name, tr_s=tr_s, volume_filter=volume_filter
        )
        return data, space, tr_s
    if volume_filter is not None:
        raise DataError(
            f"{names}: lies on surfaces, which are not smoothed here. Set fwhm_mm to null, and "
            "smooth beforehand (wb_command -cifti-smoothing or -metric-smoothing)."
        )
    if kinds[0] == "cifti":
        return read_cifti_run(paths[0], space, mask_name=mask_name, tr_s=tr_s)
    return read_gifti_run(paths, space, mask_name=mask_name, tr_s=tr_s)


def read_any_mask(path: str | Path) -> VoxelSpace:
    """Read a mask of any kind: what is not zero (and not NaN) belongs to it."""
    readers = {"volume": read_mask, "cifti": read_cifti_mask, "gifti": read_gifti_mask}
    return readers[image_kind(path)](path)


def write_map(path: str | Path, space: VoxelSpace, values: np.ndarray) -> None:
    """Write one map (n_voxels,) in the space of the input.

    Parameters
    ----------
    path : path
        ``.nii`` or ``.nii.gz`` for a volume, NaN outside; ``.dscalar.nii`` for data on
        surfaces, both hemispheres in one file.
    space : VoxelSpace
    values : ndarray (n_voxels,)
        Stored as float32.
    """
    wanted = "volume" if space.is_volume else "cifti"
    if image_kind(path) != wanted:
        raise DataError(
            f"{path}: cannot hold a map of {'a volume' if space.is_volume else space.describe()}. "
            f"Give a name that ends with .{space.map_ending}."
        )
    if space.is_volume:
        write_volume(path, space.to_volume(values, fill=float("nan")), space.affine)
    else:
        write_cifti_map(path, space, values)


def read_map(path: str | Path) -> tuple[np.ndarray, VoxelSpace | np.ndarray]:
    """Read one map: a volume (nx, ny, nz) with its affine, or values (n,) with their space."""
    return read_cifti_map(path) if image_kind(path) == "cifti" else read_volume(path)
