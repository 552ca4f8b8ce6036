"""Principal components and whitening of the targets, fitted on training rows alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.decomposition import PCA

from braindecode_clip.artifacts import Embeddings
from braindecode_clip.config.decode import ContrastiveConfig, EnsembleConfig, MLPConfig, RidgeConfig
from braindecode_clip.config.decode_linear import (
    KernelRidgeConfig,
    PCARidgeConfig,
    ReducedRankConfig,
)
from braindecode_clip.decode import RidgeDecoder, apply_decoder, combine, decode, fit_calibration
from braindecode_clip.decode.targets import fit_target_space, restore_targets
from braindecode_clip.errors import DataError
from braindecode_clip.io.hdf5 import load_artifact, save_artifact
from braindecode_clip.provenance import Provenance


def test_components_equal_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    targets = rng.standard_normal((23, 9)) * np.linspace(3, 0.2, 9) + 5
    ids = np.arange(23).astype(str)
    space = fit_target_space(targets, ids, method="pca", n_components=4)
    reference = PCA(4, svd_solver="full").fit(targets)
    got, want = space.apply(targets), reference.transform(targets)
    sign = np.sign((got * want).sum(axis=0))
    np.testing.assert_allclose(got, want * sign, atol=1e-12)
    assert space.explained == pytest.approx(reference.explained_variance_ratio_.sum(), rel=1e-12)
    back = restore_targets(got, space.backward, space.mean)
    np.testing.assert_allclose(back, reference.inverse_transform(want), atol=1e-12)


def test_whitening_against_its_formula():
    rng = np.random.default_rng(1)
    targets = rng.standard_normal((40, 6)) @ rng.standard_normal((6, 6))
    ids = np.arange(40).astype(str)
    exact = fit_target_space(targets, ids, method="whiten", shrinkage=0)
    whitened = exact.apply(targets)
    np.testing.assert_allclose(whitened.T @ whitened / 40, np.eye(6), atol=1e-10)
    space = fit_target_space(targets, ids, method="whiten", shrinkage=0.3, n_components=5)
    values = np.linalg.eigvalsh(np.cov(targets.T, ddof=0))[::-1][:5]
    variance = space.apply(targets).var(axis=0)
    np.testing.assert_allclose(variance, values / (values + 0.3 * values.mean()), rtol=1e-10)
    all_of_them = fit_target_space(targets, ids, method="whiten", shrinkage=0.3)
    back = restore_targets(all_of_them.apply(targets), all_of_them.backward, all_of_them.mean)
    np.testing.assert_allclose(back, targets, atol=1e-10)


def test_repeats_of_a_stimulus_count_once_and_rank_is_a_limit():
    rng = np.random.default_rng(2)
    distinct = rng.standard_normal((7, 12))
    rows = np.array([0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 6])
    space = fit_target_space(distinct[rows], rows.astype(str), method="pca", n_components=50)
    np.testing.assert_allclose(space.mean, distinct.mean(axis=0), atol=1e-14)
    # Seven points span six directions.
    assert space.backward.shape == (6, 12)
    with pytest.raises(DataError, match="do not vary"):
        fit_target_space(distinct[[1, 1]], np.array(["a", "b"]), method="pca")


def test_ridge_in_components_is_what_the_parts_give(picture_set, toy):
    config = RidgeConfig(target_space={"method": "whiten", "n_components": 10, "shrinkage": 0})
    predictions, fitted = decode(picture_set, toy.embeddings(), config=config, seed=1)
    (fold,) = picture_set.folds
    train = toy.vectors[:160].astype(np.float64)
    reference = PCA(10, whiten=True, svd_solver="full").fit(train)
    parts = (reference.transform(train) * np.sqrt(160 / 159)).astype(np.float32)
    ridge = RidgeDecoder(alphas=np.geomspace(1, 1e7, 20), cv=5, out_of_fold=True)
    ridge.fit(fold.train.data, parts)

    def back(components):
        return reference.inverse_transform(components / np.sqrt(160 / 159))

    gain, offset = fit_calibration(back(ridge.out_of_fold_), train, method="spread")
    want = back(ridge.predict(fold.test.data)) * gain + offset
    np.testing.assert_allclose(predictions.vectors, want, atol=2e-5)
    info = predictions.info["folds"][0]["target_space"]
    assert info["n_components"] == 10
    assert info["explained"] == pytest.approx(reference.explained_variance_ratio_.sum(), rel=1e-6)
    assert fitted.options["target_space"]["method"] == "whiten"


def test_one_penalty_for_all_does_not_see_a_rotation(picture_set, toy):
    plain = RidgeConfig(alpha_groups="all")
    turned = RidgeConfig(alpha_groups="all", target_space={"method": "pca"})
    first, _ = decode(picture_set, toy.embeddings(), config=plain, seed=1)
    second, _ = decode(picture_set, toy.embeddings(), config=turned, seed=1)
    np.testing.assert_allclose(first.vectors, second.vectors, atol=2e-5)


KINDS = [
    RidgeConfig,
    KernelRidgeConfig,
    PCARidgeConfig,
    ReducedRankConfig,
    ContrastiveConfig,
    lambda **o: MLPConfig(hidden=32, max_epochs=15, n_members=2, **o),
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_back_into_the_embedding(kind, picture_set, toy, ranks, tmp_path):
    config = kind(calibration="none", target_space={"method": "pca", "n_components": 12})
    predictions, fitted = decode(picture_set, toy.embeddings(), config=config, seed=1)
    assert predictions.vectors.shape == (40, 32)
    reference = PCA(12, svd_solver="full").fit(toy.vectors[:160].astype(np.float64))
    inside = reference.inverse_transform(reference.transform(predictions.vectors))
    np.testing.assert_allclose(predictions.vectors, inside, atol=2e-5)
    assert np.mean(ranks(predictions.vectors, toy.vectors[160:])) < 14
    save_artifact(tmp_path / "d.h5", fitted, Provenance("decode", {}, {}, None, ""))
    again = apply_decoder(
        load_artifact(tmp_path / "d.h5", type(fitted)), picture_set, toy.embeddings()
    )
    np.testing.assert_array_equal(again.vectors, predictions.vectors)


def test_test_targets_have_no_part_in_it(picture_set, toy):
    config = RidgeConfig(target_space={"method": "whiten"})
    rng = np.random.default_rng(3)
    other = toy.vectors.copy()
    other[160:] = other[160:][rng.permutation(40)] @ np.diag(rng.choice([-1.0, 1.0], 32))
    changed = dataclasses.replace(toy.embeddings(), vectors=other.astype(np.float32))
    assert isinstance(changed, Embeddings)
    first, _ = decode(picture_set, toy.embeddings(), config=config, seed=1)
    second, _ = decode(picture_set, changed, config=config, seed=1)
    np.testing.assert_array_equal(first.vectors, second.vectors)


def test_members_of_an_ensemble_may_have_other_spaces(picture_set, toy):
    configs = [
        RidgeConfig(name="one", target_space={"method": "pca", "n_components": 6}),
        RidgeConfig(name="two", target_space={"method": "whiten"}),
        RidgeConfig(name="three"),
    ]
    runs = [decode(picture_set, toy.embeddings(), config=c, seed=1) for c in configs]
    config = EnsembleConfig(members=("one", "two", "three"), calibration="none", method="error")
    mixed, fitted = combine([fit for _, fit in runs], picture_set, toy.embeddings(), config=config)
    weights = fitted.folds[0].array("weights")
    want = sum(
        w * run.vectors.astype(np.float64) for w, (run, _) in zip(weights, runs, strict=True)
    )
    np.testing.assert_allclose(mixed.vectors, want, atol=1e-5)


def test_raw_vectors_can_be_decoded(picture_set, toy, ranks):
    scale = np.random.default_rng(4).uniform(5, 15, (200, 1))
    raw = Embeddings(
        toy.ids,
        (toy.vectors * scale).astype(np.float32),
        "image",
        {"name": "toy", "unit_norm": False},
    )
    predictions, _ = decode(picture_set, raw, config=RidgeConfig(), seed=1)
    assert 5 < np.linalg.norm(predictions.vectors, axis=1).mean() < 15
    assert np.mean(ranks(predictions.vectors, toy.vectors[160:])) < 14
