"""Vectors that somebody else computed, with a fingerprint of their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from braindecode_clip.artifacts import Embeddings
from braindecode_clip.artifacts.vectors import token_norms
from braindecode_clip.checks import Problems, some


def precomputed_embeddings(
    vectors: np.ndarray,
    names: Sequence[str],
    *,
    modality: str,
    sha256: str,
    source: str = "",
) -> Embeddings:
    """Check and normalise vectors from a file.

    Parameters
    ----------
    vectors : ndarray (n_names, n_dims), or tokens (n_names, n_tokens, n_dims)
        Any float type; normalised in float64.
    names : sequence of str (n_names,)
        Unique.
    modality : str
        "image" or "text".
    sha256 : str
        Of the file, as hex: two files with other bytes are other encoders.
    source : str
        What made the vectors, in words.

    Returns
    -------
    Embeddings
        float32, unit norm (tokens: root mean square norm 1 in each row); the fingerprint holds
        kind, sha256, source and n_dims, and n_tokens where there are tokens.

    Raises
    ------
    DataError
        Wrong shape, double names, NaN, infinite or zero vectors; all in one message.
    """
    problems = Problems("precomputed vectors")
    vectors, names = np.asarray(vectors), np.asarray(names).astype(str)
    if vectors.ndim not in (2, 3) or vectors.dtype.kind != "f":
        problems.add(
            f"shape {vectors.shape} and type {vectors.dtype}, expected (n_names, n_dims) or "
            "(n_names, n_tokens, n_dims) floats."
        )
    elif len(vectors) != len(names):
        problems.add(
            f"{len(vectors)} vectors for {len(names)} names. Row i of the matrix must belong to "
            "row i of the names."
        )
    unique, counts = np.unique(names, return_counts=True)
    if (counts > 1).any():
        problems.add(f"names must be unique; more than once: {some(unique[counts > 1])}.")
    problems.raise_if_any()
    # Tokens of all rows in float64 would be several times the file.
    wide = vectors.astype(np.float64) if vectors.ndim == 2 else vectors
    norm = token_norms(wide)
    bad = ~np.isfinite(norm) | (norm == 0)
    if bad.any():
        problems.add(
            f"zero, NaN or infinite vectors for {some(names[bad])}. Leave these names out."
        )
    problems.raise_if_any()
    unit = np.empty(vectors.shape, dtype=np.float32)
    np.divide(wide, norm.reshape(-1, *[1] * (vectors.ndim - 1)), out=unit, casting="same_kind")
    n_tokens = {"n_tokens": int(vectors.shape[1])} if vectors.ndim == 3 else {}
    return Embeddings(
        ids=names,
        vectors=unit,
        modality=modality,
        fingerprint={
            "kind": "precomputed",
            "sha256": sha256,
            "source": source,
            "n_dims": int(vectors.shape[-1]),
            **n_tokens,
        },
    )
