import logging

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneOut,
    RepeatedKFold,
    ShuffleSplit,
    TimeSeriesSplit,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from braindecode_clip.decode import RidgeDecoder
from braindecode_clip.decode import ridge as ridge_module
from braindecode_clip.decode.downdate import DowndateRoute, choose_route
from braindecode_clip.decode.leave_out import DualRoute, PrimalRoute
from braindecode_clip.decode.spectrum import (
    eigh_without,
    interpolate,
    plan_filters,
    row_gram,
)
from braindecode_clip.decode.tables import VoxelTable

ALPHAS = np.logspace(-1, 6, 15)
EPS32 = float(np.finfo(np.float32).eps)


def make_data(n_rows, n_voxels, *, n_targets, seed=0, dtype=np.float64, mean=3.0):
    """Few strong components, weak noise, targets from clean to hopeless."""
    rng = np.random.default_rng(seed)
    X = 3 * rng.standard_normal((n_rows, 6)) @ rng.standard_normal((6, n_voxels))
    X += 0.5 * rng.standard_normal((n_rows, n_voxels)) + mean
    signal = X @ rng.standard_normal((n_voxels, n_targets))
    noise = rng.standard_normal((n_rows, n_targets)) * np.linspace(0.05, 3, n_targets)
    return X.astype(dtype), (signal / signal.std(axis=0) + noise + 1).astype(dtype)


def reference(X, Y, alphas, folds):
    """Held-out predictions (n_alphas, n_rows, n_targets) and their pooled MSE, by refitting."""
    X, Y = X.astype(np.float64), Y.astype(np.float64)
    held = np.full((len(alphas), *Y.shape), np.nan)
    for train, test in folds:
        for i, alpha in enumerate(alphas):
            model = Ridge(alpha=alpha, solver="svd").fit(X[train], Y[train])
            held[i, test] = model.predict(X[test])
    return held, np.square(held - Y).mean(axis=1)


def assert_same(model, X, Y, alphas, folds, *, tolerance):
    """Compare alpha, curve, held-out and final predictions with refitted models."""
    held, mse = reference(X, Y, alphas, folds)
    best = mse.argmin(axis=0)
    columns = np.arange(Y.shape[1])
    np.testing.assert_array_equal(model.alpha_, alphas[best])
    np.testing.assert_allclose(model.best_score_, -mse[best, columns], rtol=tolerance)
    sd = float(Y.std())
    np.testing.assert_allclose(model.out_of_fold_, held[best, :, columns].T, atol=tolerance * sd)
    final = Ridge(alpha=alphas[best], solver="svd").fit(X.astype(float), Y.astype(float))
    np.testing.assert_allclose(
        model.predict(X), final.predict(X.astype(float)), atol=tolerance * sd
    )


# n < p, n == p, n just above p, n > p, n >> p; all rows but the fourth with unequal folds.
SHAPES = [
    (63, 150, 7, DualRoute),
    (81, 81, 4, DualRoute),
    (82, 81, 4, DualRoute),
    (100, 40, 5, PrimalRoute),
    (303, 12, 6, DowndateRoute),
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("n_rows", "n_voxels", "n_targets", "route"), SHAPES)
def test_equals_refitted_models(n_rows, n_voxels, n_targets, route, dtype):
    X, Y = make_data(n_rows, n_voxels, n_targets=n_targets, dtype=dtype)
    folds = list(KFold(5).split(X))
    sizes = [len(test) for _, test in folds]
    assert choose_route(n_rows, n_voxels, fold_sizes=sizes, n_alphas=len(ALPHAS)) is route
    model = RidgeDecoder(ALPHAS, out_of_fold=True).fit(X, Y)
    # Float32 work carries a few hundred roundings of its eps; X itself is the same numbers.
    tolerance = 1e-9 if dtype == np.float64 else 300 * EPS32
    assert_same(model, X, Y, ALPHAS, folds, tolerance=tolerance)
    assert model.coef_.shape == (n_voxels, n_targets)
    assert model.coef_.dtype == dtype
    assert model.intercept_.shape == model.alpha_.shape == (n_targets,)


@pytest.mark.parametrize(("n_rows", "n_voxels"), [(48, 90), (48, 20), (200, 9)])
def test_whole_curve_equals_refitted_models(n_rows, n_voxels):
    X, Y = make_data(n_rows, n_voxels, n_targets=3, seed=1)
    alphas = np.logspace(-6, 7, 27)
    folds = list(KFold(4).split(X))
    model = RidgeDecoder(alphas, cv=4).fit(X, Y)
    np.testing.assert_allclose(model.cv_mse_, reference(X, Y, alphas, folds)[1], rtol=1e-7)


@pytest.mark.parametrize(("n_rows", "n_voxels"), [(90, 160), (90, 30), (270, 10)])
def test_groups_are_held_out_together(n_rows, n_voxels):
    X, Y = make_data(n_rows, n_voxels, n_targets=4, seed=2)
    rng = np.random.default_rng(3)
    groups = rng.choice(["a", "b", "c", "d", "e", "f", "g"], size=n_rows)
    # Rows of one group share a large offset: held out singly they would predict one another.
    Y = Y + rng.standard_normal(7)[np.unique(groups, return_inverse=True)[1]][:, None]
    folds = list(GroupKFold(3).split(X, groups=groups))
    model = RidgeDecoder(ALPHAS, cv=3, out_of_fold=True).fit(X, Y, groups=groups)
    assert_same(model, X, Y, ALPHAS, folds, tolerance=1e-9)
    assert not np.allclose(model.best_score_, RidgeDecoder(ALPHAS, cv=3).fit(X, Y).best_score_)


@pytest.mark.parametrize(
    "cv",
    [
        KFold(4, shuffle=True, random_state=0),
        LeaveOneOut(),
        [(np.arange(10, 26), np.arange(10)), (np.r_[:12, 17:26], np.arange(12, 17))],
    ],
    ids=["shuffled", "leave-one-out", "pairs"],
)
def test_other_folds(cv):
    X, Y = make_data(26, 40, n_targets=3, seed=4)
    folds = cv if isinstance(cv, list) else list(cv.split(X))
    model = RidgeDecoder(ALPHAS, cv=cv, out_of_fold=True).fit(X, Y)
    held, _ = reference(X, Y, ALPHAS, folds)
    seen = np.unique(np.concatenate([test for _, test in folds]))
    mse = np.square(held[:, seen] - Y[seen]).mean(axis=1)
    np.testing.assert_allclose(model.cv_mse_, mse, rtol=1e-8)
    best = mse.argmin(axis=0)
    np.testing.assert_array_equal(model.alpha_, ALPHAS[best])
    np.testing.assert_allclose(
        model.out_of_fold_, held[best, :, np.arange(3)].T, atol=1e-8, equal_nan=True
    )
    assert np.isnan(model.out_of_fold_).any(axis=1).sum() == 26 - len(seen)


def test_rows_held_out_twice_are_averaged():
    X, Y = make_data(30, 50, n_targets=2, seed=5)
    cv = RepeatedKFold(n_splits=3, n_repeats=2, random_state=0)
    model = RidgeDecoder([10.0], cv=cv, out_of_fold=True).fit(X, Y)
    total = np.zeros_like(Y)
    for train, test in cv.split(X):
        total[test] += Ridge(alpha=10.0).fit(X[train], Y[train]).predict(X[test])
    np.testing.assert_allclose(model.out_of_fold_, total / 2, atol=1e-9)


def test_one_target_as_a_vector():
    X, Y = make_data(50, 80, n_targets=1, seed=6)
    flat = RidgeDecoder(ALPHAS, out_of_fold=True).fit(X, Y[:, 0])
    full = RidgeDecoder(ALPHAS, out_of_fold=True).fit(X, Y)
    assert flat.predict(X).shape == flat.out_of_fold_.shape == (50,)
    assert flat.alpha_.shape == flat.intercept_.shape == (1,)
    assert flat.coef_.shape == (80, 1)
    np.testing.assert_array_equal(flat.predict(X), full.predict(X)[:, 0])


@pytest.mark.parametrize("n_voxels", [90, 25, 8])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_awkward_data(n_voxels, dtype):
    """A constant voxel, a doubled voxel, doubled rows, an outlier row, a constant target."""
    X, Y = make_data(60, n_voxels, n_targets=4, seed=7, dtype=dtype)
    X[30] *= 1000
    X[:, 1], X[:, 3] = 7, X[:, 2]
    X[20], X[41], Y[20] = X[5], X[5], Y[5]
    Y[:, 3] = 2.5
    folds = list(KFold(5).split(X))
    model = RidgeDecoder(ALPHAS, out_of_fold=True).fit(X, Y)
    tolerance = 1e-7 if dtype == np.float64 else 5000 * EPS32
    assert_same(
        RidgeDecoder(ALPHAS, out_of_fold=True).fit(X, Y[:, :3]),
        X,
        Y[:, :3],
        ALPHAS,
        folds,
        tolerance=tolerance,
    )
    np.testing.assert_allclose(model.predict(X)[:, 3], 2.5, rtol=1e-5)
    assert np.abs(model.coef_[1]).max() <= 1e-6 * np.abs(model.coef_).max()


def test_large_mean_does_not_cancel_in_float32():
    X, Y = make_data(60, 100, n_targets=3, seed=8, dtype=np.float32, mean=1e4)
    model = RidgeDecoder(ALPHAS, out_of_fold=True).fit(X, Y)
    held, mse = reference(X, Y, ALPHAS, KFold(5).split(X))
    best = mse.argmin(axis=0)
    np.testing.assert_array_equal(model.alpha_, ALPHAS[best])
    np.testing.assert_allclose(
        model.out_of_fold_, held[best, :, np.arange(3)].T, atol=300 * EPS32 * Y.std()
    )


def test_small_penalty_in_float32():
    """Strong shared components: a float32 Gram matrix would be off by hundredths here."""
    rng = np.random.default_rng(9)
    X = 30 * rng.standard_normal((80, 4)) @ rng.standard_normal((4, 200))
    X = (X + 0.3 * rng.standard_normal((80, 200))).astype(np.float32)
    Y = (X @ rng.standard_normal((200, 5)) / 200).astype(np.float32)
    alpha = 1e-6 * np.linalg.norm(X, 2) ** 2
    model = RidgeDecoder([alpha], out_of_fold=True).fit(X, Y)
    held, _ = reference(X, Y, [alpha], KFold(5).split(X))
    np.testing.assert_allclose(model.out_of_fold_, held[0], atol=300 * EPS32 * Y.std())


def test_targets_in_blocks_change_nothing(monkeypatch):
    X, Y = make_data(70, 90, n_targets=40, seed=10)
    whole = RidgeDecoder(ALPHAS).fit(X, Y)
    monkeypatch.setattr("braindecode_clip.decode.leave_out.RESIDUAL_BYTES", 1)
    np.testing.assert_allclose(RidgeDecoder(ALPHAS).fit(X, Y).cv_mse_, whole.cv_mse_, rtol=1e-10)


def test_voxels_in_blocks_change_nothing(monkeypatch):
    data = [make_data(70, 90, n_targets=3, seed=11), make_data(90, 20, n_targets=3, seed=11)]
    whole = [RidgeDecoder(ALPHAS).fit(X, Y).coef_ for X, Y in data]
    monkeypatch.setattr("braindecode_clip.decode.tables.BLOCK_BYTES", 7 * 8 * 70)
    for (X, Y), expected in zip(data, whole, strict=True):
        np.testing.assert_allclose(RidgeDecoder(ALPHAS).fit(X, Y).coef_, expected, atol=1e-10)


def test_order_of_penalties_and_of_voxels_does_not_matter():
    X, Y = make_data(50, 60, n_targets=5, seed=12)
    model = RidgeDecoder(ALPHAS).fit(X, Y)
    back = RidgeDecoder(ALPHAS[::-1]).fit(X[:, ::-1], Y)
    np.testing.assert_array_equal(model.alpha_, back.alpha_)
    np.testing.assert_allclose(model.cv_mse_, back.cv_mse_[::-1], rtol=1e-8)
    np.testing.assert_allclose(model.coef_, back.coef_[::-1], atol=1e-10)


def test_interpolated_filters_are_within_the_tolerance():
    values = np.logspace(3, 4.5, 700)
    table = 1 / (values + np.logspace(1, 7, 20)[:, None])
    skeleton, coefficients = interpolate(table, tolerance=1e-6)
    assert len(skeleton) <= 12
    np.testing.assert_allclose(coefficients @ table[skeleton], table, rtol=1e-6)


@pytest.mark.parametrize("n_bulk", [900, 40])
def test_planned_filters_give_the_table_at_less_cost(n_bulk):
    """A narrow bulk and a broad top."""
    values = np.concatenate([np.linspace(1e3, 4e3, n_bulk), np.logspace(3.7, 6, 60)])
    table = 1 / (values + np.logspace(0, 7, 20)[:, None])
    plan = plan_filters(table, tolerance=1e-6)
    found = np.zeros_like(table)
    for (columns, kept), coefficients in zip(plan.parts, plan.coefficients.T, strict=True):
        found[:, columns] += coefficients[:, None] * kept
    np.testing.assert_allclose(found, table, rtol=1e-6)
    cost = sum(len(kept) for _, kept in plan.parts)
    assert cost <= (0.6 if n_bulk == 900 else 1) * table.size


def test_planned_filters_choose_the_same_penalties(monkeypatch):
    data = [make_data(90, 200, n_targets=20, seed=17), make_data(90, 30, n_targets=20, seed=17)]
    whole = [RidgeDecoder(ALPHAS).fit(X, Y) for X, Y in data]
    monkeypatch.setattr("braindecode_clip.decode.spectrum.FEW_COLUMNS", 10)
    for (X, Y), expected in zip(data, whole, strict=True):
        model = RidgeDecoder(ALPHAS).fit(X, Y)
        np.testing.assert_array_equal(model.alpha_, expected.alpha_)
        np.testing.assert_allclose(model.cv_mse_, expected.cv_mse_, rtol=1e-9)


def test_eigenvectors_leave_the_constant_out():
    X, _ = make_data(40, 60, n_targets=1, seed=13)
    centred = X - X.mean(axis=0)
    values, vectors = eigh_without(
        row_gram(VoxelTable(X, mean=X.mean(axis=0), root=None)), np.full(40, 1 / np.sqrt(40))
    )
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(39), atol=1e-12)
    np.testing.assert_allclose(vectors.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(vectors * values @ vectors.T, centred @ centred.T, atol=1e-8)


@pytest.fixture
def warnings_of_ridge():
    """Messages of the module's logger, wherever the package sends them."""
    messages = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    ridge_module.logger.addHandler(handler)
    yield messages
    ridge_module.logger.removeHandler(handler)


def test_narrow_grid_is_reported(warnings_of_ridge):
    X, Y = make_data(80, 60, n_targets=4, seed=14)
    model = RidgeDecoder([1e5, 1e6]).fit(X, Y)
    assert model.at_edge_.any()
    assert "widen 'alphas'" in warnings_of_ridge[0]
    assert "1e+06" in warnings_of_ridge[0]


def test_noise_at_the_largest_penalty_is_no_edge(warnings_of_ridge):
    rng = np.random.default_rng(15)
    X, Y = rng.standard_normal((80, 60)), rng.standard_normal((80, 9))
    model = RidgeDecoder(np.logspace(0, 7, 8)).fit(X, Y)
    assert (model.alpha_ == 1e7).any()
    assert not model.at_edge_.any()
    assert not warnings_of_ridge


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alphas": [1.0, 0.0]}, "above 0"),
        ({"alphas": [-1.0]}, "above 0"),
        ({"alphas": [np.nan]}, "NaN"),
        ({"alphas": [[1.0, 2.0]]}, "above 0"),
        ({"cv": ShuffleSplit(3, test_size=0.2, train_size=0.5, random_state=0)}, "does not test"),
        ({"cv": TimeSeriesSplit(3)}, "does not test"),
        ({"cv": [(np.arange(30), np.arange(5))]}, "does not test"),
        ({"cv": 31}, "n_splits=31"),
    ],
)
def test_refuses(arguments, message):
    X, Y = make_data(30, 10, n_targets=2)
    with pytest.raises(ValueError, match=message):
        RidgeDecoder(**arguments).fit(X, Y)


def test_refuses_fewer_groups_than_folds():
    X, Y = make_data(30, 10, n_targets=2)
    with pytest.raises(ValueError, match="number of groups"):
        RidgeDecoder(cv=5).fit(X, Y, groups=np.repeat([0, 1, 2], 10))


def one_row_owns_a_voxel(dtype):
    """A row of leverage 1 - alpha / 1e6: the residual matrix has a pivot of that size."""
    X, Y = make_data(100, 40, n_targets=2, dtype=dtype, seed=16)
    X[:, 0] = 0
    X[7, 0] = 1e3
    return X, Y


def test_penalty_that_float32_cannot_tell_from_none():
    X, Y = one_row_owns_a_voxel(np.float32)
    alphas = np.array([1e-3, 1.0])
    model = RidgeDecoder(alphas, out_of_fold=True).fit(X, Y)
    assert_same(model, X, Y, alphas, list(KFold(5).split(X)), tolerance=5000 * EPS32)


def test_penalty_below_all_rounding_is_named():
    X, Y = one_row_owns_a_voxel(np.float64)
    with pytest.raises(ValueError, match="1e-30"):
        RidgeDecoder([1e-30, 1.0]).fit(X, Y)


def test_clone_and_pipeline():
    X, Y = make_data(40, 30, n_targets=2)
    model = clone(RidgeDecoder(alphas=(1.0, 10.0), cv=3, out_of_fold=True))
    assert model.get_params() == {
        "alphas": (1.0, 10.0),
        "cv": 3,
        "out_of_fold": True,
        "validation": "kfold",
        "alpha_groups": None,
        "fit_intercept": True,
        "device": "cpu",
        "n_targets_batch": None,
    }
    groups = np.repeat(np.arange(4), 10)
    pipeline = make_pipeline(StandardScaler(), model).fit(X, Y, ridgedecoder__groups=groups)
    scaled = (X - X.mean(axis=0)) / X.std(axis=0)
    direct = RidgeDecoder((1.0, 10.0), cv=3).fit(scaled, Y, groups=groups)
    np.testing.assert_allclose(pipeline.predict(X), direct.predict(scaled), atol=1e-10)


@parametrize_with_checks([RidgeDecoder(cv=2)])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)
