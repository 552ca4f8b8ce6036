"""Methods text: banded ridge, kernels, and ridge through a bottleneck."""

from __future__ import annotations

from braindecode_clip.config.decode_linear import (
    BandedConfig,
    KernelRidgeConfig,
    PCARidgeConfig,
    ReducedRankConfig,
)
from braindecode_clip.config.decoders import AnyDecoderConfig
from braindecode_clip.report.numbers import plain
from braindecode_clip.report.sources import Citations


def describe_target_space(decoder: AnyDecoderConfig) -> str:
    """Say that a decoder predicts principal components, or nothing."""
    space = getattr(decoder, "target_space", None)
    if space is None or space.method == "none":
        return ""
    kept = "all" if space.n_components is None else f"up to {space.n_components}"
    scaled = ", divided by their standard deviations," if space.method == "whiten" else ""
    return (
        f"Decoder {decoder.name} predicts {kept} principal components of the embedding{scaled} "
        "that were fitted to the training stimuli of each fold; predictions were mapped back to "
        "the embedding before they were compared with the candidates."
    )


def describe_linear(
    decoder: BandedConfig | KernelRidgeConfig | PCARidgeConfig | ReducedRankConfig, cite: Citations
) -> str:
    """Return one or two sentences about a decoder that is fitted in closed form."""
    grid = decoder.alphas
    penalties = f"{grid.count} penalties from {plain(grid.low)} to {plain(grid.high)}"
    chosen = f"by {decoder.cv}-fold cross-validation within the training part"
    if isinstance(decoder, BandedConfig):
        return (
            f"Decoder {decoder.name} is a banded ridge regression {cite('banded')} with the bands "
            f"{', '.join(decoder.bands)} and one of all other voxels; for each dimension one of "
            f"{decoder.n_weights} weightings of the bands and of {penalties} was chosen {chosen}."
        )
    if isinstance(decoder, KernelRidgeConfig):
        kernel, width = "cosine", ""
        if decoder.kernel == "rbf":
            kernel = "Gaussian"
            width = "; its width was chosen among multiples of the median distance between trials"
        return (
            f"Decoder {decoder.name} is a kernel ridge regression {cite('ridge')} with a {kernel} "
            f"kernel{width}; the penalty of each dimension was chosen among {penalties} {chosen}."
        )
    if isinstance(decoder, PCARidgeConfig):
        return (
            f"Decoder {decoder.name} is a ridge regression {cite('ridge')} on principal "
            f"components of the voxels, fitted on training trials alone; their number, and for "
            f"each dimension one of {penalties}, was chosen {chosen}."
        )
    return (
        f"Decoder {decoder.name} is a reduced-rank ridge regression {cite('reduced_rank')}; its "
        f"rank and one of {penalties}, the same for all dimensions, were chosen {chosen}."
    )
