r"""Corrections for hubs: candidates that are near to everything.

In many dimensions a few candidates are among the nearest of far too many queries
(Radovanović et al., JMLR 2010). Every correction here takes from a candidate's similarity an
offset that depends on the candidate alone, estimated from reference queries r = 1 ... n:

===================  ======================================================================
correction           offset of candidate g
===================  ======================================================================
csls                 mean of its k largest similarities with reference queries, halved
inverted_softmax     :math:`\tau \log \frac 1 n \sum_r \exp(s_{rg} / \tau)`
sinkhorn             :math:`-\tau v_g`, with :math:`\exp(s_{rg} / \tau + u_r + v_g)` scaled so
                     that all references and all candidates get the same mass
===================  ======================================================================

CSLS (Conneau et al., ICLR 2018, equation 3) is :math:`2 s_{qg} - r(q) - r(g)`, inverted softmax
(Smith et al., ICLR 2017, equation 11) divides by the sum over reference queries; what depends on
the query alone is left out here, since it changes no ranking of candidates. Sinkhorn: Cuturi
(NIPS 2013).

The references decide what a correction is. Predictions of training samples that were held out
make it *inductive*: a query is ranked by itself. The predictions of the test set make it
*transductive*: a query's ranks then depend on the other queries, which helps and must be said.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from braindecode_clip.errors import ConfigError, DataError
from braindecode_clip.logs import get_logger
from braindecode_clip.similarity import SimilarityKind, similarity_blocks, similarity_matrix

logger = get_logger(__name__)

Correction = Literal["csls", "inverted_softmax", "sinkhorn"]
#: Sinkhorn stops when no offset moves further, in units of the temperature.
TOLERANCE = 1e-7
MAX_ITERATIONS = 5000
#: Beyond exp(-this) a weight is lost in float64.
LARGEST_EXPONENT = 600.0
#: Offsets are rounded to this, so that equal candidates keep equal scores.
GRID = 2.0**-30


def hub_offsets(
    reference: np.ndarray,
    gallery: np.ndarray,
    *,
    method: Correction,
    similarity: SimilarityKind = "cosine",
    k: int = 10,
    temperature: float = 0.02,
) -> np.ndarray:
    """Estimate what is taken off the similarity of every candidate.

    Parameters
    ----------
    reference : array (n_reference, n_dims)
        Queries that the hubs are estimated from.
    gallery : array (n_gallery, n_dims)
        Candidates.
    method : {"csls", "inverted_softmax", "sinkhorn"}
    similarity : {"cosine", "correlation", "euclidean"}
        As in the ranking that is corrected.
    k : int
        "csls": nearest references of a candidate; all when there are fewer.
    temperature : float
        "inverted_softmax" and "sinkhorn": in units of the similarity, above 0. Small ones look
        at the nearest references alone.

    Returns
    -------
    ndarray (n_gallery,) float64
        To be subtracted; equal for candidates with equal vectors.

    Raises
    ------
    ConfigError
        Unknown method, or k or temperature out of range.
    DataError
        Vectors that have no similarity.

    Notes
    -----
    Memory: blocks of 64 MiB; "sinkhorn" holds n_reference x n_gallery float64.
    """
    if method not in get_args(Correction):
        raise ConfigError(f"correction: got {method!r}, expected one of {get_args(Correction)}.")
    if k < 1 or not temperature > 0:
        raise ConfigError(
            f"correction {method}: got k={k} and temperature={temperature}, expected k of 1 or "
            "more and a temperature above 0."
        )
    if method == "sinkhorn":
        table = similarity_matrix(reference, gallery, similarity=similarity)
        offset = -temperature * _balance(table, temperature)
    else:
        offset = np.empty(len(gallery))
        # Candidates in the role of the queries: a row holds all references of a candidate.
        for rows, block in similarity_blocks(gallery, reference, similarity=similarity):
            if method == "csls":
                offset[rows] = _mean_of_largest(block, k) / 2.0
            else:
                offset[rows] = _soft_maximum(block, temperature)
    return np.round(offset / GRID) * GRID


def _mean_of_largest(block: np.ndarray, k: int) -> np.ndarray:
    n = block.shape[1]
    largest = block if k >= n else np.partition(block, n - k, axis=1)[:, n - k :]
    # In order, so that equal rows give equal sums.
    return np.sort(largest, axis=1).mean(axis=1, dtype=np.float64)


def _soft_maximum(block: np.ndarray, temperature: float) -> np.ndarray:
    top = block.max(axis=1, keepdims=True)
    weights = np.exp((block.astype(np.float64) - top) / temperature)
    return top[:, 0] + temperature * np.log(weights.mean(axis=1))


def _balance(table: np.ndarray, temperature: float) -> np.ndarray:
    """Return v of the balanced kernel, in units of the temperature, with mean 0."""
    span = float(table.max() - table.min()) / temperature
    if span > LARGEST_EXPONENT:
        raise ConfigError(
            f"correction sinkhorn: the temperature {temperature:g} is too small for similarities "
            f"that span {span * temperature:.3g}. Use {span * temperature / 500:.2g} or more."
        )
    kernel = np.exp((table.astype(np.float64) - table.max()) / temperature)
    n_reference, n_gallery = kernel.shape
    column, log_column = np.ones(n_gallery), np.zeros(n_gallery)
    for _ in range(MAX_ITERATIONS):
        row = 1.0 / (n_reference * (kernel @ column))
        column = 1.0 / (n_gallery * (row @ kernel))
        before, log_column = log_column, np.log(column)
        # Up to a summand that all share, which changes nothing.
        if np.ptp(log_column - before) < TOLERANCE:
            break
    else:
        logger.warning(
            "sinkhorn: not balanced after %d rounds; a higher temperature than %g converges",
            MAX_ITERATIONS,
            temperature,
        )
    # Once more, term by term: BLAS rounds a column by where it stands.
    log_column = -np.log(np.einsum("i,ij->j", row, kernel))
    if not np.isfinite(log_column).all():
        raise DataError("sinkhorn: a candidate gets no mass. Raise the temperature.")
    return log_column - log_column.mean()
