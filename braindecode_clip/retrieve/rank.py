"""Rank candidates by their similarity to predicted embeddings, in two named directions.

"brain_to_image": each brain sample ranks the pictures of the gallery. "image_to_brain": each
shown picture ranks the brain samples. In both, the distractors of a query are the columns
that belong to another stimulus than the true one.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from braindecode_clip.artifacts import (
    Embeddings,
    Gallery,
    Ledger,
    Predictions,
    Records,
    Retrieval,
)
from braindecode_clip.checks import Problems, differences, some
from braindecode_clip.config.retrieve import CandidateSetsConfig, CorrectionConfig
from braindecode_clip.errors import ConfigError, DataError
from braindecode_clip.logs import get_logger
from braindecode_clip.metrics import count_better, ranks
from braindecode_clip.retrieve.calibration import add_candidate_sets
from braindecode_clip.retrieve.correct import check_training, correct_table, describe
from braindecode_clip.retrieve.pool import count_duplicates, make_pool
from braindecode_clip.retrieve.token_order import TokenOrder, check_token_order, order_by_tokens
from braindecode_clip.similarity import SimilarityKind, similarity_matrix

Direction = Literal["brain_to_image", "image_to_brain"]
logger = get_logger(__name__)


def retrieve(
    predictions: Predictions,
    embeddings: Embeddings,
    candidates: np.ndarray,
    *,
    direction: Direction = "brain_to_image",
    gallery: str = "",
    similarity: SimilarityKind = "cosine",
    n_top: int = 10,
    distractors: Gallery | None = None,
    correction: CorrectionConfig | None = None,
    sets: CandidateSetsConfig | None = None,
    training: Predictions | None = None,
    rerank: TokenOrder | None = None,
) -> Retrieval:
    """Find the rank of the true candidate for every query.

    Parameters
    ----------
    predictions : Predictions
    embeddings : Embeddings
        Made by the encoder that the decoder was trained on.
    candidates : array (n_gallery,) str
        Distinct stimulus ids with every test stimulus among them: :func:`gallery_ids`.
    direction : {"brain_to_image", "image_to_brain"}
        "image_to_brain" takes from ``candidates`` the pictures that were shown. There is one
        query for each pair of a shown picture and a brain sample of it: the picture ranks
        that sample among the samples of all other pictures, so the other samples of the same
        picture neither help nor compete. With one sample a picture this is the transpose;
        with several, a picture's rank is the mean over its samples.
    gallery : str
        Label of the candidate set, kept in ``info``.
    similarity : {"cosine", "correlation", "euclidean"}
    n_top : int
        Best columns listed for each query (all of them when there are fewer); equal
        similarities stand in the order of the columns.
    distractors : Gallery, optional
        More candidates for "brain_to_image"; see :func:`braindecode_clip.retrieve.make_pool`.
        "image_to_brain" ranks brain samples, of which there are no others.
    correction : CorrectionConfig, optional
        Taken off every candidate's similarity
        (:func:`braindecode_clip.retrieve.hubness.hub_offsets`), fold by fold.
    sets : CandidateSetsConfig, optional
        For "brain_to_image": conformal sets of candidates, of uncorrected similarities
        (:mod:`braindecode_clip.retrieve.candidate_sets`). ``queries`` gets set_size, in_set
        (the true one is) and abstained, ``info`` candidate_sets.
    training : Predictions, optional
        Of training samples that were held out; for ``sets`` and corrections from "train".
    rerank : TokenOrder, optional
        For "brain_to_image": the best candidates are ordered again
        (:mod:`braindecode_clip.retrieve.token_order`). ``info`` gets rerank. Not with
        ``distractors``, ``correction`` and ``sets``.

    Returns
    -------
    Retrieval
        For "image_to_brain" ``gallery_ids`` and ``top_id`` name the stimulus of each sample,
        ``similarity`` has a row for each sample's picture, and ``true_index`` counts up.
        ``info`` has those of the predictions, and gallery, similarity, unit,
        n_gallery and n_duplicates (candidates whose vector another candidate has too, and whose
        tokens where they are re-ranked); with
        a correction also correction, correction_statistics and transductive; with distractors
        what became of them.

    Raises
    ------
    DataError
        Embeddings of another encoder, another number of dimensions, a repeated candidate, a
        missing one, a prediction of zeros only, training predictions that are missing or do not
        belong to the test, tokens of other samples or without a candidate.
    """
    if direction not in get_args(Direction):
        raise ConfigError(f"direction: got {direction!r}, expected {get_args(Direction)}.")
    candidates = np.asarray(candidates).astype(str)
    _check(predictions, embeddings, candidates)
    if predictions.vectors.ndim == 3 and (distractors or correction or sets):
        raise ConfigError(
            "retrieve: targets are tokens, which are ranked without distractors, hubness "
            "corrections and candidate sets. Leave these out, or decode pooled vectors."
        )
    if rerank is not None:
        if distractors or correction or sets:
            raise ConfigError(
                "retrieve: re-ranking by tokens can't be combined with distractors, corrections "
                "and candidate sets. Leave one of them out."
            )
        check_token_order(rerank, predictions, candidates)
    if sets is not None or (correction is not None and correction.statistics == "train"):
        training = check_training(training, predictions, embeddings)
    stimuli = predictions.stimulus_id.astype(str)
    forth = direction == "brain_to_image"
    pool = make_pool(
        predictions, embeddings, candidates, distractors=distractors if forth else None
    )
    column = {name: i for i, name in enumerate(candidates)}
    true_column = np.array([column[name] for name in stimuli], dtype=np.int64)
    table = similarity_matrix(predictions.vectors, pool.vectors, similarity=similarity)
    if forth:
        names, true_index = pool.names, true_column
    else:
        table = np.ascontiguousarray(table.T[true_column])
        names, true_index = stimuli, np.arange(len(stimuli))
    shown_tokens = None
    if rerank is not None and forth:
        shown_tokens = rerank.candidates(names)
    info = {
        **predictions.info,
        "gallery": gallery,
        "similarity": similarity,
        "unit": predictions.unit,
        "n_gallery": len(names),
        "n_duplicates": count_duplicates(pool.vectors, shown_tokens),
        **pool.facts,
        **describe(correction),
    }
    if info["n_duplicates"]:
        logger.warning(
            "gallery %s: %d of %d candidates have the same vector as another one; they tie",
            gallery,
            info["n_duplicates"],
            len(pool.names),
        )
    ledger = Ledger("retrieve", f"gallery {gallery}, {direction}")
    extra: dict[str, np.ndarray] = {}
    if sets is not None and training is not None and forth:
        extra, info["candidate_sets"] = add_candidate_sets(
            table,
            true_index,
            predictions,
            training,
            embeddings,
            sets=sets,
            similarity=similarity,
            ledger=ledger,
        )
    if rerank is not None and shown_tokens is not None:
        table, info["rerank"] = order_by_tokens(table, true_index, rerank, shown_tokens)
    if correction is not None:
        table = correct_table(
            table,
            predictions,
            embeddings,
            pool.vectors if forth else embeddings.vectors[embeddings.rows(np.unique(stimuli))],
            direction=direction,
            correction=correction,
            training=training,
            similarity=similarity,
            ledger=ledger,
        )
    tokens = rerank.predictions.records.items if rerank is not None and forth else ()
    return _ranked(
        predictions,
        table,
        names,
        true_index,
        direction=direction,
        n_top=n_top,
        info=info,
        extra=extra,
        records=predictions.records.joined(tokens, ledger.items),
    )


def _check(predictions: Predictions, embeddings: Embeddings, candidates: np.ndarray) -> None:
    problems = Problems("retrieve")
    parts = differences(predictions.fingerprint, embeddings.fingerprint)
    if parts:
        problems.add(
            "the embeddings were made by another encoder than those that the decoder was trained "
            f"on; decoder != embeddings in {'; '.join(parts)}. Pass the embedding file that "
            "`decode` had, or re-run `decode`."
        )
    predicted, embedded = predictions.vectors.shape[1:], embeddings.vectors.shape[1:]
    if predicted != embedded:
        problems.add(
            f"the predictions have {' x '.join(map(str, predicted))} dimensions, the embeddings "
            f"{' x '.join(map(str, embedded))}."
        )
    names, counts = np.unique(candidates, return_counts=True)
    if (counts > 1).any():
        problems.add(f"candidates more than once: {some(names[counts > 1].tolist())}.")
    if len(names) < 2:
        problems.add(f"got {len(names)} candidates, expected at least 2: there is no choice.")
    absent = np.setdiff1d(predictions.stimulus_id.astype(str), names)
    if len(absent):
        problems.add(f"test stimuli that are not among the candidates: {some(absent.tolist())}.")
    if not len(predictions.stimulus_id):
        problems.add("there are no test samples.")
    problems.raise_if_any()


def _ranked(
    predictions: Predictions,
    table: np.ndarray,
    names: np.ndarray,
    true_index: np.ndarray,
    *,
    direction: str,
    n_top: int,
    info: dict[str, Any],
    extra: dict[str, np.ndarray],
    records: Records,
) -> Retrieval:
    stimuli = predictions.stimulus_id.astype(str)
    distractors = None
    n_distractors = np.full(len(stimuli), len(names) - 1)
    if direction == "image_to_brain":
        # Other samples of the query's own picture neither help nor compete.
        labels = np.unique(stimuli, return_inverse=True)[1]
        distractors = labels[None, :] != labels[:, None]
        n_distractors = np.count_nonzero(distractors, axis=1)
    n_better, n_tied = count_better(table, true_index, distractors=distractors)
    rank = ranks(n_better, n_tied)
    if not n_distractors.all():
        raise DataError(
            "retrieve: all brain samples belong to one stimulus, so there is nothing to tell "
            "apart. Test on at least two stimuli."
        )
    queries = pd.DataFrame(
        {
            "stimulus_id": stimuli,
            "group": predictions.group.astype(str),
            "fold": predictions.fold.astype(str),
            "n_repeats": predictions.n_repeats,
            "rank": rank,
            "n_beaten": n_distractors - (rank - 1.0),
            "n_distractors": n_distractors,
            "similarity": table[np.arange(len(table)), true_index],
            **extra,
        }
    )
    top = top_columns(table, n_top)
    return Retrieval(
        direction=direction,
        queries=queries,
        top_id=names[top],
        top_similarity=np.take_along_axis(table, top, axis=1),
        gallery_ids=names,
        similarity=table,
        true_index=true_index,
        info=info,
        records=records,
    )


def top_columns(table: np.ndarray, k: int) -> np.ndarray:
    """Return the columns of the ``k`` largest of each row, equal ones in order; (n, k) int64."""
    n_columns = table.shape[1]
    k = min(k, n_columns)
    top = np.empty((len(table), k), dtype=np.int64)
    for row, values in enumerate(table):
        # Sorting a million numbers for ten of them would take most of the stage's time.
        border = np.partition(values, n_columns - k)[n_columns - k]
        columns = np.flatnonzero(values >= border)
        top[row] = columns[np.argsort(-values[columns], kind="stable")][:k]
    return top
