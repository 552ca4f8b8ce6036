from __future__ import annotations

import numpy as np
import pytest

from braindecode_clip.clip.splits import held_out, tied_units
from braindecode_clip.errors import DataError


def test_ties_reach_through_other_rows():
    groups = ["a", "b", "", "c", "b", ""]
    files = ["1", "2", "3", "3", "1", ""]
    # 0-4 by file, 4-1 by group; 2-3 by file; 5 alone.
    np.testing.assert_array_equal(tied_units(6, [groups, files]), [0, 0, 2, 2, 0, 5])
    np.testing.assert_array_equal(tied_units(6, [None]), np.arange(6))


@pytest.mark.parametrize("seed", range(5))
def test_no_unit_stands_in_both_parts_and_the_share_is_near(seed):
    rng = np.random.default_rng(seed)
    groups = [f"g{k}" for k in rng.integers(0, 40, 500)]
    files = [f"f{k}" if k < 30 else "" for k in rng.integers(0, 400, 500)]
    names = [f"n{k}" for k in range(500)]
    units = tied_units(500, [groups, files])
    held = held_out(units, names, share=0.2, seed=seed)
    for values in (groups, files):
        inside = {v for v, h in zip(values, held, strict=True) if h and v}
        outside = {v for v, h in zip(values, held, strict=True) if not h and v}
        assert not inside & outside
    assert abs(held.mean() - 0.2) < max(np.bincount(units)) / 500
    assert not np.array_equal(held, held_out(units, names, share=0.2, seed=seed + 1))
    # The order of the rows does not matter.
    order = rng.permutation(500)
    again = held_out(
        tied_units(500, [[groups[k] for k in order], [files[k] for k in order]]),
        [names[k] for k in order],
        share=0.2,
        seed=seed,
    )
    np.testing.assert_array_equal(again, held[order])


def test_one_group_cannot_be_divided():
    with pytest.raises(DataError, match="none or all would be held out"):
        held_out(tied_units(6, [["a"] * 6]), list("abcdef"), share=0.1, seed=0)
