"""braindecode_clip: from fMRI volumes to image identification in CLIP space."""

__version__ = "0.1.0"
