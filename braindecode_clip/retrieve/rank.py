"""Rank candidates by their similarity to predicted embeddings, in two named directions.

"brain_to_image": each brain sample ranks the pictures of the gallery. "image_to_brain": each
shown picture ranks the brain samples. In both, the distractors of a query are the columns
that belong to another stimulus than the true one.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from braindecode_clip.artifacts import Embeddings, Predictions, Retrieval
from braindecode_clip.checks import Problems, differences, some
from braindecode_clip.errors import ConfigError, DataError
from braindecode_clip.logs import get_logger
from braindecode_clip.metrics import count_better, ranks
from braindecode_clip.similarity import SimilarityKind, similarity_matrix

Direction = Literal["brain_to_image", "image_to_brain"]
logger = get_logger(__name__)


def gallery_ids(
    predictions: Predictions,
    embeddings: Embeddings,
    *,
    candidates: Literal["test", "all", "listed"] = "test",
    ids: tuple[str, ...] | None = None,
) -> np.ndarray:
    """Choose the candidates.

    Parameters
    ----------
    predictions : Predictions
    embeddings : Embeddings
    candidates : {"test", "all", "listed"}
        "test": the stimuli of the test samples, sorted; "all": every stimulus with an
        embedding, in its order; "listed": ``ids``, in their order.
    ids : tuple of str, optional
        For "listed".

    Returns
    -------
    ndarray (n_gallery,) str

    Raises
    ------
    DataError
        The true stimulus of a test sample is not among the candidates, or a candidate has no
        embedding.
    """
    shown = np.unique(predictions.stimulus_id.astype(str))
    if candidates == "test":
        chosen = shown
    elif candidates == "all":
        chosen = embeddings.ids.astype(str)
    elif candidates == "listed":
        chosen = np.asarray(ids or (), dtype=str)
    else:
        raise ConfigError(f"candidates: got {candidates!r}, expected test, all or listed.")
    embeddings.rows(chosen)
    missing = shown[~np.isin(shown, chosen)]
    if len(missing):
        raise DataError(
            f"gallery: {len(missing)} of {len(shown)} stimuli of the test samples are not among "
            f"the {len(chosen)} candidates: {some(missing.tolist())}. A true stimulus outside the "
            "gallery can't be found: add them, or choose `candidates: test`."
        )
    return chosen


def retrieve(
    predictions: Predictions,
    embeddings: Embeddings,
    candidates: np.ndarray,
    *,
    direction: Direction = "brain_to_image",
    gallery: str = "",
    similarity: SimilarityKind = "cosine",
    n_top: int = 10,
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
    similarity : {"cosine", "correlation"}
    n_top : int
        Best columns listed for each query (all of them when there are fewer); equal
        similarities stand in the order of the columns.

    Returns
    -------
    Retrieval
        For "image_to_brain" ``gallery_ids`` and ``top_id`` name the stimulus of each sample,
        ``similarity`` has a row for each sample's picture, and ``true_index`` counts up.
        ``info`` has those of the predictions, and gallery, similarity, unit,
        n_gallery and n_duplicates (candidates whose vector another candidate has too).

    Raises
    ------
    DataError
        Embeddings of another encoder, another number of dimensions, a repeated candidate, a
        missing one, a prediction of zeros only.
    """
    if direction not in get_args(Direction):
        raise ConfigError(f"direction: got {direction!r}, expected {get_args(Direction)}.")
    candidates = np.asarray(candidates).astype(str)
    _check(predictions, embeddings, candidates)
    stimuli = predictions.stimulus_id.astype(str)
    vectors = embeddings.vectors[embeddings.rows(candidates)]
    column = {name: i for i, name in enumerate(candidates)}
    true_column = np.array([column[name] for name in stimuli], dtype=np.int64)
    table = similarity_matrix(predictions.vectors, vectors, similarity=similarity)
    if direction == "brain_to_image":
        names, true_index = candidates, true_column
    else:
        table = np.ascontiguousarray(table.T[true_column])
        names, true_index = stimuli, np.arange(len(stimuli))
    info = {
        **predictions.info,
        "gallery": gallery,
        "similarity": similarity,
        "unit": predictions.unit,
        "n_gallery": len(names),
        "n_duplicates": count_duplicates(vectors),
    }
    if info["n_duplicates"]:
        logger.warning(
            "gallery %s: %d of %d candidates have the same vector as another one; they tie",
            gallery,
            info["n_duplicates"],
            len(candidates),
        )
    return _ranked(
        predictions, table, names, true_index, direction=direction, n_top=n_top, info=info
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
    n_predicted, n_embedded = predictions.vectors.shape[1], embeddings.vectors.shape[1]
    if n_predicted != n_embedded:
        problems.add(f"the predictions have {n_predicted} dimensions, the embeddings {n_embedded}.")
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


def count_duplicates(vectors: np.ndarray) -> int:
    """Count the rows that equal at least one other row, byte for byte."""
    seen: dict[bytes, int] = {}
    for row in np.ascontiguousarray(vectors):
        key = row.tobytes()
        seen[key] = seen.get(key, 0) + 1
    return sum(count for count in seen.values() if count > 1)


def _ranked(
    predictions: Predictions,
    table: np.ndarray,
    names: np.ndarray,
    true_index: np.ndarray,
    *,
    direction: str,
    n_top: int,
    info: dict[str, Any],
) -> Retrieval:
    stimuli = predictions.stimulus_id.astype(str)
    distractors = names[None, :] != stimuli[:, None]
    n_better, n_tied = count_better(table, true_index, distractors=distractors)
    rank = ranks(n_better, n_tied)
    n_distractors = np.count_nonzero(distractors, axis=1)
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
        }
    )
    top = np.argsort(-table, axis=1, kind="stable")[:, :n_top]
    return Retrieval(
        direction=direction,
        queries=queries,
        top_id=names[top],
        top_similarity=np.take_along_axis(table, top, axis=1),
        gallery_ids=names,
        similarity=table,
        true_index=true_index,
        info=info,
    )
