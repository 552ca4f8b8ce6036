"""From voxels to embeddings: ridge, MLP, calibration, and the fit over folds."""

from typing import TYPE_CHECKING, Any

from braindecode_clip.decode.banded import BandedRidgeDecoder
from braindecode_clip.decode.calibrate import apply_calibration, fit_calibration
from braindecode_clip.decode.fit import apply_decoder, decode
from braindecode_clip.decode.fitted import FittedDecoder, FoldDecoder, NamedArray, predict_samples
from braindecode_clip.decode.kernels import KernelRidgeDecoder
from braindecode_clip.decode.low_rank import PCARidgeDecoder, ReducedRankDecoder
from braindecode_clip.decode.ridge import RidgeDecoder

if TYPE_CHECKING:
    from braindecode_clip.decode.mlp import MLPDecoder

__all__ = [
    "BandedRidgeDecoder",
    "FittedDecoder",
    "FoldDecoder",
    "KernelRidgeDecoder",
    "MLPDecoder",
    "NamedArray",
    "PCARidgeDecoder",
    "ReducedRankDecoder",
    "RidgeDecoder",
    "apply_calibration",
    "apply_decoder",
    "decode",
    "fit_calibration",
    "predict_samples",
]


def __getattr__(name: str) -> Any:
    """Import the MLP when it is asked for: ridge alone should not wait for torch."""
    if name == "MLPDecoder":
        from braindecode_clip.decode.mlp import MLPDecoder

        return MLPDecoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
