"""Could the identification be spurious? Controls whose answer is known beforehand."""

from braindecode_clip.controls.spectrum import effective_rank, participation_ratio
from braindecode_clip.controls.stage import Controls, control

__all__ = ["Controls", "control", "effective_rank", "participation_ratio"]
