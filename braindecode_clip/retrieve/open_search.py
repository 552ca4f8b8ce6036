"""Open search: what is nearest to each prediction among anything encoded, pictures or texts.

Unlike an identification it needs no true candidate. Where the true one is known (a caption, a
category), its rank is given too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from braindecode_clip.artifacts import Gallery, Predictions
from braindecode_clip.checks import Problems, differences, some
from braindecode_clip.config.candidates import IndexConfig
from braindecode_clip.config.retrieve import CorrectionConfig
from braindecode_clip.errors import DataError
from braindecode_clip.logs import get_logger
from braindecode_clip.metrics import count_better, ranks
from braindecode_clip.retrieve.approximate import (
    WORTH_INDEXING,
    ApproximateSearch,
    measure_recall,
)
from braindecode_clip.retrieve.categories import CategoryScore, category_scores
from braindecode_clip.retrieve.correct import check_training, describe
from braindecode_clip.retrieve.hubness import hub_offsets
from braindecode_clip.retrieve.search import ExactSearch, Neighbours
from braindecode_clip.similarity import SimilarityKind, similarity_blocks

logger = get_logger(__name__)


@dataclass(frozen=True)
class OpenSearch:
    """What was found.

    Attributes
    ----------
    nearest : DataFrame
        ``k`` rows a sample: sample (row of the predictions), stimulus_id, fold, place (1 is
        best), candidate, score, and the candidates' metadata.
    samples : DataFrame
        One row a sample: sample, stimulus_id, group, fold, n_repeats, best, score; where the
        true one is known also true_candidate, rank (1-based, ties as mean rank) and n_candidates.
    facts : dict
        n_candidates, modality, origin, similarity, index, recall (1 for an exact search), and
        those of a correction.
    """

    nearest: pd.DataFrame
    samples: pd.DataFrame
    facts: dict[str, Any]


def open_search(
    predictions: Predictions,
    gallery: Gallery,
    *,
    k: int = 10,
    similarity: SimilarityKind = "cosine",
    index: IndexConfig | None = None,
    correction: CorrectionConfig | None = None,
    training: Predictions | None = None,
    truth: Mapping[str, str] | None = None,
    categories: np.ndarray | None = None,
    category_score: CategoryScore = "mean",
    device: str = "cpu",
) -> OpenSearch:
    """Find the candidates nearest to every prediction.

    Parameters
    ----------
    predictions : Predictions
    gallery : Gallery
        Pictures or texts, by the encoder that the decoder was trained on.
    k : int
    similarity : {"cosine", "correlation", "euclidean"}
    index : IndexConfig, optional
        Exact by default.
    correction : CorrectionConfig, optional
        For hubs; "euclidean" only with categories.
    training : Predictions, optional
        Of held-out training samples, for a correction from "train".
    truth : mapping, optional
        Stimulus to its true candidate; to its true category where there are categories.
    categories : array (n_gallery,) str, optional
        Category of every candidate: then categories are ranked in place of candidates.
    category_score : {"mean", "max"}
    device : str
        Of an exact search, as in :class:`braindecode_clip.retrieve.search.ExactSearch`.

    Returns
    -------
    OpenSearch

    Raises
    ------
    DataError
        A gallery of another encoder, true candidates that are not in it, training predictions
        that are missing or do not belong to the test.
    """
    index = index or IndexConfig()
    _check(predictions, gallery, truth, categories)
    offsets = _offsets(predictions, gallery, correction, training, similarity=similarity)
    facts: dict[str, Any] = {
        "n_candidates": len(gallery.ids),
        "modality": gallery.modality,
        "origin": gallery.origin,
        "similarity": similarity,
        "index": index.kind,
        "recall": 1.0,
        **describe(correction),
    }
    if categories is not None:
        names, table = _score_categories(
            predictions, gallery, offsets, categories, category_score, similarity
        )
        order = np.argsort(-table, axis=1, kind="stable")[:, :k]
        found = Neighbours(order, np.take_along_axis(table, order, axis=1))
        facts |= {"n_categories": len(names), "category_score": category_score}
        rank = _rank_in_table(table, names, predictions, truth)
        metadata = pd.DataFrame()
    else:
        names, metadata = gallery.ids.astype(str), gallery.metadata
        found, rank, recall = _search(
            predictions,
            gallery,
            offsets,
            k,
            similarity=similarity,
            index=index,
            truth=truth,
            device=device,
        )
        facts["recall"] = recall
    return OpenSearch(
        _nearest_table(predictions, found, names, metadata, facts),
        _samples_table(predictions, found, names, truth, rank, facts),
        facts,
    )


def _check(
    predictions: Predictions,
    gallery: Gallery,
    truth: Mapping[str, str] | None,
    categories: np.ndarray | None,
) -> None:
    problems = Problems(f"open search in {gallery.origin}")
    parts = differences(predictions.fingerprint, gallery.fingerprint)
    if parts:
        problems.add(
            "the candidates were encoded by another encoder than the decoder was trained on; "
            f"decoder != candidates in {'; '.join(parts)}. Encode them with the study's encoder."
        )
    n_predicted, n_dims = predictions.vectors.shape[1], gallery.vectors.shape[1]
    if n_predicted != n_dims:
        problems.add(f"the predictions have {n_predicted} dimensions, the candidates {n_dims}.")
    if truth is not None:
        shown = np.unique(predictions.stimulus_id.astype(str)).tolist()
        unknown = [name for name in shown if name not in truth]
        if unknown:
            problems.add(f"no true candidate is given for the stimuli {some(unknown)}.")
        known = set((gallery.ids if categories is None else categories).astype(str).tolist())
        absent = sorted({truth[n] for n in shown if n in truth and truth[n] not in known})
        if absent:
            what = "candidates" if categories is None else "categories"
            problems.add(f"true {what} that are not among them: {some(absent)}. Add them.")
    problems.raise_if_any(DataError)


def _offsets(
    predictions: Predictions,
    gallery: Gallery,
    correction: CorrectionConfig | None,
    training: Predictions | None,
    *,
    similarity: SimilarityKind,
) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Return rows of the predictions, and the candidates' offsets for them; one item a fold."""
    everything = np.arange(len(predictions.stimulus_id))
    if correction is None:
        return [(everything, None)]
    settings = {
        "method": correction.method,
        "k": correction.k,
        "temperature": correction.temperature,
        "similarity": similarity,
    }
    if correction.statistics == "test":
        return [(everything, hub_offsets(predictions.vectors, gallery.vectors, **settings))]
    training = check_training(training, predictions, None)
    folds = predictions.fold.astype(str)
    found = []
    for fold in np.unique(folds):
        reference = training.vectors[training.fold.astype(str) == fold]
        offset = hub_offsets(reference, gallery.vectors, **settings)
        found.append((np.flatnonzero(folds == fold), offset))
    return found


def _search(
    predictions: Predictions,
    gallery: Gallery,
    offsets: list[tuple[np.ndarray, np.ndarray | None]],
    k: int,
    *,
    similarity: SimilarityKind,
    index: IndexConfig,
    truth: Mapping[str, str] | None,
    device: str,
) -> tuple[Neighbours, np.ndarray | None, float]:
    """Return the nearest of every prediction, the rank of the true one, and the recall."""
    n, width = len(predictions.stimulus_id), min(k, len(gallery.ids))
    found = Neighbours(np.empty((n, width), np.int64), np.empty((n, width), np.float32))
    column = {str(name): i for i, name in enumerate(gallery.ids)}
    rank = None if truth is None else np.empty(n)
    recalls = []
    for rows, offset in offsets:
        queries = predictions.vectors[rows]
        exact = ExactSearch(gallery.vectors, similarity=similarity, offset=offset, device=device)
        if index.kind == "exact":
            part = exact.nearest(queries, k)
        else:
            search = _indexed(gallery.vectors, similarity, offset, index)
            part = search.nearest(queries, k)
            chosen = np.linspace(0, len(rows) - 1, min(index.n_check, len(rows))).astype(int)
            recalls.append(measure_recall(search, exact, queries[chosen], k=k))
        found.index[rows], found.score[rows] = part.index, part.score
        if rank is not None and truth is not None:
            true = [column[truth[str(name)]] for name in predictions.stimulus_id[rows]]
            rank[rows] = ranks(*exact.count_better(queries, np.array(true)))
    recall = float(np.mean(recalls)) if recalls else 1.0
    if recalls:
        logger.info("index %s: recall at %d on the predictions %.3f", index.kind, k, recall)
    return found, rank, recall


def _indexed(
    vectors: np.ndarray, similarity: SimilarityKind, offset: np.ndarray | None, index: IndexConfig
) -> ApproximateSearch:
    if len(vectors) < WORTH_INDEXING:
        logger.info(
            "index %s for %d candidates: exact search would be done before the index is built",
            index.kind,
            len(vectors),
        )
    return ApproximateSearch(
        vectors,
        kind=index.kind,
        similarity=similarity,
        offset=offset,
        n_lists=index.n_lists,
        n_probe=index.n_probe,
        n_links=index.n_links,
        ef=index.ef,
    )


def _score_categories(
    predictions: Predictions,
    gallery: Gallery,
    offsets: list[tuple[np.ndarray, np.ndarray | None]],
    categories: np.ndarray,
    score: CategoryScore,
    similarity: SimilarityKind,
) -> tuple[np.ndarray, np.ndarray]:
    names: np.ndarray = np.empty(0)
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for rows, offset in offsets:
        blocks = similarity_blocks(
            predictions.vectors[rows], gallery.vectors, similarity=similarity
        )
        for part, block in blocks:
            if offset is not None:
                block = (block - offset).astype(np.float32)
            names, scores = category_scores(block, categories, score=score)
            parts.append((rows[part], scores))
    table = np.empty((len(predictions.stimulus_id), len(names)), dtype=np.float32)
    for rows, scores in parts:
        table[rows] = scores
    return names, table


def _rank_in_table(
    table: np.ndarray,
    names: np.ndarray,
    predictions: Predictions,
    truth: Mapping[str, str] | None,
) -> np.ndarray | None:
    if truth is None:
        return None
    column = {str(name): i for i, name in enumerate(names)}
    true = np.array([column[truth[str(name)]] for name in predictions.stimulus_id])
    return ranks(*count_better(table, true))


def _nearest_table(
    predictions: Predictions,
    found: Neighbours,
    names: np.ndarray,
    metadata: pd.DataFrame,
    facts: dict[str, Any],
) -> pd.DataFrame:
    n, width = found.index.shape
    sample = np.repeat(np.arange(n), width)
    index = found.index.ravel()
    table = pd.DataFrame(
        {
            "sample": sample,
            "stimulus_id": predictions.stimulus_id[sample].astype(str),
            "fold": predictions.fold[sample].astype(str),
            "place": np.tile(np.arange(1, width + 1), n),
            "candidate": names[index],
            "score": found.score.ravel(),
            **_labels(facts),
        }
    )
    if len(metadata.columns):
        more = metadata.iloc[index].reset_index(drop=True)
        taken = {name: f"candidate_{name}" for name in more.columns if name in table.columns}
        table = pd.concat([table, more.rename(columns=taken)], axis=1)
    # An approximate search may find fewer than k.
    return table[index >= 0].reset_index(drop=True)


def _samples_table(
    predictions: Predictions,
    found: Neighbours,
    names: np.ndarray,
    truth: Mapping[str, str] | None,
    rank: np.ndarray | None,
    facts: dict[str, Any],
) -> pd.DataFrame:
    stimuli = predictions.stimulus_id.astype(str)
    table = pd.DataFrame(
        {
            "sample": np.arange(len(stimuli)),
            "stimulus_id": stimuli,
            "group": predictions.group.astype(str),
            "fold": predictions.fold.astype(str),
            "n_repeats": predictions.n_repeats,
            "best": np.where(found.index[:, 0] >= 0, names[found.index[:, 0]], ""),
            "score": found.score[:, 0],
            **_labels(facts),
        }
    )
    if truth is not None and rank is not None:
        table["true_candidate"] = [truth[name] for name in stimuli]
        table["rank"] = rank
        table["n_candidates"] = len(names)
    return table


def _labels(facts: dict[str, Any]) -> dict[str, str]:
    """Return the column that says how scores were corrected, where they were."""
    return {"correction": facts["correction"]} if "correction" in facts else {}
