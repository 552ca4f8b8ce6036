"""NIfTI volumes: masks, maps, and BOLD runs as int16.

Reading a whole run as (volumes, voxels) is in :mod:`braindecode_clip.io.bold`.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np

from braindecode_clip.artifacts import VoxelSpace
from braindecode_clip.errors import DataError
from braindecode_clip.io.atomic import atomic_path

_MM, _SECONDS = "mm", "sec"


def load_image(path: str | Path) -> nib.spatialimages.SpatialImage:
    """Open an image without reading its data; a bad file is a :class:`DataError`."""
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file.")
    try:
        return nib.load(path)
    except (nib.filebasedimages.ImageFileError, EOFError, OSError, zlib.error, ValueError) as error:
        raise DataError(
            f"{path}: is no readable NIfTI image ({str(error).splitlines()[0]}). "
            "Expected .nii or .nii.gz; if it was downloaded, compare its size and fetch it again."
        ) from error


def read_volume(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a 3-D image.

    Returns
    -------
    data : ndarray (nx, ny, nz) float32
    affine : ndarray (4, 4) float64
    """
    image = load_image(path)
    shape = tuple(size for size in image.shape[:3]) if len(image.shape) >= 3 else image.shape
    n_volumes = int(np.prod(image.shape[3:])) if len(image.shape) > 3 else 1
    if len(shape) != 3 or n_volumes != 1:
        raise DataError(f"{path}: has shape {image.shape}, expected one 3-D volume.")
    try:
        data = np.asarray(image.dataobj, dtype=np.float32).reshape(shape)
    except (EOFError, OSError, zlib.error, ValueError) as error:
        raise DataError(
            f"{path}: its data end before the header says ({error}). The file is truncated or "
            "damaged; fetch or write it again."
        ) from error
    return data, np.asarray(image.affine, dtype=np.float64)


def read_mask(path: str | Path) -> VoxelSpace:
    """Read a mask: every voxel that is not zero (and not NaN) belongs to it."""
    data, affine = read_volume(path)
    inside = (data != 0) & ~np.isnan(data)
    if not inside.any():
        raise DataError(f"{path}: the mask is empty (no voxel above zero among {data.size}).")
    return VoxelSpace(
        affine=affine,
        shape=np.array(data.shape, dtype=np.int64),
        ijk=np.argwhere(inside).astype(np.int32),
    )


def write_volume(path: str | Path, data: np.ndarray, affine: np.ndarray) -> None:
    """Write a 3-D or 4-D image as NIfTI-1 in the dtype of ``data``, units mm."""
    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units(_MM, _SECONDS)
    _save(path, image)


def write_bold_int16(
    path: str | Path, data: np.ndarray, affine: np.ndarray, *, tr_s: float
) -> None:
    """Write a run (nx, ny, nz, n_volumes) as scaled int16 with its repetition time."""
    low, high = float(data.min()), float(data.max())
    limits = np.iinfo(np.int16)
    slope = max((high - low) / (int(limits.max) - int(limits.min)), np.finfo(np.float32).tiny)
    inter = low - slope * int(limits.min)
    stored = np.rint((data - inter) / slope).clip(limits.min, limits.max).astype(np.int16)
    image = nib.Nifti1Image(stored, affine)
    image.header.set_data_dtype(np.int16)
    image.header.set_slope_inter(slope, inter)
    image.header.set_xyzt_units(_MM, _SECONDS)
    image.header["pixdim"][4] = tr_s
    _save(path, image)


def _save(path: str | Path, image: nib.Nifti1Image) -> None:
    """Write in one step, with a gzip header without time or name: same data, same bytes."""
    with atomic_path(path) as temporary:
        payload = image.to_bytes()
        if temporary.suffix == ".gz":
            payload = gzip.compress(payload, compresslevel=4, mtime=0)
        temporary.write_bytes(payload)
