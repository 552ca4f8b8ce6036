"""From voxels to embeddings: ridge, MLP, calibration, and the fit over folds."""

from braindecode_clip.decode.calibrate import apply_calibration, fit_calibration
from braindecode_clip.decode.fit import apply_decoder, decode
from braindecode_clip.decode.fitted import FittedDecoder, FoldDecoder, NamedArray, predict_samples
from braindecode_clip.decode.mlp import MLPDecoder
from braindecode_clip.decode.ridge import RidgeDecoder

__all__ = [
    "FittedDecoder",
    "FoldDecoder",
    "MLPDecoder",
    "NamedArray",
    "RidgeDecoder",
    "apply_calibration",
    "apply_decoder",
    "decode",
    "fit_calibration",
    "predict_samples",
]
