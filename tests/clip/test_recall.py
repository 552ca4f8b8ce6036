from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from braindecode_clip.clip.recall import pooled_recall
from braindecode_clip.clip.zero_shot import class_vectors, zero_shot_accuracy
from braindecode_clip.errors import DataError


def unit_rows(rng, n, n_dims):
    rows = rng.standard_normal((n, n_dims))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_perfect_vectors_score_one_even_where_captions_repeat():
    rng = np.random.default_rng(0)
    captions = np.array([f"caption {i % 30}" for i in range(90)])
    texts = unit_rows(rng, 30, 16)[np.arange(90) % 30]
    for recall in pooled_recall(texts, texts, captions, rng=rng, pool_size=10):
        assert (recall.r1, recall.n, recall.n_pools, recall.pool_size) == (1.0, 30, 3, 10)


def test_collapsed_vectors_score_chance_by_mean_ranks():
    vectors = np.tile([[1.0, 0.0]], (40, 1))
    captions = np.array([str(i) for i in range(40)])
    to_text, _ = pooled_recall(
        vectors, vectors, captions, rng=np.random.default_rng(0), pool_size=40
    )
    assert (to_text.r1, to_text.r10) == (0.0, 0.0)


def test_recall_equals_a_plain_loop():
    rng = np.random.default_rng(1)
    texts = unit_rows(rng, 60, 8)
    images = texts + 0.6 * rng.standard_normal(texts.shape)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    captions = np.array([f"{i:02d}" for i in range(60)])
    to_text, to_image = pooled_recall(
        images, texts, captions, rng=np.random.default_rng(3), pool_size=20
    )
    pools = np.random.default_rng(3).permutation(60).reshape(3, 20)
    for recall, queries, candidates in ((to_text, images, texts), (to_image, texts, images)):
        for k, got in ((1, recall.r1), (5, recall.r5), (10, recall.r10)):
            hits = [
                q in pool[np.argsort(-(candidates[pool] @ queries[q]))[:k]]
                for pool in pools
                for q in pool
            ]
            assert got == pytest.approx(np.mean(hits))
    first = [
        np.mean([q == pool[np.argmax(texts[pool] @ images[q])] for q in pool]) for pool in pools
    ]
    low, high = stats.t.interval(0.95, 2, np.mean(first), stats.sem(first))
    assert (to_text.r1_low, to_text.r1_high) == pytest.approx((max(0, low), min(1, high)))


def test_one_caption_is_not_enough():
    vectors = np.eye(3)
    with pytest.raises(DataError, match="1 distinct"):
        pooled_recall(vectors, vectors, np.array(["a"] * 3), rng=np.random.default_rng(0))


class Prompts:
    """An encoder that knows a vector for each of its words."""

    def __init__(self, words):
        self.vectors = dict(words)

    def encode_text(self, texts):
        sums = np.array(
            [sum(self.vectors[w] for w in t.split() if w in self.vectors) for t in texts]
        )
        return (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)


def test_class_vectors_average_the_prompts():
    encoder = Prompts({"red": np.eye(4)[0], "blue": np.eye(4)[1], "big": np.eye(4)[2]})
    classes = class_vectors(encoder, ["red", "blue"], ["a {}", "a big {}"])
    want = np.eye(4)[0] + (np.eye(4)[0] + np.eye(4)[2]) / np.sqrt(2)
    np.testing.assert_allclose(classes[0], want / np.linalg.norm(want), rtol=1e-6)
    score = zero_shot_accuracy(np.eye(4)[[0, 1, 1, 0]], classes, [0, 1, 0, 0])
    assert (score.accuracy, score.n, score.n_classes, score.chance) == (0.75, 4, 2, 0.5)
    want = stats.binomtest(3, 4).proportion_ci(method="wilson")
    assert (score.low, score.high) == pytest.approx((want.low, want.high), abs=1e-12)


def test_bad_prompts_are_refused():
    encoder = Prompts({"red": np.ones(2)})
    with pytest.raises(DataError, match="2 problems"):
        class_vectors(encoder, ["red", "red"], ["a picture"])
