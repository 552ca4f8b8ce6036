"""Where the columns of a voxel matrix lie: voxels of a grid, vertices of surfaces, or both."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from braindecode_clip.checks import Problems
from braindecode_clip.constants import AFFINE_TOLERANCE_MM
from braindecode_clip.errors import ArtifactError

ImageKind = Literal["volume", "cifti", "gifti"]
#: Structures are named as in CIFTI-2; messages leave out what they all begin with.
STRUCTURE_PREFIX = "CIFTI_STRUCTURE_"
_CIFTI_ENDING = re.compile(r"\.[dp](conn|tseries|scalar|label)\.nii(\.gz)?$")


def image_kind(path: str | Path) -> ImageKind:
    """Tell by its ending what a file holds: a volume, grayordinates or a surface."""
    name = Path(path).name
    if name.endswith((".gii", ".gii.gz")):
        return "gifti"
    return "cifti" if _CIFTI_ENDING.search(name) else "volume"


@dataclass(frozen=True)
class VoxelSpace:
    """Where the columns of a voxel matrix lie.

    A column is a voxel of a grid or, in data on surfaces, a vertex (together: grayordinates).

    Attributes
    ----------
    affine : ndarray (4, 4) float64
        Voxel indices to mm.
    shape : ndarray (3,) int64
        The grid; zeros where there are surfaces alone.
    ijk : ndarray (n_voxels, 3) int32
        Grid indices of every column, in C order of the mask. Of a vertex (index, 0, 0).
    structure : ndarray (n_voxels,) str, or None
        CIFTI-2 name of the structure of every column, e.g. "CIFTI_STRUCTURE_CORTEX_LEFT"; None
        for a plain volume.
    n_vertices : dict of str to int
        Vertices of the whole surface of every structure that has one.
    """

    affine: np.ndarray
    shape: np.ndarray
    ijk: np.ndarray
    structure: np.ndarray | None = None
    n_vertices: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = Problems("VoxelSpace")
        for name, got, want in (
            ("affine", self.affine.shape, (4, 4)),
            ("shape", self.shape.shape, (3,)),
            ("ijk", self.ijk.shape, (len(self.ijk), 3)),
            (
                "structure",
                (self.n_voxels,) if self.is_volume else self.structure.shape,
                (len(self.ijk),),
            ),
        ):
            if got != want:
                problems.add(f"'{name}' has shape {got}, expected {want}.")
        if not problems and not np.isfinite(self.affine).all():
            problems.add("'affine' holds NaN or infinite numbers.")
        if not problems and ((self.ijk < 0) | (self.ijk >= self._limits())).any():
            problems.add("'ijk' points outside the grid or the surface.")
        problems.raise_if_any(ArtifactError)

    def _limits(self) -> np.ndarray:
        """Return the number of places along each axis, for every column."""
        limits = np.broadcast_to(self.shape, self.ijk.shape)
        if self.is_volume:
            return limits
        limits = limits.copy()
        for name, size in self.n_vertices.items():
            limits[self.structure == name] = (size, 1, 1)
        return limits

    @property
    def n_voxels(self) -> int:
        """Number of columns."""
        return len(self.ijk)

    @property
    def is_volume(self) -> bool:
        """Whether this is a plain volume."""
        return self.structure is None

    def same_grid(self, affine: np.ndarray, shape: tuple[int, ...]) -> bool:
        """Tell whether a grid has this shape and this affine (within 1 µm)."""
        return tuple(shape) == tuple(int(size) for size in self.shape) and bool(
            np.abs(np.asarray(affine) - self.affine).max() <= AFFINE_TOLERANCE_MM
        )

    def fits(self, other: VoxelSpace) -> bool:
        """Tell whether two spaces number their voxels and vertices alike.

        Surfaces that both have must have equally many vertices, and the grids must be the same
        where both have one.
        """
        if self.is_volume != other.is_volume:
            return False
        shared = self.n_vertices.keys() & other.n_vertices.keys()
        if any(self.n_vertices[name] != other.n_vertices[name] for name in shared):
            return False
        has_grids = self.shape.any() and other.shape.any()
        return not has_grids or self.same_grid(other.affine, tuple(other.shape))

    @property
    def map_ending(self) -> str:
        """The ending of a map in this space: "nii.gz", or "dscalar.nii" for surfaces."""
        return "nii.gz" if self.is_volume else "dscalar.nii"

    def same_columns(self, other: VoxelSpace) -> bool:
        """Tell whether two spaces hold the same columns in the same order."""
        return (
            self.fits(other)
            and np.array_equal(self.ijk, other.ijk)
            and (self.is_volume or np.array_equal(self.structure, other.structure))
        )

    def locate(self, other: VoxelSpace) -> np.ndarray:
        """Find this space's columns in another that fits.

        Returns
        -------
        ndarray (n_voxels,) int64
            Position of every column in ``other``; -1 where it is not there.
        """
        own, theirs = _codes([self, other])
        order = np.argsort(theirs, kind="stable")
        place = np.searchsorted(theirs, own, sorter=order)
        found = order[np.minimum(place, len(order) - 1)] if len(order) else place
        if not len(order):
            return np.full(len(own), -1, dtype=np.int64)
        return np.where(theirs[found] == own, found, -1)

    def subset(self, index: np.ndarray) -> VoxelSpace:
        """Return the space of some of the columns."""
        structure = None if self.structure is None else self.structure[index]
        return VoxelSpace(self.affine, self.shape, self.ijk[index], structure, self.n_vertices)

    def to_volume(self, values: np.ndarray, *, fill: float = 0.0) -> np.ndarray:
        """Lay (n_voxels,) values out on the grid, ``fill`` elsewhere; float32."""
        if not self.is_volume:
            raise ArtifactError(
                f"{self.describe()}: is no plain volume, so its values fill no grid. Write them "
                "as CIFTI (.dscalar.nii)."
            )
        volume = np.full(tuple(int(size) for size in self.shape), fill, dtype=np.float32)
        volume[tuple(self.ijk.T)] = values
        return volume

    def place(self, column: int) -> str:
        """Name the place of a column, e.g. ``ijk (3, 4, 5)`` or ``CORTEX_LEFT vertex 12``."""
        ijk = tuple(int(i) for i in self.ijk[column])
        if self.structure is None:
            return f"ijk {ijk}"
        name = str(self.structure[column])
        short = name.removeprefix(STRUCTURE_PREFIX)
        return f"{short} vertex {ijk[0]}" if name in self.n_vertices else f"{short} ijk {ijk}"

    def describe(self) -> str:
        """Describe the grid and the surfaces for a message."""
        surfaces = [
            f"{name.removeprefix(STRUCTURE_PREFIX)} with {size} vertices"
            for name, size in sorted(self.n_vertices.items())
        ]
        shape = tuple(int(size) for size in self.shape)
        grid = [f"shape {shape}, affine {np.round(self.affine[:3], 3).tolist()}"]
        return ", ".join(surfaces + (grid if any(shape) or not surfaces else []))


def join_spaces(spaces: Sequence[VoxelSpace]) -> VoxelSpace:
    """Join spaces that share no column, e.g. two hemispheres, one after the other."""
    if len(spaces) == 1:
        return spaces[0]
    gridded = next((space for space in spaces if space.shape.any()), spaces[0])
    return VoxelSpace(
        gridded.affine,
        gridded.shape,
        np.concatenate([space.ijk for space in spaces]),
        np.concatenate([space.structure for space in spaces]),
        {name: size for space in spaces for name, size in space.n_vertices.items()},
    )


def surface_space(structure: str, vertices: np.ndarray, n_vertices: int) -> VoxelSpace:
    """Return the space of some vertices (n,) of one surface of ``n_vertices``."""
    ijk = np.zeros((len(vertices), 3), dtype=np.int32)
    ijk[:, 0] = vertices
    return VoxelSpace(
        affine=np.eye(4),
        shape=np.zeros(3, dtype=np.int64),
        ijk=ijk,
        structure=np.full(len(vertices), structure),
        n_vertices={structure: int(n_vertices)},
    )


def _codes(spaces: Sequence[VoxelSpace]) -> list[np.ndarray]:
    """Number the columns of several spaces: equal numbers, equal places."""
    names = sorted(
        {name for s in spaces if s.structure is not None for name in np.unique(s.structure)}
    )
    dims = np.max([s.ijk.max(axis=0, initial=0) for s in spaces], axis=0) + 1
    codes = []
    for space in spaces:
        kind = 0 if space.structure is None else np.searchsorted(names, space.structure)
        flat = np.ravel_multi_index(tuple(space.ijk.T.astype(np.int64)), tuple(dims))
        codes.append(kind * int(np.prod(dims)) + flat)
    return codes
