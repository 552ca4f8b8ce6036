import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from braindecode_clip.decode import PCARidgeDecoder, ReducedRankDecoder, RidgeDecoder

ALPHAS = np.logspace(-1, 5, 7)
SHAPES = [(41, 70, 6), (95, 30, 5)]
SHAPE = pytest.mark.parametrize("shape", SHAPES)
DTYPE = pytest.mark.parametrize("dtype", [np.float64, np.float32])


def make_data(shape, dtype=np.float64, *, seed=0):
    """Targets of rank 2 in noise."""
    n_rows, n_voxels, n_targets = shape
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_rows, n_voxels)) * np.linspace(3, 0.3, n_voxels) + 2
    maps = rng.standard_normal((n_voxels, 2)) @ rng.standard_normal((2, n_targets))
    Y = X @ maps
    Y = Y / Y.std() + 0.5 * rng.standard_normal(Y.shape) * np.linspace(0.5, 2, n_targets) + 1
    return X.astype(dtype), Y.astype(dtype)


def reduced_rank(X, Y, X_new, *, alpha, rank):
    """Solve by the augmented least squares problem, without ridge's closed form."""
    x_mean, y_mean = X.mean(axis=0), Y.mean(axis=0)
    n_voxels = X.shape[1]
    rows = np.vstack([X - x_mean, np.sqrt(alpha) * np.eye(n_voxels)])
    answers = np.vstack([Y - y_mean, np.zeros((n_voxels, Y.shape[1]))])
    full = np.linalg.lstsq(rows, answers)[0]
    left, sizes, right = np.linalg.svd(rows @ full, full_matrices=False)
    best = (left[:, :rank] * sizes[:rank]) @ right[:rank]
    return y_mean + (X_new - x_mean) @ np.linalg.lstsq(rows, best)[0]


@SHAPE
@DTYPE
def test_pca_ridge_equals_a_pipeline_refitted_in_every_fold(shape, dtype):
    X, Y = make_data(shape, dtype)
    sizes = (2, 5, 19)
    model = PCARidgeDecoder(sizes, ALPHAS, cv=4, out_of_fold=True).fit(X, Y)
    X, Y = X.astype(float), Y.astype(float)
    held = np.empty((len(sizes), len(ALPHAS), *Y.shape))
    for train, test in KFold(4).split(X):
        for i, size in enumerate(sizes):
            for j, alpha in enumerate(ALPHAS):
                pipeline = make_pipeline(PCA(size, svd_solver="full"), Ridge(alpha=alpha))
                held[i, j, test] = pipeline.fit(X[train], Y[train]).predict(X[test])
    mse = np.square(held - Y).mean(axis=2)
    chosen = (mse.min(axis=1) / Y.var(axis=0)).mean(axis=1).argmin()
    best, columns = mse[chosen].argmin(axis=0), np.arange(Y.shape[1])
    tolerance = 1e-8 if dtype == np.float64 else 1e-5
    assert model.n_components_ == sizes[chosen]
    np.testing.assert_array_equal(model.alpha_, ALPHAS[best])
    np.testing.assert_allclose(model.components_mse_, mse.min(axis=1), rtol=tolerance)
    np.testing.assert_allclose(
        model.out_of_fold_, held[chosen, best][columns, :, columns].T, atol=tolerance
    )
    pipeline = make_pipeline(PCA(sizes[chosen], svd_solver="full"), Ridge(alpha=ALPHAS[best])).fit(
        X, Y
    )
    np.testing.assert_allclose(
        model.predict(X.astype(dtype)), pipeline.predict(X), atol=10 * tolerance
    )


@SHAPE
@DTYPE
def test_reduced_rank_equals_the_augmented_problem_in_every_fold(shape, dtype):
    X, Y = make_data(shape, dtype)
    ranks = (1, 2, 4)
    model = ReducedRankDecoder(ranks, ALPHAS, cv=4, out_of_fold=True).fit(X, Y)
    X, Y = X.astype(float), Y.astype(float)
    held = np.empty((len(ranks), len(ALPHAS), *Y.shape))
    for train, test in KFold(4).split(X):
        for i, rank in enumerate(ranks):
            for j, alpha in enumerate(ALPHAS):
                held[i, j, test] = reduced_rank(X[train], Y[train], X[test], alpha=alpha, rank=rank)
    mse = np.square(held - Y).mean(axis=(2, 3))
    i, j = np.unravel_index(mse.argmin(), mse.shape)
    tolerance = 1e-8 if dtype == np.float64 else 1e-5
    assert (model.rank_, model.alpha_) == (ranks[i], ALPHAS[j])
    np.testing.assert_allclose(model.cv_mse_, mse, rtol=tolerance)
    np.testing.assert_allclose(model.out_of_fold_, held[i, j], atol=tolerance)
    expected = reduced_rank(X, Y, X, alpha=ALPHAS[j], rank=ranks[i])
    np.testing.assert_allclose(model.predict(X.astype(dtype)), expected, atol=10 * tolerance)
    assert np.linalg.matrix_rank(model.coef_) == ranks[i]


def test_reduced_rank_beats_every_perturbation_of_its_map():
    """It is the optimum among maps of its rank, not a projection that is merely near."""
    X, Y = make_data(SHAPES[1])
    model = ReducedRankDecoder([2], [30.0]).fit(X, Y)

    def loss(coef):
        residual = (Y - Y.mean(axis=0)) - (X - X.mean(axis=0)) @ coef
        return np.square(residual).sum() + 30 * np.square(coef).sum()

    left, sizes, right = np.linalg.svd(model.coef_, full_matrices=False)
    rng = np.random.default_rng(0)
    for scale in (1e-1, 1e-2, 1e-3):
        for _ in range(20):
            other = (left[:, :2] * sizes[:2] + scale * rng.standard_normal((30, 2)) / 10) @ (
                right[:2] + scale * rng.standard_normal((2, 5))
            )
            assert loss(other) > loss(model.coef_)


def test_without_a_limit_both_are_ridge():
    X, Y = make_data(SHAPES[0])
    plain = RidgeDecoder([10.0]).fit(X, Y)
    for model in (PCARidgeDecoder(1000, [10.0]), ReducedRankDecoder(1000, [10.0])):
        np.testing.assert_allclose(model.fit(X, Y).coef_, plain.coef_, atol=1e-9)


def test_reduced_rank_finds_the_rank():
    X, Y = make_data((400, 30, 12))
    assert ReducedRankDecoder((1, 2, 4, 8, 12)).fit(X, Y).rank_ == 2


@pytest.mark.parametrize("sizes", [0, [1.5], []])
def test_refuses_sizes(sizes):
    X, Y = make_data(SHAPES[1])
    with pytest.raises(ValueError, match=r"'n_components' must be one or more whole"):
        PCARidgeDecoder(sizes).fit(X, Y)
    with pytest.raises(ValueError, match=r"'ranks' must be one or more whole"):
        ReducedRankDecoder(sizes).fit(X, Y)


@parametrize_with_checks([PCARidgeDecoder(cv=2), ReducedRankDecoder(cv=2)])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)
