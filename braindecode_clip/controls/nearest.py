"""What remains of identification if a decoder only recognises the nearest training picture.

Test pictures often resemble training pictures, so that a decoder which does no more than pick a
training picture is identified well above chance (Shirakawa et al., arXiv:2405.10078).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from braindecode_clip.artifacts import Embeddings
from braindecode_clip.similarity import SimilarityKind, similarity_blocks


def nearest_training(
    predicted: np.ndarray,
    fold: np.ndarray,
    train_ids: Mapping[str, np.ndarray],
    embeddings: Embeddings,
    *,
    similarity: SimilarityKind = "cosine",
) -> np.ndarray:
    """Replace every prediction by the embedding of the training picture most similar to it.

    Parameters
    ----------
    predicted : ndarray (n_samples, n_dims)
    fold : ndarray (n_samples,) str
    train_ids : mapping of str to ndarray (n,) str
        Training stimuli of each fold.
    embeddings : Embeddings
    similarity : {"cosine", "correlation"}

    Returns
    -------
    ndarray (n_samples, n_dims) float32
        Of equally similar pictures the first by name.
    """
    replaced = np.empty(predicted.shape, dtype=np.float32)
    for name in np.unique(fold):
        rows = np.flatnonzero(fold == name)
        known = np.unique(train_ids[str(name)].astype(str))
        gallery = embeddings.vectors[embeddings.rows(known)]
        for part, block in similarity_blocks(predicted[rows], gallery, similarity=similarity):
            replaced[rows[part]] = gallery[block.argmax(axis=1)]
    return replaced
