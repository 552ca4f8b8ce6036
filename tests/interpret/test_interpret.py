"""Activation patterns against the paper's formula, and maps with a known answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from braindecode_clip.artifacts import Predictions
from braindecode_clip.errors import DataError
from braindecode_clip.interpret import (
    activation_pattern,
    dimension_table,
    pattern_strength,
    voxel_maps,
)
from braindecode_clip.metrics import correlation


def linear(seed: int = 0, n: int = 60, v: int = 9, d: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    responses = rng.standard_normal((n, v)) @ rng.standard_normal((v, v)) + 5
    return responses, rng.standard_normal((v, d))


def test_a_linear_decoder_has_haufes_pattern() -> None:
    responses, weights = linear()
    predicted = responses @ weights + 3
    pattern = activation_pattern(responses, predicted, variance=1.0)
    expected = np.cov(responses.T) @ weights @ np.linalg.inv(np.cov(predicted.T))
    np.testing.assert_allclose(pattern, expected, rtol=1e-9, atol=1e-10)


def test_the_pattern_finds_the_signal_where_the_weights_do_not() -> None:
    # Voxel 2 carries only the noise of voxel 1: the decoder needs it, no signal comes from it.
    rng = np.random.default_rng(1)
    signal, noise = rng.standard_normal((2, 4000))
    responses = np.stack([signal + noise, noise], axis=1)
    weights = np.array([[1.0], [-1.0]])
    pattern = activation_pattern(responses, responses @ weights)
    np.testing.assert_allclose(pattern[:, 0], [1, 0], atol=0.06)


def test_leading_components_alone_are_inverted() -> None:
    responses, weights = linear(2)
    predicted = responses @ weights
    values, axes = np.linalg.eigh(np.cov(predicted.T))
    held = np.cumsum(values[::-1]) / values.sum()
    for n_kept in (1, 2, 3):
        share = held[n_kept - 1]
        lead = axes[:, ::-1][:, :n_kept]
        inverse = lead / values[::-1][:n_kept] @ lead.T
        expected = np.cov(responses.T) @ weights @ inverse
        found = activation_pattern(responses, predicted, variance=share)
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("variance", [0.5, 0.9, 1.0])
def test_strength_is_the_norm_in_the_metric_of_the_predictions(variance: float) -> None:
    responses, weights = linear(3)
    predicted = np.tanh(responses @ weights)
    pattern = activation_pattern(responses, predicted, variance=variance)
    covariance = np.cov(predicted.T, bias=True)
    expected = np.sqrt(np.diag(pattern @ covariance @ pattern.T))
    found = pattern_strength(responses, predicted, variance=variance)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert (found <= responses.std(axis=0) * (1 + 1e-12)).all()


def test_strength_does_not_depend_on_the_basis_of_the_embedding() -> None:
    responses, weights = linear(4)
    predicted = responses @ weights
    rotation = np.linalg.qr(np.random.default_rng(5).standard_normal((4, 4)))[0]
    found = pattern_strength(responses, predicted)
    np.testing.assert_allclose(pattern_strength(responses, 7 * predicted @ rotation + 1), found)


def test_more_dimensions_than_samples() -> None:
    responses, _ = linear(6, n=10)
    predicted = responses @ np.random.default_rng(7).standard_normal((9, 40))
    found = pattern_strength(responses, predicted.astype(np.float32), variance=1.0)
    np.testing.assert_allclose(found, responses.std(axis=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("responses", "predicted", "words"),
    [
        (np.ones((5, 3)), np.ones((4, 2)), "shape"),
        (np.ones((1, 3)), np.ones((1, 2)), "at least 2"),
        (np.eye(5), np.full((5, 2), 0.1, dtype=np.float32), "the same for all samples"),
        (np.eye(5), np.zeros((5, 2)), "the same for all samples"),
    ],
)
def test_refusals(responses: np.ndarray, predicted: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        activation_pattern(responses, predicted)


def truth(voxels: object, embeddings: object) -> list[np.ndarray]:
    return [embeddings.vectors[embeddings.rows(f.train.stimulus_id)] for f in voxels.folds]


def test_informative_voxels_stand_out(make_voxels: Callable) -> None:
    voxels, embeddings = make_voxels(n_informative=6)
    maps = voxel_maps(voxels, truth(voxels, embeddings), variance=1.0)
    assert maps.pattern[:6].min() > 0.6
    assert maps.pattern[6:22].max() < 0.45
    assert np.isnan(maps.pattern[22:]).all()
    assert np.array_equal(maps.reliability, voxels.reliability, equal_nan=True)
    assert np.array_equal(maps.ncsnr, voxels.ncsnr, equal_nan=True)
    assert np.array_equal(maps.noise_ceiling, voxels.noise_ceiling, equal_nan=True)


def test_folds_are_averaged_where_they_kept_a_voxel(make_voxels: Callable) -> None:
    voxels, embeddings = make_voxels(n_folds=3)
    predicted = truth(voxels, embeddings)
    maps = voxel_maps(voxels, predicted)
    table = np.full((3, 24), np.nan)
    for row, fold, values in zip(table, voxels.folds, predicted, strict=True):
        row[fold.voxel_index] = pattern_strength(fold.train.data, values)
    assert np.isfinite(table[:, 0]).sum() == 1
    np.testing.assert_allclose(maps.pattern[:22], np.nanmean(table[:, :22], axis=0), rtol=1e-6)


def test_predictions_of_another_number_of_folds_are_refused(make_voxels: Callable) -> None:
    voxels, embeddings = make_voxels(n_folds=2)
    with pytest.raises(DataError, match="for 1 folds, the voxels have 2"):
        voxel_maps(voxels, truth(voxels, embeddings)[:1])


@pytest.fixture
def predictions(make_voxels: Callable) -> Predictions:
    """Return test predictions that know dimension 1 best and dimension 0 not at all."""
    voxels, embeddings = make_voxels()
    test = voxels.folds[0].test
    rng = np.random.default_rng(8)
    vectors = embeddings.vectors[embeddings.rows(test.stimulus_id)] * [0, 1, 1]
    noise = rng.standard_normal(vectors.shape) * [1, 0.1, 0.5]
    return Predictions(
        vectors=(vectors + noise).astype(np.float32),
        stimulus_id=test.stimulus_id,
        group=test.group,
        fold=np.full(20, "fold-0"),
        n_repeats=test.n_repeats,
        train_ids=voxels.folds[0].seen,
        unit="stimulus",
        fingerprint={"model": "tiny"},
        info={},
    )


def test_best_dimensions_and_the_pictures_at_their_ends(
    make_voxels: Callable, predictions: Predictions
) -> None:
    _, embeddings = make_voxels()
    table = dimension_table(predictions, embeddings, n_dims=2, n_pictures=3)
    targets = embeddings.vectors[embeddings.rows(predictions.stimulus_id)]
    r = correlation(predictions.vectors, targets)
    assert table["dim"].tolist() == np.argsort(-r)[:2].tolist() == [1, 2]
    assert table["correlation"].tolist() == pytest.approx(sorted(r)[::-1][:2])
    assert set(table["correlation_of"]) == {"test"}
    order = embeddings.ids[np.argsort(embeddings.vectors[:, 1])]
    assert table.loc[0, "most"] == ", ".join(order[::-1][:3])
    assert table.loc[0, "least"] == ", ".join(order[:3])


def test_dimensions_without_variation_are_not_listed(
    make_voxels: Callable, predictions: Predictions
) -> None:
    _, embeddings = make_voxels()
    vectors = embeddings.vectors * [0, 1, 1]
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    table = dimension_table(predictions, replace(embeddings, vectors=vectors), n_dims=9)
    assert sorted(table["dim"]) == [1, 2]


def test_embeddings_of_another_encoder_are_refused(
    make_voxels: Callable, predictions: Predictions
) -> None:
    _, embeddings = make_voxels()
    with pytest.raises(DataError, match="model: 'tiny' != 'other'"):
        dimension_table(predictions, replace(embeddings, fingerprint={"model": "other"}))


def test_a_decoder_that_predicts_only_the_mean_has_no_strength_anywhere() -> None:
    strength = pattern_strength(np.eye(5, 3), np.full((5, 2), 0.1, dtype=np.float32))
    np.testing.assert_array_equal(strength, np.zeros(3))
