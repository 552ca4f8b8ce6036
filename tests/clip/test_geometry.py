from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.spatial.distance import cdist, pdist

from braindecode_clip.clip.geometry import (
    effective_rank,
    geometry_measures,
    jackknife_ends,
    rank_estimates,
    rank_scores,
    uniformity_of_sphere,
)
from braindecode_clip.clip.grouped_recall import Captioned
from braindecode_clip.clip.score import scored


def unit_rows(rng, n, n_dims, *, shift=0.0):
    rows = rng.standard_normal((n, n_dims)) + shift
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def make_data(seed=0, n=40, n_dims=7, n_words=60, scale=1.0):
    rng = np.random.default_rng(seed)
    image_of_text = np.repeat(np.arange(n), rng.integers(1, 4, n))
    images = unit_rows(rng, n, n_dims)
    texts = images[image_of_text] + 0.8 * rng.standard_normal((len(image_of_text), n_dims)) + 0.3
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    captions = [f"w{k}" for k in rng.integers(0, n_words, len(image_of_text))]
    files = rng.integers(0, n - 5, n)
    data = Captioned.of(scale * images, scale * texts, image_of_text, captions, pictures=files)
    return data, images, texts


def values(data):
    return {name: score.value for name, score in scored(geometry_measures(data)).items()}


def test_pairs_and_others_equal_a_literal_loop():
    data, images, texts = make_data()
    true, other = [], []
    right = {(data.picture[i], g) for i, g in zip(data.image_of_text, data.caption, strict=True)}
    for i in range(len(images)):
        for t in range(len(texts)):
            if data.image_of_text[t] == i:
                true.append(images[i] @ texts[t])
            if (data.picture[i], data.caption[t]) not in right:
                other.append(images[i] @ texts[t])
    found = scored(geometry_measures(data))
    assert found["cosine_true"].value == pytest.approx(np.mean(true))
    assert found["cosine_other"].value == pytest.approx(np.mean(other))
    assert found["cosine_margin"].value == pytest.approx(np.mean(true) - np.mean(other))
    distance = cdist(images, texts)[data.image_of_text, np.arange(len(texts))] ** 2
    assert found["alignment"].value == pytest.approx(distance.mean())
    assert found["alignment"].chance == pytest.approx(2 - 2 * np.mean(other))
    assert found["alignment"].n == len(texts)


def test_uniformity_is_the_log_of_the_mean_potential_of_distinct_items():
    data, images, texts = make_data()
    for name, vectors, same in (("image", images, data.picture), ("text", texts, data.caption)):
        first = np.unique(same, return_index=True)[1]
        assert len(first) < len(vectors)
        want = np.log(np.exp(-2 * pdist(vectors[first]) ** 2).mean())
        # Similarities are rounded to 2**-24 for exact ties.
        assert values(data)[f"{name}_uniformity"] == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("n_dims", [3, 64])
def test_chance_of_uniformity_is_that_of_the_even_sphere(n_dims):
    """The cosine of two such vectors has the density (1 - c²)^((d - 3) / 2)."""

    def weighed(c, potential):
        return potential(c) * (1 - c**2) ** ((n_dims - 3) / 2)

    mean = quad(weighed, -1, 1, args=(lambda c: np.exp(-2 * (2 - 2 * c)),))[0]
    mean /= quad(weighed, -1, 1, args=(lambda _: 1.0,))[0]
    assert uniformity_of_sphere(n_dims) == pytest.approx(np.log(mean), rel=1e-9)


def test_uniformitys_interval_is_as_wide_as_samples_differ():
    """The first-order bootstrap against the spread over new samples."""
    widths, found = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        images = unit_rows(rng, 50, 5, shift=0.5)
        data = Captioned.of(images, images, np.arange(50), [str(k) for k in range(50)])
        scores = scored(geometry_measures(data)[1:2], rng=rng, n_bootstrap=300)
        score = scores["image_uniformity"]
        found.append(score.value)
        widths.append(score.ci_high - score.ci_low)
    assert np.median(widths) == pytest.approx(2 * 2.01 * np.std(found, ddof=1), rel=0.3)


def test_the_gap_is_the_distance_of_centroids():
    data, images, texts = make_data()
    own = np.array([texts[data.image_of_text == i].mean(axis=0) for i in range(len(images))])
    found = scored(geometry_measures(data))["modality_gap"]
    assert found.value == pytest.approx(np.linalg.norm(images.mean(axis=0) - own.mean(axis=0)))
    signs = np.random.default_rng(0).choice([-1, 1], (20_000, len(images)))
    swapped = np.linalg.norm(signs @ (images - own) / len(images), axis=1)
    assert found.chance == pytest.approx(np.sqrt((swapped**2).mean()), rel=0.02)


def test_modalities_that_mix_are_at_chance_and_shifted_ones_are_told_apart():
    rng = np.random.default_rng(3)
    images, texts = unit_rows(rng, 400, 20), unit_rows(rng, 400, 20)
    captions = [str(k) for k in range(400)]
    mixed = values(Captioned.of(images, texts, np.arange(400), captions))
    assert mixed["modality_separability"] == pytest.approx(0.5, abs=0.06)
    moved = values(Captioned.of(images, texts + 0.4, np.arange(400), captions))
    assert moved["modality_separability"] > 0.95
    assert moved["modality_gap"] > 5 * mixed["modality_gap"]


def test_the_scale_of_vectors_does_not_count():
    one, many = values(make_data()[0]), values(make_data(scale=7.0)[0])
    assert one == pytest.approx(many, abs=1e-6)


def test_effective_rank_of_known_spectra():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((60, 8)) - 0)[0]
    basis -= basis.mean(axis=0)
    basis = np.linalg.qr(basis)[0]
    assert effective_rank(basis @ np.eye(8)) == pytest.approx(8.0)
    assert effective_rank(basis[:, :1] * np.ones((1, 5)) + 3.0) == pytest.approx(1.0, abs=1e-5)
    weights = np.array([4.0, 2.0, 1.0])
    share = weights / weights.sum()
    want = np.exp(-(share * np.log(share)).sum())
    assert effective_rank(basis[:, :3] * weights) == pytest.approx(want)
    assert effective_rank((basis[:, :3] * weights).T) != pytest.approx(want)
    assert np.isnan(effective_rank(np.ones((5, 3))))
    assert np.isnan(effective_rank(np.ones((1, 3))))
    # Fewer rows than dimensions: the Gram matrix of the rows.
    wide = rng.standard_normal((6, 30))
    values = np.linalg.svd(wide - wide.mean(axis=0), compute_uv=False)
    share = values[values > 1e-9] / values.sum()
    assert effective_rank(wide) == pytest.approx(np.exp(-(share * np.log(share)).sum()))


def test_the_jackknife_is_that_of_the_mean():
    """For a mean over groups of equal size it is the standard error of the group means."""
    groups = np.random.default_rng(2).standard_normal(20)
    without = (groups.sum() - groups) / 19
    ends = jackknife_ends(float(groups.mean()), without)
    half = 2.093024 * groups.std(ddof=1) / np.sqrt(20)
    assert ends["ci_high"] - ends["ci_low"] == pytest.approx(2 * half, rel=1e-6)
    assert jackknife_ends(1.0, np.ones(20))["ci_method"] == "none"
    assert jackknife_ends(1.0, np.ones(1))["ci_method"] == "none"


def test_ranks_leave_out_whole_clusters():
    data, images, _ = make_data(n=60, n_words=600)
    estimates = rank_estimates(data, seed=3)
    value, without, n = estimates["image_effective_rank"]
    assert value == pytest.approx(effective_rank(images))
    assert (len(without), n) == (20, 60)
    score = rank_scores(data, seed=3)["image_effective_rank"]
    assert score.ci_low < value < score.ci_high
    names = np.unique(data.cluster)
    group = np.random.default_rng(3).permutation(len(names)) % 20
    kept = np.isin(data.cluster, names[group != 4])
    assert without[4] == pytest.approx(effective_rank(images[kept]))
