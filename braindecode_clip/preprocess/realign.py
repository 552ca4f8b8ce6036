"""Motion and slice-timing correction of one raw run, for data without fMRIPrep."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from braindecode_clip.config.realign import RealignConfig
from braindecode_clip.errors import DataError
from braindecode_clip.preprocess.rigid import (
    ReferenceImage,
    check_size,
    estimate_motion,
    undo_motion,
)
from braindecode_clip.preprocess.slice_timing import shift_slices

#: Volumes that the mean reference is made of, at most.
REFERENCE_VOLUMES = 20


@dataclass(frozen=True)
class RealignedRun:
    """A corrected run.

    Attributes
    ----------
    volumes : ndarray (n_volumes, nx, ny, nz) float32
        On the reference's grid.
    parameters : ndarray (n_volumes, 6) float64, or None
        trans_x, trans_y, trans_z (mm), rot_x, rot_y, rot_z (radians), see
        :mod:`braindecode_clip.preprocess.rigid`; None where motion was left alone.
    reference : ReferenceImage
        What the volumes were aligned to; the run's mean where motion was left alone.
    brain : ndarray of bool (nx, ny, nz)
        The automatic mask of the reference.
    """

    volumes: np.ndarray
    parameters: np.ndarray | None
    reference: ReferenceImage
    brain: np.ndarray


def realign_run(
    volumes: np.ndarray,
    affine: np.ndarray,
    *,
    tr_s: float,
    config: RealignConfig,
    slice_times_s: np.ndarray | None = None,
    slice_axis: int = 2,
    reference: ReferenceImage | None = None,
    where: str = "run",
) -> RealignedRun:
    """Correct the motion and the slice timing of one run.

    The order is that of fMRIPrep: motion is estimated on the volumes as acquired, since
    interpolation in time mixes a volume with its neighbours and so smooths the motion away
    (Power et al. 2017); slices are shifted in time before anything moves in space, since their
    times hold for slices as acquired; then the shifted run is resampled in space, once.

    Parameters
    ----------
    volumes : ndarray (n_volumes, nx, ny, nz) float32
        Finite.
    affine : ndarray (4, 4)
        Voxel indices to mm.
    tr_s : float
        Repetition time in seconds.
    config : RealignConfig
        ``enabled`` is for the workflow and not looked at here.
    slice_times_s : ndarray (n_slices,), optional
        Needed for ``slice_timing``: :func:`.slice_timing.find_slice_times`.
    slice_axis : int
        Axis of the slices, 0 to 2.
    reference : ReferenceImage, optional
        From another run of the subject; made of this run where there is none.
    where : str
        The run, for messages.

    Returns
    -------
    RealignedRun

    Raises
    ------
    ConfigError
        SimpleITK is not installed.
    DataError
        A run that cannot be aligned, or in which no brain is found.

    References
    ----------
    Power et al. (2017), PLoS ONE 12:e0182939. Esteban et al. (2019), Nature Methods 16:111-116.
    """
    if config.motion:
        check_size(volumes.shape[1:], where=where)
    if not config.motion:
        reference = ReferenceImage(volumes.mean(axis=0), affine)
    elif reference is None:
        reference = make_reference(volumes, affine, choice=config.reference, where=where)
    brain = brain_mask(reference, where=where)
    parameters = None
    if config.motion:
        parameters = estimate_motion(volumes, affine, reference=reference, mask=brain, where=where)
    if config.slice_timing:
        if slice_times_s is None:
            raise DataError(f"{where}: there are no slice times. Set 'slice_timing: false'.")
        volumes = shift_slices(
            volumes,
            slice_times_s,
            axis=slice_axis,
            tr_s=tr_s,
            reference_s=config.slice_time_ref * tr_s,
        )
    if parameters is not None:
        volumes = undo_motion(volumes, affine, parameters, reference=reference)
    return RealignedRun(volumes, parameters, reference, brain)


def make_reference(
    volumes: np.ndarray, affine: np.ndarray, *, choice: str, where: str = "run"
) -> ReferenceImage:
    """Return the image that the run's volumes are to be aligned to.

    Parameters
    ----------
    volumes : ndarray (n_volumes, nx, ny, nz) float32
    affine : ndarray (4, 4)
    choice : {"mean", "first", "middle"}
        mean: up to 20 volumes over the run, aligned to the middle one and averaged, which takes
        most of their noise away. The first volume is left out of a longer run's mean: it is
        often brighter, before steady state.
    where : str
        The run, for messages.

    Returns
    -------
    ReferenceImage
    """
    middle = ReferenceImage(volumes[0 if choice == "first" else len(volumes) // 2], affine)
    if choice != "mean":
        return middle
    spread = np.linspace(0, len(volumes) - 1, min(len(volumes), REFERENCE_VOLUMES + 1))
    chosen = volumes[np.unique(spread.round().astype(int))[1:]]
    brain = brain_mask(middle, where=where)
    parameters = estimate_motion(chosen, affine, reference=middle, mask=brain, where=where)
    still = undo_motion(chosen, affine, parameters, reference=middle)
    return ReferenceImage(still.mean(axis=0, dtype=np.float64).astype(np.float32), affine)


def brain_mask(reference: ReferenceImage, *, where: str = "run") -> np.ndarray:
    """Return the brain (nx, ny, nz) by nilearn's histogram method for EPI.

    Raises
    ------
    DataError
        When no voxel is left.
    """
    # Loads nilearn, which takes seconds that the command's --help need not spend.
    import nibabel as nib
    from nilearn.masking import MaskWarning, compute_epi_mask

    image = nib.Nifti1Image(reference.volume.astype(np.float32), reference.affine)
    try:
        with warnings.catch_warnings():
            # An empty mask is told below, once.
            warnings.simplefilter("ignore", MaskWarning)
            mask = np.asarray(compute_epi_mask(image).dataobj) > 0
    except ValueError as error:
        raise DataError(f"{where}: no brain is found in its reference image ({error}).") from error
    if not mask.any() or np.ptp(reference.volume) == 0:
        raise DataError(
            f"{where}: no brain is found in its reference image (no voxel stands out). Is it a "
            "raw EPI run?"
        )
    return mask
