r"""Order a shortlist again by tokens, after a search by pooled vectors.

A picture's tokens (CLIP's patches and class token) tell more than its pooled vector, and cost a
hundred times as much to compare. So a search by pooled vectors chooses a shortlist, and tokens
order it:

==============  ============================================================================
"flat"          cosine of the tokens laid end to end, as published decoders of tokens use it
                (Scotti et al., NeurIPS 2023): position matters
"max_sim"       :math:`\frac 1 n \sum_i \max_j \cos(q_i, c_j)`, late interaction (Khattab &
                Zaharia, SIGIR 2020): position is free
==============  ============================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from braindecode_clip.checks import Problems
from braindecode_clip.errors import ConfigError
from braindecode_clip.retrieve.search import Neighbours
from braindecode_clip.similarity import unit_rows

TokenScore = Literal["flat", "max_sim"]


def rerank(
    query_tokens: np.ndarray,
    shortlist: Neighbours | np.ndarray,
    gallery_tokens: np.ndarray | Callable[[np.ndarray], np.ndarray],
    *,
    score: TokenScore = "flat",
    pooled_weight: float = 0.0,
) -> Neighbours:
    """Order the candidates of every query's shortlist by their tokens.

    Parameters
    ----------
    query_tokens : array (n_queries, n_tokens, n_dims)
        Predicted tokens.
    shortlist : Neighbours, or int array (n_queries, k)
        Rows of the gallery that each query is compared with.
    gallery_tokens : array (n_gallery, n_candidate_tokens, n_dims), or function
        A function gets rows (k,) and returns their tokens, so that a gallery may stay on disk.
    score : {"flat", "max_sim"}
        "flat" needs as many tokens of candidates as of queries.
    pooled_weight : float
        0 (default) orders by tokens alone, 1 by the shortlist's own score; between them the
        weighted mean of both. Needs a ``Neighbours``.

    Returns
    -------
    Neighbours
        The same candidates for each query, best first; equal scores in the order of the gallery.

    Raises
    ------
    DataError
        Shapes that do not fit, NaN, tokens of zeros only.
    ConfigError
        Unknown score, or a weight outside 0 to 1 or without pooled scores.
    """
    index = shortlist.index if isinstance(shortlist, Neighbours) else np.asarray(shortlist)
    pooled = shortlist.score if isinstance(shortlist, Neighbours) else None
    if score not in get_args(TokenScore):
        raise ConfigError(f"score: got {score!r}, expected one of {get_args(TokenScore)}.")
    if not 0 <= pooled_weight <= 1 or (pooled_weight and pooled is None):
        raise ConfigError(
            f"pooled_weight: got {pooled_weight}, expected 0 to 1, and above 0 only for a "
            "shortlist with scores."
        )
    query_tokens = np.asarray(query_tokens)
    problems = Problems("rerank")
    if query_tokens.ndim != 3 or len(query_tokens) != len(index):
        problems.add(
            f"query tokens have shape {query_tokens.shape}, expected ({len(index)}, n_tokens, "
            "n_dims)."
        )
    problems.raise_if_any()
    fetch = gallery_tokens if callable(gallery_tokens) else np.asarray(gallery_tokens).__getitem__
    scores = np.empty(index.shape, dtype=np.float32)
    for row, (query, columns) in enumerate(zip(query_tokens, index, strict=True)):
        tokens = np.asarray(fetch(columns))
        _check_tokens(query, tokens, len(columns), score)
        found = _flat(query, tokens) if score == "flat" else _max_sim(query, tokens)
        if pooled_weight and pooled is not None:
            found = (1 - pooled_weight) * found + pooled_weight * pooled[row]
        scores[row] = found
    order = [np.lexsort((i, -s)) for i, s in zip(index, scores, strict=True)]
    order = np.array(order, dtype=np.int64).reshape(index.shape)
    return Neighbours(
        np.take_along_axis(index, order, axis=1), np.take_along_axis(scores, order, axis=1)
    )


def _check_tokens(query: np.ndarray, tokens: np.ndarray, n: int, score: str) -> None:
    problems = Problems("rerank")
    if tokens.ndim != 3 or len(tokens) != n or tokens.shape[2] != query.shape[1]:
        problems.add(
            f"tokens of {n} candidates have shape {tokens.shape}, expected ({n}, n_tokens, "
            f"{query.shape[1]})."
        )
    elif score == "flat" and tokens.shape[1] != query.shape[0]:
        problems.add(
            f"queries have {query.shape[0]} tokens and candidates {tokens.shape[1]}; 'flat' "
            "compares them one by one. Use 'max_sim'."
        )
    problems.raise_if_any()


def _flat(query: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    one = unit_rows(query.reshape(1, -1), name="query tokens")
    others = unit_rows(tokens.reshape(len(tokens), -1), name="candidate tokens")
    return np.einsum("ij,j->i", others, one[0])


def _max_sim(query: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    n, n_tokens, n_dims = tokens.shape
    own = unit_rows(query, name="query tokens")
    flat = unit_rows(tokens.reshape(-1, n_dims), name="candidate tokens")
    products = (own @ flat.T).reshape(len(own), n, n_tokens)
    return products.max(axis=2).mean(axis=0)
