"""All controls of one subject, region, split and encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from braindecode_clip.artifacts import Embeddings, Predictions, VoxelSet
from braindecode_clip.checks import Problems, differences
from braindecode_clip.config.controls import ControlsConfig
from braindecode_clip.controls.nearest import nearest_training
from braindecode_clip.controls.overlap import overlap
from braindecode_clip.controls.refit import (
    cluster_labels,
    constant,
    refit,
    shuffled,
    without_clusters,
)
from braindecode_clip.controls.scores import Intervals, PerSample, chance, identify
from braindecode_clip.controls.spectrum import spectrum
from braindecode_clip.controls.verdict import NOT_APPLICABLE, Verdict, judge
from braindecode_clip.evaluate.rows import Design
from braindecode_clip.seeds import derive_seed, make_rng

#: Every control that a verdict names.
NAMES = (
    "nearest_train",
    "overlap",
    "held_out_cluster",
    "shuffled",
    "constant",
    "effective_rank",
)
#: Training pictures that a cluster must have on average, and that must be left to fit on.
FEWEST_PICTURES = 10


@dataclass(frozen=True)
class Controls:
    """What the controls found.

    Attributes
    ----------
    rows : list of dict
        control ("real", "nearest_train", "matched", "held_out_cluster", "shuffled" or
        "constant"), decoder, direction, metric, value, ci_low, ci_high, chance, n (brain
        samples), n_drawn (stimuli or runs that the bootstrap draws), n_candidates; difference
        with its ends: the score that the control is held against (real for "nearest_train",
        matched for "held_out_cluster") minus the control, paired by sample. Of "shuffled" also
        lowest, highest (over seeds) and n_seeds.
    overlap : dict or None
        From :func:`braindecode_clip.controls.overlap.overlap`.
    spectra : list of dict
        what ("predictions", "targets", "training predictions", "training targets"), decoder,
        effective_rank, participation_ratio, n.
    verdicts : list of Verdict
    """

    rows: list[dict[str, Any]]
    overlap: dict[str, Any] | None
    spectra: list[dict[str, Any]]
    verdicts: list[Verdict]


def control(
    voxels: VoxelSet,
    embeddings: Embeddings,
    predictions: Sequence[Predictions],
    *,
    config: ControlsConfig,
    seed: int,
    training: Sequence[Predictions] = (),
) -> Controls:
    """Measure every control that applies, and say what is suspicious.

    Identification is among the test stimuli (:func:`braindecode_clip.controls.scores.identify`).

    Parameters
    ----------
    voxels : VoxelSet
    embeddings : Embeddings
        One vector a stimulus.
    predictions : sequence of Predictions
        Of the test rows of ``voxels``, by different decoders.
    config : ControlsConfig
    seed : int
        Master seed.
    training : sequence of Predictions
        Out-of-fold predictions of training rows, by the decoders that keep them.

    Returns
    -------
    Controls

    Raises
    ------
    DataError
        Predictions of other rows or of another encoder.
    """
    ids = np.concatenate([fold.test.stimulus_id for fold in voxels.folds]).astype(str)
    _check(predictions, embeddings, ids)
    labels = (voxels.subject, voxels.roi, voxels.split)
    reference = refit(voxels, embeddings, decoder=config.decoder, seed=seed)
    tests = [(str(item.info["decoder"]), item.vectors) for item in predictions]
    tests.append((config.decoder.name, reference))
    fold = np.repeat([f.name for f in voxels.folds], [len(f.test.data) for f in voxels.folds])
    groups = np.concatenate([f.test.group for f in voxels.folds]).astype(str)
    design = Design.made(voxels.unit, *np.unique(ids, return_inverse=True), groups)
    stats = Intervals(
        design.clusters,
        config.n_bootstrap,
        config.confidence,
        make_rng(seed, "controls", *labels),
    )
    levels = chance(ids)

    def score(vectors: np.ndarray) -> PerSample:
        return identify(vectors, embeddings, ids, similarity=config.similarity)

    real = {name: score(vectors) for name, vectors in tests}
    rows = [row for name, own in real.items() for row in stats.rows("real", name, own, levels)]
    reasons = _reasons(voxels)
    near = None
    if "nearest_train" not in reasons:
        train_ids = {f.name: f.train.stimulus_id for f in voxels.folds}
        for name, vectors in tests:
            replaced = nearest_training(
                vectors, fold, train_ids, embeddings, similarity=config.similarity
            )
            rows += stats.rows("nearest_train", name, score(replaced), levels, real=real[name])
        near = overlap(voxels.folds, embeddings, near_duplicate=config.near_duplicate)
    if "held_out_cluster" not in reasons:
        found = _held_out(voxels, embeddings, stats, levels, config=config, seed=seed)
        if isinstance(found, str):
            reasons["held_out_cluster"] = found
        else:
            rows += found
    rows += _shuffled(voxels, embeddings, stats, levels, config=config, seed=seed)
    flat = score(constant(voxels, embeddings))
    rows += stats.rows("constant", config.decoder.name, flat, levels)
    n_candidates = len(design.stimuli)
    rows = [row | {"n_candidates": n_candidates} for row in rows]
    spectra = _spectra(tests, embeddings, ids, training)
    verdicts = judge(rows, near, spectra, confidence=config.confidence)
    for name, reason in reasons.items():
        verdicts += not_applicable([name], reason)
    return Controls(rows, near, spectra, verdicts)


def not_applicable(names: Sequence[str], reason: str) -> list[Verdict]:
    """Return a verdict for each control that cannot be measured."""
    return [Verdict(name, "", NOT_APPLICABLE, reason, "") for name in names]


def _check(predictions: Sequence[Predictions], embeddings: Embeddings, ids: np.ndarray) -> None:
    problems = Problems("controls")
    for item in predictions:
        name = item.info.get("decoder", "")
        parts = differences(item.fingerprint, embeddings.fingerprint)
        if parts:
            problems.add(
                f"decoder '{name}' was trained on embeddings of another encoder: "
                f"{'; '.join(parts)}. Pass the embedding file that `decode` had."
            )
        if not np.array_equal(item.stimulus_id.astype(str), ids):
            problems.add(
                f"the predictions of decoder '{name}' have other rows ({len(item.stimulus_id)}) "
                f"than the test part of the voxels ({len(ids)}). Pass the voxels that it read."
            )
    if len(np.unique(ids)) < 2:
        problems.add("one test stimulus alone: there is nothing to tell apart.")
    problems.raise_if_any()


def _reasons(voxels: VoxelSet) -> dict[str, str]:
    """Say which controls a split rules out, and why."""
    if voxels.unit == "stimulus":
        few = min(len(np.unique(fold.train.stimulus_id)) for fold in voxels.folds)
        if few >= 2:
            return {}
        why = "A training part of one stimulus has no neighbours and no clusters."
    else:
        why = (
            "Whole runs are held out, so every test stimulus is in the training part by design: "
            "its nearest training stimulus is itself. That unseen stimuli are identified cannot "
            "be concluded from this split; a split by stimulus or by category measures it."
        )
    return dict.fromkeys(("nearest_train", "overlap", "held_out_cluster"), why)


def _held_out(
    voxels: VoxelSet,
    embeddings: Embeddings,
    stats: Intervals,
    levels: dict[tuple[str, str], float],
    *,
    config: ControlsConfig,
    seed: int,
) -> list[dict[str, Any]] | str:
    """Return the rows of the held-out-cluster score and its control, or why there are none."""
    fewest = min(len(np.unique(fold.train.stimulus_id)) for fold in voxels.folds)
    n_clusters = min(config.n_clusters, fewest // FEWEST_PICTURES)
    if n_clusters < 2:
        return (
            f"There are {fewest} training pictures; two clusters of {FEWEST_PICTURES} each are "
            "the least that can be held out in turn."
        )
    clusters = [
        cluster_labels(
            fold, embeddings, n_clusters=n_clusters, seed=derive_seed(seed, "clusters", fold.name)
        )
        for fold in voxels.folds
    ]
    rng = make_rng(seed, "controls", "matched", voxels.subject, voxels.roi, voxels.split)
    without, rows = without_clusters(voxels, clusters)
    if min(len(np.unique(f.train.stimulus_id)) for f in without.folds) < FEWEST_PICTURES:
        return (
            f"One cluster holds all but fewer than {FEWEST_PICTURES} training pictures, so too "
            "few are left to fit on without it. Choose another number of clusters."
        )
    ids = np.concatenate([f.test.stimulus_id for f in voxels.folds])

    def score(used: VoxelSet) -> PerSample:
        vectors = refit(used, embeddings, decoder=config.decoder, seed=seed)
        placed = np.empty_like(vectors)
        placed[rows] = vectors
        return identify(placed, embeddings, ids, similarity=config.similarity)

    draws = [
        score(without_clusters(voxels, clusters, matched=rng)[0]) for _ in range(config.n_matched)
    ]
    matched = {key: np.mean([draw[key] for draw in draws], axis=0) for key in draws[0]}
    name = config.decoder.name
    found = stats.rows("matched", name, matched, levels)
    found += stats.rows("held_out_cluster", name, score(without), levels, real=matched)
    return [row | {"n_clusters": n_clusters} for row in found]


def _shuffled(
    voxels: VoxelSet,
    embeddings: Embeddings,
    stats: Intervals,
    levels: dict[tuple[str, str], float],
    *,
    config: ControlsConfig,
    seed: int,
) -> list[dict[str, Any]]:
    """Score decoders of shuffled pairs; the interval is the wider of two.

    One is over test stimuli (or runs) given the shuffles, the other over shuffles (Student's t)
    given the test set: either alone leaves a source of chance out.
    """
    rng = make_rng(seed, "controls", "shuffled", voxels.subject, voxels.roi, voxels.split)
    ids = np.concatenate([f.test.stimulus_id for f in voxels.folds])
    draws = []
    for _ in range(config.n_shuffles):
        vectors = refit(shuffled(voxels, rng), embeddings, decoder=config.decoder, seed=seed)
        draws.append(identify(vectors, embeddings, ids, similarity=config.similarity))
    means = {key: np.mean([draw[key] for draw in draws], axis=0) for key in draws[0]}
    rows = stats.rows("shuffled", config.decoder.name, means, levels)
    reach = stdtrit(config.n_shuffles - 1, (1 + config.confidence) / 2)
    for row in rows:
        key = row["direction"], row["metric"]
        over_seeds = np.array([draw[key].mean() for draw in draws])
        half = reach * over_seeds.std(ddof=1) / np.sqrt(config.n_shuffles)
        row["ci_low"] = max(0.0, min(row["ci_low"], row["value"] - half))
        row["ci_high"] = min(1.0, max(row["ci_high"], row["value"] + half))
        row["lowest"], row["highest"] = float(over_seeds.min()), float(over_seeds.max())
        row["n_seeds"] = config.n_shuffles
    return rows


def _spectra(
    tests: Sequence[tuple[str, np.ndarray]],
    embeddings: Embeddings,
    ids: np.ndarray,
    training: Sequence[Predictions],
) -> list[dict[str, Any]]:
    found = [spectrum("predictions", vectors, decoder=name) for name, vectors in tests]
    found.append(spectrum("targets", embeddings.vectors[embeddings.rows(ids)]))
    for item in training:
        name = str(item.info["decoder"])
        found.append(spectrum("training predictions", item.vectors, decoder=name))
    if training:
        shown = embeddings.rows(training[0].stimulus_id)
        found.append(spectrum("training targets", embeddings.vectors[shown]))
    return found
