"""Samples, candidates and measures of the protocols that a test set supports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from braindecode_clip.artifacts import Embeddings, Predictions
from braindecode_clip.config.evaluate import EvaluateConfig
from braindecode_clip.errors import DataError
from braindecode_clip.evaluate.protocols.averages import (
    Averages,
    category_averages,
    picture_averages,
)
from braindecode_clip.evaluate.protocols.cells import Cells
from braindecode_clip.evaluate.protocols.pools import keeps_from_first
from braindecode_clip.evaluate.protocols.presets import (
    BRAIN_TO_IMAGE,
    IMAGE_TO_BRAIN,
    Measure,
    category_measures,
    n_way_measures,
    picture_measures,
)
from braindecode_clip.evaluate.rows import Design
from braindecode_clip.similarity import SimilarityKind, similarity_matrix

OF_CATEGORIES, OF_RUNS = "god-category", "haxby-nway"


@dataclass(frozen=True)
class Replayed:
    """What the protocols are replayed on.

    Attributes
    ----------
    predictions : Predictions
    embeddings : Embeddings
    categories : mapping
        Stimulus to category; empty where there are none.
    """

    predictions: Predictions
    embeddings: Embeddings
    categories: Mapping[str, str]


@dataclass(frozen=True)
class Round:
    """Measures that share their samples: how these are drawn, permuted and called.

    Attributes
    ----------
    measures : list of Measure
    cells : dict
        (similarity, direction) to Cells.
    keeps : dict
        Direction to :func:`keeps_from_first`, where one pool is queries and candidates.
    design : Design
    words : dict
        n_unit, resampled and permuted of the rows.
    notes : list of str
    """

    measures: list[Measure]
    cells: dict[tuple[str, str], Cells]
    keeps: dict[str, np.ndarray]
    design: Design
    words: dict[str, str]
    notes: list[str]


def make_rounds(
    test: Replayed, options: EvaluateConfig, left_out: dict[str, list[str]]
) -> Iterator[Round]:
    """Yield what can be replayed of ``options.protocols``.

    Parameters
    ----------
    test : Replayed
    options : EvaluateConfig
    left_out : dict
        Reason to names of protocols; what can't be replayed is added.
    """
    wanted = list(options.protocols)
    pictures = [name for name in wanted if name not in (OF_CATEGORIES, OF_RUNS)]
    made = (
        (pictures, _picture_round),
        ([OF_CATEGORIES], _category_round),
        ([OF_RUNS], _run_round),
    )
    for names, make in made:
        names = [name for name in names if name in wanted]
        if names:
            one = make(test, names, options, left_out)
            if isinstance(one, str):
                left_out.setdefault(one, []).extend(names)
            elif one.measures:
                yield one


def _picture_round(
    test: Replayed, names: list[str], options: EvaluateConfig, left_out: dict[str, list[str]]
) -> Round | str:
    if test.predictions.unit != "stimulus":
        return "whole runs are held out, so the test pictures were also trained on"
    try:
        means = picture_averages(test.predictions, test.embeddings)
    except DataError as error:
        return str(error)
    n = len(means.names)
    measures: list[Measure] = []
    for name in names:
        found = picture_measures(name, n, options.top_k)
        if isinstance(found, str):
            left_out.setdefault(found, []).append(name)
        else:
            measures += found
    cells: dict[tuple[str, str], Cells] = {}
    keeps: dict[str, np.ndarray] = {}
    for kind in sorted({measure.similarity for measure in measures}):
        forth = _table(means, kind)
        if isinstance(forth, str):
            hit = [m.protocol for m in measures if m.similarity == kind]
            left_out.setdefault(forth, []).extend(dict.fromkeys(hit))
            measures = [measure for measure in measures if measure.similarity != kind]
            continue
        back = np.ascontiguousarray(forth.T)
        cells[kind, BRAIN_TO_IMAGE] = Cells.of(forth)
        # A row is a picture here; that its prediction is permuted instead gives the same null.
        cells[kind, IMAGE_TO_BRAIN] = Cells.of(back)
        if any(m.pools == "joint" and m.similarity == kind for m in measures):
            keeps = {
                BRAIN_TO_IMAGE: keeps_from_first(forth),
                IMAGE_TO_BRAIN: keeps_from_first(back),
            }
    notes = []
    n_samples = len(test.predictions.stimulus_id)
    if n_samples > n:
        notes.append(
            f"protocols of pictures rest on one prediction for each of {n} test pictures, the "
            f"mean over its samples ({n_samples} in all)."
        )
    # Averages over runs and sessions: pictures change places, and are drawn, as such.
    design = Design.made(
        "stimulus",
        means.names,
        np.arange(n),
        means.names,
        _shown_times(test),
        options=EvaluateConfig(exchange_unequal=options.exchange_unequal),
    )
    words = {"n_unit": "test pictures", "resampled": "pictures"}
    words["permuted"] = design.exchange.description.replace("stimuli", "pictures")
    return Round(measures, cells, keeps, design, words, notes)


def _shown_times(test: Replayed) -> np.ndarray:
    """Return how often each test picture was shown, in the order of their sorted names."""
    names, own = np.unique(test.predictions.stimulus_id.astype(str), return_inverse=True)
    return np.bincount(own, weights=test.predictions.n_repeats, minlength=len(names)).astype(int)


def _table(means: Averages, kind: SimilarityKind) -> np.ndarray | str:
    """Return the similarities, or why a correlation is undefined; refuse all other faults."""
    try:
        return similarity_matrix(means.predicted, means.gallery, similarity=kind)
    except DataError as error:
        sides = [s for s in (means.predicted, means.gallery) if isinstance(s, np.ndarray)]
        if kind != "correlation" or not all(np.isfinite(side).all() for side in sides):
            raise
        return f"no correlation: {error}".rstrip(".")


def _category_round(
    test: Replayed, names: list[str], options: EvaluateConfig, left_out: dict[str, list[str]]
) -> Round | str:
    if test.predictions.unit != "stimulus":
        return "whole runs are held out, so the test categories were also trained on"
    if len(test.predictions.vectors.shape) == 3:
        return "the targets are tokens, whose category averages are not held"
    if not test.categories:
        return f"the stimuli have no column '{options.category_column}'"
    means, n_trained = category_averages(test.predictions, test.embeddings, test.categories)
    n, n_all = len(means.names), len(means.gallery)
    if n < 2:
        return f"{n} test categories, 2 are needed"
    table = _table(means, "correlation")
    if isinstance(table, str):
        return table
    notes = []
    if n_trained:
        notes.append(
            f"god-category: {n_trained} of {n} test categories have training pictures too; the "
            "published protocol tests on categories that were not trained on."
        )
    if n_all == n:
        notes.append("god-category: no candidate categories beside those of the test.")
    words = {"n_unit": "test categories", "resampled": "categories"}
    words["permuted"] = "labels among the test categories"
    return Round(
        category_measures(n, n_all - n),
        {("correlation", BRAIN_TO_IMAGE): Cells.of(table, n_labels=n)},
        {},
        Design.made("stimulus", means.names, np.arange(n), means.names),
        words,
        notes,
    )


def _run_round(
    test: Replayed, names: list[str], options: EvaluateConfig, left_out: dict[str, list[str]]
) -> Round | str:
    predictions = test.predictions
    if predictions.unit != "run":
        return "no whole runs are held out"
    if len(predictions.vectors.shape) == 3:
        return "the targets are tokens, whose category averages are not held"
    shown = predictions.stimulus_id.astype(str)
    of = {name: test.categories.get(name, "") for name in shown} if test.categories else {}
    if not all(of.get(name, name) for name in shown):
        return "some test stimuli have no category"
    own = np.array([of.get(name, name) for name in shown])
    categories, truth = np.unique(own, return_inverse=True)
    in_runs = {(run, name) for run, name in zip(predictions.group.astype(str), own, strict=True)}
    if len(categories) < 2 or len(in_runs) < 2 * len(categories):
        return (
            f"{len(categories)} categories in {len(in_runs)} pairs of run and category; two or "
            "more are needed, each in two runs or more"
        )
    named = {name: of.get(name, name) for name in map(str, np.unique(shown))}
    means, _ = category_averages(predictions, _shown(test.embeddings, named), named)
    table = similarity_matrix(predictions.vectors, means.gallery)
    return Round(
        n_way_measures(len(categories), options.top_k),
        {("cosine", BRAIN_TO_IMAGE): Cells.of(table)},
        {},
        Design.made("run", categories, truth, predictions.group.astype(str)),
        {"n_unit": "brain samples", "resampled": "runs", "permuted": "labels within each run"},
        [],
    )


def _shown(embeddings: Embeddings, categories: Mapping[str, str]) -> Embeddings:
    """Return the embeddings of the stimuli that have a category."""
    rows = embeddings.rows(np.array(list(categories)))
    return Embeddings(
        embeddings.ids[rows], embeddings.vectors[rows], embeddings.modality, embeddings.fingerprint
    )
