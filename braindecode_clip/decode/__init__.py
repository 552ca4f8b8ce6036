"""From voxels to embeddings: ridge, MLP, calibration, and the fit over folds."""

from braindecode_clip.decode.ridge import RidgeDecoder

__all__ = ["RidgeDecoder"]
