import numpy as np
import pytest
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    PredefinedSplit,
    RepeatedKFold,
    ShuffleSplit,
)

from braindecode_clip.decode import RidgeDecoder, pole_route
from braindecode_clip.decode.deflation import deflate, spectrum_bounds
from braindecode_clip.decode.pole_route import PoleRoute, UnsuitableError
from braindecode_clip.decode.poles import choose_poles, combine_poles, zolotarev_poles
from braindecode_clip.decode.spectrum import row_gram_single
from braindecode_clip.decode.tables import VoxelTable

ALPHAS = np.logspace(-1, 6, 15)
EPS32 = float(np.finfo(np.float32).eps)
# The route refuses data whose smallest eigenvalue loses more than this to float32.
TOLERANCE = pole_route.MOST_ROUNDING


def make_data(n_rows, n_voxels, *, n_targets, seed=0, mean=3.0, decay=0.0):
    """Six components above noise that is flat or, with ``decay``, falls off."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_rows, 6)) @ rng.standard_normal((6, n_voxels))
    noise = rng.standard_normal((n_rows, n_voxels))
    noise *= (1 + np.arange(n_voxels)) ** -decay
    X += 0.5 * noise + mean
    signal = X @ rng.standard_normal((n_voxels, n_targets))
    noise = rng.standard_normal((n_rows, n_targets)) * np.linspace(0.05, 3, n_targets)
    Y = signal / signal.std(axis=0) + noise + 1
    return X.astype(np.float32), Y.astype(np.float32)


def refitted(X, Y, alpha, *, weights, fit_intercept):
    """Coefficients and intercepts in float64 from the normal equations of the rows."""
    root = np.sqrt(weights)[:, None]
    share = weights / weights.sum()
    x_mean, y_mean = (share @ X, share @ Y) if fit_intercept else (0 * X[0], 0 * Y[0])
    left, right = root * (X - x_mean), root * (Y - y_mean)
    gram = left @ left.T
    dual = np.column_stack(
        [np.linalg.solve(gram + a * np.eye(len(X)), r) for a, r in zip(alpha, right.T, strict=True)]
    )
    coefficients = left.T @ dual
    return coefficients, y_mean - x_mean @ coefficients


def curve(X, Y, folds, *, weights, fit_intercept):
    """Weighted squared errors (n_alphas, n_targets) and held-out predictions, by refitting."""
    total = np.zeros((len(ALPHAS), Y.shape[1]))
    held = np.zeros((len(ALPHAS), *Y.shape))
    count = np.zeros((len(X), 1))
    for train, test in folds:
        count[test] += 1
        for i, alpha in enumerate(ALPHAS):
            coefficients, intercept = refitted(
                X[train],
                Y[train],
                np.full(Y.shape[1], alpha),
                weights=weights[train],
                fit_intercept=fit_intercept,
            )
            predicted = X[test] @ coefficients + intercept
            held[i, test] += predicted
            total[i] += weights[test] @ np.square(Y[test] - predicted)
    with np.errstate(invalid="ignore"):
        return total, np.where(count > 0, held / np.maximum(count, 1), np.nan)


@pytest.fixture
def used(monkeypatch):
    """Let the route serve small data, and record whether it did."""
    monkeypatch.setattr(pole_route, "FEWEST_ROWS", 20)
    calls = []
    original = PoleRoute.fold_errors

    def record(self):
        calls.append(len(self.poles))
        return original(self)

    monkeypatch.setattr(PoleRoute, "fold_errors", record)
    return calls


CASES = {
    "plain": (KFold(5), {}),
    "unequal": (KFold(4), {}),
    "scattered": (KFold(5, shuffle=True, random_state=0), {}),
    "weighted": (KFold(5), {"weighted": True}),
    "no-intercept": (KFold(5), {"fit_intercept": False}),
    "twice": (RepeatedKFold(n_splits=3, n_repeats=2, random_state=0), {}),
    "not-all": (ShuffleSplit(3, test_size=0.2, random_state=1), {}),
    "never-held": (PredefinedSplit(np.r_[np.full(11, -1), np.arange(52) % 4]), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_refitted_models(case, used):
    splitter, options = CASES[case]
    fit_intercept = options.get("fit_intercept", True)
    X, Y = make_data(63, 150, n_targets=7, mean=3.0 if fit_intercept else 0.0)
    folds = list(splitter.split(X))
    rng = np.random.default_rng(5)
    weights = rng.integers(1, 4, len(X)).astype(float) if options.get("weighted") else None
    model = RidgeDecoder(ALPHAS, cv=folds, out_of_fold=True, fit_intercept=fit_intercept)
    model.fit(X, Y, sample_weight=weights)
    assert used

    full = np.ones(len(X)) if weights is None else weights
    exact = X.astype(float), Y.astype(float)
    total, held = curve(*exact, folds, weights=full, fit_intercept=fit_intercept)
    best = total.argmin(axis=0)
    np.testing.assert_array_equal(model.alpha_, ALPHAS[best])
    share = sum(full[test].sum() for _, test in folds)
    np.testing.assert_allclose(model.cv_mse_, total / share, rtol=TOLERANCE)
    spread = float(Y.std())
    columns = np.arange(Y.shape[1])
    np.testing.assert_allclose(
        model.out_of_fold_, held[best, :, columns].T, atol=TOLERANCE * spread
    )
    coefficients, intercept = refitted(
        *exact, ALPHAS[best], weights=full, fit_intercept=fit_intercept
    )
    np.testing.assert_allclose(
        model.predict(X), exact[0] @ coefficients + intercept, atol=TOLERANCE * spread
    )


def test_groups_out_of_order(used):
    X, Y = make_data(72, 160, n_targets=5, seed=3)
    groups = np.random.default_rng(0).permutation(np.arange(72) % 9)
    model = RidgeDecoder(ALPHAS, cv=3, out_of_fold=True).fit(X, Y, groups=groups)
    assert used
    folds = list(GroupKFold(3).split(X, groups=groups))
    total, held = curve(
        X.astype(float), Y.astype(float), folds, weights=np.ones(72), fit_intercept=True
    )
    best = total.argmin(axis=0)
    np.testing.assert_array_equal(model.alpha_, ALPHAS[best])
    expected = held[best, :, np.arange(5)].T
    np.testing.assert_allclose(model.out_of_fold_, expected, atol=TOLERANCE * float(Y.std()))


def test_no_component_above_the_noise(used):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 400)).astype(np.float32)
    Y = rng.standard_normal((60, 3)).astype(np.float32)
    model = RidgeDecoder(ALPHAS).fit(X, Y)
    assert used
    total, _ = curve(
        X.astype(float),
        Y.astype(float),
        list(KFold(5).split(X)),
        weights=np.ones(60),
        fit_intercept=True,
    )
    np.testing.assert_allclose(model.cv_mse_, total / 60, rtol=TOLERANCE)


def test_wide_spectrum_takes_another_route(used):
    X, Y = make_data(63, 150, n_targets=4, decay=2.0)
    model = RidgeDecoder(ALPHAS, out_of_fold=True).fit(X, Y)
    assert not used
    other = RidgeDecoder(ALPHAS, out_of_fold=True, n_targets_batch=1).fit(X, Y)
    np.testing.assert_allclose(model.out_of_fold_, other.out_of_fold_, rtol=1e-4, atol=1e-4)


def test_wrong_bounds_are_noticed(used, monkeypatch):
    """Bounds that miss a part of the spectrum lead to the other route, not to wrong numbers."""
    X, Y = make_data(63, 150, n_targets=4)
    right = RidgeDecoder(ALPHAS).fit(X, Y)
    assert used
    used.clear()
    monkeypatch.setattr(pole_route, "spectrum_bounds", lambda gram, *, rng: (60.0, 70.0))
    model = RidgeDecoder(ALPHAS).fit(X, Y)
    assert not used
    np.testing.assert_allclose(model.cv_mse_, right.cv_mse_, rtol=TOLERANCE)


def test_double_precision_is_refused():
    table = VoxelTable(np.ones((30, 40)), mean=np.zeros(40), root=None)
    with pytest.raises(UnsuitableError):
        PoleRoute(table, direction=None, alphas=ALPHAS, folds=[], dtype=np.dtype(np.float64))


@pytest.mark.parametrize(
    ("shape", "served"),
    [
        ((499, 9000, 10, 20), False),
        ((500, 9000, 10, 20), True),
        ((900, 800, 10, 20), False),
        ((900, 8000, 10, 1), False),
        ((3000, 15724, 4000, 20), True),
        ((3000, 15724, 9000, 20), False),
    ],
)
def test_shapes_that_are_served(shape, served):
    n_rows, n_voxels, n_targets, n_alphas = shape
    found = PoleRoute.serves(n_rows, n_voxels, n_targets=n_targets, n_alphas=n_alphas)
    assert found is served


def test_large_data_take_the_route():
    """At its real sizes, against the eigendecomposition in float64."""
    X, Y = make_data(510, 1300, n_targets=9, seed=2)
    model = RidgeDecoder(ALPHAS, out_of_fold=True).fit(X, Y)
    exact = RidgeDecoder(ALPHAS, out_of_fold=True).fit(X.astype(float), Y.astype(float))
    np.testing.assert_array_equal(model.alpha_, exact.alpha_)
    np.testing.assert_allclose(model.cv_mse_, exact.cv_mse_, rtol=TOLERANCE)
    np.testing.assert_allclose(model.predict(X), exact.predict(X), atol=TOLERANCE * float(Y.std()))


@pytest.mark.parametrize("ratio", [1.5, 8.0, 200.0])
def test_poles_combine_to_every_filter(ratio):
    low, high = 37.0, 37.0 * ratio
    poles = choose_poles(low, high, ALPHAS, tolerance=1e-6, most=16)
    coefficients, error = combine_poles(low, high, poles, ALPHAS)
    assert error <= 1e-6
    values = np.random.default_rng(0).uniform(low, high, 300)
    combined = coefficients[:, :1] + coefficients[:, 1:] @ (1 / (values + poles[:, None]))
    np.testing.assert_allclose(combined * (values + ALPHAS[:, None]), 1, atol=1.2e-6)
    # Terms that cancel would multiply the rounding of what they combine.
    size = np.abs(coefficients[:, :1]) + np.abs(coefficients[:, 1:]) @ (
        1 / (values + poles[:, None])
    )
    assert (size * (values + ALPHAS[:, None])).max() < 6


def test_number_of_poles_follows_the_spectrum_not_the_grid():
    counts = [
        len(choose_poles(1.0, ratio, ALPHAS, tolerance=1e-6, most=30)) for ratio in (2, 20, 2000)
    ]
    assert counts == sorted(counts)
    assert counts[0] < counts[2]
    dense = np.logspace(-1, 6, 150)
    assert len(choose_poles(1.0, 20.0, dense, tolerance=1e-6, most=30)) <= counts[1] + 1
    assert choose_poles(1.0, 1e6, ALPHAS, tolerance=1e-6, most=12) is None


def test_poles_equal_the_reference():
    """The pole in the middle of an odd number lies at the geometric mean of the ends."""
    poles = zolotarev_poles(4.0, 25.0, 4)
    assert poles[2] == pytest.approx(np.sqrt(4.0 * 25.0))
    # The set is symmetric about it: π_j π_{n-1-j} = low · high.
    assert poles[1] * poles[3] == pytest.approx(100.0)


def test_deflation_is_exact_and_narrows_the_spectrum():
    X, _ = make_data(200, 500, n_targets=1)
    table = VoxelTable(X, mean=X.mean(axis=0, dtype=float), root=None)
    gram = row_gram_single(table)
    before = gram.astype(float)
    left = X - X.mean(axis=0, dtype=float)
    np.testing.assert_allclose(before, left @ left.T, atol=20 * EPS32 * np.diag(before).max())
    taken = deflate(gram, rng=np.random.default_rng(0))
    assert len(taken.excess) == 6
    np.testing.assert_allclose(taken.vectors.T @ taken.vectors, np.eye(6), atol=50 * EPS32)
    rebuilt = gram + (taken.vectors * taken.excess) @ taken.vectors.T.astype(float)
    np.testing.assert_allclose(rebuilt, before, atol=20 * EPS32 * np.abs(before).max())
    values = np.linalg.eigvalsh(gram.astype(float))
    assert values[-1] < 1.2 * np.linalg.eigvalsh(before)[-7]


@pytest.mark.parametrize("n_rows", [30, 301])
def test_bounds_enclose_the_spectrum(n_rows):
    rng = np.random.default_rng(1)
    X = rng.standard_normal((n_rows, 2 * n_rows)).astype(np.float32)
    gram = X @ X.T
    low, high = spectrum_bounds(gram, rng=np.random.default_rng(0))
    values = np.linalg.eigvalsh(gram.astype(float))
    assert 0.5 * values[0] < low < values[0]
    assert values[-1] < high < 1.1 * values[-1]
