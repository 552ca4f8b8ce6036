"""The synthetic decoder and the map between spaces, against closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from audit_sides import PLACE, embeddings_of, side_of
from sklearn.linear_model import RidgeCV

from braindecode_clip.artifacts import Predictions
from braindecode_clip.audit.common_space import PENALTIES, SpaceMap
from braindecode_clip.audit.compare import compare
from braindecode_clip.audit.geometry import Decoded, ranks_among, synthetic_predictions
from braindecode_clip.config.adaptations import AuditConfig


def decoded(seed: int = 0, n: int = 400, n_dims: int = 7, gain: float = 0.6) -> Decoded:
    rng = np.random.default_rng(seed)
    true = 0.5 + rng.standard_normal((n, n_dims)) @ np.diag(np.linspace(0.2, 2, n_dims))
    mixed = rng.standard_normal((n, n_dims)) @ rng.standard_normal((n_dims, n_dims))
    return Decoded(2 + gain * true + 0.8 * mixed, true)


def test_correlation_and_spread_are_those_of_all_numbers_together() -> None:
    item = decoded()
    p, t = item.predicted - item.predicted.mean(0), item.true - item.true.mean(0)
    assert item.correlation == pytest.approx(np.corrcoef(p.ravel(), t.ravel())[0, 1], abs=1e-12)
    lengths = [np.mean([np.linalg.norm(row) ** 2 for row in part]) for part in (p, t)]
    assert item.relative_spread == pytest.approx(np.sqrt(lengths[0] / lengths[1]))
    # What is left after the truth does not go with it.
    assert np.sum(item.errors() * t) == pytest.approx(0, abs=1e-8)
    assert Decoded(np.ones((3, 2)), item.true[:3, :2]).correlation == 0


@pytest.mark.parametrize("noise", ["isotropic", "residual"])
@pytest.mark.parametrize("wanted", [0.0, 0.35, 0.9])
def test_a_synthetic_decoder_has_the_correlation_and_the_spread(noise: str, wanted: float) -> None:
    item = decoded(n=1500)
    made = synthetic_predictions(
        item, wanted, relative_spread=0.7, noise=noise, rng=np.random.default_rng(3)
    )
    again = Decoded(made, item.true)
    # 1,500 x 7 numbers, of which residual noise has some 4 independent directions.
    assert again.correlation == pytest.approx(wanted, abs=0.04)
    assert again.relative_spread == pytest.approx(0.7, rel=0.06)
    np.testing.assert_allclose(made.mean(0), item.true.mean(0), atol=0.35)


def test_noise_takes_the_covariance_of_the_errors() -> None:
    item = decoded(n=600)
    total = np.zeros((7, 7))
    rng = np.random.default_rng(1)
    for _ in range(20):
        made = synthetic_predictions(item, 0.0, relative_spread=1.0, noise="residual", rng=rng)
        total += np.cov(made.T)
    wanted = np.cov(item.errors().T)
    total, wanted = total / np.trace(total), wanted / np.trace(wanted)
    np.testing.assert_allclose(total, wanted, atol=0.02)
    flat = np.cov(
        synthetic_predictions(item, 0.0, relative_spread=1.0, noise="isotropic", rng=rng).T
    )
    assert np.abs(np.diag(flat) / np.trace(flat) - 1 / 7).max() < 0.03


def test_a_negative_correlation_is_noise_alone() -> None:
    item = decoded()
    one, other = (
        synthetic_predictions(
            item, r, relative_spread=1.0, noise="isotropic", rng=np.random.default_rng(5)
        )
        for r in (-0.4, 0.0)
    )
    np.testing.assert_array_equal(one, other)


def test_ranks_count_who_is_more_similar() -> None:
    rng = np.random.default_rng(2)
    predicted, gallery = rng.standard_normal((5, 4)), rng.standard_normal((9, 4))
    true = np.array([3, 0, 8, 3, 1])
    rank = ranks_among(predicted, gallery, true, kind="cosine")
    for row, own in enumerate(true):
        cosines = [
            predicted[row] @ g / np.linalg.norm(predicted[row]) / np.linalg.norm(g) for g in gallery
        ]
        assert rank[row] == 1 + sum(c > cosines[own] for c in cosines)


def test_equal_spaces_have_no_geometry(make_sides) -> None:
    sides = make_sides(same=True, noise=(0.5, 0.2))
    # Isotropic noise of one stream; the residual one has each decoder's own errors.
    synthetic = AuditConfig(geometry_draws=3, geometry_noise="isotropic")
    (item, _) = compare(("scenes", "tuned"), PLACE, *sides, maps=None, options=synthetic, seed=1)
    np.testing.assert_array_equal(
        item.differences["beyond_geometry"], item.differences["difference"]
    )
    assert item.correlations[1] > item.correlations[0] > 0.3


def test_an_easier_space_is_told_from_more_information(make_sides) -> None:
    """The adapted space varies in more directions; the decoder is as well correlated in both."""
    rng = np.random.default_rng(4)
    n, weights = 240, np.array([4.0, 2.0, *([0.15] * 14)])
    flat = rng.standard_normal((n, 16))
    sides = make_sides(n_test=120, n_train=120, vectors=(flat * weights, flat), noise=(0.0, 0.0))
    noisy = []
    for side in sides:
        true = side.embeddings.vectors[:120].astype(float)
        centred = true - true.mean(0)
        # Errors along the directions in which the space varies, of equal power.
        errors = rng.standard_normal((120, 120)) @ centred / np.sqrt(120)
        noisy.append((side, true + 1.5 * errors))
    both = [
        side_of(
            side.embeddings,
            predicted - side.embeddings.vectors[:120],
            encoder=name,
            n_test=120,
        )
        for (side, predicted), name in zip(noisy, ("scenes", "tuned"), strict=True)
    ]
    (item, _) = compare(("scenes", "tuned"), PLACE, *both, maps=None, options=AuditConfig(), seed=1)
    at = [s.name for s in item.scores].index("pairwise")
    raw = item.differences["difference"][:, at].mean()
    beyond = item.differences["beyond_geometry"][:, at].mean()
    assert raw > 0.04
    assert abs(beyond) < 0.4 * raw


def test_the_map_is_learnt_on_training_stimuli_of_the_fold_alone() -> None:
    rng = np.random.default_rng(0)
    first = embeddings_of(rng.standard_normal((60, 6)), "a")
    second = embeddings_of(rng.standard_normal((60, 8)), "b")
    folds = np.repeat(["x", "y"], 5)
    predictions = Predictions(
        rng.standard_normal((10, 6)).astype(np.float32),
        first.ids[:10],
        folds,
        folds,
        np.ones(10, dtype=np.int64),
        first.ids,
        "stimulus",
        dict(first.fingerprint),
        {},
    )
    carried = SpaceMap(first, second).carry(predictions)
    for rows in (np.arange(5), np.arange(5, 10)):
        train = np.setdiff1d(np.arange(60), rows)
        model = RidgeCV(alphas=PENALTIES).fit(
            first.vectors[train].astype(float), second.vectors[train].astype(float)
        )
        expected = model.predict(predictions.vectors[rows].astype(float))
        np.testing.assert_allclose(carried[rows], expected, rtol=1e-7, atol=1e-9)
    runs = replace(predictions, unit="run")
    model = RidgeCV(alphas=PENALTIES).fit(first.vectors.astype(float), second.vectors.astype(float))
    np.testing.assert_allclose(
        SpaceMap(first, second).carry(runs),
        model.predict(predictions.vectors.astype(float)),
        rtol=1e-7,
        atol=1e-9,
    )


def test_a_turned_space_makes_no_difference_when_both_are_judged_in_one(make_sides) -> None:
    rng = np.random.default_rng(8)
    first = rng.standard_normal((150, 6))
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    sides = make_sides(n_test=30, n_train=120, vectors=(first, first @ turn), noise=(0.0, 0.0))
    noise = 0.4 * rng.standard_normal((30, 6))
    both = [
        side_of(side.embeddings, own, encoder=name, n_test=30)
        for side, own, name in zip(sides, (noise, noise @ turn), ("scenes", "tuned"), strict=True)
    ]
    maps = (
        SpaceMap(both[1].embeddings, both[0].embeddings),
        SpaceMap(both[0].embeddings, both[1].embeddings),
    )
    (item, _) = compare(("scenes", "tuned"), PLACE, *both, maps=maps, options=AuditConfig(), seed=1)
    assert 0.3 < item.outcomes["original"][:, 0].mean() < 1
    for kind in ("difference", "original_space", "adapted_space"):
        np.testing.assert_allclose(item.differences[kind], 0, atol=1e-12, err_msg=kind)
