"""Q-values against scipy's, and their promise on tests without and with effects."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from braindecode_clip.errors import DataError
from braindecode_clip.evaluate.fdr import benjamini_hochberg


@pytest.mark.parametrize("n", [1, 2, 9, 512])
@pytest.mark.parametrize("ties", [False, True])
def test_q_values_are_scipys(n: int, ties: bool) -> None:
    p = np.random.default_rng(n).random(n) ** 3
    p = np.round(p, 1) if ties else p
    np.testing.assert_allclose(
        benjamini_hochberg(p), stats.false_discovery_control(p, method="bh"), rtol=1e-12
    )


def test_false_discoveries_stay_below_their_rate() -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(300):
        z = rng.standard_normal(100)
        z[:30] += 3
        found = benjamini_hochberg(stats.norm.sf(z)) <= 0.1
        shares.append(found[30:].sum() / max(1, found.sum()))
    # Exactly .1 times the share of true nulls for independent tests.
    assert np.mean(shares) == pytest.approx(0.07, abs=4 * np.std(shares) / np.sqrt(300))


@pytest.mark.parametrize("p", [[0.1, np.nan], [1.2], [-0.1], [[0.1]]])
def test_what_is_no_p_value_is_refused(p: list) -> None:
    with pytest.raises(DataError, match="p-values"):
        benjamini_hochberg(p)
