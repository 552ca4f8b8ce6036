"""Which voxels of a region belong to which of its parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from braindecode_clip.artifacts import Fold, Samples, VoxelSet
from braindecode_clip.checks import Problems
from braindecode_clip.spaces import VoxelSpace

#: Label of the voxels that are in no band.
REST = "rest"


def label_bands(space: VoxelSpace, bands: Mapping[str, VoxelSpace]) -> np.ndarray:
    """Label every voxel of a region by the first of several other regions that holds it.

    Parameters
    ----------
    space : VoxelSpace
    bands : mapping of str to VoxelSpace
        In order of precedence.

    Returns
    -------
    ndarray (n_voxels,) str
        :data:`REST` for a voxel in none. A band may be without voxels: a study fits the same
        decoder to every one of its regions.

    Raises
    ------
    DataError
        A band on another grid.
    """
    labels = np.full(space.n_voxels, REST, dtype=object)
    problems = Problems("bands")
    for name, other in reversed(bands.items()):
        if not space.fits(other):
            problems.add(f"'{name}' lies on another grid or surface than the region.")
            continue
        labels[space.locate(other) >= 0] = name
    problems.raise_if_any()
    return labels.astype(str)


def without_voxels(voxels: VoxelSet, dropped: np.ndarray) -> VoxelSet:
    """Return the voxel set without some voxels of the region.

    Parameters
    ----------
    voxels : VoxelSet
    dropped : ndarray (n_voxels,) bool
        Of the region before selection.

    Raises
    ------
    ArtifactError
        When no voxel of a fold is left.
    """
    return dataclasses.replace(
        voxels, folds=tuple(_without(fold, dropped[fold.voxel_index]) for fold in voxels.folds)
    )


def _without(fold: Fold, dropped: np.ndarray) -> Fold:
    def kept(samples: Samples) -> Samples:
        return dataclasses.replace(samples, data=samples.data[:, ~dropped])

    return dataclasses.replace(
        fold,
        train=kept(fold.train),
        test=kept(fold.test),
        test_trials=None if fold.test_trials is None else kept(fold.test_trials),
        voxel_index=fold.voxel_index[~dropped],
        mean=fold.mean[~dropped],
        sd=fold.sd[~dropped],
    )
