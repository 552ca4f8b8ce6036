"""The voxels that all masks of a subject share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from braindecode_clip.artifacts import VoxelSpace
from braindecode_clip.checks import Problems
from braindecode_clip.errors import DataError


def intersect_masks(spaces: Sequence[VoxelSpace], names: Sequence[str]) -> VoxelSpace:
    """Return the voxels that lie in every mask.

    fMRIPrep writes one brain mask a run; their intersection gives all runs the same voxels.

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
    first = spaces[0]
    shape = tuple(int(size) for size in first.shape)
    problems = Problems("masks")
    inside = np.ones(shape, dtype=bool)
    for space, name in zip(spaces, names, strict=True):
        if not first.same_grid(space.affine, tuple(int(size) for size in space.shape)):
            problems.add(
                f"{name} lies on another grid than {names[0]}: shape {space.shape.tolist()} "
                f"against {first.shape.tolist()}, affine {space.affine.round(4).tolist()} against "
                f"{first.affine.round(4).tolist()}. Resample it, or leave it out."
            )
            continue
        inside &= space.to_volume(np.ones(space.n_voxels, np.float32)) > 0
    if not problems and not inside.any():
        problems.add(f"no voxel lies in all of {', '.join(names)}. Are they of one subject?")
    problems.raise_if_any(DataError)
    return VoxelSpace(first.affine, first.shape, np.argwhere(inside).astype(np.int32))
