from __future__ import annotations

import numpy as np
import pytest

from braindecode_clip.artifacts import TokenRows
from braindecode_clip.evaluate.dimensions import MOST_TOKEN_DIMS, scored_dimensions


@pytest.mark.parametrize("shape", [(6, 5, 7), (3, 300, 50), (2, 5000, 1), (2, 1, 5000)])
def test_dimensions_of_tokens_are_taken_at_equal_steps(shape):
    n_all = shape[1] * shape[2]
    values = np.arange(shape[0] * n_all, dtype=np.float64).reshape(shape)
    found = scored_dimensions(TokenRows(values))
    n_scored = min(n_all, MOST_TOKEN_DIMS)
    assert found.shape == (shape[0], n_scored)
    # The first row holds the position of every number.
    places = found[0].astype(int)
    assert places[0] == 0 and places[-1] == n_all - 1
    steps = np.diff(places)
    assert steps.min() >= 1 and steps.max() - steps.min() <= 1
    np.testing.assert_array_equal(found, values.reshape(shape[0], -1)[:, places])


def test_vectors_are_scored_whole():
    values = np.ones((3, 5000))
    assert scored_dimensions(values) is values
