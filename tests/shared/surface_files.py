"""Real CIFTI and GIFTI files of unequal sizes, written with nibabel alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel import cifti2
from nibabel.gifti import GiftiDataArray, GiftiImage, GiftiMetaData

LEFT, RIGHT, THALAMUS = (
    f"CIFTI_STRUCTURE_{name}" for name in ("CORTEX_LEFT", "CORTEX_RIGHT", "THALAMUS_LEFT")
)
#: Vertices of the left and the right surface, and the grid of the subcortex.
SIZES = {"L": 37, "R": 41}
GRID = (5, 6, 4)
AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2.0, 0, -8], [0, 0, 2.5, 3], [0, 0, 0, 1]])


def brain_models() -> cifti2.BrainModelAxis:
    """Left cortex without every fifth vertex, right cortex, and seven voxels of the thalamus."""
    left = np.setdiff1d(np.arange(SIZES["L"]), np.arange(0, SIZES["L"], 5))
    voxels = np.argwhere(np.random.default_rng(3).random(GRID) > 0.94)[:7]
    return (
        cifti2.BrainModelAxis.from_surface(left, SIZES["L"], LEFT)
        + cifti2.BrainModelAxis.from_surface(np.arange(2, SIZES["R"]), SIZES["R"], RIGHT)
        + cifti2.BrainModelAxis(
            [THALAMUS] * len(voxels), voxel=voxels, affine=AFFINE, volume_shape=GRID
        )
    )


def write_cifti_run(
    path: Path,
    data: np.ndarray,
    *,
    tr_s: float = 1.5,
    unit: str = "SECOND",
    models: cifti2.BrainModelAxis | None = None,
    exponent: int | None = None,
) -> Path:
    """Write a dense time series (n_volumes, n_grayordinates)."""
    series = cifti2.SeriesAxis(0.0, tr_s, len(data), unit)
    image = cifti2.Cifti2Image(data, (series, brain_models() if models is None else models))
    if exponent is not None:
        index_map = image.header.matrix.get_index_map(0)
        index_map.series_exponent = exponent
        index_map.series_step = tr_s * 10.0**-exponent
    image.nifti_header.set_intent("NIFTI_INTENT_CONNECTIVITY_DENSE_SERIES")
    image.to_filename(path)
    return path


def write_cifti_mask(
    path: Path, values: np.ndarray, models: cifti2.BrainModelAxis | None = None
) -> Path:
    """Write a dscalar (n_grayordinates,)."""
    axes = (cifti2.ScalarAxis(["mask"]), brain_models() if models is None else models)
    cifti2.Cifti2Image(values[None].astype(np.float32), axes).to_filename(path)
    return path


def write_gifti(
    path: Path,
    data: np.ndarray,
    *,
    structure: str | None = None,
    time_step: float | None = None,
    one_array: bool = False,
    intent: str = "NIFTI_INTENT_TIME_SERIES",
) -> Path:
    """Write (n_volumes, n_vertices) as one array a volume, or all in one array."""
    meta = GiftiMetaData(
        **({"AnatomicalStructurePrimary": structure} if structure else {}),
        **({"TimeStep": str(time_step)} if time_step else {}),
    )
    arrays: Sequence[np.ndarray] = [data.T] if one_array else list(data)
    image = GiftiImage(
        darrays=[
            GiftiDataArray(np.ascontiguousarray(array), intent=intent, datatype=str(data.dtype))
            for array in arrays
        ],
        meta=meta,
    )
    nib.save(image, path)
    return path
