"""Corrections for hubs against loops, and a planted hub that each of them cures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp

from braindecode_clip.artifacts import Embeddings, Predictions
from braindecode_clip.config.retrieve import CorrectionConfig
from braindecode_clip.errors import ConfigError, DataError, LeakageError
from braindecode_clip.retrieve import gallery_ids, hub_offsets, nearest, retrieve
from braindecode_clip.retrieve import rank as rank_module

METHODS = ("csls", "inverted_softmax", "sinkhorn")
STATISTICS = ("train", "test")
Study = tuple[Predictions, Embeddings]


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(float), b.astype(float)
    return (a / np.linalg.norm(a, axis=1)[:, None]) @ (b / np.linalg.norm(b, axis=1)[:, None]).T


def vectors(seed: int, n: int, d: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


@pytest.mark.parametrize("k", [1, 3, 99])
def test_csls_ranks_as_its_definition(k: int) -> None:
    reference, gallery, queries = vectors(0, 23, 6), vectors(1, 17, 6), vectors(2, 9, 6)
    near_gallery = np.sort(cosines(reference, gallery), axis=0)[-k:].mean(axis=0)
    table = cosines(queries, gallery)
    near_query = np.sort(table, axis=1)[:, -k:].mean(axis=1)
    defined = 2 * table - near_query[:, None] - near_gallery[None, :]
    offset = hub_offsets(reference, gallery, method="csls", k=k)
    np.testing.assert_allclose(offset, near_gallery / 2, atol=1e-7)
    assert np.array_equal(np.argsort(table - offset, axis=1), np.argsort(defined, axis=1))


@pytest.mark.parametrize("temperature", [0.02, 0.3])
def test_inverted_softmax_ranks_as_its_definition(temperature: float) -> None:
    reference, gallery, queries = vectors(3, 11, 5), vectors(4, 19, 5), vectors(5, 7, 5)
    mass = np.exp(cosines(reference, gallery) / temperature).sum(axis=0)
    defined = np.exp(cosines(queries, gallery) / temperature) / mass
    offset = hub_offsets(reference, gallery, method="inverted_softmax", temperature=temperature)
    expected = temperature * (
        logsumexp(cosines(reference, gallery) / temperature, axis=0) - np.log(11)
    )
    np.testing.assert_allclose(offset, expected, atol=1e-6)
    corrected = cosines(queries, gallery) - offset
    assert np.array_equal(np.argsort(corrected, axis=1), np.argsort(defined, axis=1))


@pytest.mark.parametrize("temperature", [0.05, 0.5])
@pytest.mark.parametrize(("n", "m"), [(14, 14), (31, 8), (6, 21)])
def test_sinkhorn_gives_all_candidates_the_same_mass(n: int, m: int, temperature: float) -> None:
    reference, gallery = vectors(6, n, 4), vectors(7, m, 4)
    offset = hub_offsets(reference, gallery, method="sinkhorn", temperature=temperature)
    kernel = np.exp((cosines(reference, gallery) - offset) / temperature)
    plan = kernel / kernel.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(plan.sum(axis=0), n / m, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("similarity", ["cosine", "correlation", "euclidean"])
def test_equal_candidates_keep_equal_scores(method: str, similarity: str) -> None:
    gallery = vectors(8, 40, 7)[np.random.default_rng(9).integers(0, 12, 301)]
    offset = hub_offsets(
        vectors(10, 33, 7), gallery, method=method, similarity=similarity, temperature=0.2
    )
    for row in np.unique(gallery, axis=0):
        assert len(np.unique(offset[(gallery == row).all(axis=1)])) == 1
    assert len(np.unique(offset)) == len(np.unique(gallery, axis=0))


def test_options_out_of_range() -> None:
    one = vectors(11, 4, 3)
    with pytest.raises(ConfigError, match="expected one of"):
        hub_offsets(one, one, method="hubert")
    with pytest.raises(ConfigError, match="k=0"):
        hub_offsets(one, one, method="csls", k=0)
    with pytest.raises(ConfigError, match="temperature=0"):
        hub_offsets(one, one, method="sinkhorn", temperature=0)
    with pytest.raises(ConfigError, match="too small for similarities"):
        hub_offsets(one, one, method="sinkhorn", temperature=1e-4)


def hub_study(seed: int = 0, n_test: int = 60, n_train: int = 90, d: int = 40):
    """Return predictions that all lean one way, where one candidate lies."""
    rng = np.random.default_rng(seed)
    n = n_test + n_train
    lean = rng.standard_normal(d)
    lean /= np.linalg.norm(lean)
    vectors = rng.standard_normal((n, d))
    vectors -= (vectors @ lean)[:, None] * lean
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors += 0.3 * lean
    hub = n_test - 1
    vectors[hub] = lean
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = np.array([f"s{i:03d}" for i in range(n)])
    predicted = vectors + 1.2 * lean + 0.05 * rng.standard_normal((n, d))
    fingerprint = {"name": "tiny"}
    embeddings = Embeddings(ids, vectors.astype(np.float32), "image", fingerprint)
    parts = []
    for rows in (np.arange(n_test), np.arange(n_test, n)):
        parts.append(
            Predictions(
                vectors=predicted[rows].astype(np.float32),
                stimulus_id=ids[rows],
                group=np.full(len(rows), "r"),
                fold=np.full(len(rows), "all"),
                n_repeats=np.ones(len(rows), dtype=np.int64),
                train_ids=ids[n_test:],
                unit="stimulus",
                fingerprint=fingerprint,
                info={"subject": "01", "roi": "v"},
            )
        )
    return parts[0], parts[1], embeddings, ids[hub]


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("method", METHODS)
def test_a_planted_hub_ruins_plain_cosine_and_is_cured(method: str, statistics: str) -> None:
    test, training, embeddings, hub = hub_study()
    ids = gallery_ids(test, embeddings)
    plain = retrieve(test, embeddings, ids)
    assert (plain.queries["rank"] == 1).mean() < 0.1
    assert (plain.top_id[:, 0] == hub).mean() > 0.9
    correction = CorrectionConfig(method=method, statistics=statistics)
    cured = retrieve(test, embeddings, ids, correction=correction, training=training)
    assert (cured.queries["rank"] == 1).mean() > 0.9
    assert (cured.top_id[:, 0] == hub).mean() < 0.1


@pytest.mark.parametrize("direction", ["brain_to_image", "image_to_brain"])
@pytest.mark.parametrize("method", METHODS)
def test_transductive_is_written_on_it_and_inductive_ignores_the_other_queries(
    method: str, direction: str
) -> None:
    test, training, embeddings, _ = hub_study(1, n_test=12, n_train=30)
    ids = gallery_ids(test, embeddings)
    half = replace(
        test,
        **{
            name: getattr(test, name)[:5]
            for name in ("vectors", "stimulus_id", "group", "fold", "n_repeats")
        },
    )
    found = {}
    for statistics in STATISTICS:
        settings = {
            "direction": direction,
            "correction": CorrectionConfig(method=method, statistics=statistics, temperature=0.2),
            "training": training,
        }
        whole = retrieve(test, embeddings, ids, **settings)
        part = retrieve(half, embeddings, ids, **settings)
        columns = slice(None) if direction == "brain_to_image" else slice(5)
        found[statistics] = np.array_equal(whole.similarity[:5, columns], part.similarity)
        assert whole.info["transductive"] is (statistics == "test")
        assert ("transductive" in whole.info["correction"]) is (statistics == "test")
        assert ("transductive" in whole.info["correction_statistics"]) is (statistics == "test")
    if direction == "image_to_brain" and method == "sinkhorn":
        # Balancing is joint over the candidates, which here are the test samples.
        return
    assert found["train"]
    assert not found["test"]


@pytest.mark.parametrize("direction", ["brain_to_image", "image_to_brain"])
def test_each_fold_is_corrected_by_its_own_training(direction: str) -> None:
    test, training, embeddings, _ = hub_study(2, n_test=8, n_train=20)
    test = replace(test, fold=np.array(list("aabbabab")))
    training = replace(training, fold=np.array(["a", "b"] * 10))
    ids = gallery_ids(test, embeddings)
    correction = CorrectionConfig(method="csls", k=4)
    result = retrieve(
        test, embeddings, ids, direction=direction, correction=correction, training=training
    )
    plain = retrieve(test, embeddings, ids, direction=direction).similarity
    pictures = embeddings.vectors[embeddings.rows(ids)]
    for fold in "ab":
        own = training.fold == fold
        rows = np.flatnonzero(test.fold == fold)
        if direction == "brain_to_image":
            near = np.sort(cosines(training.vectors[own], pictures), axis=0)[-4:].mean(axis=0)
            expected = plain[rows] - near / 2
            np.testing.assert_allclose(result.similarity[rows], expected, atol=2e-7)
        else:
            shown = embeddings.vectors[embeddings.rows(training.stimulus_id[own])]
            near = np.sort(cosines(shown, test.vectors[rows]), axis=0)[-4:].mean(axis=0)
            expected = plain[:, rows] - near / 2
            np.testing.assert_allclose(result.similarity[:, rows], expected, atol=2e-7)


def test_training_that_does_not_belong_to_the_test_is_refused(
    make_study: Callable[..., Study],
) -> None:
    test, training, embeddings, _ = hub_study(3, n_test=9, n_train=20)
    ids = gallery_ids(test, embeddings)

    def rank(other: Predictions | None) -> None:
        retrieve(test, embeddings, ids, correction=CorrectionConfig(), training=other)

    with pytest.raises(DataError, match="Pass --decoder and --voxels"):
        rank(None)
    leaking = replace(training, stimulus_id=np.r_[training.stimulus_id[:-1], test.stimulus_id[:1]])
    with pytest.raises(LeakageError, match="1 test stimuli are among the training predictions"):
        rank(leaking)
    bad = replace(
        training, fingerprint={"name": "x"}, fold=np.full(20, "b"), vectors=training.vectors[:, :3]
    )
    with pytest.raises(DataError) as caught:
        rank(replace(bad, info={"subject": "02", "roi": "v"}))
    for words in ("another encoder", "lack the folds 'all'", "3 dimensions", "of subject 02"):
        assert words in str(caught.value)


def test_without_options_nothing_is_corrected(make_study, monkeypatch) -> None:
    monkeypatch.setattr(rank_module, "correct_table", None)
    predictions, embeddings = make_study()
    info = retrieve(predictions, embeddings, gallery_ids(predictions, embeddings)).info
    assert not {"correction", "transductive", "candidate_sets"} & set(info)


@pytest.mark.parametrize("method", METHODS)
def test_hubs_among_real_clip_vectors(method: str, shared_data: Path) -> None:
    # Names as CLIP ViT-B/32 encodes them, and predictions of them with known noise.
    vectors = np.load(shared_data / "clip_vit_b32_names/text_vectors.npy").astype(np.float32)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(vectors))
    mean = vectors.mean(axis=0)

    def predict(rows: np.ndarray) -> np.ndarray:
        noise = 0.045 * rng.standard_normal((len(rows), vectors.shape[1]))
        return mean + 0.5 * (vectors[rows] - mean) + noise

    test = order[:400]
    queries, reference = predict(test), predict(order[400:])
    plain = nearest(queries, vectors, k=10).index
    offset = hub_offsets(reference, vectors, method=method)
    found = nearest(queries, vectors, k=10, offset=offset).index
    most = [np.bincount(index.ravel()).max() for index in (plain, found)]
    assert most[0] > 80 and most[1] < 40
    first = [(index[:, 0] == test).mean() for index in (plain, found)]
    # Inverted softmax evens hubs out more than it helps here; the others gain 3 to 9 points.
    assert first[1] > first[0] + (0.03 if method != "inverted_softmax" else 0.0)
