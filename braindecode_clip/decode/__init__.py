"""From voxels to embeddings: ridge, contrastive, MLP, calibration, and the fit over folds."""

from typing import TYPE_CHECKING, Any

from braindecode_clip.decode.align import Alignment, common_means, hyperalign, procrustes
from braindecode_clip.decode.banded import BandedRidgeDecoder
from braindecode_clip.decode.calibrate import apply_calibration, fit_calibration
from braindecode_clip.decode.combine import combine
from braindecode_clip.decode.fit import apply_decoder, decode
from braindecode_clip.decode.fit_shared import decode_shared
from braindecode_clip.decode.fitted import FittedDecoder, FoldDecoder, NamedArray, predict_samples
from braindecode_clip.decode.kernels import KernelRidgeDecoder
from braindecode_clip.decode.low_rank import PCARidgeDecoder, ReducedRankDecoder
from braindecode_clip.decode.ridge import RidgeDecoder
from braindecode_clip.decode.shared import SharedDecoder

if TYPE_CHECKING:
    from braindecode_clip.decode.contrastive import ContrastiveDecoder
    from braindecode_clip.decode.mlp import MLPDecoder

__all__ = [
    "Alignment",
    "BandedRidgeDecoder",
    "ContrastiveDecoder",
    "FittedDecoder",
    "FoldDecoder",
    "KernelRidgeDecoder",
    "MLPDecoder",
    "NamedArray",
    "PCARidgeDecoder",
    "ReducedRankDecoder",
    "RidgeDecoder",
    "SharedDecoder",
    "apply_calibration",
    "apply_decoder",
    "combine",
    "common_means",
    "decode",
    "decode_shared",
    "fit_calibration",
    "hyperalign",
    "predict_samples",
    "procrustes",
]


def __getattr__(name: str) -> Any:
    """Import what trains when it is asked for: ridge alone should not wait for torch."""
    if name == "ContrastiveDecoder":
        from braindecode_clip.decode.contrastive import ContrastiveDecoder

        return ContrastiveDecoder
    if name == "MLPDecoder":
        from braindecode_clip.decode.mlp import MLPDecoder

        return MLPDecoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
