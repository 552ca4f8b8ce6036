"""A methods text from the options and numbers of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from braindecode_clip import __version__
from braindecode_clip.config.decode import (
    ContrastiveConfig,
    EnsembleConfig,
    MLPConfig,
    RidgeConfig,
    SharedConfig,
)
from braindecode_clip.config.preprocess import CensorConfig, PreprocessConfig, StrategyConfig
from braindecode_clip.config.realign import RealignConfig
from braindecode_clip.config.study import StudyConfig
from braindecode_clip.config.voxels import SplitConfig
from braindecode_clip.report.content import Counts, Inputs
from braindecode_clip.report.methods_audit import describe_audit
from braindecode_clip.report.methods_betas import betas_sentences
from braindecode_clip.report.methods_decode import (
    describe_linear,
    describe_measures,
    describe_target_space,
)
from braindecode_clip.report.methods_group import describe_group
from braindecode_clip.report.methods_targets import describe_targets
from braindecode_clip.report.numbers import THIN, count, percent, plain
from braindecode_clip.report.results import Order
from braindecode_clip.report.sources import Citations

_CALIBRATIONS = {
    "none": "",
    "spread": "Shrinkage was undone by one gain that gives out-of-fold training predictions the "
    "variance of their targets.",
    "spread_per_dimension": "Shrinkage was undone by a gain for each dimension that gives "
    "out-of-fold training predictions the variance of their targets.",
    "least_squares": "Predictions were scaled by the gain of least squared error for each "
    "dimension, fitted on out-of-fold training predictions.",
    "transductive": "These predictions were standardised with the mean and spread of the test "
    "predictions and given those of the training targets; this is transductive, as it uses the "
    "test set.",
}


@dataclass(frozen=True)
class Methods:
    """Paragraphs, and the works they cite in the order of their numbers."""

    paragraphs: tuple[str, ...]
    references: tuple[str, ...]


def methods_text(inputs: Inputs, order: Order) -> Methods:
    """Write the methods of the study as it ran.

    Every sentence rests on an option of the resolved config or on a number that was read.

    Parameters
    ----------
    inputs : Inputs
    order : Order

    Returns
    -------
    Methods
    """
    cite = Citations()
    study = inputs.study
    paragraphs = [
        _data(study, order),
        [
            *_realign(study.realign, cite),
            *_preprocess(study.preprocess, cite),
            *betas_sentences(study.betas, cite, by_stimulus=_splits_by_stimulus(study)),
        ],
        _voxels(inputs, cite),
        [describe_targets(encoder, cite) for encoder in study.encoders] + _decoders(study, cite),
        _identification(inputs, cite) + describe_measures(study, cite),
        describe_group(inputs.group, study.group, cite),
        describe_audit(inputs.audit, study, cite),
        [
            f"All steps ran in braindecode_clip {__version__} as a Snakemake workflow "
            f"{cite('snakemake')}; all random numbers derive from the seed {study.seed}."
        ],
    ]
    texts = tuple(" ".join(sentences) for sentences in paragraphs if sentences)
    return Methods(texts, cite.references)


def _splits_by_stimulus(study: StudyConfig) -> bool:
    has_table = study.source == "simulate" or study.stimuli is not None
    return has_table and all(split.scheme == "stimulus" for split in study.splits)


def _data(study: StudyConfig, order: Order) -> list[str]:
    n_subjects = len(order.names["subject"])
    subjects = "1 subject" if n_subjects == 1 else f"{n_subjects} subjects"
    if study.source != "simulate":
        origin = "in BIDS" if study.source == "bids" else "from the files listed in a table"
        return [f"Data of {subjects} were read {origin}."]
    made = study.simulate
    return [
        f"Data of {subjects} were simulated. Their voxels respond to the pictures themselves and "
        "never to the embedding that is decoded; noise, drifts, head motion and haemodynamic "
        "responses vary as in scanner data.",
        f"Each subject saw {count(made.n_train_pictures)} training pictures once and "
        f"{count(made.n_test_pictures)} test pictures {made.test_repeats} times (one picture "
        f"every {plain(made.trial_s)}{THIN}s, repetition time {plain(made.tr_s)}{THIN}s).",
    ]


def _realign(options: RealignConfig, cite: Citations) -> list[str]:
    if not options.enabled:
        return []
    steps = []
    if options.motion:
        steps.append(
            "rigid head motion, against one reference image of each subject's first run, with "
            f"SimpleITK {cite('simpleitk')}"
        )
    if options.slice_timing:
        steps.append("slice timing, by cubic splines in time")
    return [f"Raw runs were corrected for {_and(steps)}; not for susceptibility distortion."]


def _preprocess(options: PreprocessConfig, cite: Citations) -> list[str]:
    removed = []
    if options.confounds:
        removed.append(f"the confounds {', '.join(options.confounds)}")
    if options.strategy.names:
        removed.append(_strategy(options.strategy))
    if options.high_pass_hz:
        removed.append(f"cosine drifts below {plain(options.high_pass_hz)}{THIN}Hz")
    if options.polynomial_order:
        removed.append(f"polynomial trends up to degree {options.polynomial_order}")
    sentences = []
    if options.dummy_scans:
        sentences.append(f"The first {options.dummy_scans} volumes of each run were dropped.")
    if options.fwhm_mm:
        sentences.append(
            f"Volumes were smoothed ({plain(options.fwhm_mm)}{THIN}mm FWHM) {cite('nilearn')}."
        )
    if removed:
        sentences.append(f"In each run {_and(removed)} were regressed out in one step.")
    sentences += _censoring(options.censor)
    sentences.append(
        {
            "zscore": "Time series were z-scored in each run.",
            "percent": "Time series were turned into percent change from the run's mean.",
            "raw": "Time series were kept in the scanner's unit.",
        }[options.standardize]
    )
    return sentences


def _strategy(options: StrategyConfig) -> str:
    families = {
        "motion6": "6 motion parameters",
        "motion12": "12 motion parameters",
        "motion24": "24 motion parameters",
        "wm_csf": f"signals of white matter and CSF ({options.signals})",
        "global_signal": f"the global signal ({options.signals})",
        "acompcor": f"anatomical CompCor ({options.n_compcor} components, {options.compcor_mask} "
        "mask) with fMRIPrep's cosines",
        "tcompcor": f"temporal CompCor ({options.n_compcor} components) with fMRIPrep's cosines",
        "non_steady_state": "volumes before steady state",
    }
    return _and([families[name] for name in options.names])


def _censoring(options: CensorConfig) -> list[str]:
    limits = []
    if options.fd_mm is not None:
        limits.append(f"framewise displacement above {plain(options.fd_mm)}{THIN}mm")
    if options.dvars is not None:
        limits.append(f"standardised DVARS above {plain(options.dvars)}")
    if not limits:
        return []
    around = []
    if options.n_before:
        around.append(f"{options.n_before} before each")
    if options.n_after:
        around.append(f"{options.n_after} after each")
    if options.min_segment > 1:
        around.append(f"kept segments of fewer than {options.min_segment} volumes")
    also = f", with {_and(around)}," if around else ""
    return [
        f"Volumes with {' or '.join(limits)}{also} were censored: cleaning, scaling and the models "
        "of the trials leave them out."
    ]


def _voxels(inputs: Inputs, cite: Citations) -> list[str]:
    options, sentences = inputs.study.voxels, []
    if inputs.counts:
        sizes = _range(item.n_voxels for item in inputs.counts)
        kept = _range(n for item in inputs.counts for n in item.n_kept)
        sentences.append(f"Regions of interest held {sizes} voxels, of which {kept} were kept.")
    wanted = options.reliability
    limits = [f"of at least {plain(wanted.min)}"] if wanted.min is not None else []
    limits += [f"among the {count(wanted.top)} highest"] if wanted.top is not None else []
    if limits:
        sentences.append(
            f"Voxels were selected by a split-half reliability {_and(limits)}, computed from "
            "training data alone."
        )
    if options.normalise != "none":
        sentences.append(f"Responses were z-scored over the trials of each {options.normalise}.")
    if options.scale == "zscore":
        sentences.append("Voxels were scaled by mean and standard deviation of the training rows.")
    averaged = [
        name
        for name, done in (("training", options.average_train), ("test", options.average_test))
        if done
    ]
    if averaged:
        within = any(split.scheme != "stimulus" for split in inputs.study.splits)
        sentences.append(
            f"Repeats of a {_and(averaged)} stimulus were averaged"
            f"{', within a run where runs or categories are held out' if within else ''}."
        )
    sentences += [_split(item, inputs.counts) for item in inputs.study.splits]
    if inputs.counts:
        sentences.append(
            "Noise ceilings (percent of variance) follow from the variance over a stimulus's "
            f"repeats {cite('nsd')}; they are reported and nothing is chosen by them."
        )
    return sentences


def _split(split: SplitConfig, counts: Iterable[Counts]) -> str:
    """Say what a split holds out, with the rows it left for training and test."""
    held_out = {
        "stimulus": "no test stimulus was shown in training",
        "leave_one_run_out": "each run was held out in turn, so that the same stimuli come again",
        "leave_one_category_out": "each category was held out in turn and never trained on",
    }[split.scheme]
    own = [item for item in counts if item.split == split.name]
    if not own:
        return f"In the split {split.name} {held_out}."
    n_folds = _range(item.n_folds for item in own)
    return (
        f"In the split {split.name} {held_out} ({n_folds} fold{'' if n_folds == '1' else 's'}; "
        f"{_range(n for item in own for n in item.n_train)} training rows and "
        f"{_range(n for item in own for n in item.n_test)} test rows in each)."
    )


def _decoders(study: StudyConfig, cite: Citations) -> list[str]:
    sentences = []
    for decoder in study.decoders:
        describe = _DESCRIBED.get(type(decoder), describe_linear)
        sentences += [describe(decoder, cite), describe_target_space(decoder)]
        sentences += [_CALIBRATIONS[decoder.calibration]]
    return [sentence for sentence in dict.fromkeys(sentences) if sentence]


def _ridge(decoder: RidgeConfig, cite: Citations) -> str:
    grid = decoder.alphas
    return (
        f"Decoder {decoder.name} is a ridge regression {cite('ridge')} from voxels to the "
        f"embedding; the penalty of each dimension was chosen among {grid.count} from "
        f"{plain(grid.low)} to {plain(grid.high)} by the squared error of "
        f"{decoder.cv}-fold cross-validation within the training part."
    )


def _shared(decoder: SharedConfig, cite: Citations) -> str:
    aligned = {
        "none": "",
        "procrustes": ", and of a ridge regression on the trials of all subjects, the others "
        "rotated into the subject's responses to shared training stimuli",
        "hyperalignment": ", and of a ridge regression on the trials of all subjects in a common "
        "space found on shared training stimuli by hyperalignment",
    }[decoder.alignment]
    return (
        f"Decoder {decoder.name} was fitted on all subjects together: a linear map from each "
        f"subject's voxels into at most {decoder.n_components} leading directions of the "
        f"embedding, a mean of a ridge regression {cite('ridge')}, of an encoding model inverted "
        "under a prior over tuning from the training trials of the other subjects, of one under a "
        f"prior from the subject's own{aligned}; how much each counts, and how far directions were "
        f"equalised by their variance, symmetric InfoNCE {cite('clip')} of held-out training "
        "rows decided."
    )


def _mlp(decoder: MLPConfig, cite: Citations) -> str:
    weights = {
        f"a soft contrastive loss {cite('mindeye')}": decoder.contrastive,
        "cosine distance": decoder.cosine,
        "squared error": decoder.mse,
    }
    losses = _and([f"{name} (weight {plain(w)})" for name, w in weights.items() if w])
    many = decoder.n_members > 1
    nets = f"the mean of {decoder.n_members} networks, each" if many else "a network"
    blocks = f"{decoder.n_blocks} residual block{'' if decoder.n_blocks == 1 else 's'}"
    return (
        f"Decoder {decoder.name} is {nets} with {blocks} of width {decoder.hidden}, dropout "
        f"{plain(decoder.dropout)} ({plain(decoder.input_dropout)} of the voxels), trained "
        f"with AdamW {cite('adamw')} on {losses} for at most {decoder.max_epochs} epochs, and "
        f"stopped early on {percent(decoder.validation)} of the training groups."
        f"{_cross_fit(decoder)}"
    )


def _contrastive(decoder: ContrastiveConfig, cite: Citations) -> str:
    loss = {"infonce": "symmetric InfoNCE loss", "softclip": "soft contrastive loss"}[decoder.loss]
    text = (
        f"Decoder {decoder.name} is a ridge regression {cite('ridge')} with one penalty for all "
        "dimensions, followed by a division of the leading directions of the embedding by one plus "
        "a multiple of their variance; penalty and multiple (or ridge with a penalty for each "
        f"dimension instead) gave the smallest symmetric InfoNCE loss {cite('clip')} between "
        f"predicted and true embeddings in {decoder.cv}-fold cross-validation within the training "
        "part."
    )
    if decoder.max_epochs:
        cited = cite("clip" if decoder.loss == "infonce" else "mindeye")
        text += (
            f" All weights then went on under a {loss} {cited}, for the number of epochs (at most "
            f"{decoder.max_epochs}) that is best in the same folds."
        )
    return text + _cross_fit(decoder)


def _cross_fit(decoder: MLPConfig | ContrastiveConfig) -> str:
    if decoder.cross_fit:
        return (
            f" Out-of-fold predictions are cross-fitted ({decoder.cv} folds): by models that were "
            "trained, and whose choices were made, without the fold."
        )
    if not decoder.max_epochs:
        return " Out-of-fold predictions are of rows that had a part in these choices."
    return (
        " Out-of-fold predictions are of rows by which the same models were stopped, and "
        "optimistic."
    )


def _ensemble(decoder: EnsembleConfig, cite: Citations) -> str:
    aim = {"identification": "pairwise identification", "error": "squared error"}[decoder.method]
    return (
        f"Decoder {decoder.name} is the mean of {_and(list(decoder.members))} with the weights "
        f"that gave the best {aim} of out-of-fold predictions of the training part."
    )


_DESCRIBED: dict[type, Callable[..., str]] = {
    RidgeConfig: _ridge,
    ContrastiveConfig: _contrastive,
    MLPConfig: _mlp,
    EnsembleConfig: _ensemble,
    SharedConfig: _shared,
}


def _corrections(inputs: Inputs) -> list[str]:
    """Say for each gallery how it was corrected for hubs, and where that is transductive."""
    found = {
        str(item.info.get("gallery")): item.info
        for item in inputs.retrievals
        if "correction" in item.info
    }
    return [
        f"In gallery {name} the similarities were corrected for hubs ({info['correction']}), "
        f"estimated from {info['correction_statistics']}."
        for name, info in found.items()
    ]


def _reranked(inputs: Inputs) -> list[str]:
    """Say for each gallery whose candidates were ordered again by which tokens."""
    found: dict[str, dict] = {}
    for item in inputs.retrievals:
        if "rerank" in item.info:
            facts = found.setdefault(str(item.info.get("gallery")), {**item.info["rerank"]})
            facts.setdefault("decoders", []).append(str(item.info["rerank"]["decoder"]))
    return [
        f"In gallery {name} the best {count(facts['shortlist'])} candidates of each brain sample "
        "were then ordered by the cosine similarity of their tokens, laid end to end, with the "
        f"predicted tokens (encoder {facts['encoder']}, decoder "
        f"{_and(list(dict.fromkeys(facts['decoders'])))}); all others kept their order below "
        "them, and the opposite direction was left as it is."
        for name, facts in found.items()
    ]


_KINDS = {
    "cosine": "cosine similarity",
    "correlation": "correlation",
    "euclidean": "Euclidean nearness",
}


def _identification(inputs: Inputs, cite: Citations) -> list[str]:
    options = inputs.study.evaluate
    kind = _KINDS[inputs.study.retrieve.similarity]
    sizes = _range(len(retrieval.gallery_ids) for retrieval in inputs.retrievals)
    drawn, moved = (
        " or ".join(dict.fromkeys(map(str, inputs.metrics[column])))
        for column in ("resampled", "permuted")
    )
    sentences = [
        f"Candidates ({sizes} in a gallery) were ranked by their {kind} with the predicted "
        f"embedding {cite('kay')}; ties have their mean rank. Pairwise identification is the "
        f"share of distractors beaten {cite('kamitani')}.",
        *_corrections(inputs),
        *_reranked(inputs),
        f"Intervals ({percent(options.confidence, digits=0)}) come from "
        f"{count(options.n_bootstrap)} bootstrap samples of {drawn} {cite('bootstrap')}.",
        f"One-sided p-values come from {count(options.n_permutations)} permutations of {moved} "
        f"({count(options.n_permutations_dims)} for single dimensions), the observed "
        f"arrangement counted in {cite('permutation')}; they are not corrected for the number "
        "of scores.",
    ]
    if any(item.kind == "pattern" for item in inputs.maps):
        sentences.append(
            f"Activation patterns {cite('haufe')} were derived from the responses and "
            f"predictions of the samples; the principal components that hold "
            f"{percent(inputs.study.interpret.pattern_variance, digits=0)} of the predictions' "
            "variance were used."
        )
    return sentences


def _and(items: list[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def _range(numbers: Iterable[int]) -> str:
    found = sorted(set(numbers))
    return " to ".join(count(n) for n in dict.fromkeys([*found[:1], *found[-1:]])) or "0"
