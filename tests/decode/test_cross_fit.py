"""Out-of-fold predictions of networks: what the held-out rows had a part in."""

import dataclasses
from typing import ClassVar

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold, KFold, LeaveOneGroupOut

from braindecode_clip.config.decode import ContrastiveConfig, EnsembleConfig, MLPConfig, RidgeConfig
from braindecode_clip.decode import (
    ContrastiveDecoder,
    MLPDecoder,
    RidgeDecoder,
    combine,
    decode,
)
from braindecode_clip.decode.compare import compare_decoders
from braindecode_clip.decode.cross_fit import can_cross_fit, cross_fitted, inner_cv, out_of_fold_by
from braindecode_clip.decode.fit import choices_of
from braindecode_clip.io.training_state import TrainingState

SMALL = {"hidden": 8, "max_epochs": 3, "n_members": 2, "validation": 0.25, "random_state": 0}
KINDS = [
    MLPDecoder(**SMALL),
    ContrastiveDecoder(alphas=[10.0, 100.0], max_epochs=4, random_state=0),
    ContrastiveDecoder(alphas=[10.0, 100.0], random_state=0),
]
IDS = ["mlp", "contrastive", "no epochs"]


def with_options(model, **changes):
    return type(model)(**(model.get_params() | changes))


def noise_scores(model, seeds, *, n=80):
    """Correlation of out-of-fold predictions with targets of noise, subject by subject."""
    scores = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        X, Y = rng.standard_normal((n, 60)), rng.standard_normal((n, 12))
        held = with_options(model, random_state=seed).fit(X, Y).out_of_fold_
        known = ~np.isnan(held).any(axis=1)
        one, two = held[known] - Y.mean(axis=0), (Y - Y.mean(axis=0))[known]
        scores.append((one * two).sum() / np.sqrt(np.square(one).sum() * np.square(two).sum()))
    scores = np.array(scores)
    return scores.mean(), scores.std(ddof=1) / np.sqrt(len(scores))


def test_noise_is_at_chance_and_was_not_when_rows_stopped_the_training():
    model = MLPDecoder(
        hidden=8, max_epochs=12, n_members=2, validation=0.2, mse=1.0, contrastive=0.0, cv=3
    )
    mean, error = noise_scores(model, range(16))
    assert abs(mean) < 3 * error
    mean, error = noise_scores(with_options(model, cross_fit=False), range(16))
    assert mean > 3 * error


@pytest.mark.parametrize("model", KINDS, ids=IDS)
def test_targets_of_a_fold_change_nothing_of_its_predictions(model, toy):
    """Neither by training nor by any choice: the same bits but for the rounding of the mean."""
    X, Y = toy.responses(np.arange(72)), toy.vectors[:72]
    groups = np.arange(72) // 4
    held = next(iter(GroupKFold(3).split(X, groups=groups)))[1]
    moved = Y.copy()
    moved[held] = Y[held][::-1]
    found = {}
    for cross_fit in (True, False):
        used = with_options(model, cv=3, cross_fit=cross_fit)
        found[cross_fit] = [
            used.fit(X, targets, groups=groups).out_of_fold_[held] for targets in (Y, moved)
        ]
        assert used.cross_fitted_ is cross_fit
    np.testing.assert_allclose(*found[True], rtol=0, atol=1e-6)
    known = ~np.isnan(found[False][0]).any(axis=1)
    assert known.any() and np.abs(found[False][0] - found[False][1])[known].max() > 1e-4


class Watched(MLPDecoder):
    """Keeps what every fit was given, and the model."""

    fits: ClassVar[list] = []

    def fit(self, X, Y, groups=None, *, stimuli=None, store=None):
        self.fits.append((self, np.asarray(X), groups, stimuli))
        return super().fit(X, Y, groups, stimuli=stimuli, store=store)


def test_networks_of_a_fold_know_the_groups_and_stimuli_of_the_others_alone(toy):
    X, Y = toy.responses(np.arange(60)), toy.vectors[:60]
    groups, stimuli = np.arange(60) // 5, np.arange(60) // 2
    Watched.fits.clear()
    model = Watched(**SMALL, cv=3).fit(X, Y, groups=groups, stimuli=stimuli)
    parts = list(GroupKFold(3).split(X, groups=groups))
    assert len(Watched.fits) == 4
    assert len({item.random_state for item, *_ in Watched.fits[1:]}) == 3
    for (fold, rows, given, shown), (train, held) in zip(Watched.fits[1:], parts, strict=True):
        np.testing.assert_array_equal(rows, X[train])
        np.testing.assert_array_equal(given, groups[train])
        # Whole groups were held out to stop by.
        stopped = ~np.isnan(fold.out_of_fold_).any(axis=1)
        assert all(len(set(stopped[given == name])) == 1 for name in set(given))
        same = shown[:, None] == shown
        np.testing.assert_array_equal(same, stimuli[train][:, None] == stimuli[train])
        expected = fold.predict(X[held]) - Y[train].mean(axis=0) + Y.mean(axis=0)
        np.testing.assert_allclose(model.out_of_fold_[held], expected, atol=1e-6)


def by_hand(fit, X, Y, groups):
    """Predict every fold by a decoder of the others, set on the mean of all rows."""
    expected = np.empty(Y.shape)
    for train, held in GroupKFold(4).split(X, groups=groups):
        predicted = fit(X[train], Y[train], groups[train]).predict(X[held])
        expected[held] = predicted - Y[train].mean(axis=0) + Y.mean(axis=0)
    return expected


def test_contrastive_by_hand(toy):
    """Of one target it is ridge, penalties chosen within each fold; of many what it is anew."""
    X, Y = toy.responses(np.arange(75)), toy.vectors[:75]
    groups = np.arange(75) // 5
    alphas = [1.0, 30.0, 900.0]

    def ridge(X, Y, groups):
        return RidgeDecoder(alphas, 4).fit(X, Y, groups=groups)

    def contrastive(X, Y, groups):
        return ContrastiveDecoder(alphas, 4, cross_fit=False).fit(X, Y, groups=groups)

    y = Y[:, 1]
    found = ContrastiveDecoder(alphas, 4).fit(X, y, groups=groups).out_of_fold_
    np.testing.assert_allclose(found, by_hand(ridge, X, y, groups), atol=1e-6)
    model = ContrastiveDecoder(alphas, 4).fit(X, Y, groups=groups)
    expected = by_hand(contrastive, X, Y, groups)
    np.testing.assert_allclose(model.out_of_fold_, expected, atol=1e-6)
    for other in (by_hand(ridge, X, Y, groups), contrastive(X, Y, groups).out_of_fold_):
        assert np.abs(expected - other).max() > 1e-3


def test_repeats_are_no_negatives_of_each_other_within_a_fold_either(toy):
    X, Y = toy.responses(np.arange(72)), toy.vectors[:72]
    groups, stimuli = np.arange(72) // 6, np.arange(72) % 3
    # One penalty, far too small, and no noise: there is something to go on for, and no chance.
    options = {"alphas": [1.0], "cv": 4, "max_epochs": 3, "noise": 0.0, "random_state": 0}
    model = ContrastiveDecoder(**options).fit(X, Y, groups, stimuli)
    expected = np.empty(Y.shape)
    for train, held in GroupKFold(4).split(X, groups=groups):
        part = ContrastiveDecoder(**options, cross_fit=False)
        part.fit(X[train], Y[train], groups[train], stimuli[train])
        expected[held] = part.predict(X[held]) - Y[train].mean(axis=0) + Y.mean(axis=0)
    np.testing.assert_allclose(model.out_of_fold_, expected, atol=1e-5)
    apart = ContrastiveDecoder(**options).fit(X, Y, groups).out_of_fold_
    assert np.abs(expected - apart).max() > 1e-3


def test_without_epochs_no_rows_stop_anything(toy):
    X, Y = toy.responses(np.arange(40)), toy.vectors[:40]
    for epochs, cross_fit, name in (
        (0, False, "cross_validation"),
        (2, False, "stopping_rows"),
        (0, True, "cross_fit"),
    ):
        model = ContrastiveDecoder([10.0], 3, max_epochs=epochs, cross_fit=cross_fit)
        model.fit(X, Y)
        assert out_of_fold_by(model) == name
        assert ("best_epochs" in choices_of(model)) is (epochs > 0)


@pytest.mark.parametrize("model", KINDS, ids=IDS)
def test_the_decoder_itself_does_not_depend_on_it(model, toy):
    X, Y = toy.responses(np.arange(60)), toy.vectors[:60]
    one, two = (with_options(model, cross_fit=flag).fit(X, Y) for flag in (True, False))
    np.testing.assert_array_equal(one.predict(X), two.predict(X))
    assert not np.isnan(one.out_of_fold_).any()


def test_tokens_repeats_and_splitters(toy):
    X, Y = toy.responses(np.arange(48)), toy.vectors[:48].reshape(48, 4, 8)
    groups = np.arange(48) // 8
    for model in KINDS:
        used = with_options(model, cv=LeaveOneGroupOut())
        used.fit(X, Y, groups=groups, stimuli=np.arange(48) // 2)
        assert used.cross_fitted_ and used.out_of_fold_.shape == Y.shape
        assert np.isfinite(used.out_of_fold_).all()


@pytest.mark.parametrize("model", KINDS, ids=IDS)
def test_two_groups_cannot_be_cross_fitted(model, toy, caplog):
    X, Y = toy.responses(np.arange(40)), toy.vectors[:40]
    used = with_options(model, cv=2)
    with caplog.at_level("WARNING", logger="braindecode_clip"):
        used.fit(X, Y, groups=np.arange(40) // 20)
    assert not used.cross_fitted_
    assert "1 group of training rows is left without a fold" in caplog.text
    # Uneven groups: one fold of two groups leaves one.
    assert not can_cross_fit([np.arange(4), np.arange(4, 6)], 6, groups=[0, 0, 1, 1, 2, 2], what="")
    assert can_cross_fit([np.arange(2), np.arange(2, 4)], 6, groups=[0, 0, 1, 1, 2, 2], what="")


def test_inner_folds():
    folds = [held for _, held in KFold(3).split(np.zeros(9))]
    train = np.arange(3, 9)
    assert inner_cv(5, folds, train=train, groups=np.arange(9) // 3) == 2
    assert inner_cv(4, folds, train=train, groups=None) == 4
    splits = inner_cv(KFold(3), folds, train=train, groups=None)
    assert [held.tolist() for _, held in splits] == [[0, 1, 2], [3, 4, 5]]
    assert [rest.tolist() for rest, _ in splits] == [[3, 4, 5], [0, 1, 2]]
    assert inner_cv(KFold(2), [np.arange(3), train], train=train, groups=None) == 2


def test_rows_in_several_folds_are_averaged_and_in_none_unknown():
    class Constant:
        def __init__(self, value):
            self.value = value

        def predict(self, X):
            return np.full((len(X), 2), self.value)

    X, Y = np.zeros((5, 3)), np.arange(10.0).reshape(5, 2)
    folds = [np.array([0, 1]), np.array([1, 2, 3])]
    held = cross_fitted(X, Y, folds=folds, fit=lambda fold, train, store: Constant(fold + 1.0))
    shift = [Y.mean(axis=0) - Y[rows].mean(axis=0) for rows in ([2, 3, 4], [0, 4])]
    expected = [1 + shift[0], 1.5 + (shift[0] + shift[1]) / 2, 2 + shift[1], 2 + shift[1]]
    np.testing.assert_allclose(held[:4], expected)
    assert np.isnan(held[4]).all()


@pytest.mark.parametrize("model", KINDS, ids=IDS)
def test_finished_folds_are_taken_up(model, toy, tmp_path, caplog):
    X, Y = toy.responses(np.arange(50)), toy.vectors[:50]
    store = TrainingState(tmp_path, key={"a": 1})
    with caplog.at_level("INFO", logger="braindecode_clip"):
        first = with_options(model, cv=3).fit(X, Y, store=store).out_of_fold_
        assert "cross-fit fold 3 of 3" in caplog.text and "(found)" not in caplog.text
        again = with_options(model, cv=3).fit(X, Y, store=store).out_of_fold_
    assert caplog.text.count("(found)") == 3
    np.testing.assert_array_equal(first, again)
    # The networks of a finished fold are not kept.
    members = 2 if isinstance(model, MLPDecoder) else 0
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3 + members


def test_the_stage_hands_the_store_on(picture_set, toy, tmp_path):
    store = TrainingState(tmp_path, key={})
    decode(
        picture_set, toy.embeddings(), config=ContrastiveConfig(max_epochs=2), seed=0, store=store
    )
    assert len(list(tmp_path.rglob("predicted.safetensors"))) == 5


@pytest.fixture
def decoders(picture_set, toy):
    configs = [
        RidgeConfig(),
        MLPConfig(**{k: v for k, v in SMALL.items() if k != "random_state"}),
        ContrastiveConfig(max_epochs=3),
        MLPConfig(name="quick", cross_fit=False, hidden=8, max_epochs=3),
    ]
    return [decode(picture_set, toy.embeddings(), config=c, seed=0)[1] for c in configs]


def test_compare_says_how_scores_were_made(decoders, picture_set, toy):
    config = EnsembleConfig(members=("ridge", "mlp"))
    mixed = combine(decoders[:2], picture_set, toy.embeddings(), config=config)[1]
    quick = combine(
        decoders[2:],
        picture_set,
        toy.embeddings(),
        config=EnsembleConfig(name="quicks", members=("contrastive", "quick")),
    )[1]
    older = dataclasses.replace(decoders[1], name="older", folds=(stripped(decoders[1]),))
    shared = dataclasses.replace(decoders[0], name="none", folds=(stripped(decoders[0], True),))
    fitted = [*decoders, mixed, quick, older, shared]
    rows = [
        {"subject": "01", "roi": "visual", "split": "toy", "encoder": "", "decoder": item.name}
        | {"direction": "brain_to_image", "gallery": "test", "metric": "pairwise", "value": 0.9}
        for item in fitted
    ]
    found = compare_decoders(fitted, rows).set_index("decoder")["validation_by"].to_dict()
    assert found == {
        "ridge": "cross_validation",
        "mlp": "cross_fit",
        "contrastive": "cross_fit",
        "quick": "stopping_rows",
        "ensemble": "cross_fit+cross_validation",
        "quicks": "cross_fit+stopping_rows",
        "older": "unknown",
        "none": "none",
    }


def stripped(decoder, score=False):
    names = {"out_of_fold_by", "out_of_fold_pairwise"} if score else {"out_of_fold_by"}
    fold = decoder.folds[0]
    return dataclasses.replace(fold, info={k: v for k, v in fold.info.items() if k not in names})


def test_calibration_and_ensemble_take_all_rows(decoders, toy):
    cross, quick = (decoders[i].folds[0] for i in (1, 3))
    assert len(cross.array("out_of_fold_rows")) == 160
    assert 0 < len(quick.array("out_of_fold_rows")) < 160
    held = cross.array("out_of_fold").astype(float)
    targets = toy.vectors[:160].astype(float)
    gain = np.sqrt(targets.var(axis=0).sum() / held.var(axis=0).sum())
    np.testing.assert_allclose(cross.gain, gain, rtol=1e-5)
