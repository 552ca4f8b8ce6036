"""Re-ranking by tokens, and scores of categories, against loops."""

from __future__ import annotations

import numpy as np
import pytest

from braindecode_clip.errors import ConfigError, DataError
from braindecode_clip.retrieve import Neighbours, nearest
from braindecode_clip.retrieve.categories import category_scores
from braindecode_clip.retrieve.rerank import rerank


def unit(vector: np.ndarray) -> np.ndarray:
    vector = vector.astype(float)
    return vector / np.linalg.norm(vector)


def tokens(seed: int, n: int, t: int, d: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, t, d)).astype(np.float32)


def literal(query: np.ndarray, candidate: np.ndarray, score: str) -> float:
    if score == "flat":
        return float(unit(query.ravel()) @ unit(candidate.ravel()))
    best = [max(float(unit(q) @ unit(c)) for c in candidate) for q in query]
    return sum(best) / len(best)


@pytest.mark.parametrize("score", ["flat", "max_sim"])
def test_reranking_is_its_definition(score: str) -> None:
    queries, gallery = tokens(0, 6, 4, 5), tokens(1, 30, 4 if score == "flat" else 7, 5)
    shortlist = nearest(queries.mean(axis=1), gallery.mean(axis=1), k=8)
    result = rerank(queries, shortlist, gallery, score=score)
    fetched = rerank(queries, shortlist.index, lambda rows: gallery[rows], score=score)
    assert np.array_equal(result.index, fetched.index)
    for i, query in enumerate(queries):
        scores = {j: literal(query, gallery[j], score) for j in shortlist.index[i]}
        order = sorted(scores, key=lambda j: -scores[j])
        assert result.index[i].tolist() == order
        np.testing.assert_allclose(result.score[i], [scores[j] for j in order], atol=1e-6)


def test_tokens_find_what_the_pooled_vectors_mix_up() -> None:
    # The same tokens in another order: pooled vectors are equal, positions are not.
    rng = np.random.default_rng(2)
    base = rng.standard_normal((5, 3))
    gallery = np.stack([base[rng.permutation(5)] for _ in range(6)] + [base])
    pooled = nearest(base.mean(axis=0)[None], gallery.mean(axis=1), k=7)
    assert pooled.index[0].tolist() == list(range(7))
    assert rerank(base[None], pooled, gallery).index[0, 0] == 6


def test_pooled_scores_may_count() -> None:
    queries, gallery = tokens(3, 2, 3, 4), tokens(4, 9, 3, 4)
    shortlist = nearest(queries.mean(axis=1), gallery.mean(axis=1), k=5)
    alone = rerank(queries, shortlist, gallery, pooled_weight=1.0)
    assert np.array_equal(alone.index, shortlist.index)
    mixed = rerank(queries, shortlist, gallery, pooled_weight=0.25)
    for i in range(2):
        pooled = dict(zip(shortlist.index[i], shortlist.score[i], strict=True))
        for j, value in zip(mixed.index[i], mixed.score[i], strict=True):
            expected = 0.75 * literal(queries[i], gallery[j], "flat") + 0.25 * pooled[j]
            assert value == pytest.approx(expected, abs=1e-6)


def test_equal_tokens_stand_in_the_order_of_the_gallery() -> None:
    gallery = np.repeat(tokens(5, 1, 2, 3), 6, axis=0)
    result = rerank(tokens(6, 1, 2, 3), np.array([[4, 1, 5, 0]]), gallery)
    assert result.index[0].tolist() == [0, 1, 4, 5]
    assert rerank(tokens(6, 0, 2, 3), np.empty((0, 4), dtype=int), gallery).index.shape == (0, 4)


def test_bad_tokens_are_refused() -> None:
    queries, gallery, index = tokens(7, 2, 3, 4), tokens(8, 5, 6, 4), np.array([[0, 1], [2, 3]])
    with pytest.raises(DataError, match="3 tokens and candidates 6"):
        rerank(queries, index, gallery)
    with pytest.raises(DataError, match=r"expected \(2, n_tokens"):
        rerank(queries[0], index, gallery)
    with pytest.raises(DataError, match=r"expected \(2, n_tokens, 4\)"):
        rerank(queries, index, tokens(8, 5, 3, 2))
    with pytest.raises(ConfigError, match="score"):
        rerank(queries, index, gallery, score="sum")
    with pytest.raises(ConfigError, match="pooled_weight"):
        rerank(queries, index, gallery, score="max_sim", pooled_weight=0.5)
    scored = Neighbours(index, np.zeros((2, 2), dtype=np.float32))
    with pytest.raises(ConfigError, match="pooled_weight"):
        rerank(queries, scored, gallery, score="max_sim", pooled_weight=1.5)


@pytest.mark.parametrize("score", ["mean", "max"])
def test_category_scores_are_their_definition(score: str) -> None:
    table = np.random.default_rng(9).standard_normal((4, 9)).astype(np.float32)
    labels = ["dog", "cat", "", "dog", float("nan"), "cat", "dog", "eel", None]
    names, scores = category_scores(table, labels, score=score)
    assert names.tolist() == ["cat", "dog", "eel"]
    for column, name in enumerate(names):
        own = [i for i, label in enumerate(labels) if label == name]
        values = table[:, own].astype(float)
        expected = values.mean(axis=1) if score == "mean" else values.max(axis=1)
        np.testing.assert_allclose(scores[:, column], expected, rtol=1e-6)


def test_categories_must_fit() -> None:
    table = np.zeros((2, 3), dtype=np.float32)
    with pytest.raises(DataError, match="got 2 for similarities"):
        category_scores(table, ["a", "b"])
    with pytest.raises(DataError, match="no candidate has one"):
        category_scores(table, ["", "", ""])
    with pytest.raises(ConfigError, match="score"):
        category_scores(table, ["a", "b", "c"], score="median")
