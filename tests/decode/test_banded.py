import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.utils.estimator_checks import parametrize_with_checks

from braindecode_clip.decode import BandedRidgeDecoder, RidgeDecoder
from braindecode_clip.decode.banded import sample_weights

ALPHAS = np.logspace(-1, 5, 9)


def make_bands(n_rows, sizes, *, n_targets=6, seed=0, dtype=np.float64):
    """Bands of unequal scale; every target depends on one of them, the last band on none."""
    rng = np.random.default_rng(seed)
    parts = [
        (1 + b) * (rng.standard_normal((n_rows, size)) + rng.standard_normal((n_rows, 1)))
        for b, size in enumerate(sizes)
    ]
    X = np.hstack(parts) + 2
    labels = np.repeat([f"band-{b}" for b in range(len(sizes))], sizes)
    order = rng.permutation(len(labels))
    Y = np.empty((n_rows, n_targets))
    for t in range(n_targets):
        own = parts[t % (len(sizes) - 1)]
        signal = own @ rng.standard_normal(own.shape[1])
        Y[:, t] = signal / signal.std() + rng.standard_normal(n_rows) * (0.2 + t / 4) + 1
    return X[:, order].astype(dtype), Y.astype(dtype), labels[order]


def reference(X, Y, labels, weights, folds):
    """Held-out predictions (n_weights, n_alphas, n_rows, n_targets) of refitted models."""
    held = np.empty((len(weights), len(ALPHAS), *Y.shape))
    for i, weighting in enumerate(weights):
        scaled = X * np.sqrt(weighting[np.unique(labels, return_inverse=True)[1]])
        for train, test in folds:
            for j, alpha in enumerate(ALPHAS):
                model = Ridge(alpha=alpha, solver="svd").fit(scaled[train], Y[train])
                held[i, j, test] = model.predict(scaled[test])
    return held


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("n_rows", "sizes"), [(47, (30, 50, 9)), (90, (20, 11, 5)), (400, (6, 4, 3))]
)
def test_equals_models_refitted_for_all_weights_penalties_and_folds(n_rows, sizes, dtype):
    X, Y, labels = make_bands(n_rows, sizes, dtype=dtype)
    model = BandedRidgeDecoder(labels, ALPHAS, cv=4, n_weights=9, out_of_fold=True, random_state=5)
    model.fit(X, Y)
    X, Y = X.astype(float), Y.astype(float)
    weights = sample_weights(3, 9, rng=np.random.RandomState(5))
    held = reference(X, Y, labels, weights, list(KFold(4).split(X)))
    mse = np.square(held - Y).mean(axis=2).reshape(-1, Y.shape[1])
    best = mse.argmin(axis=0)
    chosen, penalty = np.divmod(best, len(ALPHAS))
    columns = np.arange(Y.shape[1])
    tolerance = 1e-8 if dtype == np.float64 else 5e-5
    np.testing.assert_array_equal(model.alpha_, ALPHAS[penalty])
    np.testing.assert_array_equal(model.weights_, weights[chosen].T)
    np.testing.assert_allclose(model.best_score_, -mse[best, columns], rtol=tolerance)
    np.testing.assert_allclose(
        model.cv_mse_, mse.reshape(9, len(ALPHAS), -1)[chosen, :, columns].T, rtol=tolerance
    )
    np.testing.assert_allclose(
        model.out_of_fold_, held[chosen, penalty][columns, :, columns].T, atol=tolerance
    )
    assert len(np.unique(chosen)) > 1
    for t in columns:
        scaled = X * np.sqrt(model.weights_[np.unique(labels, return_inverse=True)[1], t])
        final = Ridge(alpha=model.alpha_[t], solver="svd").fit(scaled, Y[:, t])
        np.testing.assert_allclose(
            model.predict(X.astype(dtype))[:, t], final.predict(scaled), atol=10 * tolerance
        )


def test_one_band_is_plain_ridge():
    X, Y, _ = make_bands(50, (40, 20))
    banded = BandedRidgeDecoder(None, ALPHAS, out_of_fold=True).fit(X, Y)
    plain = RidgeDecoder(ALPHAS, out_of_fold=True).fit(X, Y)
    np.testing.assert_array_equal(banded.alpha_, plain.alpha_)
    np.testing.assert_allclose(banded.coef_, plain.coef_, atol=1e-10)
    np.testing.assert_allclose(banded.out_of_fold_, plain.out_of_fold_, atol=1e-9)


def test_finds_the_band_and_beats_plain_ridge():
    X, Y, labels = make_bands(300, (60, 60, 400), n_targets=4, seed=2)
    banded = BandedRidgeDecoder(labels, n_weights=20, random_state=0).fit(X[:200], Y[:200])
    plain = RidgeDecoder().fit(X[:200], Y[:200])
    np.testing.assert_array_equal(banded.weights_.argmax(axis=0), [0, 1, 0, 1])
    assert banded.score(X[200:], Y[200:]) > plain.score(X[200:], Y[200:]) + 0.05


def test_weights_lie_on_the_simplex_and_begin_with_the_fixed_ones():
    weights = sample_weights(3, 200, rng=np.random.RandomState(0))
    assert weights.shape == (200, 3)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_array_equal(weights[1:4], np.eye(3))
    np.testing.assert_allclose(weights[0], 1 / 3)
    np.testing.assert_allclose(weights[4:].mean(axis=0), 1 / 3, atol=0.1)
    near_corners = weights[5::2].max(axis=1)
    assert np.median(near_corners) > 0.9 > np.median(weights[4::2].max(axis=1))
    np.testing.assert_array_equal(sample_weights(1, 9, rng=np.random.RandomState(0)), [[1]])


def test_the_seed_decides():
    X, Y, labels = make_bands(60, (20, 20, 5))
    model = BandedRidgeDecoder(labels, n_weights=12, random_state=1)
    one, two = model.fit(X, Y).coef_, clone(model).fit(X, Y).coef_
    np.testing.assert_array_equal(one, two)
    other = clone(model).set_params(random_state=2).fit(X, Y)
    assert not np.array_equal(one, other.coef_)


def test_refuses():
    X, Y, labels = make_bands(40, (9, 4))
    with pytest.raises(ValueError, match="12 labels for 13 voxels"):
        BandedRidgeDecoder(labels[1:]).fit(X, Y)
    with pytest.raises(ValueError, match="'n_weights' is 0"):
        BandedRidgeDecoder(labels, n_weights=0).fit(X, Y)


@parametrize_with_checks([BandedRidgeDecoder(cv=2)])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)
