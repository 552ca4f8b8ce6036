"""From the responses of all runs to the voxel matrix of an ROI, split into train and test."""

from braindecode_clip.voxels.build import build_voxel_set
from braindecode_clip.voxels.reliability import (
    noise_ceiling,
    noise_ceiling_snr,
    split_half_reliability,
)

__all__ = ["build_voxel_set", "noise_ceiling", "noise_ceiling_snr", "split_half_reliability"]
