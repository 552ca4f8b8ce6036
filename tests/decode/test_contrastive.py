import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.utils.estimator_checks import parametrize_with_checks

from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.decode import ContrastiveDecoder
from braindecode_clip.decode.descent import Descent, Settings
from braindecode_clip.decode.losses import (
    bi_mixco,
    draw_mixture,
    info_nce,
    repeated,
    soft_clip,
    unit_vectors,
)
from braindecode_clip.decode.row_space import RowSpace, ridge_in


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    one, two = (torch.tensor(rng.standard_normal((7, 5))) for _ in range(2))
    return unit_vectors(one), unit_vectors(two)


def settings(**changes):
    given = {
        "alpha": np.full(4, 30.0),
        "flatten": None,
        "loss": "infonce",
        "learn_temperature": True,
        "noise": 0.0,
        "decay": 0.0,
        "optimizer": "lbfgs",
        "learning_rate": 0.03,
        "batch_size": None,
        "n_tokens": 1,
        "pooled": False,
        "device": "cpu",
    }
    return Settings(**{**given, **changes})


def test_info_nce_is_open_clips(pair):
    scale = torch.tensor(6.5, dtype=torch.float64)
    expected = import_open_clip().ClipLoss()(*pair, scale)
    assert float(info_nce(scale * pair[0] @ pair[1].T)) == pytest.approx(float(expected), rel=1e-12)


def test_repeats_are_left_out_of_the_denominators(pair):
    stimuli = np.array([0, 1, 0, 2, 3, 0, 1])
    logits = (4 * pair[0] @ pair[1].T).numpy()
    total = 0.0
    for matrix in (logits, logits.T):
        for i, row in enumerate(matrix):
            counted = [j for j in range(7) if j == i or stimuli[j] != stimuli[i]]
            total += logsumexp(row[counted]) - row[i]
    found = info_nce(torch.tensor(logits), not_negative=repeated(torch.tensor(stimuli)))
    assert float(found) == pytest.approx(total / 14, rel=1e-12)
    assert repeated(torch.arange(5)) is None


def test_losses_have_the_gradients_of_finite_differences(pair):
    mixture = draw_mixture(7, beta=0.3)
    same = repeated(torch.tensor([0, 1, 0, 2, 3, 4, 5]))
    for loss in (
        lambda p: info_nce(p @ pair[1].T / 0.2, not_negative=same),
        lambda p: soft_clip(p @ pair[1].T / 0.2, pair[1] @ pair[1].T / 0.2),
        lambda p: bi_mixco(p @ pair[1].T / 0.2, mixture, not_negative=same),
    ):
        assert torch.autograd.gradcheck(loss, pair[0].clone().requires_grad_(True))


def test_bi_mixco_by_its_formula(pair):
    torch.manual_seed(3)
    mixture = draw_mixture(7, beta=0.5)
    assert (mixture.share < 1).any()
    logits = (pair[0] @ pair[1].T / 0.3).numpy()
    total = 0.0
    for i in range(7):
        share, j = float(mixture.share[i]), int(mixture.partner[i])
        row = logits[i] - logsumexp(logits[i])
        total -= share * row[i] + (1 - share) * row[j]
        # The column of a target asks for all rows that it was mixed into.
        total -= share * (logits[i, i] - logsumexp(logits[:, i]))
        total -= (1 - share) * (logits[i, j] - logsumexp(logits[:, j]))
    assert float(bi_mixco(torch.tensor(logits), mixture)) == pytest.approx(total / 14, rel=1e-6)


@pytest.mark.parametrize("shape", [(13, 40), (50, 11)])
def test_row_space_holds_the_rows_and_ridge(shape):
    rng = np.random.default_rng(1)
    X, Y = rng.standard_normal(shape) + 3, rng.standard_normal((shape[0], 3))
    space = RowSpace(X)
    assert space.scores.shape[1] == min(shape[0] - 1, shape[1])
    centred = X - X.mean(axis=0)
    np.testing.assert_allclose(space.scores @ space.scores.T, centred @ centred.T, atol=1e-9)
    alpha = np.array([0.5, 5.0, 50.0])
    found = space.weights(ridge_in(space.scores, Y - Y.mean(axis=0), alpha=alpha, dtype=float))
    np.testing.assert_allclose(found, Ridge(alpha).fit(X, Y).coef_.T, atol=1e-10)
    assert RowSpace(X, n_components=4).scores.shape[1] == 4


def test_gradient_among_rows_is_the_gradient_among_voxels():
    rng = np.random.default_rng(2)
    X, Y = rng.standard_normal((20, 60)), rng.standard_normal((20, 4))
    space = RowSpace(X)
    basis = space.weights(np.eye(19))
    options = {"labels": np.arange(20), "tau": 0.3, "settings": settings(), "seed": 0}
    dual = Descent(space.scores, Y, dtype=torch.float64, **options)
    primal = Descent(X, Y, dtype=torch.float64, **options)
    # The unit of the steps is a number of the coordinates, not of the weights.
    primal._size = dual._size
    moved = rng.standard_normal((19, 4))
    for run, change in ((dual, moved), (primal, basis @ moved)):
        run._change.data += torch.tensor(change)
        run._backward(torch.arange(20), None)
    np.testing.assert_allclose(
        basis @ dual._change.grad.numpy(), primal._change.grad.numpy(), atol=1e-10
    )
    np.testing.assert_allclose(basis @ dual.weights(), primal.weights(), atol=1e-10)


@pytest.mark.parametrize("optimizer", ["adamw", "lbfgs"])
def test_epochs_end_where_held_out_rows_are_best_and_are_reproducible(make_toy, optimizer):
    toy = make_toy(noise=1.0)
    X, Y = toy.responses(np.arange(160)), toy.vectors[:160]
    # With one penalty, which is too small, there is something to go on for.
    options = {"alphas": [10.0], "max_epochs": 15, "random_state": 3}
    model = ContrastiveDecoder(optimizer=optimizer, **options).fit(X, Y)
    losses = model.validation_loss_
    assert model.best_epoch_ == int(np.argmin(losses)) > 0
    assert losses[model.best_epoch_] < losses[0]
    again = ContrastiveDecoder(optimizer=optimizer, **options).fit(X, Y)
    np.testing.assert_array_equal(model.coef_, again.coef_)
    start = ContrastiveDecoder(**options | {"max_epochs": 0}).fit(X, Y)
    assert start.best_epoch_ == 0 and start.validation_loss_ == []
    assert np.abs(model.coef_ - start.coef_).max() > 0


def test_epochs_start_at_the_flattened_weights():
    rng = np.random.default_rng(4)
    X, Y = rng.standard_normal((20, 60)), rng.standard_normal((20, 4)) * [5, 1, 1, 0.1]
    basis, gains = np.linalg.qr(rng.standard_normal((4, 2)))[0], np.array([0.2, 0.7])
    space = RowSpace(X)
    run = Descent(
        space.scores,
        Y,
        labels=np.arange(20),
        tau=0.3,
        settings=settings(flatten=(basis, gains)),
        seed=0,
        dtype=torch.float64,
    )
    whole = np.linalg.qr(np.hstack([basis, np.eye(4)[:, :2]]))[0]
    head = whole @ np.diag([*gains, 1, 1]) @ whole.T
    expected = Ridge(30.0).fit(X, Y).coef_.T @ head
    np.testing.assert_allclose(space.weights(run.weights()), expected, atol=1e-10)


def test_held_out_rows_do_not_train_their_fold(make_toy):
    toy = make_toy(noise=0.5)
    X, Y = toy.responses(np.arange(80)), toy.vectors[:80].copy()
    options = {"alphas": [100.0], "temperature": 0.1, "cv": 2, "max_epochs": 3, "patience": 9}
    held = np.arange(40)
    moved = Y.copy()
    moved[held] = moved[held][::-1]
    paths = []
    for targets in (Y, moved):
        run = Descent(
            X[40:].astype(float),
            targets[40:],
            labels=np.arange(40),
            tau=0.1,
            settings=settings(alpha=np.full(32, 100.0), optimizer="adamw", noise=1.0),
            seed=1,
        )
        run.epoch()
        paths.append(run.predict(X[held]))
    np.testing.assert_array_equal(*paths)
    assert ContrastiveDecoder(**options).fit(X, Y).best_epoch_ <= 3


def test_tokens_are_compared_in_a_row_or_by_their_mean(make_toy):
    toy = make_toy(noise=0.5)
    X, Y = toy.responses(np.arange(60)), toy.vectors[:60].reshape(60, 4, 8)
    for pooled in (False, True):
        model = ContrastiveDecoder(pooled=pooled, max_epochs=5, random_state=0).fit(X, Y)
        assert model.predict(X).shape == model.out_of_fold_.shape == Y.shape
    flat = ContrastiveDecoder(max_epochs=5, random_state=0).fit(X, Y.reshape(60, -1))
    tokens = ContrastiveDecoder(max_epochs=5, random_state=0).fit(X, Y)
    np.testing.assert_array_equal(flat.coef_, tokens.coef_)
    x = torch.randn(3, 8)
    torch.testing.assert_close(
        unit_vectors(x, n_tokens=2, pooled=True),
        torch.nn.functional.normalize((x[:, :4] + x[:, 4:]) / 2, dim=1),
    )


def test_one_target_and_clone(toy):
    X, y = toy.responses(np.arange(40)), toy.vectors[:40, 1]
    model = clone(ContrastiveDecoder(cv=4)).fit(X, y, stimuli=np.arange(40) // 2)
    assert model.best_epoch_ == 0 and model.predict(X).shape == (40,)
    with pytest.raises(ValueError, match="39 entries for 40 rows"):
        model.fit(X, y, stimuli=np.arange(39))


@parametrize_with_checks(
    [
        ContrastiveDecoder(cv=3, random_state=0),
        ContrastiveDecoder(cv=3, max_epochs=3, random_state=0),
    ]
)
def test_scikit_learn_conventions(estimator, check):
    check(estimator)
