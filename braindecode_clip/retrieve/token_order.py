r"""Order the best candidates of every brain sample again, by the cosine of their tokens.

A search by pooled vectors ranks all candidates; of each sample, those that lie clearly among the
best :math:`k` are then put in the order of

.. math:: \frac{\sum_t q_t^\top c_t}{\lVert q \rVert \lVert c \rVert}

over tokens :math:`t`, the similarity by which decoded tokens are retrieved (Scotti et al., NeurIPS
2023). All others keep their order, below them.

Which candidates are ordered must not depend on how the gallery happens to be sorted: of several
that are level with one another and don't all fit into :math:`k`, none is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from braindecode_clip.artifacts import Embeddings, Predictions
from braindecode_clip.checks import Problems, differences, some
from braindecode_clip.logs import progress
from braindecode_clip.similarity import ROUNDER, unit_rows

#: Taken off the similarity of what is not ordered: cosines of tokens are at least -1, cosines
#: and correlations of pooled vectors at most 1.
BELOW = 3.0
#: Numbers in the float64 tokens of the queries (128 MiB) and of the candidates (32 MiB) at a time.
QUERY_NUMBERS, CANDIDATE_NUMBERS = 2**24, 2**22


@dataclass(frozen=True)
class TokenOrder:
    """What candidates are ordered by.

    Attributes
    ----------
    predictions : Predictions
        Predicted tokens (n_queries, n_tokens, n_dims) of the very samples that are ranked.
    embeddings : Embeddings
        The tokens that their decoder was trained on, of every candidate.
    encoder, decoder : str
        Their labels.
    shortlist : int
        Candidates of a sample that are ordered, at most.
    """

    predictions: Predictions
    embeddings: Embeddings
    encoder: str
    decoder: str
    shortlist: int

    def candidates(self, names: np.ndarray) -> np.ndarray:
        """Return the embedded tokens of these candidates, (n, n_tokens, n_dims)."""
        return self.embeddings.vectors[self.embeddings.rows(names)]


def check_token_order(tokens: TokenOrder, predictions: Predictions, candidates: np.ndarray) -> None:
    """Refuse tokens of other samples, another encoder or decoder, or without a candidate.

    Raises
    ------
    DataError
        With every problem.
    """
    predicted, embedded = tokens.predictions, tokens.embeddings
    problems = Problems("retrieve: the tokens to re-rank by do not fit")
    if len(predicted.vectors.shape) != 3 or not embedded.has_tokens:
        problems.add(
            f"predictions have shape {tuple(predicted.vectors.shape)} and embeddings "
            f"{tuple(embedded.vectors.shape)}, expected (n, n_tokens, n_dims). Take an encoder of "
            "'targets: tokens'."
        )
    elif predicted.vectors.shape[1:] != embedded.vectors.shape[1:]:
        got, want = (" x ".join(map(str, part.vectors.shape[1:])) for part in (predicted, embedded))
        problems.add(f"the predictions have {got} dimensions, the embeddings {want}.")
    parts = differences(predicted.fingerprint, embedded.fingerprint)
    if parts:
        problems.add(
            "the token embeddings were made by another encoder than those that the tokens' decoder "
            f"was trained on; decoder != embeddings in {'; '.join(parts)}."
        )
    for key in ("encoder", "decoder"):
        got, want = predicted.info.get(key), getattr(tokens, key)
        if got is not None and str(got) != want:
            problems.add(f"the token predictions are of {key} '{got}', expected '{want}'.")
    _check_samples(problems, predicted, predictions)
    absent = np.setdiff1d(candidates, embedded.ids.astype(str))
    if len(absent):
        problems.add(f"{len(absent)} candidates have no tokens: {some(absent.tolist())}.")
    problems.raise_if_any()


def _check_samples(problems: Problems, predicted: Predictions, predictions: Predictions) -> None:
    """Note where the tokens are of other samples, or of a decoder that saw others."""
    for key in ("subject", "roi", "split"):
        got, want = predicted.info.get(key), predictions.info.get(key)
        if got is not None and want is not None and got != want:
            problems.add(f"the token predictions are of {key} '{got}', the pooled of '{want}'.")
    columns = {"stimulus_id": "stimuli", "fold": "folds", "group": "runs", "n_repeats": "repeats"}
    unequal = [
        word
        for name, word in columns.items()
        if not np.array_equal(
            getattr(predicted, name).astype(str), getattr(predictions, name).astype(str)
        )
    ]
    if predicted.unit != predictions.unit:
        unequal.append("units of the split")
    if set(predicted.train_ids.astype(str)) != set(predictions.train_ids.astype(str)):
        unequal.append("training stimuli")
    if unequal:
        problems.add(
            f"the token predictions ({len(predicted.stimulus_id)} samples) and the pooled ones "
            f"({len(predictions.stimulus_id)}) differ in their {', '.join(unequal)}; sample by "
            "sample they must be the same. Decode both from the same voxels."
        )


def shortlisted(table: np.ndarray, shortlist: int) -> np.ndarray:
    """Tell which candidates are ordered again.

    Parameters
    ----------
    table : ndarray (n_queries, n_gallery)
        Similarities.
    shortlist : int

    Returns
    -------
    ndarray (n_queries, n_gallery) bool
        Those above the best one that does not fit: at most ``shortlist`` a row, fewer where
        candidates are level at the border.
    """
    n_gallery = table.shape[1]
    if shortlist >= n_gallery:
        return np.ones(table.shape, dtype=bool)
    first_out = n_gallery - shortlist - 1
    # Row by row: a partition of the whole table would be a second one.
    border = np.array([np.partition(row, first_out)[first_out] for row in table])
    return table > border[:, None]


def order_by_tokens(
    table: np.ndarray, true_index: np.ndarray, tokens: TokenOrder, candidates: np.ndarray
) -> tuple[np.ndarray, dict[str, Any]]:
    """Put the best candidates of every query in the order of their tokens.

    Parameters
    ----------
    table : ndarray (n_queries, n_gallery)
        Similarities of pooled vectors, at most 1.
    true_index : ndarray (n_queries,) int64
        Column of the true candidate.
    tokens : TokenOrder
    candidates : array-like (n_gallery, n_tokens, n_dims)
        Embedded tokens in the order of the columns; may lie in a file.

    Returns
    -------
    table : ndarray (n_queries, n_gallery) float64
        Cosine of the tokens of those that were ordered, in float32's precision, so that they tie
        as :func:`~braindecode_clip.similarity.token_similarity` lets them; the similarity less
        3 of all others, without a rounding for cosines and correlations.
    facts : dict
        encoder, decoder, shortlist, mean_ordered, true_ordered: see
        :class:`~braindecode_clip.artifacts.Retrieval`.

    Raises
    ------
    DataError
        Tokens with NaN, or of zeros only.
    """
    chosen = shortlisted(table, tokens.shortlist)
    ordered = table.astype(np.float64) - BELOW
    predicted = tokens.predictions.vectors
    numbers = int(np.prod(predicted.shape[1:]))
    step = max(1, QUERY_NUMBERS // numbers)
    for start in progress(range(0, len(table), step), what="re-ranking"):
        rows = slice(start, start + step)
        columns = np.flatnonzero(chosen[rows].any(axis=0))
        if not len(columns):
            continue
        queries = np.asarray(predicted[rows]).reshape(-1, numbers)
        queries = unit_rows(queries, name="predicted tokens", first_row=start)
        width = max(1, CANDIDATE_NUMBERS // numbers)
        for first in range(0, len(columns), width):
            part = columns[first : first + width]
            own = np.asarray(candidates[part]).reshape(len(part), numbers)
            cosines = queries @ unit_rows(own, name="embedded tokens").T
            cosines += ROUNDER
            cosines -= ROUNDER
            cosines = np.clip(cosines, -1.0, 1.0).astype(np.float32)
            ordered[rows, part] = np.where(chosen[rows, part], cosines, ordered[rows, part])
    facts = {
        "encoder": tokens.encoder,
        "decoder": tokens.decoder,
        "shortlist": tokens.shortlist,
        "mean_ordered": float(chosen.sum(axis=1).mean()),
        "true_ordered": float(chosen[np.arange(len(chosen)), true_index].mean()),
    }
    return ordered, facts
