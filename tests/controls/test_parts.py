"""Each part against a slow re-statement or a closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planted_subjects import FAST, embeddings_of, planted, predicted

from braindecode_clip.controls import control, effective_rank, participation_ratio
from braindecode_clip.controls.nearest import nearest_training
from braindecode_clip.controls.overlap import overlap
from braindecode_clip.controls.refit import cluster_labels, constant, shuffled, without_clusters
from braindecode_clip.controls.scores import chance, identify
from braindecode_clip.controls.verdict import judge
from braindecode_clip.errors import DataError
from braindecode_clip.retrieve import retrieve


def cosine(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(np.round(a @ b / np.linalg.norm(a) / np.linalg.norm(b), 7))


def slow_identify(predicted, embeddings, ids):
    vector = dict(zip(embeddings.ids.tolist(), embeddings.vectors, strict=True))
    found = {}
    for direction in ("brain_to_image", "image_to_brain"):
        top, pairs = [], []
        for i, own in enumerate(ids):
            if direction == "brain_to_image":
                others = [cosine(predicted[i], vector[name]) for name in set(ids) - {own}]
            else:
                others = [
                    cosine(predicted[j], vector[own]) for j in range(len(ids)) if ids[j] != own
                ]
            true = cosine(predicted[i], vector[own])
            won = [1.0 if s < true else 0.5 if s == true else 0.0 for s in others]
            pairs.append(np.mean(won))
            top.append(float(all(s < true for s in others)))
        found[direction, "top_1"], found[direction, "pairwise"] = np.array(top), np.array(pairs)
    return found


def with_repeats():
    rng = np.random.default_rng(2)
    embeddings = embeddings_of(rng.standard_normal((9, 6)))
    ids = embeddings.ids[[0, 0, 0, 1, 2, 3, 3, 5, 8, 8]]
    vectors = embeddings.vectors[embeddings.rows(ids)] + 0.4 * rng.standard_normal((10, 6))
    # Two equal predictions tie from image to brain.
    vectors[7] = vectors[4]
    return vectors.astype(np.float32), embeddings, ids


def test_identification_is_that_of_a_slow_restatement():
    vectors, embeddings, ids = with_repeats()
    fast, slow = identify(vectors, embeddings, ids), slow_identify(vectors, embeddings, ids)
    assert fast.keys() == slow.keys()
    for key in fast:
        np.testing.assert_allclose(fast[key], slow[key], atol=1e-12, err_msg=str(key))
    assert 0 < fast["brain_to_image", "top_1"].mean() < 1


def test_identification_is_that_of_retrieve(linear):
    voxels, embeddings = linear
    predictions, _ = predicted(voxels, embeddings)
    ids = predictions.stimulus_id
    own = identify(predictions.vectors, embeddings, ids)
    for direction in ("brain_to_image", "image_to_brain"):
        queries = retrieve(predictions, embeddings, np.unique(ids), direction=direction).queries
        share = queries["n_beaten"] / queries["n_distractors"]
        np.testing.assert_allclose(own[direction, "pairwise"], share, atol=1e-12)
        np.testing.assert_array_equal(own[direction, "top_1"] == 1, queries["rank"] == 1)


def test_chance_counts_the_candidates_of_each_sample():
    _, _, ids = with_repeats()
    levels = chance(ids)
    assert levels["brain_to_image", "top_1"] == pytest.approx(1 / 6)
    # A sample competes with those of other stimuli alone: 3, 1, 1, 2, 1, 2 of ten are its own.
    sizes = [8, 8, 8, 10, 10, 9, 9, 10, 9, 9]
    assert levels["image_to_brain", "top_1"] == pytest.approx(np.mean(1 / np.array(sizes)))
    assert levels["image_to_brain", "pairwise"] == 0.5


def test_the_nearest_training_picture_is_that_of_its_own_fold():
    rng = np.random.default_rng(0)
    embeddings = embeddings_of(rng.standard_normal((20, 5)))
    vectors = rng.standard_normal((7, 5)).astype(np.float32)
    fold = np.array(list("aabbbab"))
    known = {"a": embeddings.ids[[3, 4, 5, 9, 9]], "b": embeddings.ids[10:19]}
    replaced = nearest_training(vectors, fold, known, embeddings)
    for i, name in enumerate(fold):
        rows = np.unique(embeddings.rows(known[name]))
        best = max(rows, key=lambda r, i=i: cosine(vectors[i], embeddings.vectors[r]))
        np.testing.assert_array_equal(replaced[i], embeddings.vectors[best])


def test_overlap_is_that_of_a_slow_restatement():
    voxels, embeddings = planted("clusters", n_train=23, n_test=9, n_voxels=4)
    fold = voxels.folds[0]
    found = overlap(voxels.folds, embeddings, near_duplicate=0.95)
    vector = dict(zip(embeddings.ids.tolist(), embeddings.vectors, strict=True))
    train, test = fold.train.stimulus_id.tolist(), fold.test.stimulus_id.tolist()
    own = {t: max(cosine(vector[t], vector[s]) for s in train) for t in test}
    among = [max(cosine(vector[t], vector[s]) for s in train if s != t) for t in train]
    other = {t: max(cosine(vector[t], vector[s]) for s in test if s != t) for t in test}
    assert found["test_to_train"]["q50"] == pytest.approx(np.median(list(own.values())), abs=1e-6)
    assert found["train_to_train"]["q95"] == pytest.approx(np.quantile(among, 0.95), abs=1e-6)
    assert found["train_nearer"] == pytest.approx(np.mean([own[t] > other[t] for t in test]))
    assert found["train_nearer_expected"] == pytest.approx(23 / 31)
    below = [np.mean([a < own[t] for a in among]) for t in test]
    assert found["mean_percentile"] == pytest.approx(np.mean(below))
    assert sorted(found["near_duplicate_ids"]) == sorted(t for t in test if own[t] >= 0.95)
    assert (found["n_test"], found["n_train"]) == (9, 23)


def spread(variances, *, n=40, n_dims=7, seed=0):
    """Rows whose covariance has exactly these eigenvalues, in random directions."""
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((n, len(variances)))
    scores, _ = np.linalg.qr(scores - scores.mean(axis=0))
    directions, _ = np.linalg.qr(rng.standard_normal((n_dims, n_dims)))
    return scores * np.sqrt(variances) @ directions[: len(variances)] + 3.0


@pytest.mark.parametrize(
    ("variances", "rank", "ratio"),
    [
        ([5.0], 1.0, 1.0),
        ([2.0, 2.0, 2.0], 3.0, 3.0),
        ([0.5, 0.25, 0.25], 2**1.5, 8 / 3),
        ([9.0, 1.0], 10 / 9**0.9, 100 / 82),
    ],
)
def test_effective_rank_and_participation_ratio_in_closed_form(variances, rank, ratio):
    vectors = spread(np.array(variances))
    assert effective_rank(vectors) == pytest.approx(rank, rel=1e-10)
    assert participation_ratio(vectors) == pytest.approx(ratio, rel=1e-10)


def test_rows_that_do_not_vary_have_no_rank():
    flat = np.tile(np.float32([0.1, 0.2, 0.3]), (6, 1))
    assert effective_rank(flat) == participation_ratio(flat) == 0.0


def test_shuffling_keeps_what_belongs_together(linear, by_run):
    rng = np.random.default_rng(1)
    voxels, _ = linear
    fold = shuffled(voxels, rng).folds[0]
    before = voxels.folds[0].train.stimulus_id
    assert sorted(fold.train.stimulus_id) == sorted(before)
    assert np.mean(fold.train.stimulus_id == before) < 0.1
    np.testing.assert_array_equal(fold.train.data, voxels.folds[0].train.data)
    np.testing.assert_array_equal(fold.test.stimulus_id, voxels.folds[0].test.stimulus_id)
    runs, _ = by_run
    mixed = shuffled(runs, rng)
    for old, new in zip(runs.folds, mixed.folds, strict=True):
        assert (old.train.stimulus_id != new.train.stimulus_id).any()
        for run in np.unique(old.train.group):
            own = old.train.group == run
            assert sorted(old.train.stimulus_id[own]) == sorted(new.train.stimulus_id[own])


def test_repeats_of_a_picture_stay_together_when_shuffled(by_category):
    voxels, _ = by_category
    for old, new in zip(
        voxels.folds, shuffled(voxels, np.random.default_rng(0)).folds, strict=True
    ):
        pairs = set(zip(old.train.stimulus_id, new.train.stimulus_id, strict=True))
        assert len(pairs) == len(np.unique(old.train.stimulus_id))


def test_a_clusters_pictures_are_left_out_and_as_many_random_ones(clustered):
    voxels, embeddings = clustered
    labels = [cluster_labels(voxels.folds[0], embeddings, n_clusters=6, seed=4)]
    fold = voxels.folds[0]
    without, rows = without_clusters(voxels, labels)
    matched, same = without_clusters(voxels, labels, matched=np.random.default_rng(0))
    np.testing.assert_array_equal(rows, same)
    assert sorted(rows) == list(range(len(fold.test.stimulus_id)))
    tested = np.concatenate([part.test.stimulus_id for part in without.folds])
    np.testing.assert_array_equal(fold.test.stimulus_id[rows], tested)
    for part, other in zip(without.folds, matched.folds, strict=True):
        (own,) = {labels[0][name] for name in part.test.stimulus_id}
        assert own not in {labels[0][name] for name in part.train.stimulus_id}
        assert (
            len(other.train.stimulus_id)
            == len(part.train.stimulus_id)
            < len(fold.train.stimulus_id)
        )
        assert own in {labels[0][name] for name in other.train.stimulus_id}


def test_the_constant_is_the_mean_of_each_folds_training_rows(by_category):
    voxels, embeddings = by_category
    predicted_ = constant(voxels, embeddings)
    first = voxels.folds[0]
    wanted = embeddings.vectors[embeddings.rows(first.train.stimulus_id)].mean(axis=0)
    np.testing.assert_allclose(
        predicted_[: len(first.test.data)], np.tile(wanted, (4, 1)), rtol=1e-6
    )


def test_rules_of_the_verdicts():
    base = {"direction": "brain_to_image", "metric": "pairwise", "chance": 0.5, "decoder": "ridge"}
    ends = {"ci_low": 0.55, "ci_high": 0.65, "value": 0.6, "lowest": 0.58, "highest": 0.62}
    leaky = {**base, **ends, "control": "shuffled", "n_seeds": 5}
    targets = {"what": "targets", "decoder": None, "effective_rank": 40.0, "n": 60}
    narrow = {"what": "predictions", "decoder": "ridge", "effective_rank": 9.9, "n": 60}
    wide = {**narrow, "decoder": "mlp", "effective_rank": 10.1}
    found = judge([leaky], None, [narrow, wide, targets], confidence=0.95)
    assert [(v.control, v.decoder, v.level) for v in found] == [
        ("shuffled", "ridge", "suspicious"),
        ("effective_rank", "ridge", "note"),
        ("effective_rank", "mlp", "fine"),
    ]
    fine = judge([{**leaky, "ci_low": 0.49}], None, [targets], confidence=0.95)
    assert [v.level for v in fine] == ["fine"]


def test_all_that_does_not_belong_together_is_named_at_once(linear):
    voxels, embeddings = linear
    predictions, _ = predicted(voxels, embeddings)
    other = replace(predictions, stimulus_id=predictions.stimulus_id[::-1])
    foreign = replace(predictions, fingerprint={"name": "another"})
    with pytest.raises(DataError, match="2 problems") as caught:
        control(voxels, embeddings, [other, foreign], config=FAST, seed=0)
    assert "other rows" in str(caught.value) and "another encoder" in str(caught.value)
