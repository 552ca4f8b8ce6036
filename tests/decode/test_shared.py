"""The shared-subject decoder: against closed forms, and what it must refuse."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.base import clone

from braindecode_clip.cli.main import main
from braindecode_clip.config.decode import SharedConfig
from braindecode_clip.config.study import StudyConfig, parse_study
from braindecode_clip.decode import FittedDecoder, SharedDecoder, apply_decoder, decode_shared
from braindecode_clip.decode.shared import learn_space
from braindecode_clip.decode.shared_space import (
    NOISE_RATIOS,
    fit_tuning,
    invert,
    principal_directions,
    tuning_moment,
    tuning_prior,
)
from braindecode_clip.errors import ConfigError, DataError, LeakageError
from braindecode_clip.io.hdf5 import load_artifact, save_artifact
from braindecode_clip.provenance import Provenance

CONFIG = SharedConfig(n_components=20)


@pytest.fixture
def family(make_toy, make_voxel_set):
    """Three subjects of unequal voxels and rows, with pictures of their own; 40 shared tests."""
    toy = make_toy(n_pictures=300, n_voxels=40, seed=3)
    sets = []
    for i, (n_voxels, n_train) in enumerate([(90, 100), (130, 90), (110, 24)]):
        rng = np.random.default_rng(i)
        toy.signal = toy.vectors @ rng.standard_normal((32, n_voxels))
        toy.signal /= toy.signal.std(axis=0)
        toy.shared = rng.standard_normal((5, n_voxels))
        train = np.arange(i * 90, i * 90 + n_train)
        made = make_voxel_set(
            [
                (
                    "all",
                    toy.samples(train % 260, group=[f"run-{k // 12}" for k in range(n_train)]),
                    toy.samples(np.arange(260, 300), group=["run-0"] * 40, repeats=3),
                )
            ],
            n_voxels=n_voxels,
        )
        sets.append(dataclasses.replace(made, subject=f"{i + 1:02d}"))
    return toy, sets


def small_problem(n=14, p=9, k=5, seed=0):
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((n, k)) * np.linspace(2, 0.5, k)
    root = rng.standard_normal((k, k))
    W = rng.standard_normal((k, p))
    return rng, Z, root @ root.T / k, Z @ W + 0.8 * rng.standard_normal((n, p)) + 3


def test_weights_are_the_posterior_mean_of_the_largest_likelihood():
    _, Z, T, X = small_problem()
    n = len(X)
    centre = np.eye(n) - 1 / n
    K = centre @ Z @ T @ Z.T @ centre
    # Without the constant: n - 1 orthonormal contrasts.
    contrasts = np.linalg.svd(centre)[0][:, : n - 1]
    likelihoods = []
    for ratio in NOISE_RATIOS:
        covariance = contrasts.T @ (K + ratio * np.trace(K) / n * np.eye(n)) @ contrasts
        rotated = contrasts.T @ X
        scale = np.einsum("iv,ij,jv->", rotated, np.linalg.inv(covariance), rotated) / rotated.size
        normal = multivariate_normal(np.zeros(n - 1), scale * covariance)
        likelihoods.append(normal.logpdf(rotated.T).sum())
    noise = NOISE_RATIOS[int(np.argmax(likelihoods))] * np.trace(K) / n
    expected = T @ Z.T @ centre @ np.linalg.inv(K + noise * np.eye(n)) @ (X - X.mean(axis=0))
    found = fit_tuning(X, Z, T)
    np.testing.assert_allclose(found.weights, expected, rtol=1e-8)
    # Residual of row 4: refit without it, with the noise that all rows chose.
    rest = np.arange(n) != 4
    z_mean, x_mean = Z[rest].mean(axis=0), X[rest].mean(axis=0)
    Zc = Z[rest] - z_mean
    without = T @ Zc.T @ np.linalg.solve(Zc @ T @ Zc.T + noise * np.eye(n - 1), X[rest] - x_mean)
    expected = X[4] - x_mean - (Z[4] - z_mean) @ without
    np.testing.assert_allclose(found.residual[4], expected, rtol=1e-7)


@pytest.mark.parametrize("a", [0.0, 0.3])
def test_inverse_is_the_gaussian_posterior(a):
    _, Z, T, X = small_problem(seed=1)
    tuning = fit_tuning(X, Z, T)
    variance = np.linspace(3, 1, 5)
    coef, intercept = invert(tuning, variance, residual_weight=a)
    R, W = tuning.residual, tuning.weights
    noise = a * R.T @ R / len(R) + (1 - a) * np.square(R).mean() * np.eye(R.shape[1])
    V = np.diag(variance + 0.01 * variance.mean())
    # The other form of the same posterior: V W (Wᵀ V W + noise)⁻¹.
    expected = np.linalg.solve(W.T @ V @ W + noise, W.T @ V)
    np.testing.assert_allclose(coef, expected, rtol=1e-8)
    np.testing.assert_allclose(intercept, -X.mean(axis=0) @ expected, rtol=1e-8)


def test_tuning_moment_is_free_of_the_noise():
    rng = np.random.default_rng(0)
    k, p = 4, 4000
    T = np.diag([3.0, 1.0, 0.3, 0.0])
    W = np.sqrt(T) @ rng.standard_normal((k, p))
    Z = rng.standard_normal((30, k))
    X = Z @ W + 3 * rng.standard_normal((30, p))
    found = tuning_moment(X, Z)
    # With the noise left in, 9 / 30 would stand on the diagonal.
    np.testing.assert_allclose(found, T, atol=0.12)
    np.testing.assert_allclose(np.trace(tuning_prior([found])) / k, 1)
    np.testing.assert_array_equal(tuning_prior([-np.eye(3)]), np.eye(3))


def test_directions_are_those_of_the_pooled_rows():
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal((n, 6)) * np.arange(1, 7) + 2 for n in (20, 31)]
    mean, basis, variance = principal_directions(parts, n_components=3)
    pooled = np.concatenate(parts)
    _, s, vt = np.linalg.svd(pooled - pooled.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(mean, pooled.mean(axis=0))
    np.testing.assert_allclose(variance, s[:3] ** 2 / len(pooled))
    np.testing.assert_allclose(np.abs((vt[:3] @ basis).diagonal()), 1)
    with pytest.raises(DataError, match="nothing to decode"):
        principal_directions([np.ones((5, 6))], n_components=3)


def test_estimator_is_linear_and_can_be_cloned(family):
    toy, sets = family
    train = sets[2].folds[0].train
    rows = toy.embeddings().rows(train.stimulus_id)
    X, Y = train.data.astype(np.float64), toy.vectors[rows].astype(np.float64)
    model = SharedDecoder(n_components=10, cv=3, alphas=[30.0]).fit(X, Y)
    assert np.isfinite(model.out_of_fold_).all()
    copied = clone(model)
    assert copied.get_params()["cv"] == 3
    np.testing.assert_array_equal(copied.fit(X, Y).coef_, model.coef_)
    np.testing.assert_allclose(model.predict(X), X @ model.coef_ + model.intercept_)
    with pytest.raises(ValueError, match="one axis"):
        SharedDecoder().fit(X, Y[:, 0])


def test_held_out_predictions_know_nothing_of_their_rows():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((60, 80)), rng.standard_normal((60, 6))
    model = SharedDecoder(n_components=6, alphas=[10.0]).fit(X, Y)
    correlations = [
        np.corrcoef(predicted.ravel(), Y.ravel())[0, 1]
        for predicted in (model.out_of_fold_, model.predict(X))
    ]
    # 360 numbers of noise correlate by about 0.05, those that were fitted by much more.
    assert correlations[0] < 0.2 < 0.6 < correlations[1]


def test_the_prior_of_others_helps_a_subject_with_little_data(ranks):
    # All brains answer to few directions of the embedding, and to the same ones.
    gains, d = [], 24
    for seed in range(6):
        rng = np.random.default_rng(seed)
        tuned = np.linalg.qr(rng.standard_normal((d, d)))[0] * np.geomspace(1, 0.03, d)
        subjects = []
        for n_voxels, n in ((90, 150), (130, 140), (110, 90)):
            Y = rng.standard_normal((n, d))
            signal = Y @ tuned @ rng.standard_normal((d, n_voxels))
            noise = 2 * signal.std(axis=0) * rng.standard_normal(signal.shape)
            subjects.append((signal + noise, Y))
        X, Y = subjects.pop()
        space = learn_space(*zip(*subjects, strict=True), n_components=d, own=Y[:30])
        scores, maps = [], []
        for used in (space, None, dataclasses.replace(space, tuning=np.eye(d))):
            model = SharedDecoder(used, n_components=d).fit(X[:30], Y[:30])
            scores.append(np.log(ranks(model.predict(X[30:]), Y[30:])).mean())
            maps.append(model.coef_)
        gains.append(scores[1] - scores[0])
    assert np.mean(gains) > 3 * np.std(gains, ddof=1) / np.sqrt(len(gains))
    # The spaces differ in their tuning alone, and it does enter the map.
    assert np.abs(maps[0] - maps[2]).max() > 0.01 * np.abs(maps[0]).max()


def test_predicts_every_subject_and_keeps_what_was_seen(family, ranks, tmp_path):
    toy, sets = family
    results = decode_shared(sets, toy.embeddings(), config=CONFIG, encoder="toy")
    everyone = np.unique(np.concatenate([s.folds[0].train.stimulus_id for s in sets]))
    for voxels, (predictions, fitted) in zip(sets, results, strict=True):
        assert predictions.info["subject"] == fitted.subject == voxels.subject
        assert predictions.info["decoder"] == "shared"
        np.testing.assert_array_equal(predictions.train_ids, everyone)
        assert fitted.folds[0].info["n_other_subjects"] == 2
        assert np.median(ranks(predictions.vectors, toy.vectors[260:])) < 10
        path = tmp_path / f"{voxels.subject}.h5"
        save_artifact(path, fitted, Provenance("decode", {}, {}, None, ""))
        again = apply_decoder(load_artifact(path, FittedDecoder), voxels, toy.embeddings())
        np.testing.assert_array_equal(again.vectors, predictions.vectors)


def test_refuses_a_test_picture_that_another_subject_was_trained_on(family):
    toy, sets = family
    fold = sets[0].folds[0]
    ids = fold.train.stimulus_id.copy()
    ids[3] = "pic-271"
    train = dataclasses.replace(fold.train, stimulus_id=ids)
    # Planted in the first subject's train; the test pictures of its own leave it out.
    keep = np.flatnonzero(fold.test.stimulus_id != "pic-271")
    test = dataclasses.replace(
        fold.test,
        **{f.name: getattr(fold.test, f.name)[keep] for f in dataclasses.fields(fold.test)},
    )
    planted = dataclasses.replace(
        sets[0], folds=(dataclasses.replace(fold, train=train, test=test),)
    )
    with pytest.raises(LeakageError, match="another: 'pic-271'"):
        decode_shared([planted, *sets[1:]], toy.embeddings(), config=CONFIG)
    statistics = dataclasses.replace(fold, seen=np.append(fold.seen, "pic-280"))
    planted = dataclasses.replace(sets[0], folds=(statistics,))
    with pytest.raises(LeakageError, match="'pic-280'"):
        decode_shared([sets[1], planted], toy.embeddings(), config=CONFIG)


def test_refuses_sets_that_do_not_belong_together(family):
    toy, sets = family
    with pytest.raises(DataError, match="two or more different subjects"):
        decode_shared([sets[0], sets[0]], toy.embeddings(), config=CONFIG)
    other = dataclasses.replace(sets[1], roi="early", unit="run")
    with pytest.raises(DataError, match=r"(?s)2 problems.*'roi' differs.*holds out runs"):
        decode_shared([sets[0], other], toy.embeddings(), config=CONFIG)
    renamed = dataclasses.replace(sets[1].folds[0], name="cat")
    other = dataclasses.replace(sets[1], folds=(renamed,))
    with pytest.raises(DataError, match="sub-02 has no fold 'all'"):
        decode_shared([sets[0], other], toy.embeddings(), config=CONFIG)


def test_command_writes_for_every_subject(family, tmp_path, capsys):
    toy, sets = family
    record = Provenance("test", {"name": "toy-clip"}, {}, None, "")
    embeddings = tmp_path / "embeddings.h5"
    save_artifact(embeddings, toy.embeddings(), record)
    flags = ["--embeddings", str(embeddings), "--options", "{n_components: 12}"]
    for item in sets:
        path = tmp_path / f"{item.subject}.h5"
        save_artifact(path, item, record)
        flags += [str(path), "--out", str(tmp_path / f"{item.subject}_pred.h5")]
        flags += ["--out-decoder", str(tmp_path / f"{item.subject}_dec.h5")]
    assert main(["decode-shared", *flags]) == 0
    fitted = load_artifact(tmp_path / "02_dec.h5", FittedDecoder)
    assert (fitted.subject, fitted.encoder, fitted.folds[0].info["n_components"]) == (
        "02",
        "toy-clip",
        12,
    )
    assert main(["decode-shared", *flags[:6], "--out", str(tmp_path / "x.h5")]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_a_split_by_runs_is_refused_in_the_config():
    part = {
        "study": "x",
        "rois": [{"name": "v", "mask": "m"}],
        "encoders": [{"name": "s", "kind": "scenes"}],
        "galleries": [{"name": "t", "candidates": "test"}],
        "decoders": [{"kind": "shared"}],
    }
    with pytest.raises(ConfigError, match="holds out runs"):
        parse_study(
            part | {"splits": [{"name": "r", "scheme": "leave_one_run_out"}]}, where="config"
        )
    good = part | {"splits": [{"name": "s", "scheme": "stimulus"}]}
    curve = {"calibration_curve": {"enabled": True, "trial_s": 3}}
    with pytest.raises(ConfigError, match="needs a decoder of kind 'shared'"):
        parse_study(good | curve | {"decoders": [{"kind": "ridge"}]}, where="config")
    with pytest.raises(ConfigError, match=r"whitening"):
        parse_study(good | {"decoders": [{"kind": "shared", "whitening": [1, 0]}]}, where="config")
    assert isinstance(
        parse_study(part | {"splits": [{"name": "s", "scheme": "stimulus"}]}, where="config"),
        StudyConfig,
    )
