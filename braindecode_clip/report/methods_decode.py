"""Methods text: decoders in closed form, and what is measured beside the decoders."""

from __future__ import annotations

from braindecode_clip.config.decode_linear import (
    BandedConfig,
    KernelRidgeConfig,
    PCARidgeConfig,
    ReducedRankConfig,
)
from braindecode_clip.config.decoders import AnyDecoderConfig
from braindecode_clip.config.study import StudyConfig
from braindecode_clip.report.numbers import percent, plain
from braindecode_clip.report.sources import Citations
from braindecode_clip.report.surface_topic import describe_surface


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


def describe_measures(study: StudyConfig, cite: Citations) -> list[str]:
    """Return how the best decoder was chosen, and what else was measured."""
    sentences = []
    if len(study.decoders) > 1:
        sentences.append(
            "Among several decoders the best is the one of the highest pairwise identification of "
            "out-of-fold predictions within the training part; no test score had a part in it."
        )
    curve = study.bottleneck
    if curve.enabled:
        sentences.append(
            "Identification was measured against the rank of the map from voxels to embedding "
            f"{cite('brainbits')}, for ranks of {', '.join(map(plain, curve.ranks))} (or as many "
            f"as the data allow): by reduced-rank ridge regression {cite('reduced_rank')}, by "
            "ridge on as many random combinations of voxels, and by a prior that draws the "
            "embedding of a training stimulus at random; intervals "
            f"({percent(curve.confidence, digits=0)}) are percentiles of "
            f"{plain(curve.n_bootstrap)} bootstrap samples {cite('bootstrap')}."
        )
    if study.calibration_curve.enabled:
        sentences.append(
            "Calibration curves score decoders that were fitted on the first runs of a subject; "
            f"minutes are {_minutes(study.calibration_curve.trial_s)}. After 0 minutes the mean "
            "of the training targets was predicted for every trial."
        )
    if study.importance.enabled:
        sentences.append(
            f"Decoders of ROI {study.importance.roi} were fitted again without the voxels of "
            f"{', '.join(study.importance.parts)}, one after another; losses are paired "
            "differences of pairwise identification over the test samples."
        )
    return sentences + describe_surface(study)


def _minutes(trial_s: float | None) -> str:
    if trial_s is None:
        return "those that its runs with training trials took"
    return f"training trials times {plain(trial_s)} s from one trial to the next"
