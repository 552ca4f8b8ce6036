"""Ranks and chances against literal loops and the hypergeometric distribution."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from braindecode_clip.clip.held_out import HeldOut
from braindecode_clip.errors import DataError


def unit(rng, n, n_dims=6):
    vectors = rng.standard_normal((n, n_dims))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def make(n=23, *, n_captions=9, seed=0, noise=0.6):
    rng = np.random.default_rng(seed)
    # Every caption at least once, some on several pictures.
    number = np.concatenate([np.arange(n_captions), rng.integers(0, n_captions, n - n_captions)])
    number = rng.permutation(number)
    texts = unit(rng, n_captions)[number]
    images = texts + noise * unit(rng, n)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    captions = tuple(f"caption {c}" for c in number)
    return HeldOut(images, texts, captions, tuple(map(str, range(n))))


@pytest.mark.parametrize("noise", [0.3, 3.0])
def test_ranks_are_those_of_a_literal_loop(noise, monkeypatch):
    monkeypatch.setattr("braindecode_clip.clip.held_out._CHUNK", 4)
    held_out = make(noise=noise)
    distinct = sorted(set(held_out.captions))
    vector = {
        c: t.astype(np.float64) for c, t in zip(held_out.captions, held_out.texts, strict=True)
    }
    images = held_out.images.astype(np.float64)
    for row, rank in enumerate(held_out.text_ranks()):
        own = images[row] @ vector[held_out.captions[row]]
        assert rank == 1 + sum(images[row] @ vector[c] > own + 1e-6 for c in distinct)
    for caption, rank in zip(distinct, held_out.image_ranks(), strict=True):
        cosines = images @ vector[caption]
        is_own = np.array([c == caption for c in held_out.captions])
        # Pictures of the caption push none of their own back.
        assert rank == 1 + (cosines[~is_own] > cosines[is_own].max() + 1e-6).sum()


def test_figures_count_hits_and_name_n_and_candidates():
    held_out = make(noise=3.0)
    found = held_out.figures()
    to_text, to_image = held_out.text_ranks(), held_out.image_ranks()
    for name, ranks, n_candidates in (
        ("image_to_text", to_text, 9),
        ("text_to_image", to_image, 23),
    ):
        own = found[name]
        assert (own["n"], own["n_candidates"]) == (len(ranks), n_candidates)
        assert own["median_rank"] == np.median(ranks)
        for k in (1, 5, 10):
            hits = int((ranks <= k).sum())
            reference = stats.binomtest(hits, len(ranks)).proportion_ci(method="wilson")
            assert own[f"r{k}"]["value"] == pytest.approx(hits / len(ranks))
            assert own[f"r{k}"]["low"] == pytest.approx(reference.low, abs=1e-12)
            assert own[f"r{k}"]["high"] == pytest.approx(reference.high, abs=1e-12)
    assert 0 < found["image_to_text"]["r1"]["value"] < 1
    # Nine distinct captions fill one pool, whose interval is Wilson's as well.
    pool = found["pools"]["image_to_text"]
    assert (pool["n"], pool["n_pools"], pool["n_candidates"]) == (9, 1, 9)
    assert pool["r1"]["chance"] == pytest.approx(1 / 9)
    reference = stats.binomtest(round(9 * pool["r1"]["value"]), 9).proportion_ci(method="wilson")
    assert pool["r1"]["low"] == pytest.approx(reference.low)
    assert "Wilson" in pool["interval"]


def test_chance_is_that_of_a_random_order():
    held_out = make()
    sizes = [held_out.captions.count(c) for c in sorted(set(held_out.captions))]
    found = held_out.figures()
    for k in (1, 5, 10):
        wanted = np.mean([1 - stats.hypergeom(23, size, k).pmf(0) for size in sizes])
        assert found["text_to_image"][f"r{k}"]["chance"] == pytest.approx(wanted)
        assert found["image_to_text"][f"r{k}"]["chance"] == pytest.approx(min(1, k / 9))


def test_chance_is_one_where_all_candidates_fit():
    found = make(8, n_captions=3).figures()
    assert found["text_to_image"]["r10"]["chance"] == 1.0
    assert found["image_to_text"]["r5"]["chance"] == 1.0


def test_many_pools_have_an_interval_over_pools():
    found = make(260, n_captions=230, noise=2.0).figures()
    pool = found["pools"]["text_to_image"]
    assert (pool["n_pools"], pool["n"], pool["n_candidates"]) == (2, 200, 100)
    assert "Student" in pool["interval"]
    assert pool["r1"]["low"] < pool["r1"]["value"] < pool["r1"]["high"]


def test_a_perfect_model_scores_one_and_a_collapsed_one_no_more_than_chance():
    perfect = make(noise=0.0)
    found = perfect.figures()
    assert found["image_to_text"]["r1"]["value"] == found["text_to_image"]["r1"]["value"] == 1
    same = np.tile(perfect.texts[:1], (len(perfect), 1))
    collapsed = HeldOut(same, same, perfect.captions, perfect.names).figures()
    for direction in ("image_to_text", "text_to_image"):
        for k in (1, 5):
            figure = collapsed[direction][f"r{k}"]
            assert figure["value"] <= figure["chance"] or figure["value"] == 1
        assert collapsed[direction]["r1"]["value"] == 0


def test_samples_hold_distinct_captions_in_order_of_group_and_caption():
    held_out = make()
    groups = tuple(str(int(c[-1]) % 2) for c in held_out.captions)
    grouped = HeldOut(held_out.images, held_out.texts, held_out.captions, held_out.names, groups)
    rows = grouped.sample(7)
    captions = [held_out.captions[row] for row in rows]
    assert len(set(captions)) == 7
    keys = [(groups[row], held_out.captions[row]) for row in rows]
    assert keys == sorted(keys) and {g for g, _ in keys} == {"0", "1"}
    assert len(held_out.sample(100)) == 9


def test_nearest_are_sorted_by_cosine():
    held_out = make()
    (first, best), (_, second) = held_out.nearest_images(2, 2)
    cosines = held_out.images @ held_out.texts[held_out.first_of_caption[2]]
    assert first == cosines.argmax() and best == pytest.approx(cosines.max())
    assert second == pytest.approx(np.sort(cosines)[-2])
    assert held_out.nearest_texts(0, 1)[0][0] in range(9)


def test_parts_of_unequal_lengths_are_refused():
    held_out = make()
    with pytest.raises(DataError, match="held-out pairs"):
        HeldOut(held_out.images, held_out.texts, held_out.captions, held_out.names[1:])
