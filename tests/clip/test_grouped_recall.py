from __future__ import annotations

import itertools
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.stats import hypergeom

from braindecode_clip.clip import grouped_recall as module
from braindecode_clip.clip.caption_text import normalised_caption, number_captions
from braindecode_clip.clip.first_ranks import FirstRanks
from braindecode_clip.clip.grouped_recall import (
    Captioned,
    first_ranks,
    flatten_captions,
    fold_ranks,
    grouped_recall,
    recall_scores,
)
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.errors import DataError

DIRECTIONS = ("image_to_text", "text_to_image")


def unit_rows(rng, n, n_dims):
    rows = rng.standard_normal((n, n_dims))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def shared_captions(n_images, n_shared):
    """Every caption stands on ``n_shared`` pictures, in other words each time."""
    words = [f"A dog {k // n_shared}" + "." * (k % 2) for k in range(n_images)]
    vectors = np.eye(n_images // n_shared)[np.arange(n_images) // n_shared]
    return vectors, words


@pytest.mark.parametrize("n_shared", [2, 5, 10])
def test_a_perfect_model_scores_one_also_where_pictures_share_captions(n_shared):
    vectors, words = shared_captions(40, n_shared)
    data = Captioned.of(vectors, vectors, np.arange(40), words)
    grouped, alone = first_ranks(data, also_ungrouped=True)
    for direction in DIRECTIONS:
        scores = recall_scores(grouped[direction])
        assert [scores[name].value for name in ("r1", "r5", "median_rank")] == [1.0, 1.0, 1.0]
        # Without groups one of n_shared equal candidates is right.
        assert recall_scores(alone[direction])["r1"].value == pytest.approx(1 / n_shared)


def test_pictures_of_one_file_count_as_one():
    images = np.eye(4)[[0, 0, 1, 2]]
    texts, words = np.eye(4)[[0, 0, 1, 2]], ["a", "b", "c", "d"]
    files = ["x", "x", "y", "z"]
    apart = grouped_recall(images, texts, np.arange(4), words)
    together = grouped_recall(images, texts, np.arange(4), words, pictures=files)
    for direction in DIRECTIONS:
        assert apart[direction]["r1"].value == pytest.approx(0.75)
        assert together[direction]["r1"].value == 1.0


def brute_force(similarity, right, k):
    """Expect hit, rank and 1 / rank over all orders of what ties with the best right one."""
    best = max(s for s, r in zip(similarity, right, strict=True) if r)
    above = sum(s > best for s in similarity)
    level = [r for s, r in zip(similarity, right, strict=True) if s == best]
    ranks = [Fraction(above + 1 + order.index(True)) for order in itertools.permutations(level)]
    n = len(ranks)
    hit = Fraction(sum(rank <= k for rank in ranks), n)
    return [float(x) for x in (hit, sum(ranks) / n, sum(1 / rank for rank in ranks) / n)]


@pytest.mark.parametrize("grouped", [True, False])
def test_every_score_equals_a_literal_loop(grouped):
    """Several captions a picture, shared ones, equal files, and many ties."""
    rng = np.random.default_rng(4)
    captions = [
        list(dict.fromkeys(rng.choice(["A b", "a b!", "c", "C.", "d", "e", "f g"], size)))
        for size in rng.integers(1, 4, 11)
    ]
    words, image_of_text = flatten_captions(captions)
    files = rng.integers(0, 8, 11)
    # Few directions, so that similarities tie.
    images, texts = np.eye(3)[rng.integers(0, 3, 11)], np.eye(3)[rng.integers(0, 3, len(words))]
    images[0] = texts[0] = [0.6, 0.8, 0.0]
    data = Captioned.of(images, texts, image_of_text, words, pictures=files)
    ranks = first_ranks(data, also_ungrouped=True)[0 if grouped else 1]
    same_words = {"A b": 0, "a b!": 0, "c": 1, "C.": 1, "d": 2, "e": 3, "f g": 4}

    def is_right(i, t):
        if not grouped:
            return image_of_text[t] == i
        return any(
            files[image_of_text[other]] == files[i]
            and same_words[words[other]] == same_words[words[t]]
            for other in range(len(words))
        )

    table = np.array([[is_right(i, t) for t in range(len(words))] for i in range(11)])
    similarity = images @ texts.T
    for direction, values, right in (
        ("image_to_text", similarity, table),
        ("text_to_image", similarity.T, table.T),
    ):
        own = ranks[direction]
        for k in (1, 2, 5):
            want = np.array([brute_force_fast(s, r, k) for s, r in zip(values, right, strict=True)])
            got = np.stack([own.hits(k), own.rank(), own.reciprocal_rank()], axis=1)
            np.testing.assert_allclose(got, want, rtol=1e-12)
        np.testing.assert_array_equal(own.n_right, right.sum(axis=1))


def brute_force_fast(similarity, right, k):
    """As :func:`brute_force`, over the places of the right ones among the level ones."""
    best = similarity[right].max()
    above, level = int((similarity > best).sum()), right[similarity == best]
    places = itertools.combinations(range(1, len(level) + 1), int(level.sum()))
    ranks = above + np.array([chosen[0] for chosen in places], dtype=float)
    return [(ranks <= k).mean(), ranks.mean(), (1 / ranks).mean()]


def test_the_fast_reference_is_the_literal_one():
    similarity, right = np.array([2, 1, 1, 1, 1, 0, 1.0]), np.array([0, 1, 0, 1, 0, 1, 0], bool)
    for k in (1, 2, 3, 4):
        want = brute_force(similarity.tolist(), right.tolist(), k)
        assert brute_force_fast(similarity, right, k) == pytest.approx(want)


def test_pairs_score_as_open_clip_counts_them():
    """One caption each, none shared: open_clip's own metric, which its trainer logs."""
    import_open_clip()
    train = pytest.importorskip("open_clip_train.train")
    rng = np.random.default_rng(7)
    texts = unit_rows(rng, 83, 16)
    images = texts + 0.35 * rng.standard_normal(texts.shape)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    want = train.get_clip_metrics(
        torch.as_tensor(images, dtype=torch.float64), torch.as_tensor(texts), torch.tensor(1.0)
    )
    got = grouped_recall(images, texts, np.arange(83), [str(k) for k in range(83)])
    for direction in DIRECTIONS:
        for k in (1, 5, 10):
            assert got[direction][f"r{k}"].value == pytest.approx(want[f"{direction}_R@{k}"])
            assert 0.1 < got[direction]["r1"].value < 0.95
        median = got[direction]["median_rank"].value
        assert np.floor(median) == want[f"{direction}_median_rank"]


def test_several_captions_score_by_cocos_protocol():
    """The loop of VSE++'s evaluation: five captions in order, i2t the best of the five."""
    rng = np.random.default_rng(8)
    images = unit_rows(rng, 30, 12)
    texts = np.repeat(images, 5, axis=0) + 0.5 * rng.standard_normal((150, 12))
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    i2t = np.empty(30)
    t2i = np.empty(150)
    for i in range(30):
        order = np.argsort(texts @ images[i])[::-1]
        i2t[i] = min(np.where(order == t)[0][0] for t in range(5 * i, 5 * i + 5)) + 1
        for t in range(5 * i, 5 * i + 5):
            t2i[t] = np.where(np.argsort(images @ texts[t])[::-1] == i)[0][0] + 1
    got = grouped_recall(
        images, texts, np.repeat(np.arange(30), 5), [f"caption {k}" for k in range(150)]
    )
    for direction, rank in zip(DIRECTIONS, (i2t, t2i), strict=True):
        scores = got[direction]
        assert [scores[f"r{k}"].value for k in (1, 5, 10)] == pytest.approx(
            [(rank <= k).mean() for k in (1, 5, 10)]
        )
        assert scores["median_rank"].value == np.median(rank)
        assert scores["mean_reciprocal_rank"].value == pytest.approx((1 / rank).mean())
        assert scores["r1"].n == len(rank)


def test_a_collapsed_model_scores_chance_exactly():
    rng = np.random.default_rng(2)
    captions = [[f"w{rng.integers(6)}" for _ in range(rng.integers(1, 5))] for _ in range(25)]
    words, image_of_text = flatten_captions(captions)
    ones = np.full((25, 3), 0.7), np.full((len(words), 3), 0.1)
    for own in grouped_recall(*ones, image_of_text, words).values():
        for name in ("r1", "r5", "r10", "mean_reciprocal_rank"):
            assert own[name].value == pytest.approx(own[name].chance, rel=1e-12)


def test_chance_is_that_of_a_random_order():
    ranks = FirstRanks(*(np.array(x) for x in ([0, 0], [0, 0], [1, 1], [3, 1], [12, 12], [0, 1])))
    for k in (1, 5, 10):
        want = 1 - hypergeom.pmf(0, 12, [3, 1], k)
        np.testing.assert_allclose(ranks.chance_hits(k), want, rtol=1e-12)
    rng = np.random.default_rng(0)
    orders = np.argsort(rng.random((200_000, 12)), axis=1)
    first = np.concatenate([orders[:, :3].min(axis=1), orders[:, 3]]) + 1
    assert ranks.chance_reciprocal_rank().mean() == pytest.approx((1 / first).mean(), abs=0.002)
    assert ranks.chance_median_rank() == np.median(first)


@pytest.mark.parametrize(("n", "median"), [(10, 5.5), (11, 6.0)])
def test_chance_of_the_median_rank_of_one_right_candidate(n, median):
    one = np.ones(7, dtype=np.int64)
    ranks = FirstRanks(0 * one, 0 * one, one, one, n * one, np.arange(7))
    assert ranks.chance_median_rank() == median


def test_queries_that_share_a_caption_are_drawn_together():
    """Ten blocks of equal pictures: the interval is that of ten numbers, not of 100."""
    rng = np.random.default_rng(5)
    texts = np.repeat(unit_rows(rng, 10, 3), 10, axis=0)
    images = np.repeat(unit_rows(rng, 10, 3), 10, axis=0)
    words = np.repeat([f"caption {k}" for k in range(10)], 10).tolist()
    scores = grouped_recall(
        images, texts, np.arange(100), words, rng=np.random.default_rng(0), ks=(3,)
    )
    alone = grouped_recall(
        images,
        texts,
        np.arange(100),
        [*map(str, range(100))],
        rng=np.random.default_rng(0),
        ks=(3,),
    )
    for direction in DIRECTIONS:
        own, other = scores[direction]["r3"], alone[direction]["r3"]
        assert (own.n, own.n_resampled, other.n_resampled) == (100, 10, 100)
        assert own.ci_high - own.ci_low > 2.0 * (other.ci_high - other.ci_low)
        assert own.ci_low <= own.value <= own.ci_high


def test_the_interval_of_the_mean_is_that_of_the_clusters_percentiles():
    rng = np.random.default_rng(11)
    images = unit_rows(rng, 120, 6)
    texts = np.repeat(images, 2, axis=0) + 0.6 * rng.standard_normal((240, 6))
    data = Captioned.of(images, texts, np.repeat(np.arange(120), 2), [f"c {k}" for k in range(240)])
    ranks = first_ranks(data)[0]["text_to_image"]
    score = recall_scores(ranks, rng=np.random.default_rng(1), n_bootstrap=2000)["r1"]
    hits = ranks.hits(1).reshape(120, 2).mean(axis=1)
    draws = hits[np.random.default_rng(2).integers(0, 120, (20_000, 120))].mean(axis=1)
    assert (score.ci_low, score.ci_high) == pytest.approx(
        np.quantile(draws, [0.025, 0.975]), abs=0.02
    )
    assert score.ci_method == "bca"


def test_captions_shared_here_and_there_do_not_tie_all_pictures():
    rng = np.random.default_rng(0)
    image_of_text = np.repeat(np.arange(100), 3)
    captions = [f"w{k}" for k in rng.integers(0, 150, 300)]
    data = Captioned.of(np.eye(100), np.ones((300, 100)), image_of_text, captions)
    assert data.drawn_together == module.BY_CAPTION
    assert 40 < len(np.unique(data.cluster)) < 100
    pictures = {
        word: {i for i, w in zip(image_of_text, captions, strict=True) if w == word}
        for word in captions
    }
    first = {word: k for k, word in reversed(list(enumerate(captions)))}
    want = [
        max(captions[3 * i : 3 * i + 3], key=lambda word: (len(pictures[word]), -first[word]))
        for i in range(100)
    ]
    same = np.array(want)[:, None] == np.array(want)
    np.testing.assert_array_equal(data.cluster[:, None] == data.cluster, same)
    few = Captioned.of(np.eye(100), np.eye(100), np.arange(100), [f"c{k % 4}" for k in range(100)])
    assert len(np.unique(few.cluster)) == 4
    chain = ["a", "b", "b", "c", "c", "d", *map(str, range(54))]
    own = np.array([0, 0, 1, 1, 2, 2, *range(3, 57)])
    tied = Captioned.of(np.eye(57), np.ones((60, 57)), own, chain)
    assert tied.drawn_together == module.BY_TIES
    assert len(np.unique(tied.cluster)) == 55
    assert len(set(tied.cluster[:3])) == 1


def test_perfect_scores_have_an_interval_below_one():
    vectors, words = shared_captions(40, 2)
    found = grouped_recall(
        vectors, vectors, np.arange(40), words, rng=np.random.default_rng(0), n_bootstrap=200
    )
    score = found["image_to_text"]["r1"]
    assert (score.value, score.ci_high, score.ci_method) == (1.0, 1.0, "wilson")
    assert 0.7 < score.ci_low < 0.9
    assert score.n_resampled == 20


def test_folds_are_disjoint_and_rank_among_themselves():
    rng = np.random.default_rng(3)
    images = unit_rows(rng, 47, 5)
    image_of_text = np.repeat(np.arange(47), 3)
    texts = images[image_of_text] + 0.7 * rng.standard_normal((141, 5))
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    data = Captioned.of(images, texts, image_of_text, [f"c {k}" for k in range(141)])
    grouped, alone = fold_ranks(data, 10, rng=np.random.default_rng(0), also_ungrouped=True)
    assert len(grouped["image_to_text"]) == 40
    assert len(grouped["text_to_image"]) == 120
    assert set(grouped["image_to_text"].n_candidates) == {30}
    assert set(grouped["text_to_image"].n_candidates) == {10}
    assert len(set(grouped["image_to_text"].clusters.tolist())) == 40
    rows = np.sort(np.random.default_rng(0).permutation(47)[:40].reshape(4, 10), axis=1)
    similarity = images @ texts.T
    want = [
        1 + (similarity[i, kept] > similarity[i, 3 * i : 3 * i + 3].max()).sum()
        for fold in rows
        for i in fold
        for kept in [np.flatnonzero(np.isin(image_of_text, fold))]
    ]
    np.testing.assert_array_equal(alone["image_to_text"].rank(), want)
    np.testing.assert_array_equal(grouped["image_to_text"].rank(), want)


def test_blocks_give_the_same_ranks_and_bound_the_memory(monkeypatch):
    rng = np.random.default_rng(6)
    images, texts = unit_rows(rng, 300, 8), unit_rows(rng, 900, 8)
    words = [f"c {k % 700}" for k in range(900)]
    whole = first_ranks(Captioned.of(images, texts, np.arange(900) % 300, words))[0]
    monkeypatch.setattr("braindecode_clip.similarity.BLOCK_NUMBERS", 4000)
    data = Captioned.of(images, texts, np.arange(900) % 300, words)
    tracemalloc.start()
    parts = first_ranks(data)[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    for direction in DIRECTIONS:
        for name in ("n_better", "n_tied", "n_level", "n_right"):
            np.testing.assert_array_equal(
                getattr(whole[direction], name), getattr(parts[direction], name)
            )
    assert peak < 300 * 900 * 4


def test_near_equal_captions_are_one():
    same = ["A dog, running.", "a dog running", "A  DOG - running!", "“a dog” running"]
    assert {normalised_caption(text) for text in same} == {"a dog running"}
    assert normalised_caption("the dog's") == normalised_caption("The dog’s.") == "the dogs"
    assert normalised_caption("Ｄｏｇ") == "dog"
    different = ["1.5 kg", "15 kg", "5 %", "5", "-3", "3", "C++", "C", "...", "?"]
    assert len(set(number_captions(different).tolist())) == len(different)


def test_faults_are_all_named():
    vectors = np.eye(3)
    with pytest.raises(DataError, match="2 problems"):
        grouped_recall(vectors, vectors, np.array([0, 1, 3]), ["a", "b", "c"], pictures=["x"])
    with pytest.raises(DataError, match=r"no caption for the pictures in rows '2'"):
        grouped_recall(vectors, vectors[:2], np.array([0, 1]), ["a", "b"])
    with pytest.raises(DataError, match="2 captions"):
        grouped_recall(vectors, vectors, np.arange(3), ["a", "b"])
    with pytest.raises(DataError, match="integers"):
        grouped_recall(vectors, vectors, np.arange(3.0), ["a", "b", "c"])
    with pytest.raises(DataError, match="NaN"):
        grouped_recall(vectors * np.nan, vectors, np.arange(3), ["a", "b", "c"])
    with pytest.raises(DataError, match="two at least"):
        grouped_recall(vectors[:1], vectors[:1], np.array([0]), ["a"])


def test_the_example_in_the_docstring():
    import doctest

    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0
