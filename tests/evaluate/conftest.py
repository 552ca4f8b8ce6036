"""Predictions with known information in them, and their retrievals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from fitted_records import with_records

from braindecode_clip.artifacts import Embeddings, Predictions, Retrieval
from braindecode_clip.retrieve import gallery_ids, retrieve

DIRECTIONS = ("brain_to_image", "image_to_brain")


@dataclass(frozen=True)
class Case:
    """Predictions, their targets, and the ranks in both directions."""

    predictions: Predictions
    embeddings: Embeddings
    forth: Retrieval
    back: Retrieval

    @property
    def both(self) -> list[Retrieval]:
        return [self.forth, self.back]


@pytest.fixture(scope="session")
def make_case() -> Callable[..., Case]:
    """Return a function that makes a case.

    ``runs`` > 0 shows every stimulus once in each run and holds runs out; otherwise
    ``repeats`` says how often each stimulus is shown, and stimuli are held out.
    """

    def make(
        n_stimuli: int = 12,
        *,
        runs: int = 0,
        repeats: tuple[int, ...] | None = None,
        signal: float = 1.0,
        n_embedded: int | None = None,
        n_dims: int = 6,
        candidates: str = "test",
        seed: int = 0,
    ) -> Case:
        rng = np.random.default_rng(seed)
        n_embedded = n_embedded or n_stimuli
        vectors = rng.standard_normal((n_embedded, n_dims))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        ids = np.array([f"stim-{i:03d}" for i in range(n_embedded)])
        if runs:
            shown = np.concatenate([rng.permutation(n_stimuli) for _ in range(runs)])
            group = np.repeat([f"run-{i}" for i in range(runs)], n_stimuli)
        else:
            shown = rng.permutation(np.repeat(np.arange(n_stimuli), repeats or 1))
            group = np.array([f"run-{i % 3}" for i in range(len(shown))])
        noise = rng.standard_normal((len(shown), n_dims)) / np.sqrt(n_dims)
        predictions = Predictions(
            vectors=(signal * vectors[shown] + noise).astype(np.float32),
            stimulus_id=ids[shown],
            group=group,
            fold=group if runs else np.full(len(shown), "all"),
            n_repeats=np.ones(len(shown), dtype=np.int64),
            train_ids=ids if runs else ids[n_stimuli:],
            unit="run" if runs else "stimulus",
            fingerprint={"model": "tiny"},
            info={"subject": "01", "roi": "v", "split": "s", "encoder": "e", "decoder": "ridge"},
        )
        predictions = with_records(predictions)
        embeddings = Embeddings(ids, vectors.astype(np.float32), "image", {"model": "tiny"})
        chosen = gallery_ids(predictions, embeddings, candidates=candidates)
        ranked = [
            retrieve(predictions, embeddings, chosen, direction=name, gallery=candidates)
            for name in DIRECTIONS
        ]
        return Case(predictions, embeddings, *ranked)

    return make
