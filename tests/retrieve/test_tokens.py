from __future__ import annotations

import numpy as np
import pytest

from braindecode_clip.artifacts import Embeddings, Predictions, TokenRows
from braindecode_clip.errors import DataError
from braindecode_clip.retrieve import retrieve

FINGERPRINT = {"name": "vit"}


def scaled(values):
    norm = np.sqrt(np.square(values).sum(axis=(1, 2), keepdims=True) / values.shape[1])
    return (values / norm).astype(np.float32)


@pytest.fixture
def tokens():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((130, 4, 6))
    # Three are the same; two more share the first token alone.
    values[[20, 99]] = values[3]
    values = scaled(values)
    values[7, 0] = values[8, 0]
    values[7, 1:] *= np.sqrt((4 - np.square(values[7, 0]).sum()) / np.square(values[7, 1:]).sum())
    ids = np.array([f"s{i:03d}" for i in range(130)])
    return Embeddings(ids, values, "image", FINGERPRINT)


def predictions(embeddings, rows, *, noise=1.0):
    rng = np.random.default_rng(1)
    vectors = embeddings.vectors[rows] + noise * rng.standard_normal((len(rows), 4, 6))
    names = embeddings.ids[rows]
    return Predictions(
        vectors=vectors.astype(np.float32),
        stimulus_id=names,
        group=names,
        fold=np.full(len(rows), "all"),
        n_repeats=np.ones(len(rows), np.int64),
        train_ids=np.array(["x"]),
        unit="stimulus",
        fingerprint=FINGERPRINT,
        info={},
    )


@pytest.mark.parametrize("direction", ["brain_to_image", "image_to_brain"])
@pytest.mark.parametrize("kind", ["cosine", "correlation"])
def test_ranks_are_those_of_whole_token_vectors(tokens, direction, kind):
    rows = np.array([40, 8, 7, 66, 41, 120, 5])
    brain = predictions(tokens, rows)
    stored = Embeddings(tokens.ids, TokenRows(tokens.vectors), "image", FINGERPRINT)
    found = retrieve(brain, stored, tokens.ids, direction=direction, similarity=kind, n_top=3)
    one, two = (
        part.vectors.reshape(len(part.vectors), -1).astype(np.float64) for part in (brain, tokens)
    )
    if kind == "correlation":
        one, two = (part - part.mean(axis=1, keepdims=True) for part in (one, two))
    one, two = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (one, two))
    table, own = one @ two.T, rows
    if direction == "image_to_brain":
        table, own = table[:, rows].T, np.arange(len(rows))
    true = table[np.arange(len(rows)), own][:, None]
    ties = (np.abs(table - true) < 1e-12).sum(axis=1) - 1
    expected = 1 + (table > true + 1e-12).sum(axis=1) + ties / 2
    np.testing.assert_array_equal(found.queries["rank"], expected)
    assert found.info["n_duplicates"] == 3
    if direction == "brain_to_image":
        best = tokens.ids[np.argsort(-table, axis=1)[:, 0]]
        np.testing.assert_array_equal(found.top_id[:, 0], best)


def test_tokens_are_not_compared_with_other_shapes(tokens):
    brain = predictions(tokens, np.arange(5))
    other = scaled(tokens.vectors.reshape(130, 6, 4))
    with pytest.raises(DataError, match=r"4 x 6 dimensions, the embeddings 6 x 4"):
        retrieve(brain, Embeddings(tokens.ids, other, "image", FINGERPRINT), tokens.ids)
