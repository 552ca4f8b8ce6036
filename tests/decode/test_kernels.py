import numpy as np
import pytest
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.model_selection import GroupKFold, KFold
from sklearn.utils.estimator_checks import parametrize_with_checks

from braindecode_clip.decode import KernelRidgeDecoder
from braindecode_clip.decode.kernels import median_gamma

ALPHAS = np.logspace(-3, 1, 7)


@pytest.fixture(params=[np.float64, np.float32], ids=["float64", "float32"])
def data(request):
    """Curved responses of 5 targets with unequal noise, on 61 rows of 23 voxels."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((61, 23)) * np.linspace(2, 0.5, 23)
    Y = np.cos(X[:, :5]) + X[:, 5:10] / 2 + rng.standard_normal((61, 5)) * np.linspace(0.1, 1, 5)
    return X.astype(request.param), (Y + 3).astype(request.param)


def gram_of(X, Z, gamma):
    return cosine_similarity(X, Z) if gamma is None else RBF(1 / np.sqrt(2 * gamma))(X, Z)


def refitted(X, Y, X_new, *, alpha, gamma):
    """Solve the normal equations of dual weights and intercept together."""
    n = len(X)
    system = np.zeros((n + 1, n + 1))
    system[:n, :n] = gram_of(X, X, gamma) + alpha * np.eye(n)
    system[:n, n] = system[n, :n] = 1
    solution = np.linalg.solve(system, np.vstack([Y, np.zeros((1, Y.shape[1]))]))
    return gram_of(X_new, X, gamma) @ solution[:n] + solution[n]


def held_out(X, Y, *, alpha, gamma, folds):
    held = np.empty_like(Y)
    for train, test in folds:
        held[test] = refitted(X[train], Y[train], X[test], alpha=alpha, gamma=gamma)
    return held


@pytest.mark.parametrize("kernel", ["cosine", "rbf"])
def test_equals_models_refitted_without_each_fold(kernel, data):
    X, Y = data
    model = KernelRidgeDecoder(kernel, ALPHAS, cv=4, scales=(0.1, 0.5), out_of_fold=True)
    model.fit(X, Y)
    X, Y = X.astype(float), Y.astype(float)
    folds = list(KFold(4).split(X))
    gammas = [None] if kernel == "cosine" else median_gamma(X) * np.array([0.1, 0.5])
    held = np.array(
        [[held_out(X, Y, alpha=a, gamma=g, folds=folds) for a in ALPHAS] for g in gammas]
    )
    mse = np.square(held - Y).mean(axis=2)
    chosen = (mse.min(axis=1) / Y.var(axis=0)).mean(axis=1).argmin()
    if kernel == "rbf":
        assert model.gamma_ == pytest.approx(gammas[chosen], rel=1e-5)
    else:
        assert model.gamma_ is None
    best = mse[chosen].argmin(axis=0)
    tolerance = 1e-8 if model.dual_coef_.dtype == np.float64 else 2e-4
    np.testing.assert_array_equal(model.alpha_, ALPHAS[best])
    np.testing.assert_allclose(model.cv_mse_, mse[chosen], rtol=tolerance)
    expected = held[chosen][best, :, np.arange(5)].T
    np.testing.assert_allclose(model.out_of_fold_, expected, atol=tolerance)
    X_new = np.random.default_rng(1).standard_normal((9, 23))
    predicted = model.predict(X_new.astype(model.rows_.dtype))
    for t, alpha in enumerate(model.alpha_):
        again = refitted(X, Y[:, [t]], X_new, alpha=alpha, gamma=gammas[chosen])
        np.testing.assert_allclose(predicted[:, t], again[:, 0], atol=10 * tolerance)


def test_agrees_with_scikit_learn_on_centred_targets(data):
    """scikit-learn's KernelRidge has no intercept: hold ours at 0 by targets with that solution."""
    X, _ = (part.astype(float) for part in data)
    rng = np.random.default_rng(2)
    dual = rng.standard_normal((61, 3))
    dual -= dual.mean(axis=0)
    Y = (gram_of(X, X, 0.02) + 0.1 * np.eye(61)) @ dual
    peer = KernelRidge(alpha=0.1, kernel="rbf", gamma=0.02).fit(X, Y)
    scale = 0.02 / median_gamma(X)
    model = KernelRidgeDecoder("rbf", [0.1], scales=[scale]).fit(X, Y)
    np.testing.assert_allclose(model.dual_coef_, peer.dual_coef_, atol=1e-9)
    np.testing.assert_allclose(model.predict(X[:7]), peer.predict(X[:7]), atol=1e-8)


def test_median_gamma_is_the_inverse_median_of_all_pairs():
    X = np.array([[0.0], [1.0], [3.0]])
    assert median_gamma(X) == pytest.approx(1 / 4)
    assert median_gamma(X + 1e8) == pytest.approx(1 / 4)
    assert median_gamma(np.ones((4, 2))) == 1.0


def test_groups_are_held_out_together(data):
    X, Y = data
    groups = np.arange(61) % 9
    one = KernelRidgeDecoder("cosine", ALPHAS, cv=3, out_of_fold=True).fit(X, Y, groups)
    splits = list(GroupKFold(3).split(X, Y, groups))
    two = KernelRidgeDecoder("cosine", ALPHAS, cv=splits, out_of_fold=True).fit(X, Y)
    np.testing.assert_array_equal(one.out_of_fold_, two.out_of_fold_)


def test_a_curved_relation_needs_the_gaussian_kernel():
    rng = np.random.default_rng(3)
    X = rng.standard_normal((300, 3))
    Y = np.square(X[:, :1]) - np.square(X[:, 1:2])
    scores = {
        kernel: KernelRidgeDecoder(kernel).fit(X[:200], Y[:200]).score(X[200:], Y[200:])
        for kernel in ("cosine", "rbf")
    }
    assert scores["rbf"] > 0.9 > 0.5 > scores["cosine"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": "linear"}, "expected 'cosine' or 'rbf'"),
        ({"alphas": [0.0]}, "above 0"),
        ({"kernel": "rbf", "scales": [-1.0]}, "above 0"),
    ],
)
def test_refuses(options, message, data):
    with pytest.raises(ValueError, match=message):
        KernelRidgeDecoder(**options).fit(*data)


@parametrize_with_checks([KernelRidgeDecoder(cv=2), KernelRidgeDecoder("rbf", cv=2)])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)
