"""Predictions of an encoder's vectors with known noise, ranked in both directions."""

from __future__ import annotations

import numpy as np

from braindecode_clip.artifacts import Embeddings, Predictions
from braindecode_clip.audit.places import Side
from braindecode_clip.retrieve import retrieve

PLACE = ("stimulus", "test", "01", "visual", "ridge")


def embeddings_of(vectors: np.ndarray, name: str) -> Embeddings:
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = np.array([f"s{i:04d}" for i in range(len(vectors))])
    return Embeddings(ids, vectors.astype(np.float32), "image", {"name": name})


def side_of(
    embeddings: Embeddings,
    noise: np.ndarray,
    *,
    encoder: str,
    n_test: int,
    place: tuple[str, ...] = PLACE,
    repeats: int = 1,
    unit: str = "stimulus",
) -> Side:
    """Predictions are the true vectors of the first stimuli with noise, several samples each."""
    rows = np.tile(np.arange(n_test), repeats)
    groups = np.array([f"run-{i // n_test}" for i in range(len(rows))])
    info = dict(zip(("split", "gallery", "subject", "roi", "decoder"), place, strict=True))
    predictions = Predictions(
        (embeddings.vectors[rows] + noise[: len(rows)]).astype(np.float32),
        embeddings.ids[rows],
        groups,
        np.array(["all"] * len(rows)) if unit == "stimulus" else groups,
        np.ones(len(rows), dtype=np.int64),
        embeddings.ids[n_test:] if unit == "stimulus" else embeddings.ids,
        unit,
        dict(embeddings.fingerprint),
        {**info, "encoder": encoder},
    )
    candidates = embeddings.ids[:n_test]
    ranked = {
        direction: retrieve(
            predictions, embeddings, candidates, direction=direction, gallery=place[1]
        )
        for direction in ("brain_to_image", "image_to_brain")
    }
    return Side(ranked, predictions, embeddings)
