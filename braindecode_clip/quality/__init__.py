"""Quality of each run: numbers with their definition, warnings to act on, a carpet."""

from braindecode_clip.quality.measures import tsnr_map
from braindecode_clip.quality.record import RunQuality
from braindecode_clip.quality.run import describe_run

__all__ = ["RunQuality", "describe_run", "tsnr_map"]
