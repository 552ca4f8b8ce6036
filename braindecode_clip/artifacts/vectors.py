"""Target vectors, predicted vectors, and where the true ones came out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from braindecode_clip.artifacts.fields import check_columns, check_matrix, check_unique
from braindecode_clip.artifacts.records import Records
from braindecode_clip.checks import Problems, some
from braindecode_clip.errors import ArtifactError


def token_norms(vectors: np.ndarray) -> np.ndarray:
    """Return the norm of every vector, or the root mean square norm of its tokens; (n,)."""
    if vectors.ndim == 2:
        return np.linalg.norm(vectors, axis=1)
    # Row by row: the tokens of all stimuli in float64 would be several times as large.
    squares = [np.square(row, dtype=np.float64).sum() for row in vectors]
    return np.sqrt(np.array(squares) / vectors.shape[1])


@dataclass(frozen=True)
class Embeddings:
    """Target vectors, one for each stimulus, or one for each token of a stimulus.

    Attributes
    ----------
    ids : ndarray (n_stimuli,) str
        Unique.
    vectors : ndarray (n_stimuli, n_dims) float32
        Unit norm, unless the fingerprint's ``unit_norm`` is false. Or tokens (n_stimuli,
        n_tokens, n_dims), float32 or float16, the root mean square norm of whose tokens is 1 for
        every stimulus; of a file that is open they are
        :class:`~braindecode_clip.artifacts.token_rows.TokenRows`.
    modality : str
        "image", "text" or "image+text".
    fingerprint : dict
        What made the vectors: two embedding files may be mixed only when it is equal.
    """

    ids: np.ndarray
    vectors: np.ndarray
    modality: str
    fingerprint: dict[str, Any]

    def __post_init__(self) -> None:
        problems = Problems("Embeddings")
        axes = (None,) * max(1, len(self.vectors.shape) - 1)
        check_matrix(problems, "vectors", self.vectors, (len(self.ids), *axes[:2]))
        check_unique(problems, "ids", self.ids)
        # What is left in its file was checked when it was written.
        in_memory = isinstance(self.vectors, np.ndarray)
        unit_norm = self.fingerprint.get("unit_norm", True)
        if not problems and len(self.ids) and in_memory and unit_norm:
            worst = float(np.abs(token_norms(self.vectors) - 1).max())
            if worst > 1e-3:
                problems.add(f"'vectors' must have unit norm; the worst is off by {worst:.3g}.")
        problems.raise_if_any(ArtifactError)

    @property
    def has_tokens(self) -> bool:
        """Whether a stimulus has several vectors."""
        return len(self.vectors.shape) == 3

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Return the positions of ``ids``; all missing ones in one error."""
        position = {str(name): i for i, name in enumerate(self.ids)}
        missing = sorted({str(name) for name in ids} - position.keys())
        if missing:
            raise ArtifactError(
                f"{len(missing)} of {len(set(map(str, ids)))} stimuli have no embedding: "
                f"{some(missing)}. Re-run `embed` with a stimulus list that holds them, or "
                "leave them out of the events."
            )
        return np.array([position[str(name)] for name in ids], dtype=np.int64)


@dataclass(frozen=True)
class Predictions:
    """Predicted embeddings of test samples, all folds one after another.

    Attributes
    ----------
    vectors : ndarray (n_queries, n_dims) or (n_queries, n_tokens, n_dims) float32
        Calibrated, not normalised. Tokens of an open file: as of :class:`Embeddings`.
    stimulus_id : ndarray (n_queries,) str
        The stimulus that was really shown.
    group : ndarray (n_queries,) str
        See :class:`Samples`.
    fold : ndarray (n_queries,) str
    n_repeats : ndarray (n_queries,) int64
    train_ids : ndarray (n,) str
        Stimuli of the training part. Disjoint from the test stimuli when ``unit`` is
        "stimulus".
    unit : str
        See :class:`VoxelSet`.
    fingerprint : dict
        Of the embeddings that the decoder was trained on.
    info : dict
        subject, roi, split, decoder, encoder, and what the fit reported.
    records : Records
        What every statistic on the way from the signals was fitted on.
    """

    vectors: np.ndarray
    stimulus_id: np.ndarray
    group: np.ndarray
    fold: np.ndarray
    n_repeats: np.ndarray
    train_ids: np.ndarray
    unit: str
    fingerprint: dict[str, Any]
    info: dict[str, Any]
    records: Records = field(default_factory=Records)

    def __post_init__(self) -> None:
        problems = Problems("Predictions")
        n_queries = len(self.stimulus_id)
        axes = (None,) * max(1, len(self.vectors.shape) - 1)
        check_matrix(problems, "vectors", self.vectors, (n_queries, *axes[:2]))
        for name in ("group", "fold", "n_repeats"):
            check_matrix(problems, name, getattr(self, name), (n_queries,))
        problems.raise_if_any(ArtifactError)


@dataclass(frozen=True)
class Retrieval:
    """Where the true stimulus came out for every query, in one named direction.

    Attributes
    ----------
    direction : str
        "brain_to_image": each brain sample ranks the gallery. "image_to_brain": each shown
        image ranks the brain samples.
    queries : DataFrame
        One row a query: stimulus_id, group, fold, n_repeats, rank (1-based, ties as mean
        rank), n_beaten (distractors beaten, ties count one half), n_distractors, similarity
        (to the true one). With candidate sets also set_size, in_set (the true one is) and
        abstained.
    top_id : ndarray (n_queries, k) str
        Best candidates, best first (stimulus ids).
    top_similarity : ndarray (n_queries, k) float32
    gallery_ids : ndarray (n_gallery,) str
    similarity : ndarray (n_queries, n_gallery) float32
        Kept for permutation tests and pool sizes: of the kind in ``info``, corrected where
        ``info`` names a correction. Where ``info`` names a re-ranking, float64: the cosine of the
        tokens of what it ordered, and for all others the similarity less 3, which is below.
    true_index : ndarray (n_queries,) int64
        Column of the true candidate.
    info : dict
        subject, roi, split, decoder, encoder, gallery, similarity. Where similarities were
        corrected for hubs: correction (e.g. "csls", or "csls, transductive" when it was
        estimated from the test set), correction_statistics and transductive. Where they were
        ordered again by tokens: rerank, with encoder, decoder, shortlist (the option),
        mean_ordered (candidates of a sample that were ordered) and true_ordered (share of the
        samples whose true one was among them).
    records : Records
        Those of the predictions, and what was fitted to rank the candidates.
    """

    direction: str
    queries: pd.DataFrame
    top_id: np.ndarray
    top_similarity: np.ndarray
    gallery_ids: np.ndarray
    similarity: np.ndarray
    true_index: np.ndarray
    info: dict[str, Any]
    records: Records = field(default_factory=Records)

    def __post_init__(self) -> None:
        problems = Problems("Retrieval")
        n_queries, n_gallery = len(self.queries), len(self.gallery_ids)
        check_columns(problems, "queries", self.queries, {"stimulus_id", "group", "rank"})
        check_matrix(problems, "similarity", self.similarity, (n_queries, n_gallery))
        check_matrix(problems, "true_index", self.true_index, (n_queries,))
        check_matrix(problems, "top_id", self.top_id, (n_queries, None))
        check_matrix(problems, "top_similarity", self.top_similarity, self.top_id.shape)
        problems.raise_if_any(ArtifactError)
