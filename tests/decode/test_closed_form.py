"""What all decoders in closed form share."""

from __future__ import annotations

import numpy as np
import pytest

from braindecode_clip.decode import (
    BandedRidgeDecoder,
    KernelRidgeDecoder,
    PCARidgeDecoder,
    ReducedRankDecoder,
)

DECODERS = [
    KernelRidgeDecoder("rbf", alphas=[0.01, 1.0], cv=3, scales=[0.03, 0.3], out_of_fold=True),
    KernelRidgeDecoder("cosine", alphas=[0.01, 1.0], cv=3, out_of_fold=True),
    PCARidgeDecoder([2, 9], alphas=[1.0, 100.0], cv=3, out_of_fold=True),
    ReducedRankDecoder([1, 3], alphas=[1.0, 100.0], cv=3, out_of_fold=True),
    BandedRidgeDecoder(
        np.arange(13) % 2, alphas=[1.0, 100.0], cv=3, n_weights=5, out_of_fold=True, random_state=0
    ),
]


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    X = rng.standard_normal((31, 13))
    return X, X[:, :4] @ rng.standard_normal((4, 4)) + 0.3 * rng.standard_normal((31, 4))


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda d: type(d).__name__)
def test_a_constant_target_changes_nothing_for_the_others(decoder, data) -> None:
    X, Y = data
    alone = decoder.fit(X, Y)
    chosen = (
        [getattr(alone, name, None) for name in ("gamma_", "n_components_", "rank_")],
        alone.predict(X),
    )
    both = decoder.fit(X, np.c_[Y, np.full(len(Y), 2.5)])
    assert chosen[0] == [getattr(both, name, None) for name in ("gamma_", "n_components_", "rank_")]
    predicted = both.predict(X)
    np.testing.assert_allclose(predicted[:, :4], chosen[1], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(predicted[:, 4], 2.5, rtol=1e-12)
    np.testing.assert_allclose(both.out_of_fold_[:, 4], 2.5, rtol=1e-12)


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda d: type(d).__name__)
def test_one_target_keeps_its_one_axis(decoder, data) -> None:
    X, Y = data
    flat = decoder.fit(X, Y[:, 0])
    assert flat.predict(X).shape == flat.out_of_fold_.shape == (31,)
    one = flat.predict(X), flat.out_of_fold_
    column = decoder.fit(X, Y[:, :1])
    np.testing.assert_array_equal(column.predict(X)[:, 0], one[0])
    np.testing.assert_array_equal(column.out_of_fold_[:, 0], one[1])


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda d: type(d).__name__)
def test_rows_of_one_group_are_held_out_together(decoder, data) -> None:
    """A row's held-out prediction does not depend on its own group's targets."""
    X, Y = data
    groups = np.arange(31) // 4
    held = decoder.fit(X, Y, groups=groups).out_of_fold_.copy()
    fixed = {"alphas": decoder.alphas[:1]}
    fixed |= {"scales": [0.1]} if hasattr(decoder, "scales") else {}
    fixed |= {"n_components": 5} if hasattr(decoder, "n_components") else {}
    fixed |= {"ranks": 2} if hasattr(decoder, "ranks") else {}
    fixed |= {"n_weights": 1} if hasattr(decoder, "n_weights") else {}
    one = type(decoder)(**{**decoder.get_params(), **fixed})
    before = one.fit(X, Y, groups=groups).out_of_fold_.copy()
    changed = Y.copy()
    changed[groups == 2] += 10 * np.random.default_rng(1).standard_normal((4, 4))
    after = one.fit(X, changed, groups=groups).out_of_fold_
    np.testing.assert_allclose(after[groups == 2], before[groups == 2], rtol=1e-8, atol=1e-9)
    assert np.abs(after[groups != 2] - before[groups != 2]).max() > 0.01
    assert held.shape == before.shape and np.isfinite(held).all()
