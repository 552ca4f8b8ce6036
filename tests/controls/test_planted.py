"""Situations whose truth is known: what each control must say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planted_subjects import FAST, planted, predicted

from braindecode_clip.controls import control
from braindecode_clip.controls.scores import JUDGED

TOP_1 = ("brain_to_image", "top_1")


def run(subject, *, seed=3, config=FAST):
    voxels, embeddings = subject
    predictions, _ = predicted(voxels, embeddings)
    return control(voxels, embeddings, [predictions], config=config, seed=seed)


def row(found, name, decoder="reference", key=JUDGED):
    (only,) = (
        item
        for item in found.rows
        if (item["control"], item["decoder"]) == (name, decoder)
        and (item["direction"], item["metric"]) == key
    )
    return only


def level(found, name, decoder=None):
    (only,) = {
        item.level
        for item in found.verdicts
        if item.control == name and decoder in (None, item.decoder)
    }
    return only


@pytest.fixture(scope="module")
def of_clusters(clustered):
    return run(clustered)


@pytest.fixture(scope="module")
def of_linear(linear):
    return run(linear)


def test_a_decoder_that_knows_clusters_alone_is_found_out(of_clusters):
    real = row(of_clusters, "real")
    # Told apart from the other clusters (five sixths of the candidates), not within its own.
    assert 0.85 < real["value"] < 0.95 and real["ci_low"] > 0.5
    near = row(of_clusters, "nearest_train")
    assert abs(near["value"] - real["value"]) < 0.03
    assert near["difference_low"] <= 0
    held, matched = row(of_clusters, "held_out_cluster"), row(of_clusters, "matched")
    assert held["ci_low"] <= 0.5 and matched["ci_low"] > 0.85
    assert level(of_clusters, "nearest_train", "ridge") == "suspicious"
    assert level(of_clusters, "nearest_train", "reference") == "suspicious"
    assert level(of_clusters, "held_out_cluster") == "suspicious"


def test_a_linear_code_is_cleared(of_linear):
    real = row(of_linear, "real")
    assert real["value"] > 0.98
    near = row(of_linear, "nearest_train")
    assert near["difference_low"] > 0
    first = {name: row(of_linear, name, key=TOP_1) for name in ("real", "nearest_train")}
    assert first["real"]["value"] > 0.95 and first["nearest_train"]["value"] < 0.8
    assert first["nearest_train"]["difference_low"] > 0.2
    held = row(of_linear, "held_out_cluster")
    assert held["ci_low"] > 0.9
    assert {level(of_linear, "nearest_train", name) for name in ("ridge", "reference")} == {"fine"}
    assert level(of_linear, "held_out_cluster") in ("fine", "note")
    assert level(of_linear, "overlap") == "fine"
    assert level(of_linear, "effective_rank", "ridge") == "fine"


@pytest.mark.parametrize("kind", ["of_clusters", "of_linear"])
def test_shuffled_pairs_and_a_constant_are_at_chance(kind, request):
    found = request.getfixturevalue(kind)
    for metric, guess in (("pairwise", 0.5), ("top_1", 1 / 48)):
        for direction in ("brain_to_image", "image_to_brain"):
            shuffled = row(found, "shuffled", key=(direction, metric))
            assert shuffled["chance"] == pytest.approx(guess)
            assert shuffled["ci_low"] <= guess <= shuffled["ci_high"]
            assert shuffled["lowest"] <= shuffled["value"] <= shuffled["highest"]
    assert row(found, "constant")["value"] == pytest.approx(0.5, abs=1e-12)
    # All samples tie: the mean rank is the middle, and nobody comes first.
    assert row(found, "constant", key=("image_to_brain", "pairwise"))["value"] == 0.5
    assert row(found, "constant", key=("image_to_brain", "top_1"))["value"] == 0.0
    assert level(found, "shuffled") == level(found, "constant") == "fine"


def test_shuffled_pairs_are_rarely_called_suspicious():
    config = FAST.model_copy(update={"n_clusters": 2, "n_matched": 1, "n_bootstrap": 200})
    alarms = [
        level(run(planted("linear", seed=seed, n_train=60, n_test=20), config=config), "shuffled")
        for seed in range(12)
    ]
    # At most 2.5 % each: three of twelve would come once in 300 times.
    assert alarms.count("suspicious") <= 2


def test_categories_held_out_in_turn_push_a_constant_below_a_guess(by_category):
    found = run(by_category)
    # The mean of the other categories is least like the one that is tested.
    assert row(found, "constant")["ci_high"] < 0.5
    assert level(found, "constant") == "note"
    assert level(found, "held_out_cluster") == "not applicable"
    assert level(found, "nearest_train", "ridge") == "fine"


def test_near_duplicates_in_train_are_named(linear):
    voxels, embeddings = linear
    vectors = embeddings.vectors.copy()
    shown = embeddings.rows(voxels.folds[0].test.stimulus_id[:3])
    copied = vectors[embeddings.rows(voxels.folds[0].train.stimulus_id[:3])]
    vectors[shown] = copied
    found = run((voxels, replace(embeddings, vectors=vectors)))
    assert found.overlap["near_duplicates"] == pytest.approx(3 / 48)
    assert found.overlap["near_duplicate_ids"] == voxels.folds[0].test.stimulus_id[:3].tolist()
    assert level(found, "overlap") == "suspicious"


def test_held_out_runs_rule_out_what_needs_unseen_stimuli(by_run):
    found = run(by_run)
    ruled_out = {v.control for v in found.verdicts if v.level == "not applicable"}
    assert ruled_out == {"nearest_train", "overlap", "held_out_cluster"}
    assert all("Whole runs" in v.sentence for v in found.verdicts if v.control in ruled_out)
    assert {item["control"] for item in found.rows} == {"real", "shuffled", "constant"}
    assert found.overlap is None
    assert row(found, "real")["value"] > 0.9
    assert row(found, "real")["n_drawn"] == 4
    assert row(found, "shuffled")["ci_low"] <= 0.5


def test_few_training_pictures_rule_out_clusters():
    subject = planted("linear", n_train=19, n_test=8)
    (verdict,) = (v for v in run(subject).verdicts if v.control == "held_out_cluster")
    assert verdict.level == "not applicable" and "19 training pictures" in verdict.sentence


def test_the_same_seed_gives_the_same_numbers(linear):
    assert run(linear).rows == run(linear).rows
    assert run(linear).rows != run(linear, seed=4).rows
