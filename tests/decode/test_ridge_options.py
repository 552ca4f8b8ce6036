import h5py
import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import GridSearchCV, KFold

from braindecode_clip.decode import RidgeDecoder
from braindecode_clip.decode import ridge as ridge_module

ALPHAS = np.logspace(-1, 5, 13)
EPS32 = float(np.finfo(np.float32).eps)
#: Rows and voxels of the dual, the primal and the downdated route.
SHAPES = [(60, 130), (90, 35), (280, 11)]


def make_data(n_rows, n_voxels, *, n_targets, seed=0, mean=2.0):
    rng = np.random.default_rng(seed)
    X = 2 * rng.standard_normal((n_rows, 6)) @ rng.standard_normal((6, n_voxels))
    X += rng.standard_normal((n_rows, n_voxels)) + mean
    signal = X @ rng.standard_normal((n_voxels, n_targets))
    noise = rng.standard_normal((n_rows, n_targets)) * np.linspace(0.1, 3, n_targets)
    return X, signal / signal.std(axis=0) + noise + 1


def held_out(X, Y, alpha, *, cv, weights=None, fit_intercept=True):
    """Predictions of refitted models for rows that every fold holds out."""
    weights = np.ones(len(X)) if weights is None else weights
    found = np.empty_like(Y)
    for train, test in cv.split(X):
        model = Ridge(alpha=alpha, solver="svd", fit_intercept=fit_intercept)
        model.fit(X[train], Y[train], sample_weight=weights[train])
        found[test] = model.predict(X[test])
    return found


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("device", ["cpu", "torch"])
@pytest.mark.parametrize("shape", SHAPES)
def test_weights_and_intercept_equal_refitted_models(shape, device, weighted, fit_intercept):
    X, Y = make_data(*shape, n_targets=5)
    weights = np.random.default_rng(1).uniform(0.2, 4, len(X)) if weighted else np.ones(len(X))
    given = weights if weighted else None
    model = RidgeDecoder(ALPHAS, out_of_fold=True, device=device, fit_intercept=fit_intercept)
    model.fit(X, Y, sample_weight=given)
    held = np.stack(
        [
            held_out(X, Y, alpha, cv=KFold(5), weights=weights, fit_intercept=fit_intercept)
            for alpha in ALPHAS
        ]
    )
    mse = np.average(np.square(held - Y), axis=1, weights=weights)
    np.testing.assert_allclose(model.cv_mse_, mse, rtol=1e-8)
    best = mse.argmin(axis=0)
    np.testing.assert_array_equal(model.alpha_, ALPHAS[best])
    np.testing.assert_allclose(model.out_of_fold_, held[best, :, np.arange(5)].T, atol=1e-8)
    final = Ridge(alpha=ALPHAS[best], solver="svd", fit_intercept=fit_intercept)
    final.fit(X, Y, sample_weight=given)
    np.testing.assert_allclose(model.coef_, final.coef_.T, atol=1e-9)
    np.testing.assert_allclose(model.intercept_, final.intercept_, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
def test_weight_is_a_number_of_repeats(shape):
    X, Y = make_data(*shape, n_targets=3, seed=2)
    repeats = np.random.default_rng(3).integers(0, 4, len(X))
    groups = np.arange(len(X)) % 4
    pairs = [(np.flatnonzero(groups != g), np.flatnonzero(groups == g)) for g in range(4)]
    model = RidgeDecoder(ALPHAS, cv=pairs, out_of_fold=True).fit(X, Y, sample_weight=repeats)
    rows = np.repeat(np.arange(len(X)), repeats)
    pairs = [
        (np.flatnonzero(groups[rows] != g), np.flatnonzero(groups[rows] == g)) for g in range(4)
    ]
    repeated = RidgeDecoder(ALPHAS, cv=pairs, out_of_fold=True).fit(X[rows], Y[rows])
    np.testing.assert_allclose(model.cv_mse_, repeated.cv_mse_, rtol=1e-8)
    np.testing.assert_allclose(model.coef_, repeated.coef_, atol=1e-9)
    np.testing.assert_allclose(model.out_of_fold_[rows], repeated.out_of_fold_, atol=1e-8)
    np.testing.assert_array_equal(np.isnan(model.out_of_fold_).any(axis=1), repeats == 0)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("device", ["cpu", "torch"])
@pytest.mark.parametrize("shape", SHAPES)
def test_leave_one_out_equals_scikit_learn(shape, device, weighted):
    X, Y = make_data(*shape, n_targets=5, seed=4)
    weights = np.random.default_rng(5).uniform(0.5, 3, len(X)) if weighted else None
    model = RidgeDecoder(ALPHAS, validation="loo", device=device).fit(X, Y, sample_weight=weights)
    peer = RidgeCV(ALPHAS, alpha_per_target=True, store_cv_results=True)
    peer.fit(X, Y, sample_weight=weights)
    np.testing.assert_allclose(model.alpha_, peer.alpha_)
    total = len(X) if weights is None else weights.sum()
    mse = peer.cv_results_.sum(axis=0).T / total
    np.testing.assert_allclose(model.cv_mse_, mse, rtol=1e-7)
    np.testing.assert_allclose(model.coef_, peer.coef_.T, atol=1e-8)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("device", ["cpu", "torch"])
@pytest.mark.parametrize("shape", SHAPES)
def test_generalised_cross_validation_equals_its_formula(shape, device, fit_intercept):
    X, Y = make_data(*shape, n_targets=4, seed=6)
    n_rows, centre = len(X), 0
    if fit_intercept:
        centre = np.full((len(X), len(X)), 1 / len(X))
        X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    expected = []
    for alpha in ALPHAS:
        hat = X @ np.linalg.solve(X.T @ X + alpha * np.eye(X.shape[1]), X.T) + centre
        left = np.eye(n_rows) - hat
        expected.append(np.square(left @ Y).sum(axis=0) * n_rows / np.trace(left) ** 2)
    model = RidgeDecoder(ALPHAS, validation="gcv", device=device, fit_intercept=fit_intercept)
    np.testing.assert_allclose(model.fit(X, Y).cv_mse_, expected, rtol=1e-6)


def test_validation_without_groups_says_so(monkeypatch):
    said = []
    monkeypatch.setattr(ridge_module.logger, "warning", lambda text, *_: said.append(text))
    X, Y = make_data(60, 30, n_targets=2)
    RidgeDecoder([1.0, 10.0, 1e3], validation="loo", cv=3).fit(X, Y, groups=np.arange(60) // 5)
    assert "does not hold rows of one group out together" in said[0]


def test_shared_penalty_equals_grid_search():
    X, Y = make_data(60, 130, n_targets=5, seed=7)
    model = RidgeDecoder(ALPHAS, alpha_groups="all").fit(X, Y)
    search = GridSearchCV(
        Ridge(solver="svd"), {"alpha": ALPHAS}, cv=KFold(5), scoring="neg_mean_squared_error"
    ).fit(X, Y)
    np.testing.assert_allclose(model.alpha_, np.full(5, search.best_params_["alpha"]))
    np.testing.assert_allclose(model.coef_, search.best_estimator_.coef_.T, atol=1e-9)


def test_penalty_for_groups_of_targets():
    X, Y = make_data(60, 130, n_targets=5, seed=8)
    labels = np.array(["b", "a", "b", "a", "b"])
    model = RidgeDecoder(ALPHAS, alpha_groups=labels).fit(X, Y)
    for label in "ab":
        part = labels == label
        own = RidgeDecoder(ALPHAS, alpha_groups="all").fit(X, Y[:, part])
        np.testing.assert_array_equal(model.alpha_[part], own.alpha_)
        np.testing.assert_allclose(model.coef_[:, part], own.coef_, atol=1e-10)
    assert len(np.unique(model.alpha_)) == 2


@pytest.mark.parametrize("device", ["cpu", "torch"])
@pytest.mark.parametrize("shape", SHAPES)
def test_batches_of_targets_change_nothing(shape, device):
    X, Y = make_data(*shape, n_targets=11, seed=9)
    options = {"out_of_fold": True, "alpha_groups": [0, 1, 2, 0, 0, 1, 1, 2, 2, 0, 1]}
    whole = RidgeDecoder(ALPHAS, device=device, **options).fit(X, Y)
    batched = RidgeDecoder(ALPHAS, device=device, n_targets_batch=3, **options).fit(X, Y)
    np.testing.assert_array_equal(batched.alpha_, whole.alpha_)
    for name in ("cv_mse_", "coef_", "intercept_", "out_of_fold_"):
        np.testing.assert_allclose(getattr(batched, name), getattr(whole, name), atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_torch_in_float32_is_as_exact(shape):
    X, Y = (part.astype(np.float32) for part in make_data(*shape, n_targets=5, seed=10))
    model = RidgeDecoder(ALPHAS, out_of_fold=True, device="torch").fit(X, Y)
    exact = RidgeDecoder(ALPHAS, out_of_fold=True).fit(X.astype(float), Y.astype(float))
    np.testing.assert_array_equal(model.alpha_, exact.alpha_)
    assert model.coef_.dtype == model.out_of_fold_.dtype == np.float32
    np.testing.assert_allclose(model.out_of_fold_, exact.out_of_fold_, atol=300 * EPS32 * Y.std())


@pytest.fixture
def stored(tmp_path):
    """Return a function that stores float16 voxels and targets, opens them, and reads them."""
    handles = []

    def store(X, Y):
        handle = h5py.File(tmp_path / "data.h5", "w")
        handles.append(handle)
        handle["X"], handle["Y"] = X.astype(np.float16), Y.astype(np.float16)
        handle.create_dataset("coef", (X.shape[1], Y[0].size), dtype=np.float32)
        return handle

    yield store
    for handle in handles:
        handle.close()


@pytest.mark.parametrize("device", ["cpu", "torch"])
@pytest.mark.parametrize("shape", SHAPES)
def test_tokens_from_a_file_equal_those_in_memory(stored, shape, device, monkeypatch):
    X, Y = make_data(*shape, n_targets=12, seed=11)
    Y = Y.reshape(len(X), 4, 3)
    file = stored(X, Y)
    monkeypatch.setattr("braindecode_clip.decode.tables.BLOCK_BYTES", 9 * 8 * len(X))
    model = RidgeDecoder(ALPHAS, out_of_fold=True, n_targets_batch=7, device=device)
    model.fit(file["X"], file["Y"], coef_out=file["coef"])
    X, Y = file["X"][()].astype(np.float32), file["Y"][()].astype(np.float32)
    memory = RidgeDecoder(ALPHAS, out_of_fold=True).fit(X, Y.reshape(len(X), 12))
    np.testing.assert_array_equal(model.alpha_, memory.alpha_)
    tolerance = 300 * EPS32 * float(Y.std())
    assert model.out_of_fold_.shape == Y.shape
    held = model.out_of_fold_.reshape(len(X), 12)
    np.testing.assert_allclose(held, memory.out_of_fold_, atol=tolerance)
    np.testing.assert_allclose(file["coef"][()], memory.coef_, atol=tolerance)
    for voxels in (X, file["X"]):
        assert model.predict(voxels).shape == Y.shape
        np.testing.assert_allclose(
            model.predict(voxels).reshape(len(X), 12), memory.predict(X), atol=tolerance
        )
    blocks = {part.start: block for part, block in model.predict_blocks(file["X"], 5)}
    assert sorted(blocks) == [0, 5, 10]
    np.testing.assert_allclose(blocks[10], memory.predict(X)[:, 10:], atol=tolerance)


def test_tokens_in_memory():
    X, Y = make_data(60, 130, n_targets=12, seed=12)
    model = RidgeDecoder(ALPHAS).fit(X, Y.reshape(60, 4, 3))
    np.testing.assert_allclose(
        model.predict(X).reshape(60, 12), RidgeDecoder(ALPHAS).fit(X, Y).predict(X), atol=1e-10
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": "holdout"}, "kfold, loo or gcv"),
        ({"alpha_groups": [0, 1]}, "3 targets"),
        ({"alpha_groups": "each"}, "3 targets"),
        ({"device": "tpu"}, "auto, cpu, cuda or torch"),
    ],
)
def test_refuses_options(options, message):
    X, Y = make_data(30, 10, n_targets=3)
    with pytest.raises(ValueError, match=message):
        RidgeDecoder(**options).fit(X, Y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_weight": np.zeros(30)}, "non-zero"),
        ({"sample_weight": -np.ones(30)}, "[Nn]egative"),
        ({"coef_out": np.empty((3, 10))}, "expected \\(10, 3\\)"),
    ],
)
def test_refuses_arguments_of_fit(options, message):
    X, Y = make_data(30, 10, n_targets=3)
    with pytest.raises(ValueError, match=message):
        RidgeDecoder([1.0, 1e3]).fit(X, Y, **options)


@pytest.mark.parametrize("name", ["X", "Y"])
def test_refuses_nan_in_a_file(stored, name):
    X, Y = make_data(30, 10, n_targets=3)
    file = stored(X, Y)
    file[name][4, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        RidgeDecoder([1.0, 1e3]).fit(file["X"], file["Y"])


def test_refuses_files_that_do_not_fit(stored):
    X, Y = make_data(30, 10, n_targets=3)
    file = stored(X, Y[:20])
    with pytest.raises(ValueError, match="inconsistent"):
        RidgeDecoder([1.0]).fit(file["X"], file["Y"])
    with pytest.raises(ValueError, match="two axes of floats"):
        RidgeDecoder([1.0]).fit(file.create_dataset("n", data=np.ones((30, 4), int)), Y)


def test_cuda_is_named_where_there_is_none(monkeypatch):
    monkeypatch.setattr("braindecode_clip.decode.ridge_torch._has_driver", lambda: False)
    X, Y = make_data(30, 10, n_targets=3)
    with pytest.raises(ValueError, match="no CUDA device"):
        RidgeDecoder(device="cuda").fit(X, Y)
    whole = RidgeDecoder(ALPHAS, device="auto").fit(X, Y)
    np.testing.assert_array_equal(whole.coef_, RidgeDecoder(ALPHAS).fit(X, Y).coef_)
