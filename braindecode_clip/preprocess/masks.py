"""The voxels that all masks of a subject share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from braindecode_clip.checks import Problems
from braindecode_clip.errors import DataError
from braindecode_clip.spaces import VoxelSpace, join_spaces


def intersect_masks(spaces: Sequence[VoxelSpace], names: Sequence[str]) -> VoxelSpace:
    """Return the voxels that lie in every mask.

    fMRIPrep writes one brain mask a run; their intersection gives all runs the same voxels.
    Masks of different surfaces, e.g. one of each hemisphere, are joined.

    Parameters
    ----------
    spaces : sequence of VoxelSpace
        At least one.
    names : sequence of str
        The files, for messages.

    Returns
    -------
    VoxelSpace

    Raises
    ------
    DataError
        When the grids differ or no voxel lies in all masks.
    """
    problems = Problems("masks")
    # Each part is a list of masks that speak of the same surfaces, or of volumes.
    parts: list[list[int]] = []
    for i, space in enumerate(spaces):
        known = next((part for part in parts if _overlap(spaces[part[0]], space)), None)
        if known is None:
            parts.append([i])
        elif spaces[known[0]].fits(space):
            known.append(i)
        else:
            problems.add(
                f"{names[i]} lies on another grid than {names[known[0]]}: "
                f"{_grid(space, spaces[known[0]])}. Resample it, or leave it out."
            )
    joined = []
    for part in parts:
        first = spaces[part[0]]
        inside = np.ones(first.n_voxels, dtype=bool)
        for i in part[1:]:
            inside &= first.locate(spaces[i]) >= 0
        if not problems and not inside.any():
            files = ", ".join(names[i] for i in part)
            problems.add(f"no voxel lies in all of {files}. Are they of one subject?")
        joined.append(first.subset(np.flatnonzero(inside)))
    problems.raise_if_any(DataError)
    return join_spaces(joined)


def epi_mask(means: Sequence[np.ndarray], affine: np.ndarray) -> np.ndarray:
    """Compute a brain mask from mean functional images: what lies in the brain of every run.

    nilearn's ``compute_epi_mask`` with its defaults: a threshold in the valley of the
    histogram, opening, the largest component.

    Parameters
    ----------
    means : sequence of ndarray (nx, ny, nz)
        One for each run, all on one grid.
    affine : ndarray (4, 4)
        Voxel indices to mm.

    Returns
    -------
    ndarray (nx, ny, nz) bool

    Raises
    ------
    DataError
        When no voxel is in the brain of every run.
    """
    import nibabel as nib
    from nilearn.masking import compute_epi_mask

    inside = np.ones(means[0].shape, dtype=bool)
    for mean in means:
        found = compute_epi_mask(nib.Nifti1Image(mean.astype(np.float32), affine))
        inside &= np.asarray(found.dataobj) > 0
    if not inside.any():
        raise DataError("no voxel is in the brain of every run. Give a mask of your own.")
    return inside


def _overlap(first: VoxelSpace, second: VoxelSpace) -> bool:
    """Tell whether two masks can be intersected; hemispheres are joined instead."""
    if not first.n_vertices or not second.n_vertices:
        return True
    return bool(first.n_vertices.keys() & second.n_vertices.keys())


def _grid(space: VoxelSpace, first: VoxelSpace) -> str:
    if not (space.is_volume and first.is_volume):
        return f"{space.describe()} against {first.describe()}"
    return (
        f"shape {space.shape.tolist()} against {first.shape.tolist()}, affine "
        f"{space.affine.round(4).tolist()} against {first.affine.round(4).tolist()}"
    )
