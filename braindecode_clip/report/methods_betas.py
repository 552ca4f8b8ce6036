"""What the methods text says of single-trial responses."""

from __future__ import annotations

from braindecode_clip.config.betas import BetasConfig
from braindecode_clip.report.numbers import THIN, plain
from braindecode_clip.report.sources import Citations

_NAMES = {"spm": ("SPM's", "spm_hrf"), "glover": ("Glover's", "glover")}


def betas_sentences(options: BetasConfig, cite: Citations, *, by_stimulus: bool) -> list[str]:
    """Say how the responses to single trials were estimated.

    Parameters
    ----------
    options : BetasConfig
    cite : Citations
    by_stimulus : bool
        Whether a stimulus table told the tuning which trials are for training.
    """
    if options.method == "average":
        first = (
            "The response to a trial is the mean of the volumes from "
            f"{plain(options.window.start_s)}{THIN}s after its onset to "
            f"{plain(options.window.end_after_offset_s)}{THIN}s after its offset."
        )
    elif options.method == "lsa":
        first = (
            "Single-trial responses were estimated by least squares all (LSA), one model with a "
            f"regressor for every trial {cite('lsa')}, {_response(options, cite)}."
        )
    else:
        others = "one regressor"
        if options.others == "by_condition":
            others += " for each condition"
        first = (
            "Single-trial responses were estimated by least squares separate (LSS), one model a "
            f"trial with all other trials in {others} {cite('lss')}, {_response(options, cite)}."
        )
    sentences = [first]
    if options.noise_model == "ar1":
        sentences.append(
            "Noise was modelled as an autoregression of order 1, with a coefficient for each "
            f"voxel and run {cite('ar1')}."
        )
    return [*sentences, *_tuning(options, cite, by_stimulus)]


def _response(options: BetasConfig, cite: Citations) -> str:
    if options.hrf == "library":
        return (
            "with that haemodynamic response of a library of 20 by which a voxel's other runs "
            f"predict a run best (the idea: {cite('glmsingle')})"
        )
    if options.hrf == "fir":
        return (
            "with a finite impulse response, of which the mean weight from "
            f"{plain(options.fir.start_s)} to {plain(options.fir.end_s)}{THIN}s after the onset "
            "is the response"
        )
    name, *derivatives = options.hrf.split(" + ")
    owner, source = _NAMES[name]
    text = f"with {owner} canonical haemodynamic response {cite(source)}"
    if len(derivatives) == 2:
        return f"{text} and its derivatives in time and dispersion"
    return f"{text} and its derivative in time" if derivatives else text


def _tuning(options: BetasConfig, cite: Citations, by_stimulus: bool) -> list[str]:
    sentences = []
    if options.noise_regressors:
        number = str(options.noise_regressors)
        if options.noise_regressors == "auto":
            number = f"up to {options.tune.max_noise_regressors}, as many as improve prediction,"
        sentences.append(
            "Principal components of voxels that no other run predicts were regressed out of "
            f"every run ({number} a subject {cite('glmdenoise')}); their time courses come from "
            "the run itself, test trials among them, without labels."
        )
    if options.shrinkage == "ridge":
        sentences.append(
            "Responses were shrunk towards the voxel's mean response by a ridge penalty "
            f"{cite('ridge')}, chosen in each voxel so that a trial predicts the repeats of its "
            "stimulus in other runs, or by likelihood where nothing repeats."
        )
    if options.needs_tuning:
        seen = "trials of training stimuli alone"
        if options.tune.trials == "all":
            seen = "all trials with their labels, test stimuli among them"
        elif not by_stimulus:
            seen = "all trials, those of test runs among them, but no labels (transductive)"
        sentences.append(f"These choices saw {seen}.")
    return sentences
