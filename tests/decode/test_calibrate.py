import numpy as np
import pytest

from braindecode_clip.decode import RidgeDecoder, apply_calibration, fit_calibration


@pytest.fixture
def shrunken():
    """Predictions with too little spread and a wrong mean; the last dimension is noise."""
    rng = np.random.default_rng(0)
    target = rng.standard_normal((50, 4)) * [1, 2, 3, 1] + [5, 0, -1, 2]
    predicted = 0.3 * (target + rng.standard_normal((50, 4))) + 7
    predicted[:, 3] = 1e-3 * rng.standard_normal(50)
    return predicted, target


def test_spread_gives_the_total_variance_by_one_gain(shrunken):
    predicted, target = shrunken
    gain, offset = fit_calibration(predicted, target)
    after = apply_calibration(predicted, gain, offset)
    assert len(set(gain)) == 1
    assert after.var(axis=0).sum() == pytest.approx(target.var(axis=0).sum(), rel=1e-5)
    np.testing.assert_allclose(after.mean(axis=0), target.mean(axis=0), atol=1e-5)
    assert after[:, 3].std() < 0.1


def test_spread_per_dimension(shrunken):
    predicted, target = shrunken
    after = apply_calibration(
        predicted, *fit_calibration(predicted, target, method="spread_per_dimension")
    )
    np.testing.assert_allclose(after.std(axis=0), target.std(axis=0), rtol=1e-4)
    np.testing.assert_allclose(after.mean(axis=0), target.mean(axis=0), atol=1e-4)


def test_least_squares_is_the_regression_line(shrunken):
    predicted, target = shrunken
    gain, offset = fit_calibration(predicted, target, method="least_squares")
    for d in range(3):
        slope, intercept = np.polyfit(predicted[:, d], target[:, d], 1)
        assert (gain[d], offset[d]) == pytest.approx((slope, intercept), rel=1e-5)


def test_least_squares_never_turns_round(shrunken):
    predicted, target = shrunken
    gain, _ = fit_calibration(-predicted, target, method="least_squares")
    np.testing.assert_array_equal(gain[:3], 0)


def test_none_changes_nothing(shrunken):
    predicted, target = shrunken
    after = apply_calibration(predicted, *fit_calibration(predicted, target, method="none"))
    np.testing.assert_array_equal(after, predicted.astype(np.float32))


def test_rows_never_held_out_do_not_count(shrunken):
    predicted, target = shrunken
    some = predicted.copy()
    some[30:] = np.nan
    for found, expected in zip(
        fit_calibration(some, target), fit_calibration(predicted[:30], target[:30]), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("method", ["spread", "spread_per_dimension", "least_squares"])
def test_constant_predictions_become_the_mean(method, shrunken):
    _, target = shrunken
    constant = np.full_like(target, 3.0)
    after = apply_calibration(constant, *fit_calibration(constant, target, method=method))
    np.testing.assert_allclose(after, np.tile(target.mean(axis=0), (50, 1)), rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, y: (p[:-1], y, "spread"), "differ"),
        (lambda p, y: (np.full_like(p, np.nan), y, "spread"), "0 rows"),
        (lambda p, y: (p, y, "spred"), "expected one of"),
    ],
)
def test_refuses(change, message, shrunken):
    predicted, target, method = change(*shrunken)
    with pytest.raises(ValueError, match=message):
        fit_calibration(predicted, target, method=method)


def test_spread_identifies_more_than_shrunken_predictions(make_toy, ranks):
    """The reason for the default, on pictures whose embeddings share a mean direction."""
    before, spread, least_squares = [], [], []
    for seed in range(4):
        toy = make_toy(n_pictures=260, noise=5.0, seed=seed)
        X, Y = toy.responses(np.arange(200)), toy.vectors[:200]
        model = RidgeDecoder(out_of_fold=True).fit(X, Y)
        predicted = model.predict(toy.responses(np.arange(200, 260), repeats=3))
        gallery = toy.vectors[200:]
        before.append(ranks(predicted, gallery))
        for found, method in ((spread, "spread"), (least_squares, "least_squares")):
            line = fit_calibration(model.out_of_fold_, Y, method=method)
            found.append(ranks(apply_calibration(predicted, *line), gallery))
    assert np.mean(spread) < np.mean(before) - 1
    assert np.mean(spread) < np.mean(least_squares) - 1
