import time

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from braindecode_clip.decode import MLPDecoder
from braindecode_clip.decode.mlp import held_out_parts
from braindecode_clip.decode.network import ResidualMLP, loss_of, network_arrays, run_network

QUICK = {"hidden": 16, "max_epochs": 6, "n_members": 2, "cross_fit": False}


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    return (
        torch.tensor(rng.standard_normal((7, 5))),
        torch.tensor(rng.standard_normal((7, 5))),
    )


def test_contrastive_loss_by_its_formula(pair):
    predicted, target = (x.numpy() / np.linalg.norm(x, axis=1, keepdims=True) for x in pair)
    tau = 0.3
    wanted = softmax(target @ target.T / tau, axis=1)
    entropy = -(wanted * np.log(wanted)).sum(axis=1).mean()
    rows = -(wanted * log_softmax(predicted @ target.T / tau, axis=1)).sum(axis=1).mean()
    columns = -(wanted * log_softmax(target @ predicted.T / tau, axis=1)).sum(axis=1).mean()
    found = loss_of(*pair, weights={"contrastive": 2.0}, tau=tau)
    assert float(found) == pytest.approx(2 * ((rows + columns) / 2 - entropy), rel=1e-12)


def test_contrastive_loss_is_zero_at_the_targets_alone(pair):
    weights = {"contrastive": 1.0}
    assert float(loss_of(3 * pair[1], pair[1], weights=weights, tau=0.1)) == pytest.approx(0)
    assert float(loss_of(*pair, weights=weights, tau=0.1)) > 0.1


def test_repeated_stimuli_are_no_false_negatives(pair):
    """Two rows of one stimulus: swapping their predictions costs nothing."""
    predicted, target = pair[0].clone(), pair[1].clone()
    target[1] = target[0]
    swapped = predicted[[1, 0, *range(2, 7)]]
    one, two = (
        float(loss_of(x, target, weights={"contrastive": 1.0}, tau=0.2))
        for x in (predicted, swapped)
    )
    assert one == pytest.approx(two)


def test_cosine_and_squared_error_by_their_formulas(pair):
    predicted, target = (x.numpy() for x in pair)
    cosine = (predicted * target).sum(axis=1)
    cosine /= np.linalg.norm(predicted, axis=1) * np.linalg.norm(target, axis=1)
    error = np.square(predicted - target).mean() / np.square(target).mean()
    found = loss_of(*pair, weights={"cosine": 0.5, "mse": 3.0}, tau=1.0)
    assert float(found) == pytest.approx(0.5 * (1 - cosine.mean()) + 3 * error, rel=1e-12)


def test_network_starts_linear_in_its_blocks():
    torch.manual_seed(0)
    network = ResidualMLP(9, 4, hidden=6, n_blocks=2).eval()
    x = torch.randn(5, 9)
    plain = network.head(network.norm(network.project(x)))
    torch.testing.assert_close(network(x), plain, rtol=0, atol=0)


def test_stored_arrays_give_the_network_back():
    torch.manual_seed(1)
    network = ResidualMLP(9, 4, hidden=6, n_blocks=2, dropout=0.5, input_dropout=0.5).eval()
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    x = torch.randn(5, 9)
    with torch.no_grad():
        expected = network(x).numpy()
    found = run_network(network_arrays(network), x.numpy())
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_parts_keep_groups_together_and_cover_all():
    groups = np.repeat(["a", "b", "c", "d", "e", "f", "g"], [3, 1, 4, 1, 5, 9, 2])
    part = held_out_parts(25, groups, share=0.3, rng=np.random.RandomState(0))
    assert set(part) == {0, 1, 2}
    assert all(len(set(part[groups == name])) == 1 for name in groups)
    single = held_out_parts(25, None, share=0.125, rng=np.random.RandomState(0))
    assert sorted(np.bincount(single)) == [3] * 7 + [4]


def test_few_groups_limit_the_parts():
    part = held_out_parts(6, [1, 1, 1, 2, 2, 2], share=0.1, rng=np.random.RandomState(0))
    assert set(part) == {0, 1}
    with pytest.raises(ValueError, match="one group"):
        held_out_parts(6, [1] * 6, share=0.1, rng=np.random.RandomState(0))


def test_same_seed_same_bits_and_torch_is_left_alone(toy):
    X, Y = toy.responses(np.arange(60)), toy.vectors[:60]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = MLPDecoder(**QUICK, random_state=3).fit(X, Y)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
    again = MLPDecoder(**QUICK, random_state=3).fit(X, Y)
    other = MLPDecoder(**QUICK, random_state=4).fit(X, Y)
    np.testing.assert_array_equal(first.predict(X), again.predict(X))
    assert not np.array_equal(first.arrays_["0.head.weight"], other.arrays_["0.head.weight"])


def test_held_out_rows_are_those_of_the_members(toy):
    X, Y = toy.responses(np.arange(90)), toy.vectors[:90]
    groups = np.arange(90) // 15
    model = MLPDecoder(**QUICK, validation=0.2, random_state=0).fit(X, Y, groups=groups)
    known = ~np.isnan(model.out_of_fold_).any(axis=1)
    # Six groups in five parts; two members hold out two parts, of one or two groups.
    assert known.sum() in (30, 45)
    assert all(len(set(known[groups == name])) == 1 for name in range(6))
    # What was held out is not merely predicted by the final average.
    assert not np.allclose(model.out_of_fold_[known], model.predict(X)[known], atol=1e-3)


def test_held_out_rows_do_not_train(toy):
    """Changing the targets of held-out rows leaves the weights after one epoch as they were."""
    X, Y = toy.responses(np.arange(64)), toy.vectors[:64].copy()
    options = {**QUICK, "max_epochs": 1, "n_members": 1, "mse": 1.0, "random_state": 0}
    first = MLPDecoder(**options).fit(X, Y)
    held = ~np.isnan(first.out_of_fold_).any(axis=1)
    assert held.sum() == 8
    Y[held] = Y[held][::-1]
    second = MLPDecoder(**options).fit(X, Y)
    for name in first.arrays_:
        if name.startswith("0.") and name != "0.gain":
            np.testing.assert_allclose(first.arrays_[name], second.arrays_[name], atol=1e-5)


def test_stops_early_and_keeps_the_best_epoch(toy):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((80, 200)), rng.standard_normal((80, 10))
    model = MLPDecoder(
        hidden=64, dropout=0, input_dropout=0, patience=3, n_members=1, mse=1, random_state=0
    ).fit(X, Y)
    history = model.history_[0]
    losses = history["validation_loss"]
    assert len(losses) < 50
    assert history["best_epoch"] == int(np.argmin(losses))
    assert len(losses) == history["best_epoch"] + 4


def test_noise_is_not_predicted_with_gain():
    rng = np.random.default_rng(1)
    X, Y = rng.standard_normal((120, 100)), rng.standard_normal((120, 8))
    model = MLPDecoder(hidden=32, n_members=4, max_epochs=20, random_state=0).fit(X, Y)
    assert model.predict(rng.standard_normal((50, 100))).std() < 0.4


def test_predicts_in_the_scale_of_the_targets(toy):
    X = toy.responses(np.arange(160))
    Y = 100 + 7 * toy.vectors[:160]
    model = MLPDecoder(hidden=64, max_epochs=30, random_state=0).fit(X, Y)
    T, Z = toy.responses(np.arange(160, 200), repeats=3), 100 + 7 * toy.vectors[160:]
    residual = np.square(model.predict(T) - Z).mean(axis=0).sum()
    assert residual < 0.8 * np.square(Y.mean(axis=0) - Z).mean(axis=0).sum()


def test_rows_are_predicted_one_by_one_as_together(toy):
    X, Y = toy.responses(np.arange(50)), toy.vectors[:50]
    model = MLPDecoder(**QUICK, random_state=0).fit(X, Y)
    singly = np.concatenate([model.predict(row[None]) for row in X])
    np.testing.assert_allclose(singly, model.predict(X), rtol=1e-6, atol=1e-7)


def test_constant_voxel_and_one_target(toy):
    X, y = toy.responses(np.arange(60)), toy.vectors[:60, 1]
    X[:, 4] = 3
    model = MLPDecoder(**QUICK, random_state=0).fit(X, y)
    assert model.predict(X).shape == model.out_of_fold_.shape == (60,)
    assert np.isfinite(model.predict(X + 1)).all()


def test_clone_and_pipeline(toy):
    X, Y = toy.responses(np.arange(60)), toy.vectors[:60]
    model = clone(MLPDecoder(**QUICK, random_state=1))
    assert model.get_params()["hidden"] == 16
    groups = np.arange(60) // 10
    pipeline = make_pipeline(StandardScaler(), model).fit(X, Y, mlpdecoder__groups=groups)
    assert pipeline.predict(X).shape == Y.shape


def test_identifies_pictures_from_few_trials_in_seconds(make_toy, ranks):
    toy = make_toy(n_pictures=540, n_voxels=1500, n_dims=128, noise=8.0, seed=2)
    X, T = toy.responses(np.arange(480)), toy.responses(np.arange(480, 540), repeats=3)
    start = time.process_time()
    model = MLPDecoder(random_state=0).fit(X, toy.vectors[:480])
    seconds = time.process_time() - start
    top_1 = (ranks(model.predict(T), toy.vectors[480:]) == 1).mean()
    assert top_1 >= 5 / 60
    # A core of a busy machine takes 4 to 9 s; the limit is there for a slip of a power of ten.
    assert seconds < 40


CHECKED = MLPDecoder(
    hidden=32,
    dropout=0,
    input_dropout=0,
    learning_rate=0.02,
    batch_size=32,
    max_epochs=30,
    n_members=1,
    cv=2,
    random_state=0,
)


@parametrize_with_checks([CHECKED])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)
