"""All scores of one set of predictions: the table, the pool curve and the notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from braindecode_clip.artifacts import Embeddings, Predictions, Retrieval
from braindecode_clip.checks import Problems, differences
from braindecode_clip.config.evaluate import EvaluateConfig
from braindecode_clip.evaluate.ceiling import add_ceilings
from braindecode_clip.evaluate.ceiling_signal import Repeats
from braindecode_clip.evaluate.dimensions import (
    NAMES,
    DimensionScores,
    dimension_counts,
    dimension_table,
    scored_dimensions,
    scored_index,
)
from braindecode_clip.evaluate.items import item_rows
from braindecode_clip.evaluate.notes import DIMENSION_DEFINITIONS, design_notes, null_note
from braindecode_clip.evaluate.permutation import null_histogram, null_scores, rank_table
from braindecode_clip.evaluate.pools import pool_curve
from braindecode_clip.evaluate.power import METRICS, power_rows
from braindecode_clip.evaluate.protocols import Replay, Replayed, replay_protocols
from braindecode_clip.evaluate.rows import LABELS, Design, Measured, make_rows, without_nan
from braindecode_clip.evaluate.scores import Score, identification_scores
from braindecode_clip.evaluate.sentinel import check_fitted
from braindecode_clip.metrics import count_better
from braindecode_clip.resampling.bootstrap import (
    Statistic,
    resample,
    weighted_mean,
    weighted_median,
)

DIRECTIONS = ("brain_to_image", "image_to_brain")


@dataclass(frozen=True)
class Evaluation:
    """What ``evaluate`` found.

    Attributes
    ----------
    rows : list of dict
        One a score and direction: metric, value, chance (of a guess whose similarities have
        nothing to do with one another), null_mean (mean under permutation: what these
        predictions reach when the labels are wrong), n and n_unit, n_resampled and resampled,
        ci_low, ci_high, ci_method, confidence, p (one-sided), n_permutations, permuted,
        direction ("none" for scores of single dimensions), n_gallery, definition, and
        the labels subject, roi, split, encoder, decoder, gallery; transductive (steps that
        see test trials without labels, joined by "; "); and noise ceilings: ceiling
        with ceiling_low and ceiling_high, ceiling_share = (value - chance) / (ceiling - chance),
        ceiling_method, ceiling_uses, noise_free with noise_free_low and noise_free_high,
        signal_to_noise of a single decoded trial and n_signal_dims, over how many dimensions it
        is spread (:mod:`braindecode_clip.evaluate.ceiling`). None where a number is undefined.
        ``protocol`` is "gallery".
    pool_curve : list of dict
        Labels, direction, metric, k, pool_size, value, chance, ci_low, ci_high.
    notes : list of str
        What a reader must know to read the numbers rightly.
    protocols : list of dict
        Rows of published protocols (:mod:`braindecode_clip.evaluate.protocols`).
    items : list of dict
        Rows of every picture and category (:func:`braindecode_clip.evaluate.items.item_rows`).
    dimensions : dict
        How many embedding dimensions are decoded, of
        :func:`braindecode_clip.evaluate.dimensions.dimension_counts`; empty when none varies.
    dimension_rows : list of dict
        Rows of :func:`braindecode_clip.evaluate.dimensions.dimension_table`.
    power : list of dict
        Labels, direction, n_gallery, and what
        :func:`braindecode_clip.evaluate.power.power_rows` gives.
    nulls : list of dict
        Labels, direction, metric, permuted, and what
        :func:`braindecode_clip.evaluate.permutation.null_histogram` gives; of top-1 and pairwise.
    fitted : list of dict
        What was fitted on what (:class:`~braindecode_clip.evaluate.sentinel.Findings`).
    transductive : list of str
        Steps that see test trials, without labels.
    """

    rows: list[dict[str, Any]]
    pool_curve: list[dict[str, Any]]
    notes: list[str]
    protocols: list[dict[str, Any]] = field(default_factory=list)
    items: list[dict[str, Any]] = field(default_factory=list)
    dimensions: dict[str, Any] = field(default_factory=dict)
    dimension_rows: list[dict[str, Any]] = field(default_factory=list)
    power: list[dict[str, Any]] = field(default_factory=list)
    nulls: list[dict[str, Any]] = field(default_factory=list)
    fitted: list[dict[str, Any]] = field(default_factory=list)
    transductive: list[str] = field(default_factory=list)


def evaluate(
    retrievals: Sequence[Retrieval],
    predictions: Predictions,
    embeddings: Embeddings,
    *,
    rng: np.random.Generator,
    options: EvaluateConfig | None = None,
    categories: Mapping[str, str] | None = None,
    records_required: bool = False,
    repeats: Repeats | None = None,
) -> Evaluation:
    """Score retrievals of the same predictions, and the predicted dimensions.

    Intervals come from a bootstrap of whole stimuli, or of whole runs where runs are held out
    (:func:`braindecode_clip.resampling.bootstrap.interval`), p-values from permuting the true
    labels as the split allows (:mod:`braindecode_clip.evaluate.permutation`).

    Parameters
    ----------
    retrievals : sequence of Retrieval
        One or both directions of one gallery.
    predictions : Predictions
    embeddings : Embeddings
        The targets.
    rng : Generator
        Every direction draws from a stream of its own.
    options : EvaluateConfig, optional
    categories : mapping, optional
        Stimulus to category, for protocols and scores of categories.
    records_required : bool
        Whether predictions without records of what was fitted on what are refused.
    repeats : Repeats, optional
        Decoded single trials of the test stimuli, where the predictions are means of trials, for
        the noise ceilings.

    Returns
    -------
    Evaluation

    Raises
    ------
    LeakageError
        A fitted statistic saw a test stimulus, or a test run where runs are held out.
    DataError
        Retrievals or embeddings that do not belong to the predictions.
    """
    options = options or EvaluateConfig()
    _check(retrievals, predictions, embeddings)
    findings = check_fitted(predictions, retrievals, required=records_required)
    design = Design.of(predictions, options)
    gallery = str(retrievals[0].info.get("gallery", "")) if retrievals else ""
    labels = {name: predictions.info.get(name, "") for name in LABELS} | {"gallery": gallery}
    if retrievals and "correction" in retrievals[0].info:
        labels["correction"] = retrievals[0].info["correction"]
    streams = rng.spawn(len(DIRECTIONS) + 3)
    parts = [
        _identify(item, design, options, streams[DIRECTIONS.index(item.direction)], labels)
        for item in retrievals
    ]
    parts.append(_score_dimensions(predictions, embeddings, design, options, streams[2], labels))
    replay = Replay()
    if _holds_test_alone(retrievals, design):
        tested = Replayed(predictions, embeddings, categories or {})
        replay = replay_protocols(tested, rng=streams[3], options=options, labels=labels)
    items = [
        row
        for item, stream in zip(retrievals, streams[4].spawn(len(retrievals)), strict=True)
        for row in item_rows(
            item, design, options=options, labels=labels, rng=stream, categories=categories
        )
    ]
    rows = [{**row, "protocol": "gallery"} for part in parts for row in part.rows]
    notes = design_notes(retrievals, predictions, design=design)
    notes += [note for part in parts for note in part.notes] + replay.notes
    rows, ceiling_notes = add_ceilings(
        rows,
        retrievals,
        predictions,
        embeddings,
        clusters=design.clusters,
        options=options,
        repeats=repeats,
        rng=rng.spawn(1)[0],
    )
    return Evaluation(
        rows=findings.label(without_nan(rows)),
        pool_curve=without_nan([point for part in parts for point in part.pool_curve]),
        notes=list(dict.fromkeys([*notes, *ceiling_notes])),
        protocols=findings.label(without_nan(replay.rows)),
        items=without_nan(items),
        power=without_nan([row for part in parts for row in part.power]),
        nulls=[row for part in parts for row in part.nulls],
        dimensions=parts[-1].dimensions,
        dimension_rows=without_nan(parts[-1].dimension_rows),
        fitted=findings.fitted,
        transductive=findings.transductive,
    )


def _holds_test_alone(retrievals: Sequence[Retrieval], design: Design) -> bool:
    """Tell whether this is the gallery of all test stimuli, as they are.

    Protocols have candidates and similarities of their own, the same whatever gallery is asked
    for, so they stand beside one gallery alone.
    """
    forth = [item for item in retrievals if item.direction == "brain_to_image"]
    return any(
        set(item.gallery_ids.astype(str)) == set(design.stimuli)
        and not {"correction", "rerank"} & set(item.info)
        for item in forth
    )


def _check(
    retrievals: Sequence[Retrieval], predictions: Predictions, embeddings: Embeddings
) -> None:
    problems = Problems("evaluate")
    parts = differences(predictions.fingerprint, embeddings.fingerprint)
    if parts:
        problems.add(
            "the embeddings were made by another encoder than those that the decoder was trained "
            f"on; decoder != embeddings in {'; '.join(parts)}. Pass the embedding file that "
            "`decode` had."
        )
    predicted, embedded = predictions.vectors.shape[1:], embeddings.vectors.shape[1:]
    if predicted != embedded:
        problems.add(
            f"the predictions have {' x '.join(map(str, predicted))} dimensions, the embeddings "
            f"{' x '.join(map(str, embedded))}."
        )
    for retrieval in retrievals:
        names = retrieval.queries["stimulus_id"].to_numpy().astype(str)
        if not np.array_equal(names, predictions.stimulus_id.astype(str)):
            problems.add(
                f"the {retrieval.direction} retrieval has other queries ({len(names)}) than the "
                f"predictions ({len(predictions.stimulus_id)}). Re-run `retrieve`."
            )
    if len(predictions.stimulus_id) < 2:
        problems.add(f"got {len(predictions.stimulus_id)} test samples, expected at least 2.")
    problems.raise_if_any()


def _identify(
    retrieval: Retrieval,
    design: Design,
    options: EvaluateConfig,
    rng: np.random.Generator,
    labels: dict[str, Any],
) -> Evaluation:
    boot_rng, null_rng, pool_rng, power_rng = rng.spawn(4)
    table = rank_table(retrieval, design.exchange.unit)
    ranks, others = (part[0] for part in table.under(table.labels[None, :]))
    scores = identification_scores(options.top_k, others)
    resamples = resample(
        _statistics(scores, ranks, others),
        design.clusters,
        n_bootstrap=options.n_bootstrap,
        rng=boot_rng,
    )
    null, power = None, []
    if design.permutable:
        power = power_rows(table, scores, design=design, options=options, rng=power_rng)
        null = null_scores(
            table,
            scores,
            design.exchange.groups,
            unit=design.exchange.unit,
            n_permutations=options.n_permutations,
            rng=null_rng,
            strata=design.exchange.strata,
        )
    labels = {
        **labels,
        "direction": retrieval.direction,
        "n_gallery": round(float(others.mean())) + 1,
    }
    measured = [
        Measured(
            score.name,
            float(score.value(ranks, others)),
            score.chance(others),
            score.fallback(
                ranks, others, n_clusters=resamples.n_clusters, confidence=options.confidence
            ),
            score.sign,
            score.definition,
        )
        for score in scores
    ]
    rows = make_rows(measured, resamples, null, design=design, options=options, labels=labels)
    curve = _curve(retrieval, design, others, options, pool_rng)
    return Evaluation(
        rows,
        [{**labels, **point} for point in curve],
        [] if null is None else null_note(rows),
        power=[{**labels, **row} for row in power],
        nulls=[
            {**labels, "metric": score.name, "permuted": design.exchange.description}
            | null_histogram(item.value, null[:, place])
            for place, (score, item) in enumerate(zip(scores, measured, strict=True))
            if null is not None and score.name in METRICS
        ],
    )


def _statistics(scores: list[Score], ranks: np.ndarray, others: np.ndarray) -> Statistic:
    parts = []
    for score in scores:
        values = score.per_query(ranks, others)
        parts.append(weighted_mean(values[:, None]) if score.is_mean else weighted_median(values))
    return lambda weights: np.concatenate([part(weights) for part in parts], axis=1)


def _curve(
    retrieval: Retrieval,
    design: Design,
    others: np.ndarray,
    options: EvaluateConfig,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    names = retrieval.gallery_ids.astype(str)
    n_better, n_tied = count_better(
        retrieval.similarity,
        retrieval.true_index,
        distractors=names != design.stimuli[design.labels][:, None],
    )
    return pool_curve(
        n_better,
        n_tied,
        others.astype(np.int64),
        design.clusters,
        top_k=options.top_k,
        n_points=options.pool_sizes,
        confidence=options.confidence,
        n_bootstrap=options.n_bootstrap,
        rng=rng,
    )


def _score_dimensions(
    predictions: Predictions,
    embeddings: Embeddings,
    design: Design,
    options: EvaluateConfig,
    rng: np.random.Generator,
    labels: dict[str, Any],
) -> Evaluation:
    boot_rng, null_rng = rng.spawn(2)
    baseline, against = None, "test"
    if options.r2_baseline == "train_mean":
        trained = embeddings.rows(np.unique(predictions.train_ids.astype(str)))
        baseline = scored_dimensions(embeddings.vectors[trained]).mean(axis=0, dtype=np.float64)
        against = "training"
    targets = scored_dimensions(embeddings.vectors[embeddings.rows(design.stimuli)])
    predicted = scored_dimensions(predictions.vectors)
    scores = DimensionScores.of(predicted, targets, design.labels, baseline=baseline)
    notes = []
    n_dims = int(np.prod(embeddings.vectors.shape[1:]))
    if n_dims > targets.shape[1]:
        notes.append(
            f"correlation and R² are over {targets.shape[1]} of the {n_dims} embedding dimensions "
            "(all tokens), at equal steps."
        )
    if scores.n_constant:
        notes.append(
            f"{scores.n_constant} embedding dimensions do not vary among the test targets and "
            "are left out of correlation and R²."
        )
    if not scores.n_dims:
        return Evaluation([], [], notes)
    values = scores.weighted(np.ones((1, len(design.labels))))[0]
    measured = [
        Measured(
            name,
            float(value),
            0.0,
            None,
            1,
            DIMENSION_DEFINITIONS[name].format(n_dims=scores.n_dims, against=against),
        )
        for name, value in zip(NAMES, values, strict=True)
    ]
    resamples = resample(
        scores.weighted, design.clusters, n_bootstrap=options.n_bootstrap, rng=boot_rng
    )
    null = None
    if design.permutable:
        null = scores.permuted(
            design.exchange.groups,
            unit=design.exchange.unit,
            n_permutations=options.n_permutations_dims,
            rng=null_rng,
            strata=design.exchange.strata,
        )
    labels = {**labels, "direction": "none", "n_gallery": None}
    drawn = None if null is None else null.scores
    rows = make_rows(measured, resamples, drawn, design=design, options=options, labels=labels)
    table = dimension_table(scores, null, scored_index(embeddings.vectors.shape))
    counts = dimension_counts(table, n_permutations=options.n_permutations_dims)
    return Evaluation(rows, [], notes, dimensions=counts, dimension_rows=table.to_dict("records"))
