"""Small predictions and embeddings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from braindecode_clip.artifacts import Embeddings, Predictions

Study = tuple[Predictions, Embeddings]


@pytest.fixture
def make_study() -> Callable[..., Study]:
    """Return a function that makes noisy predictions of some of the embedded stimuli."""

    def make(
        repeats: tuple[int, ...] = (1, 1, 1, 1, 1, 1),
        *,
        n_embedded: int = 11,
        n_dims: int = 5,
        noise: float = 1.0,
        unit: str = "stimulus",
        seed: int = 0,
    ) -> Study:
        rng = np.random.default_rng(seed)
        vectors = rng.standard_normal((n_embedded, n_dims))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        ids = np.array([f"stim-{i:02d}" for i in rng.permutation(n_embedded)])
        shown = np.repeat(np.arange(len(repeats)), repeats)
        order = rng.permutation(len(shown))
        predicted = 3.0 * vectors[shown] + noise * rng.standard_normal((len(shown), n_dims))
        fingerprint = {"model": {"name": "tiny", "layers": [1, 2]}, "library": "1.0"}
        embeddings = Embeddings(ids, vectors.astype(np.float32), "image", fingerprint)
        predictions = Predictions(
            vectors=predicted[order].astype(np.float32),
            stimulus_id=ids[shown][order],
            group=np.array([f"run-{i % 3}" for i in range(len(shown))]),
            fold=np.full(len(shown), "all"),
            n_repeats=np.ones(len(shown), dtype=np.int64),
            train_ids=ids[len(repeats) :],
            unit=unit,
            fingerprint=fingerprint,
            info={"subject": "01", "roi": "v", "split": "s", "encoder": "e", "decoder": "ridge"},
        )
        return predictions, embeddings

    return make
