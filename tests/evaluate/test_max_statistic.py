"""Corrected p-values are what loops give, and keep the family-wise error."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from braindecode_clip.evaluate.max_statistic import corrected_p
from braindecode_clip.evaluate.permutation import p_value

N_STUDIES = 600


def literal(values: np.ndarray, null: np.ndarray) -> list[float]:
    every = np.vstack([values, null])
    z = [[(x - c.mean()) / c.std() for x in c] for c in every.T if np.ptp(c)]
    place = iter(range(len(z)))
    found = []
    for column in every.T:
        if not np.ptp(column):
            found.append(1.0)
            continue
        j = next(place)
        hits = [max(row[b] for row in z) >= z[j][0] - 1e-9 for b in range(len(every))]
        found.append(float(np.mean(hits)))
    return found


def test_is_what_loops_give() -> None:
    rng = np.random.default_rng(0)
    null = rng.integers(0, 5, size=(37, 4)) * np.array([1.0, 10.0, 0.0, 0.3]) + 0.7
    values = np.array([3.7, 45.7, 0.7, 1.9])
    found = corrected_p(values, null)
    assert found.tolist() == pytest.approx(literal(values, null))
    assert found[2] == 1.0
    assert len(set(found.tolist())) > 2


def test_one_test_alone_is_not_corrected() -> None:
    rng = np.random.default_rng(1)
    null = rng.standard_normal((99, 1))
    for value in (-1.0, 0.3, 1.6, 9.0):
        assert corrected_p(np.array([value]), null)[0] == pytest.approx(p_value(value, null[:, 0]))


def test_scale_and_shift_of_a_score_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    null, values = rng.standard_normal((199, 3)), np.array([2.0, 1.0, 2.5])
    expected = corrected_p(values, null)
    scale, shift = np.array([1.0, 1e4, 1e-3]), np.array([0.0, -3.0, 5.0])
    assert corrected_p(values * scale + shift, null * scale + shift).tolist() == expected.tolist()
    assert (expected >= [p_value(v, n) for v, n in zip(values, null.T, strict=True)]).all()


def test_nothing_varies() -> None:
    assert corrected_p(np.full(3, 0.1), np.full((20, 3), 0.1)).tolist() == [1.0] * 3


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3,\) values and a null of shape \(9, 2\)"):
        corrected_p(np.zeros(3), np.zeros((9, 2)))


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_family_wise_error_is_alpha(correlation: float) -> None:
    # Paired data whose labels are permuted: correlations of one label with eight variables.
    rng = np.random.default_rng(3)
    n, m, false = 14, 8, {"corrected": 0, "single": 0}
    for _ in range(N_STUDIES):
        common = rng.standard_normal((n, 1))
        data = np.sqrt(correlation) * common + np.sqrt(1 - correlation) * rng.standard_normal(
            (n, m)
        )
        label = rng.standard_normal(n)
        orders = rng.permuted(np.tile(np.arange(n), (99, 1)), axis=1)
        values, null = label @ data, label[orders] @ data
        false["corrected"] += corrected_p(values, null).min() <= 0.05
        false["single"] += min(p_value(v, c) for v, c in zip(values, null.T, strict=True)) <= 0.05
    # Exact: 5 % but for the draw of studies. Without correction it is far more.
    assert 1e-4 < stats.binom.cdf(false["corrected"], N_STUDIES, 0.05) < 1 - 1e-4
    assert false["single"] > 0.12 * N_STUDIES
