"""Conformal candidate sets: the threshold, the coverage by simulation, and abstaining."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import betabinom, binom

from braindecode_clip.artifacts import Embeddings, Predictions
from braindecode_clip.config.retrieve import CandidateSetsConfig, CorrectionConfig
from braindecode_clip.errors import ConfigError, DataError
from braindecode_clip.retrieve import gallery_ids, retrieve
from braindecode_clip.retrieve.candidate_sets import (
    candidate_sets,
    conformal_threshold,
    one_for_each,
    pair_similarities,
)
from braindecode_clip.similarity import similarity_matrix


@pytest.mark.parametrize(
    ("n", "coverage", "place"), [(9, 0.9, 9), (10, 0.9, 10), (19, 0.9, 18), (99, 0.5, 50)]
)
def test_the_threshold_is_an_order_statistic(n: int, coverage: float, place: int) -> None:
    scores = np.random.default_rng(n).standard_normal(n)
    assert conformal_threshold(scores, coverage) == np.sort(scores)[::-1][place - 1]


def test_too_few_stimuli_promise_nothing() -> None:
    assert conformal_threshold(np.arange(8.0), 0.9) == -np.inf
    assert conformal_threshold(np.arange(9.0), 0.9) == 0.0
    # 0.7 * 10 is 7.000000000000001 in floating point.
    assert conformal_threshold(np.arange(9.0), 0.7) == 2.0


@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_coverage_on_exchangeable_data(coverage: float) -> None:
    # Skewed noise of unequal strength: the guarantee assumes nothing of the distribution.
    rng = np.random.default_rng(int(100 * coverage))
    n_calibration, n_test, n_rounds, d = 49, 25, 200, 12
    covered = 0
    for _ in range(n_rounds):
        n = n_calibration + n_test
        true = rng.standard_normal((n, d))
        noise = rng.exponential(1.0, (n, 1)) * rng.standard_exponential((n, d))
        predicted = true + noise
        own = slice(n_calibration)
        limit = conformal_threshold(pair_similarities(predicted[own], true[own]), coverage)
        table = similarity_matrix(predicted[n_calibration:], true[n_calibration:])
        covered += int(candidate_sets(table, limit).members.diagonal().sum())
    # Tests of one round share a threshold, hence the beta-binomial spread of a round's count
    # (Vovk 2012); rounds are independent.
    place = int(np.ceil(np.round((n_calibration + 1) * coverage, 9)))
    law = betabinom(n_test, place, n_calibration + 1 - place)
    sd = np.sqrt(n_rounds * law.var())
    assert abs(covered - n_rounds * law.mean()) < 2.58 * sd
    assert coverage <= law.mean() / n_test <= coverage + 1 / (n_calibration + 1)


def test_coverage_with_one_new_sample_lies_in_the_binomial_interval() -> None:
    # One test sample a round: counts are binomial, with coverage from c to c + 1 / (n + 1).
    rng = np.random.default_rng(3)
    coverage, n, n_rounds = 0.9, 39, 3000
    scores = rng.gamma(0.7, size=(n_rounds, n + 1))
    covered = sum(row[-1] >= conformal_threshold(row[:-1], coverage) for row in scores)
    assert binom.ppf(0.025, n_rounds, coverage) <= covered
    assert covered <= binom.ppf(0.975, n_rounds, coverage + 1 / (n + 1))


def test_pair_similarities_are_those_of_the_table() -> None:
    rng = np.random.default_rng(4)
    predicted, true = rng.standard_normal((13, 7)), rng.standard_normal((13, 7))
    for kind in ("cosine", "correlation", "euclidean"):
        table = similarity_matrix(predicted, true, similarity=kind)
        pairs = pair_similarities(predicted, true, similarity=kind)
        assert np.array_equal(pairs, table.diagonal())
    with pytest.raises(DataError, match="13 predictions for 12"):
        pair_similarities(predicted, true[:12])


def test_sets_sizes_and_abstention() -> None:
    table = np.array([[0.9, 0.8, 0.1], [0.2, 0.1, 0.0], [0.7, 0.9, 0.8]], dtype=np.float32)
    found = candidate_sets(table, 0.75, max_size=2)
    assert found.size.tolist() == [2, 0, 2]
    assert found.abstained.tolist() == [False, True, False]
    found = candidate_sets(table, np.array([0.85, 0.05, 0.5]), max_size=2)
    assert found.members.tolist() == [[True, False, False], [True, True, False], [True] * 3]
    assert found.size.tolist() == [1, 2, 3]
    assert found.abstained.tolist() == [False, False, True]
    assert candidate_sets(table, 0.95).abstained.tolist() == [True, True, True]


def test_one_row_for_each_stimulus() -> None:
    assert one_for_each(np.array(["b", "a", "b", "c", "a"])).tolist() == [0, 1, 3]


@pytest.mark.parametrize("coverage", [0.0, 1.0, 1.5])
def test_a_coverage_is_a_share(coverage: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        conformal_threshold(np.arange(5.0), coverage)


def test_scores_must_be_there() -> None:
    for scores in (np.array([]), np.array([1.0, np.nan]), np.ones((2, 2))):
        with pytest.raises(DataError, match="expected one number"):
            conformal_threshold(scores, 0.5)


def make_predictions(rng, ids, vectors, rows, fold, noise) -> Predictions:
    predicted = vectors[rows] + noise * rng.standard_normal((len(rows), vectors.shape[1]))
    return Predictions(
        vectors=predicted.astype(np.float32),
        stimulus_id=ids[rows],
        group=np.full(len(rows), "r"),
        fold=np.asarray(fold),
        n_repeats=np.ones(len(rows), dtype=np.int64),
        train_ids=ids,
        unit="stimulus",
        fingerprint={},
        info={},
    )


def test_the_stage_calibrates_each_fold_on_one_sample_a_stimulus() -> None:
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((70, 9))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = np.array([f"s{i:02d}" for i in range(70)])
    embeddings = Embeddings(ids, vectors.astype(np.float32), "image", {})
    test = make_predictions(rng, ids, vectors, np.arange(20), ["a", "b"] * 10, 0.3)
    rows = np.r_[np.arange(20, 70), np.arange(20, 45)]
    fold = np.where(rows % 2, "a", "b")
    training = make_predictions(rng, ids, vectors, rows, fold, 0.3)
    sets = CandidateSetsConfig(coverage=0.8, max_size=3)
    result = retrieve(test, embeddings, gallery_ids(test, embeddings), sets=sets, training=training)
    for name in "ab":
        own = np.flatnonzero((fold == name) & (np.arange(75) < 50))
        predicted, true = training.vectors[own].astype(float), vectors[rows[own]]
        cosine = np.einsum("ij,ij->i", predicted, true) / np.linalg.norm(predicted, axis=1)
        limit = np.sort(cosine)[::-1][int(np.ceil(0.8 * (len(own) + 1))) - 1]
        facts = result.info["candidate_sets"]["folds"][name]
        assert facts["n_calibration"] == len(own) == 25
        assert facts["threshold"] == pytest.approx(limit, abs=1e-6)
        tested = np.flatnonzero(test.fold == name)
        members = result.similarity[tested] >= facts["threshold"]
        queries = result.queries.iloc[tested]
        assert queries["set_size"].tolist() == members.sum(axis=1).tolist()
        inside = members[np.arange(len(tested)), result.true_index[tested]]
        assert queries["in_set"].tolist() == inside.tolist()
    assert result.info["candidate_sets"]["covered"] == result.queries["in_set"].mean()
    sizes = result.queries["set_size"]
    assert result.queries["abstained"].tolist() == ((sizes == 0) | (sizes > 3)).tolist()
    # Sets are of uncorrected similarities, whatever the ranking is made of.
    corrected = retrieve(
        test,
        embeddings,
        gallery_ids(test, embeddings),
        sets=sets,
        training=training,
        correction=CorrectionConfig(k=3),
    )
    assert not np.allclose(corrected.similarity, result.similarity, atol=0.01)
    for column in ("set_size", "in_set", "abstained"):
        assert corrected.queries[column].tolist() == result.queries[column].tolist()
    few = replace(
        training,
        **{
            key: getattr(training, key)[:4]
            for key in ("vectors", "stimulus_id", "group", "fold", "n_repeats")
        },
    )
    result = retrieve(test, embeddings, gallery_ids(test, embeddings), sets=sets, training=few)
    assert result.info["candidate_sets"]["folds"]["a"]["threshold"] is None
    assert result.queries["set_size"].tolist() == [20] * 20
