"""Gaussian smoothing of volumes, as nilearn does it."""

from __future__ import annotations

from collections.abc import Callable

import nibabel as nib
import numpy as np
from nilearn.image import smooth_img


def make_smoother(affine: np.ndarray, fwhm_mm: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that smooths one volume.

    Smoothing acts within volumes only, so a run is smoothed while it is read, volume by
    volume, with the memory of two volumes. It comes before masking: voxels around the mask
    have their part in it, as in nilearn's maskers. Outside the mask NaN counts as 0.

    Parameters
    ----------
    affine : ndarray (4, 4)
        Voxel indices to mm.
    fwhm_mm : float
        Full width at half maximum, above 0.

    Returns
    -------
    callable
        (nx, ny, nz) float32 to the same.
    """

    def smooth(volume: np.ndarray) -> np.ndarray:
        finite = np.nan_to_num(volume, nan=0.0, posinf=0.0, neginf=0.0)
        smoothed = smooth_img(nib.Nifti1Image(finite, affine), fwhm_mm)
        return np.asarray(smoothed.dataobj, dtype=np.float32)

    return smooth
