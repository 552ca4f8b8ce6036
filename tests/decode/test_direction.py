"""The start of the contrastive decoder: refits, brute-force losses, and what it is good for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, KFold

from braindecode_clip.decode import (
    ContrastiveDecoder,
    RidgeDecoder,
    apply_calibration,
    fit_calibration,
)
from braindecode_clip.decode.direction import FLATTENINGS, DirectionSearch, Embedded, Judge
from braindecode_clip.decode.targets import Shape


def make_problem(n=44, p=70, d=6, seed=0, noise=1.0):
    """Rows whose noise voxels share, and targets of unit norm around a mean direction."""
    rng = np.random.default_rng(seed)
    Y = rng.standard_normal((n, d)) * np.geomspace(3, 0.3, d) + np.eye(d)[0] * 4
    Y /= np.linalg.norm(Y, axis=1, keepdims=True)
    X = (Y - Y.mean(axis=0)) @ rng.standard_normal((d, p)) * 3
    X += rng.standard_normal((n, 3)) @ rng.standard_normal((3, p)) + 2
    return X + noise * rng.standard_normal((n, p)), Y


def head(Y, s):
    """Divide principal direction k of the targets by ``1 + s λ_k / λ_1``."""
    _, root, vt = np.linalg.svd(Y - Y.mean(axis=0), full_matrices=False)
    return np.eye(Y.shape[1]) - vt.T @ np.diag(1 - 1 / (1 + s * root**2 / root[0] ** 2)) @ vt


def held_out(model, X, Y, splits):
    found = np.empty_like(Y)
    for train, test in splits:
        found[test] = model.fit(X[train], Y[train]).predict(X[test])
    return found


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def info_nce(one, two):
    """The smallest symmetric InfoNCE of unit vectors over a dense grid of logit scales."""
    cosines, losses = one @ two.T, []
    for scale in np.geomspace(1, 300, 2000):
        logits = scale * cosines
        both = logsumexp(logits, axis=1).mean() + logsumexp(logits, axis=0).mean()
        losses.append(both / 2 - logits.diagonal().mean())
    return min(losses)


def stimulus_loss(held, Y, stimuli, s):
    """InfoNCE of calibrated predictions, the repeats of a stimulus averaged."""
    flat = (held - Y.mean(axis=0)) @ head(Y, s)
    means = [
        np.array([part[stimuli == k].mean(axis=0) for k in np.unique(stimuli)])
        for part in (flat, Y - Y.mean(axis=0))
    ]
    gain = np.sqrt(means[1].var(axis=0).sum() / means[0].var(axis=0).sum())
    return info_nce(unit(gain * means[0] + Y.mean(axis=0)), unit(means[1] + Y.mean(axis=0)))


def search_of(X, Y, *, alphas, splits, stimuli):
    embedded = Embedded(Y, shape=Shape(Y.shape[1:]), pooled=False)
    folds = [test for _, test in splits]
    search = DirectionSearch(X, embedded, alphas=alphas, folds=folds, dtype=np.dtype(float))
    return search, Judge(stimuli, rows=np.arange(len(X)), rng=np.random.default_rng(0))


@pytest.mark.parametrize("shape", [(44, 70), (90, 12)])
def test_every_choice_is_the_best_of_refitted_ones(shape):
    X, Y = make_problem(*shape)
    stimuli = np.arange(len(X)) // 2
    splits = list(GroupKFold(4).split(X, groups=stimuli))
    alphas = np.array([1.0, 30.0, 900.0])
    search, judge = search_of(X, Y, alphas=alphas, splits=splits, stimuli=stimuli)
    held = {alpha: held_out(Ridge(alpha), X, Y, splits) for alpha in alphas}
    losses = {(a, s): stimulus_loss(held[a], Y, stimuli, s) for a in alphas for s in FLATTENINGS}
    found = search.best(judge)
    assert found.loss == pytest.approx(losses[found.alpha, found.flattening], abs=2e-4)
    # The search goes along the penalties, along the flattenings, and along the penalties again.
    first = min(alphas, key=lambda a: losses[a, 0.0])
    second = min(FLATTENINGS, key=lambda s: losses[first, s])
    assert found.flattening == second
    assert found.alpha == min(alphas, key=lambda a: losses[a, second])
    expected = Ridge(found.alpha).fit(X, Y).coef_.T @ head(Y, found.flattening)
    np.testing.assert_allclose(search.coefficients(found), expected, atol=1e-9)
    embedded = search.embedded
    np.testing.assert_allclose(
        found.held @ embedded.basis.T,
        (held[found.alpha] - Y.mean(axis=0)) @ head(Y, found.flattening),
        atol=1e-9,
    )


def test_ridge_is_judged_by_penalties_chosen_in_the_other_folds():
    X, Y = make_problem(seed=1, noise=8.0)
    stimuli = np.arange(len(X)) // 2
    splits = list(GroupKFold(4).split(X, groups=stimuli))
    alphas = np.array([3.0, 100.0, 3000.0])
    search, judge = search_of(X, Y, alphas=alphas, splits=splits, stimuli=stimuli)
    held = np.array([held_out(Ridge(alpha), X, Y, splits) for alpha in alphas])
    squares = np.square(held - Y)
    mixed = np.empty_like(Y)
    for _, test in splits:
        rest = np.setdiff1d(np.arange(len(X)), test)
        for t in range(Y.shape[1]):
            mixed[test, t] = held[squares[:, rest, t].sum(axis=1).argmin(), test, t]
    everywhere = squares.sum(axis=1).argmin(axis=0)
    assert not np.array_equal(mixed, np.take_along_axis(held, everywhere[None, None], 0)[0])
    plain, flat = search.best_of_ridge(judge)
    assert plain.loss == pytest.approx(stimulus_loss(mixed, Y, stimuli, 0.0), abs=2e-4)
    losses = [stimulus_loss(mixed, Y, stimuli, s) for s in FLATTENINGS]
    assert flat.loss == pytest.approx(min(losses), abs=2e-4)
    assert flat.flattening == FLATTENINGS[int(np.argmin(losses))]


def test_vectors_are_compared_as_they_are_after_calibration():
    rng = np.random.default_rng(2)
    Y = rng.standard_normal((30, 12)) + np.arange(12) / 4
    embedded = Embedded(Y, shape=Shape((4, 3)), pooled=False)
    raw = rng.standard_normal((30, 12)) * np.linspace(0.1, 1, 12)
    raw = raw - raw.mean(axis=0) + Y.mean(axis=0)
    calibrated = apply_calibration(raw, *fit_calibration(raw, Y))
    coordinates = (raw - embedded.mean) @ embedded.basis
    for pooled in (False, True):
        embedded = Embedded(Y, shape=Shape((4, 3)), pooled=pooled)
        found = embedded.predicted(coordinates, embedded.coordinates)
        vectors = embedded.vectors(embedded.coordinates)
        seen = [x.reshape(30, 4, 3).mean(axis=1) if pooled else x for x in (calibrated, Y)]
        np.testing.assert_allclose(found @ vectors.T, unit(seen[0]) @ unit(seen[1]).T, atol=1e-6)


def test_blocks_are_distractors_of_their_own():
    rng = np.random.default_rng(3)
    one, two = unit(rng.standard_normal((600, 5))), unit(rng.standard_normal((600, 5)))
    two = unit(two + 3 * one)
    judge = Judge(np.arange(600), rows=np.arange(600), rng=np.random.default_rng(0))
    assert sorted(map(len, judge.blocks)) == [200, 200, 200]
    np.testing.assert_array_equal(np.sort(np.concatenate(judge.blocks)), np.arange(600))
    loss, scale = judge.loss(one, two)
    at_scale = []
    for block in judge.blocks:
        logits = scale * one[block] @ two[block].T
        both = logsumexp(logits, axis=1) + logsumexp(logits, axis=0)
        at_scale.append((both / 2 - logits.diagonal()).mean())
    assert loss == pytest.approx(np.mean(at_scale), rel=1e-9)


def test_the_decoder_is_a_refit_with_the_gain_of_least_squares():
    X, Y = make_problem(seed=5)
    splits = list(KFold(5).split(X))
    model = ContrastiveDecoder([1.0, 30.0, 900.0], cv=5, cross_fit=False, random_state=0)
    model.fit(X, Y)
    (alpha,) = np.unique(model.alpha_)
    held = (held_out(Ridge(alpha), X, Y, splits) - Y.mean(axis=0)) @ head(Y, model.flattening_)
    deviation = Y - Y.mean(axis=0)
    gain = (held * deviation).sum() / np.square(held).sum()
    np.testing.assert_allclose(model.out_of_fold_, Y.mean(axis=0) + gain * held, atol=1e-8)
    refit = Ridge(alpha).fit(X, Y).predict(X) - Y.mean(axis=0)
    expected = Y.mean(axis=0) + gain * refit @ head(Y, model.flattening_)
    np.testing.assert_allclose(model.predict(X), expected, atol=1e-8)
    assert model.start_loss_ <= model.ridge_loss_


def test_identifies_better_than_ridge_where_squared_error_gives_up():
    # Ten subjects with noise that voxels share: ridge shrinks many targets to nothing.
    gains = []
    for seed in range(10):
        X, Y = make_problem(n=300, p=200, d=24, seed=seed)
        rng = np.random.default_rng(seed)
        shared = rng.standard_normal((300, 4)) @ rng.standard_normal((4, 200))
        X = X + 10 * (rng.standard_normal(X.shape) + shared)
        train, test = np.arange(200), np.arange(200, 300)
        scores = []
        for model in (RidgeDecoder(out_of_fold=True), ContrastiveDecoder(random_state=0)):
            model.fit(X[train], Y[train])
            line = fit_calibration(model.out_of_fold_, Y[train])
            cosines = unit(apply_calibration(model.predict(X[test]), *line)) @ Y[test].T
            scores.append((cosines < cosines.diagonal()[:, None]).mean())
        gains.append(scores[1] - scores[0])
    assert np.mean(gains) > 3 * np.std(gains, ddof=1) / np.sqrt(len(gains))
