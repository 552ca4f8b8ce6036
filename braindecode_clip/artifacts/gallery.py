"""Candidates beyond the stimuli of a study, encoded, with what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from braindecode_clip.artifacts.vectors import Embeddings
from braindecode_clip.checks import Problems
from braindecode_clip.errors import ArtifactError


@dataclass(frozen=True)
class Gallery:
    """Encoded candidates: pictures or texts.

    Attributes
    ----------
    ids : ndarray (n_gallery,) str
        Unique.
    vectors : ndarray (n_gallery, n_dims) float32
        Unit norm.
    modality : str
        "image" or "text".
    fingerprint : dict
        What made the vectors: candidates may be compared only with predictions of a decoder
        that was trained on vectors of the same fingerprint.
    metadata : DataFrame
        One row a candidate with the columns of its source; none where the source has none.
    origin : str
        The file or folder that the candidates came from.
    """

    ids: np.ndarray
    vectors: np.ndarray
    modality: str
    fingerprint: dict[str, Any]
    metadata: pd.DataFrame
    origin: str

    def __post_init__(self) -> None:
        problems = Problems("Gallery")
        if len(self.metadata.columns) and len(self.metadata) != len(self.ids):
            problems.add(
                f"'metadata' has {len(self.metadata)} rows for {len(self.ids)} candidates."
            )
        problems.raise_if_any(ArtifactError)
        # Checks ids and vectors.
        self.as_embeddings()

    def as_embeddings(self) -> Embeddings:
        """Return the candidates without what is known of them."""
        return Embeddings(self.ids, self.vectors, self.modality, self.fingerprint)

    @classmethod
    def from_embeddings(cls, embeddings: Embeddings, *, origin: str) -> Gallery:
        """Take an embedding file as a gallery without metadata."""
        return cls(
            embeddings.ids,
            embeddings.vectors,
            embeddings.modality,
            embeddings.fingerprint,
            pd.DataFrame(),
            origin,
        )
