"""A small brain: tissues, regions and an anatomical picture, all from one function of space.

Every map is the same function of scanner coordinates, evaluated on the functional grid
or on a finer one, so that they lie on each other exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from braindecode_clip.config.simulate import SimulateConfig

#: Tissue codes.
OUTSIDE, GREY, WHITE, CSF = 0, 1, 2, 3

#: Region: share of all grey voxels, and its centre in each hemisphere as a share of the
#: brain's half-extents (side: away from the midline, front, up). Early lies at the back
#: pole, shape laterally, colour and scene below.
_REGIONS: dict[str, tuple[float, tuple[float, float, float]]] = {
    "early": (0.16, (0.22, -0.95, 0.05)),
    "colour": (0.08, (0.45, -0.45, -0.75)),
    "shape": (0.10, (0.90, -0.50, -0.10)),
    "scene": (0.08, (0.15, -0.35, -0.90)),
}
_HIGHER: tuple[str, ...] = ("colour", "shape", "scene")

#: The anatomical picture is this many times finer than the functional grid.
_FINER = 3

_BRAIN_CENTRE_MM = np.array([0.0, -18.0, 6.0])
_TILT_DEG = (4.0, -2.0, 3.0)


@dataclass(frozen=True)
class Anatomy:
    """The brain of one subject.

    Attributes
    ----------
    affine : ndarray, (4, 4), float64
        Functional voxel indices to mm.
    brain : ndarray of bool, (nx, ny, nz)
        The brain mask.
    tissue : ndarray of uint8, (nx, ny, nz)
        0 outside, 1 grey matter, 2 white matter, 3 cerebrospinal fluid.
    rois : dict of str to ndarray of bool, (nx, ny, nz)
        early, colour, shape, scene; higher: the union of the last three; visual: of all.
    epi_mean : ndarray, (nx, ny, nz), float32
        Mean functional signal, arbitrary units, 0 outside.
    t1w : ndarray, (3 nx, 3 ny, 3 nz), float32
        Anatomical picture, 0 outside.
    t1w_affine : ndarray, (4, 4), float64
    """

    affine: np.ndarray
    brain: np.ndarray
    tissue: np.ndarray
    rois: dict[str, np.ndarray]
    epi_mean: np.ndarray
    t1w: np.ndarray
    t1w_affine: np.ndarray

    def points_mm(self, where: np.ndarray) -> np.ndarray:
        """Return the brain-centred coordinates (n, 3) in mm of the voxels of a mask."""
        ijk = np.argwhere(where)
        return ijk @ self.affine[:3, :3].T + self.affine[:3, 3] - _BRAIN_CENTRE_MM


@dataclass(frozen=True)
class _Head:
    """What makes one head differ from another: its size and the waves of its folds."""

    half_mm: np.ndarray
    waves: np.ndarray
    phases: np.ndarray


def make_anatomy(config: SimulateConfig, *, rng: np.random.Generator) -> Anatomy:
    """Make a brain on the grid of the config.

    Parameters
    ----------
    config : SimulateConfig
        ``grid_shape`` and ``voxel_mm``.
    rng : numpy.random.Generator
        Chooses the folds and the tilt of the head.

    Returns
    -------
    Anatomy
    """
    shape = tuple(config.grid_shape)
    affine = _oblique_affine(shape, config.voxel_mm, rng)
    head = _make_head(np.array(shape) * config.voxel_mm / 2, rng)
    tissue = _largest_part(_tissue(_coordinates(shape, affine), head))
    brain = tissue != OUTSIDE
    rois = _regions(tissue, affine, head)
    fine_shape = tuple(size * _FINER for size in shape)
    fine_affine = _finer_affine(affine)
    fine = _tissue(_coordinates(fine_shape, fine_affine), head)
    return Anatomy(
        affine=affine,
        brain=brain,
        tissue=tissue,
        rois=rois,
        epi_mean=_epi_mean(tissue, rng),
        t1w=_t1w(fine, rng),
        t1w_affine=fine_affine,
    )


def _oblique_affine(
    shape: tuple[int, ...], voxel_mm: float, rng: np.random.Generator
) -> np.ndarray:
    angles = np.deg2rad(np.array(_TILT_DEG) + rng.normal(0, 1.0, 3))
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = [k for k in range(3) if k != axis]
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ turn
    affine = np.eye(4)
    affine[:3, :3] = rotation * voxel_mm
    # The grid's centre is the brain's centre, and the header can hold it in float32.
    affine[:3, 3] = _BRAIN_CENTRE_MM - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine.astype(np.float32).astype(np.float64)


def _finer_affine(affine: np.ndarray) -> np.ndarray:
    finer = affine.copy()
    finer[:3, :3] /= _FINER
    # The first fine voxel's centre lies within the first coarse voxel, at its corner.
    finer[:3, 3] -= finer[:3, :3] @ np.full(3, (_FINER - 1) / 2)
    return finer.astype(np.float32).astype(np.float64)


def _coordinates(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Return brain-centred mm (nx, ny, nz, 3) of every voxel."""
    ijk = np.stack(np.meshgrid(*(np.arange(size) for size in shape), indexing="ij"), axis=-1)
    return ijk @ affine[:3, :3].T + affine[:3, 3] - _BRAIN_CENTRE_MM


def _make_head(half_fov_mm: np.ndarray, rng: np.random.Generator) -> _Head:
    n_waves = 24
    direction = rng.normal(size=(n_waves, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    wavelength = rng.uniform(0.26, 0.42, n_waves) * half_fov_mm.max()
    return _Head(
        half_mm=half_fov_mm * rng.uniform(0.9, 0.95, 3),
        waves=2 * np.pi * direction / wavelength[:, None],
        phases=rng.uniform(0, 2 * np.pi, n_waves),
    )


def _tissue(points: np.ndarray, head: _Head) -> np.ndarray:
    """Classify points (..., 3): two half-ellipsoids with folded bark around white matter."""
    side = np.abs(points[..., 0]) / head.half_mm[0]
    front, up = points[..., 1] / head.half_mm[1], points[..., 2] / head.half_mm[2]
    # Each hemisphere is an ellipsoid off the midline; flatter below than above.
    up = np.where(up < 0, up * 1.12, up)
    radius = np.sqrt(((side - 0.40) / 0.60) ** 2 + front**2 + up**2)
    folds = np.zeros(points.shape[:-1])
    for wave, phase in zip(head.waves, head.phases, strict=True):
        folds += np.cos(points @ wave + phase)
    folds *= np.sqrt(2.0 / len(head.waves))
    depth = 1.0 - radius + 0.03 * folds
    tissue = np.where(depth > 0, WHITE, OUTSIDE).astype(np.uint8)
    bark = (depth < 0.17) | ((np.abs(folds) < 0.5) & (depth < 0.42))
    tissue[(tissue == WHITE) & bark] = GREY
    # Fluid in the depth of the sulci, between the hemispheres, and in two ventricles.
    sulcus = (np.abs(folds) < 0.10) & (depth < 0.26)
    fissure = (side < 0.035) & (depth < 0.30)
    ventricle = (
        ((side - 0.16) / 0.11) ** 2 + ((front + 0.02) / 0.34) ** 2 + ((up - 0.12) / 0.17) ** 2
    ) < 1
    tissue[(tissue != OUTSIDE) & (sulcus | fissure | ventricle)] = CSF
    return tissue


def _largest_part(tissue: np.ndarray) -> np.ndarray:
    parts, n_parts = ndimage.label(tissue != OUTSIDE)
    sizes = ndimage.sum_labels(np.ones(tissue.shape), parts, np.arange(1, n_parts + 1))
    return np.where(parts == 1 + int(np.argmax(sizes)), tissue, OUTSIDE).astype(np.uint8)


def _regions(tissue: np.ndarray, affine: np.ndarray, head: _Head) -> dict[str, np.ndarray]:
    grey = tissue == GREY
    points = _coordinates(tissue.shape, affine)[grey]
    taken = np.zeros(len(points), dtype=bool)
    rois: dict[str, np.ndarray] = {}
    for name, (share, centre) in _REGIONS.items():
        member = np.zeros(len(points), dtype=bool)
        for sign in (-1, 1):
            middle = head.half_mm * centre * np.array([sign, 1, 1])
            distance = np.linalg.norm(points - middle, axis=1)
            # The nearest free grey voxels of this hemisphere.
            distance[taken | (np.sign(points[:, 0]) != sign)] = np.inf
            wanted = max(2, round(share * len(points) / 2))
            nearest = np.argsort(distance, kind="stable")[:wanted]
            member[nearest[np.isfinite(distance[nearest])]] = True
        taken |= member
        rois[name] = np.zeros(tissue.shape, dtype=bool)
        rois[name][grey] = member
    rois["higher"] = np.logical_or.reduce([rois[name] for name in _HIGHER])
    rois["visual"] = rois["early"] | rois["higher"]
    return rois


def _epi_mean(tissue: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    level = np.array([0.0, 1000.0, 850.0, 1250.0])[tissue]
    level *= 1 + 0.05 * rng.standard_normal(tissue.shape)
    # A coil that sees the back better than the front.
    level *= np.linspace(1.12, 0.9, tissue.shape[1])[None, :, None]
    smooth = ndimage.gaussian_filter(level, 0.4)
    return np.where(tissue != OUTSIDE, smooth, 0).astype(np.float32)


def _t1w(tissue: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    level = np.array([0.0, 640.0, 1000.0, 230.0])[tissue]
    smooth = ndimage.gaussian_filter(level, 0.7) + 12 * rng.standard_normal(tissue.shape)
    inside = ndimage.binary_dilation(tissue != OUTSIDE)
    return np.where(inside, np.clip(smooth, 1, None), 0).astype(np.float32)
