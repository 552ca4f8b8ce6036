"""Averages of decoders, with weights chosen on their out-of-fold predictions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from braindecode_clip.metrics import count_better, pairwise, ranks
from braindecode_clip.similarity import similarity_matrix

#: Most mixtures that are tried for identification.
MOST_MIXTURES = 300


def ensemble_weights(
    predicted: Sequence[np.ndarray],
    target: np.ndarray,
    *,
    stimulus_id: np.ndarray,
    method: str = "identification",
) -> np.ndarray:
    """Choose weights ≥ 0 that add up to 1.

    - ``error``: least squared error of ``Σ w_m p_m`` to the targets. Exact: the minimum lies
      on a face of the simplex, and every face has a closed form.
    - ``identification``: largest mean pairwise identification of the training stimuli by
      cosine, over the simplex in equal steps (twentieths for two members, coarser for more)
      and the weights of ``error``; the first of equals, these foremost.

    Parameters
    ----------
    predicted : sequence of ndarray (n_samples, n_dims)
        Out-of-fold predictions of the members, calibrated; rows with NaN in any are left out.
    target : ndarray (n_samples, n_dims)
    stimulus_id : ndarray (n_samples,)
        Rows of one stimulus share their candidate.
    method : {"error", "identification"}

    Returns
    -------
    ndarray (n_members,) float64

    Raises
    ------
    ValueError
        No row that all members held out.
    """
    known = ~np.any([np.isnan(part).any(axis=1) for part in predicted], axis=0)
    if not known.any():
        raise ValueError("no training row was held out by all members of the ensemble.")
    parts = np.stack([part[known] for part in predicted]).astype(np.float64)
    best = least_error(parts, target[known].astype(np.float64))
    if method == "error":
        return best
    shown = np.asarray(stimulus_id)[known]
    ids, first, true_index = np.unique(shown, return_index=True, return_inverse=True)
    if len(ids) < 2:
        return best
    gallery = target[known][first]
    candidates = [best, *simplex_grid(len(parts))]
    scores = [
        _identification(np.tensordot(w, parts, axes=1), gallery, true_index) for w in candidates
    ]
    return candidates[int(np.argmax(scores))]


def least_error(parts: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Minimise ``‖Y - Σ w_m P_m‖²`` over the simplex; (n_members,).

    Parameters
    ----------
    parts : ndarray (n_members, n_samples, n_dims)
    target : ndarray (n_samples, n_dims)
    """
    n_members = len(parts)
    errors = (parts - target).reshape(n_members, -1)
    # Σ w = 1, so the residual is the mixture of the members' own residuals.
    products = errors @ errors.T
    best, least = np.eye(n_members)[0], np.inf
    for size in range(1, n_members + 1):
        for chosen in itertools.combinations(range(n_members), size):
            face = np.ix_(chosen, chosen)
            solved = np.linalg.lstsq(products[face], np.ones(size))[0]
            total = solved.sum()
            if total <= 0 or (solved < 0).any():
                continue
            weights = np.zeros(n_members)
            weights[list(chosen)] = solved / total
            error = float(weights @ products @ weights)
            if error < least:
                best, least = weights, error
    return best


def simplex_grid(n_members: int) -> np.ndarray:
    """Return weights in equal steps, at most about 300; (n, n_members) float64."""
    n_steps = 20
    while n_steps > 1 and _count(n_members, n_steps) > MOST_MIXTURES:
        n_steps -= 1
    bars = itertools.combinations(range(n_steps + n_members - 1), n_members - 1)
    edges = [(-1, *bar, n_steps + n_members - 1) for bar in bars]
    return (np.diff(np.array(edges), axis=1) - 1) / n_steps


def _count(n_members: int, n_steps: int) -> int:
    numbers = range(1, n_members)
    above = np.prod([n_steps + k for k in numbers], dtype=np.float64)
    return round(above / np.prod(list(numbers), dtype=np.float64))


def _identification(predicted: np.ndarray, gallery: np.ndarray, true_index: np.ndarray) -> float:
    similarity = similarity_matrix(predicted.astype(np.float32), gallery.astype(np.float32))
    rank = ranks(*count_better(similarity, true_index))
    return pairwise(rank, len(gallery) - 1)
