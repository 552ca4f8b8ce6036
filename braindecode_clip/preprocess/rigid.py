"""Rigid motion of the head: its parameters, and estimating and undoing it with SimpleITK.

The convention, here and in the confounds file: a point of the head that lies at x in the
reference image lies in the volume at

    T x = R (x - c) + c + t,    R = Rz Ry Rx,

in scanner coordinates (mm, RAS+: to the right, to the front, up), with c the centre of the
reference's grid. So trans_x > 0 is a head that has moved to the right, and rot_x, rot_y, rot_z
turn it counter-clockwise (right-hand rule) around the axes through c, x first. Programs differ
in signs, axes and centre; regressing the six columns out, and the framewise displacement of
small motion, depend little on them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation
from scipy.spatial.transform import Rotation

from braindecode_clip.constants import HEAD_RADIUS_MM
from braindecode_clip.errors import ConfigError, DataError
from braindecode_clip.logs import progress

#: SimpleITK's coordinates (LPS) against NIfTI's (RAS).
_FLIP = np.diag([-1.0, -1.0, 1.0])

#: Smoothing (mm) before registration: noise of single voxels has no part in the estimate.
REGISTRATION_FWHM_MM = 4.0

#: First and last step (mm) of the optimiser, and how a step shrinks when the gradient turns.
FIRST_STEP_MM, LAST_STEP_MM, STEP_RELAXATION, MAX_STEPS = 0.5, 1e-5, 0.6, 300

#: Voxels that the mask grows by for registration: the edge of the brain tells most.
EDGE_VOXELS = 2

#: Part of the reference's brain that a run must cover, before it is aligned.
SMALLEST_OVERLAP = 0.25

#: SimpleITK's splines and filters need this many voxels along each axis.
SMALLEST_SIZE = 4


@dataclass(frozen=True)
class ReferenceImage:
    """What volumes are aligned to.

    Attributes
    ----------
    volume : ndarray (nx, ny, nz) float32
    affine : ndarray (4, 4) float64
        Voxel indices to mm.
    """

    volume: np.ndarray
    affine: np.ndarray

    @property
    def centre_mm(self) -> np.ndarray:
        """The centre of the grid (3,), around which rotations are counted."""
        middle = (np.array(self.volume.shape) - 1) / 2
        return self.affine[:3, :3] @ middle + self.affine[:3, 3]


def load_simpleitk() -> ModuleType:
    """Import SimpleITK, or say how to install it."""
    try:
        import SimpleITK
    except ImportError as error:
        raise ConfigError(
            "realign: motion correction needs SimpleITK, which is not installed. Run: "
            "pip install 'braindecode-clip[motion]' (or: pip install SimpleITK). Better still, "
            "give the output of fMRIPrep."
        ) from error
    return SimpleITK


def rigid_matrix(parameters: np.ndarray, centre_mm: np.ndarray) -> np.ndarray:
    """Return T (4, 4) of trans_x, trans_y, trans_z (mm), rot_x, rot_y, rot_z (radians)."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", parameters[3:]).as_matrix()
    matrix[:3, 3] = parameters[:3] + centre_mm - matrix[:3, :3] @ centre_mm
    return matrix


def rigid_parameters(matrix: np.ndarray, centre_mm: np.ndarray) -> np.ndarray:
    """Return the six parameters of T: the inverse of :func:`rigid_matrix`."""
    shift = matrix[:3, 3] - centre_mm + matrix[:3, :3] @ centre_mm
    return np.concatenate([shift, Rotation.from_matrix(matrix[:3, :3]).as_euler("xyz")])


def check_size(shape: tuple[int, ...], *, where: str) -> None:
    """Check that a grid is thick enough for splines and motion in space."""
    if min(shape) < SMALLEST_SIZE:
        raise DataError(
            f"{where}: the grid has an axis of {min(shape)} voxels; the motion of a head in space "
            f"needs at least {SMALLEST_SIZE}. Set 'motion: false'."
        )


def estimate_motion(
    volumes: np.ndarray,
    affine: np.ndarray,
    *,
    reference: ReferenceImage,
    mask: np.ndarray,
    where: str = "run",
) -> np.ndarray:
    """Estimate the six parameters of every volume.

    Mean squared difference of the lightly smoothed images, cubic splines between voxels,
    gradient descent with shrinking steps, from the volume before; the first volume from the
    scanner's coordinates, coarse to fine. One thread, so that the same data give the same
    numbers.

    Parameters
    ----------
    volumes : ndarray (n_volumes, nx, ny, nz) float32
    affine : ndarray (4, 4)
        Of the volumes; it may differ from the reference's (another session).
    reference : ReferenceImage
    mask : ndarray of bool
        The brain on the reference's grid.
    where : str
        The run, for messages.

    Returns
    -------
    ndarray (n_volumes, 6) float64
        Translations in mm, then rotations in radians: see the module's convention.

    Raises
    ------
    ConfigError
        SimpleITK is not installed.
    DataError
        Too few slices, or a volume that does not overlap the reference.
    """
    sitk = load_simpleitk()
    check_size(reference.volume.shape, where=where)
    check_size(volumes.shape[1:], where=where)
    _check_overlap(volumes.shape[1:], affine, reference=reference, mask=mask, where=where)
    fixed = _prepared(reference.volume, reference.affine)
    grown = binary_dilation(mask, iterations=EDGE_VOXELS)
    inside = sitk.Cast(_image(grown, reference.affine), sitk.sitkUInt8)
    transform = sitk.Euler3DTransform()
    transform.SetCenter((_FLIP @ reference.centre_mm).tolist())
    parameters = np.empty((len(volumes), 6))
    for k, volume in enumerate(_counted(volumes, "volumes aligned")):
        method = _registration(coarse_to_fine=k == 0)
        method.SetMetricFixedMask(inside)
        method.SetInitialTransform(transform, True)
        try:
            method.Execute(fixed, _prepared(volume, affine))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise DataError(
                f"{where}: volume {k} cannot be aligned to the reference ({reason}). Do both show "
                "the same brain, at about the same place in the scanner's coordinates?"
            ) from error
        parameters[k] = rigid_parameters(_matrix_of(transform), reference.centre_mm)
    return parameters


def _check_overlap(
    shape: tuple[int, ...],
    affine: np.ndarray,
    *,
    reference: ReferenceImage,
    mask: np.ndarray,
    where: str,
) -> None:
    """Check that the grids meet in the scanner: without overlap there is nothing to descend."""
    brain_mm = np.argwhere(mask) @ reference.affine[:3, :3].T + reference.affine[:3, 3]
    ijk = (brain_mm - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    share = ((ijk >= 0) & (ijk <= np.array(shape) - 1)).all(axis=1).mean()
    if share < SMALLEST_OVERLAP:
        raise DataError(
            f"{where}: its grid covers {share:.0%} of the reference's brain in the scanner's "
            f"coordinates, expected at least {SMALLEST_OVERLAP:.0%}. Are both of one subject, and "
            "are their affines right?"
        )


def undo_motion(
    volumes: np.ndarray, affine: np.ndarray, parameters: np.ndarray, *, reference: ReferenceImage
) -> np.ndarray:
    """Return the run resampled to the reference's grid, with the motion undone.

    Cubic B-splines, in one step. Beyond the edge of a volume its nearest voxel stands.

    Parameters
    ----------
    volumes : ndarray (n_volumes, nx, ny, nz) float32
    affine : ndarray (4, 4)
        Of the volumes.
    parameters : ndarray (n_volumes, 6)
        From :func:`estimate_motion`.
    reference : ReferenceImage

    Returns
    -------
    ndarray (n_volumes, *reference.volume.shape) float32
    """
    sitk = load_simpleitk()
    resampler = sitk.ResampleImageFilter()
    resampler.SetNumberOfThreads(1)
    resampler.SetReferenceImage(_image(reference.volume, reference.affine))
    resampler.SetInterpolator(sitk.sitkBSpline)
    resampler.UseNearestNeighborExtrapolatorOn()
    still = np.empty((len(volumes), *reference.volume.shape), dtype=np.float32)
    for target, volume, row in zip(still, volumes, parameters, strict=True):
        matrix = rigid_matrix(row, reference.centre_mm)
        transform = sitk.AffineTransform(3)
        transform.SetMatrix((_FLIP @ matrix[:3, :3] @ _FLIP).ravel().tolist())
        transform.SetTranslation((_FLIP @ matrix[:3, 3]).tolist())
        resampler.SetTransform(transform)
        resampled = resampler.Execute(_image(volume, affine))
        target[:] = sitk.GetArrayViewFromImage(resampled).T
    return still


def _counted(volumes: np.ndarray, what: str) -> Iterable[np.ndarray]:
    return progress(volumes, what=what, total=len(volumes))


def _image(volume: np.ndarray, affine: np.ndarray) -> Any:
    """Return a volume as SimpleITK's image, which has its axes reversed and LPS coordinates."""
    sitk = load_simpleitk()
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.T, dtype=np.float32))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((_FLIP @ affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin((_FLIP @ affine[:3, 3]).tolist())
    return image


def _prepared(volume: np.ndarray, affine: np.ndarray) -> Any:
    """Return a volume smoothed, its bright part at 1: runs differ in the scanner's gain."""
    sitk = load_simpleitk()
    bright = volume > volume.mean()
    level = float(volume[bright].mean()) if bright.any() else 1.0
    sigma_mm = REGISTRATION_FWHM_MM / np.sqrt(8 * np.log(2))
    return sitk.SmoothingRecursiveGaussian(_image(volume / (level or 1.0), affine), sigma_mm)


def _registration(*, coarse_to_fine: bool) -> Any:
    sitk = load_simpleitk()
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMeanSquares()
    method.SetInterpolator(sitk.sitkBSpline)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=FIRST_STEP_MM,
        minStep=LAST_STEP_MM,
        numberOfIterations=MAX_STEPS,
        gradientMagnitudeTolerance=1e-12,
        relaxationFactor=STEP_RELAXATION,
    )
    # A step then moves the surface of the head by as much through rotation as through shift.
    method.SetOptimizerScales([HEAD_RADIUS_MM**2] * 3 + [1.0] * 3)
    if coarse_to_fine:
        method.SetShrinkFactorsPerLevel([2, 1])
        method.SetSmoothingSigmasPerLevel([4.0, 0.0])
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    return method


def _matrix_of(transform: Any) -> np.ndarray:
    """Return SimpleITK's Euler transform as T (4, 4) in RAS."""
    turn = _FLIP @ np.array(transform.GetMatrix()).reshape(3, 3) @ _FLIP
    centre = _FLIP @ np.array(transform.GetCenter())
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = _FLIP @ np.array(transform.GetTranslation()) + centre - turn @ centre
    return matrix
