"""BOLD runs: 4-D NIfTI and a mask to (volumes, voxels), one volume in memory at a time."""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np

from braindecode_clip.artifacts import VoxelSpace
from braindecode_clip.checks import Problems
from braindecode_clip.errors import DataError
from braindecode_clip.io.nifti import load_image
from braindecode_clip.io.repetition import agree_on_tr, stated_times

#: Voxels of a volume scaled at a time, in float64.
BLOCK_VOXELS = 1 << 16

_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}


@dataclass(frozen=True)
class _Layout:
    """Where and how the numbers of a run lie in its file."""

    path: Path
    shape: tuple[int, int, int]
    n_volumes: int
    dtype: np.dtype
    offset: int
    slope: float
    inter: float


def read_bold(
    path: str | Path,
    space: VoxelSpace,
    *,
    mask_name: str = "the mask",
    tr_s: float | None = None,
    volume_filter: Callable[[np.ndarray], np.ndarray] | None = None,
) -> tuple[np.ndarray, float]:
    """Read the masked time series of a run.

    The file is read (and decompressed) volume by volume, the next one in a thread while this one
    is masked; beside the result there are these two, in the file's dtype.

    Parameters
    ----------
    path : path
        ``.nii`` or ``.nii.gz``, NIfTI-1 or NIfTI-2, any real dtype, scaled or not.
    space : VoxelSpace
        The mask; its order is that of the columns.
    mask_name : str
        The mask's file, for messages.
    tr_s : float, optional
        Repetition time (s) that the caller knows; otherwise the file's JSON sidecar
        (``RepetitionTime``) or its header tells. All that are known must agree.
    volume_filter : callable, optional
        Applied to every whole volume, (nx, ny, nz) float32 to the same, before masking.

    Returns
    -------
    data : ndarray (n_volumes, n_voxels) float32, C order
    tr_s : float

    Raises
    ------
    DataError
        No NIfTI, no time series, another grid than the mask's, no or contradictory TR (all of
        these at once); a truncated or damaged file; NaN in the mask.
    """
    path = Path(path)
    image = _load_nifti(path)
    problems = Problems(str(path))
    layout = _layout(path, image, problems)
    _check_grid(image, space, mask_name, problems)
    tr_s = _repetition_time(path, image.header, tr_s, problems)
    problems.raise_if_any(DataError)
    return _read_volumes(layout, space, volume_filter), tr_s


def read_mean_volume(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Average a run over time, one volume in memory at a time.

    Returns
    -------
    mean : ndarray (nx, ny, nz) float64
    affine : ndarray (4, 4) float64
    """
    path = Path(path)
    image = _load_nifti(path)
    problems = Problems(str(path))
    layout = _layout(path, image, problems)
    problems.raise_if_any(DataError)
    total = np.zeros(int(np.prod(layout.shape)))
    for volume in _volumes(layout):
        total += volume
    mean = total / layout.n_volumes * layout.slope + layout.inter
    return mean.reshape(layout.shape, order="F"), np.asarray(image.affine, dtype=np.float64)


def _load_nifti(path: Path) -> nib.Nifti1Image:
    image = load_image(path)
    if not isinstance(image, nib.Nifti1Image) or path.suffix not in {".nii", ".gz"}:
        raise DataError(
            f"{path}: is a {type(image).__name__} file, expected NIfTI in one file (.nii or "
            ".nii.gz). Convert it."
        )
    return image


def _layout(path: Path, image: nib.Nifti1Image, problems: Problems) -> _Layout:
    shape = image.shape
    while len(shape) > 4 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 4 or shape[3] < 2:
        problems.add(f"has shape {image.shape}, expected a 4-D run with at least 2 volumes.")
    dtype = image.get_data_dtype()
    if dtype.kind not in "iuf":
        problems.add(f"holds {dtype} numbers, expected integers or real numbers.")
    proxy = image.dataobj
    return _Layout(
        path=path,
        shape=tuple(int(size) for size in shape[:3]),
        n_volumes=int(shape[3]) if len(shape) > 3 else 1,
        dtype=dtype,
        offset=int(proxy.offset),
        slope=float(proxy.slope),
        inter=float(proxy.inter),
    )


def _check_grid(
    image: nib.Nifti1Image, space: VoxelSpace, mask_name: str, problems: Problems
) -> None:
    shape = image.shape[:3]
    if space.same_grid(image.affine, shape):
        return
    same_shape = tuple(shape) == tuple(int(size) for size in space.shape)
    found = [] if same_shape else [f"shape {list(shape)} against {space.shape.tolist()}"]
    if np.abs(image.affine - space.affine).max() > 0:
        found.append(
            f"affine {image.affine.round(4).tolist()} against {space.affine.round(4).tolist()}"
        )
    problems.add(
        f"lies on another grid than {mask_name}: {', '.join(found)}. Resample the mask to the "
        "run (nearest neighbour), or give the mask of this space."
    )


def _repetition_time(
    path: Path, header: nib.Nifti1Header, given_s: float | None, problems: Problems
) -> float:
    """Return the TR on which the caller, the sidecar and the header agree."""
    known = stated_times(path, given_s=given_s)
    unit = header.get_xyzt_units()[1]
    value = float(header["pixdim"][4]) * _SECONDS.get(unit, 0.0)
    # nibabel writes 1 without a unit when nobody has set a TR.
    placeholder = unit == "unknown" and value == 1.0
    if value > 0 and not placeholder:
        known["the header"] = value
    return agree_on_tr(known, problems)


def _read_volumes(
    layout: _Layout,
    space: VoxelSpace,
    volume_filter: Callable[[np.ndarray], np.ndarray] | None,
) -> np.ndarray:
    # NIfTI lies in Fortran order: the first index runs fastest.
    index = np.ravel_multi_index(tuple(space.ijk.T), layout.shape, order="F")
    scaled = (layout.slope, layout.inter) != (1.0, 0.0)
    data = np.empty((layout.n_volumes, len(index)), dtype=np.float32)
    bad = np.zeros(len(index), dtype=bool)
    for row, volume in zip(data, _volumes(layout), strict=True):
        for start in range(0, len(index), BLOCK_VOXELS):
            block = slice(start, start + BLOCK_VOXELS)
            values = volume.take(index[block])
            if layout.dtype.kind == "f":
                bad[block] |= ~np.isfinite(values)
            if scaled:
                values = values.astype(np.float64)
                values *= layout.slope
                values += layout.inter
            row[block] = values
        if volume_filter is not None:
            whole = (volume.astype(np.float64) * layout.slope + layout.inter).astype(np.float32)
            row[:] = volume_filter(whole.reshape(layout.shape, order="F"))[tuple(space.ijk.T)]
    if bad.any():
        first = space.ijk[np.flatnonzero(bad)[0]].tolist()
        raise DataError(
            f"{layout.path}: {bad.sum()} of {len(index)} voxels in the mask are NaN or infinite at "
            f"some volume (first: ijk {tuple(first)}). Take them out of the mask, or repair the "
            "run."
        )
    return data


def _volumes(layout: _Layout) -> Iterator[np.ndarray]:
    """Yield every volume as a flat array in the file's dtype; the array is reused.

    While the caller works on a volume, a thread reads (and inflates) the next one into a second
    buffer.
    """
    size = int(np.prod(layout.shape)) * layout.dtype.itemsize
    buffers = bytearray(size), bytearray(size)
    n_read, reason = 0, "it ends too early"
    try:
        with _open(layout.path) as stream, ThreadPoolExecutor(max_workers=1) as reader:
            stream.seek(layout.offset)
            ahead = reader.submit(_fill, stream, buffers[0])
            while ahead.result():
                current = buffers[n_read % 2]
                n_read += 1
                if n_read < layout.n_volumes:
                    ahead = reader.submit(_fill, stream, buffers[n_read % 2])
                yield np.frombuffer(current, dtype=layout.dtype)
                if n_read == layout.n_volumes:
                    # Reading on to the end makes gzip compare its checksum.
                    while stream.read(1 << 16):
                        continue
                    return
    except (EOFError, OSError, zlib.error) as error:
        reason = str(error)
    if n_read == layout.n_volumes:
        raise DataError(f"{layout.path}: is damaged after its last volume ({reason}).")
    raise DataError(
        f"{layout.path}: is truncated or damaged: {n_read} of {layout.n_volumes} volumes can be "
        f"read ({reason}). Compare its size with the original and fetch or write it again."
    )


def _fill(stream: BinaryIO, buffer: bytearray) -> bool:
    """Fill the buffer; False when the file ends first."""
    view, filled = memoryview(buffer), 0
    while filled < len(buffer):
        # One read at a time: of a file cut short, readinto() would lose what came before the cut.
        count = stream.readinto1(view[filled:])  # type: ignore[attr-defined]
        if not count:
            return False
        filled += count
    return True


@contextlib.contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    if path.suffix != ".gz":
        with open(path, "rb") as stream:
            yield stream
        return
    # isal inflates twice as fast as zlib; it has no wheels for some platforms.
    if importlib.util.find_spec("isal") is not None:
        from isal import igzip

        opener = igzip.open
    else:
        opener = gzip.open
    with opener(path, "rb") as stream:
        yield stream
