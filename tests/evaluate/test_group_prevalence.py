"""Prevalence against a grid of its posterior."""

from __future__ import annotations

import numpy as np
import pytest

from braindecode_clip.evaluate.prevalence import prevalence


def on_a_grid(k: int, n: int, alpha: float, level: float) -> tuple[float, float, float]:
    share = np.linspace(0, 1, 200_001)
    found = alpha + (1 - alpha) * share
    density = found**k * (1 - found) ** (n - k)
    order = np.argsort(-density, kind="stable")
    held = np.cumsum(density[order]) / density.sum()
    kept = share[order[: np.searchsorted(held, level) + 1]]
    return share[density.argmax()], kept.min(), kept.max()


@pytest.mark.parametrize("alpha", [0.05, 0.2])
@pytest.mark.parametrize("level", [0.96, 0.5])
@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (1, 2), (2, 2), (1, 14), (7, 14), (13, 14)])
def test_is_the_highest_density_of_the_posterior(
    k: int, n: int, level: float, alpha: float
) -> None:
    found = prevalence(k, n, alpha=alpha, level=level)
    expected = on_a_grid(k, n, alpha, level)
    assert (found.mode, found.low, found.high) == pytest.approx(expected, abs=2e-5)


def test_more_subjects_say_more() -> None:
    few, many = prevalence(3, 4, alpha=0.05), prevalence(75, 100, alpha=0.05)
    assert few.mode == pytest.approx(many.mode) == pytest.approx((0.75 - 0.05) / 0.95)
    assert many.high - many.low < 0.3 * (few.high - few.low)


@pytest.mark.parametrize(
    ("k", "n", "alpha"), [(3, 2, 0.05), (0, 0, 0.05), (-1, 3, 0.05), (1, 2, 1.0)]
)
def test_impossible_counts_are_refused(k: int, n: int, alpha: float) -> None:
    with pytest.raises(ValueError, match=f"k = {k} of n = {n}"):
        prevalence(k, n, alpha=alpha)
