"""Parts of the training data lie within one another and see nothing of the test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from braindecode_clip.decode.train_subset import nested_subsets
from braindecode_clip.errors import DataError


def test_subsets_are_nested_and_scaled_by_their_own_rows(picture_set):
    parts = nested_subsets(picture_set, [0.25, 0.5, 1.0], np.random.default_rng(0))
    names = [set(part.folds[0].train.stimulus_id) for part in parts]
    assert names[0] < names[1] < names[2]
    assert [len(item) for item in names] == [40, 80, 160]
    whole, half = picture_set.folds[0], parts[1].folds[0]
    np.testing.assert_allclose(half.train.data.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(half.train.data.std(axis=0), 1, atol=1e-5)
    rows = np.isin(whole.train.stimulus_id, half.train.stimulus_id)
    own = whole.train.data[rows].astype(np.float64)
    expected = (whole.test.data - own.mean(axis=0)) / own.std(axis=0)
    np.testing.assert_allclose(half.test.data, expected, atol=1e-4)
    assert parts[2].folds[0] is whole
    other = nested_subsets(picture_set, [0.25], np.random.default_rng(1))[0]
    assert set(other.folds[0].train.stimulus_id) != names[0]


def test_all_trials_of_a_stimulus_or_a_run_stay_together(picture_set):
    fold = picture_set.folds[0]
    twice = np.tile(fold.train.stimulus_id[:80], 2)
    train = replace(fold.train, stimulus_id=twice)
    repeated = replace(picture_set, folds=(replace(fold, train=train),))
    part = nested_subsets(repeated, [0.5], np.random.default_rng(0))[0].folds[0].train
    assert set(np.unique(part.stimulus_id, return_counts=True)[1]) == {2}
    by_run = replace(picture_set, unit="run")
    kept = nested_subsets(by_run, [0.5], np.random.default_rng(0))[0].folds[0].train
    runs, counts = np.unique(kept.group, return_counts=True)
    assert len(runs) == 4
    assert set(counts) == {20}


def test_too_few_rows_are_refused_with_what_to_do(picture_set):
    with pytest.raises(DataError, match=r"0\.01 of the training data is 2 rows of 2 stimuli.*frac"):
        nested_subsets(picture_set, [0.01, 1.0], np.random.default_rng(0))
