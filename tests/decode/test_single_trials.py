"""Single test trials are decoded as their means are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from braindecode_clip.config.decode import RidgeConfig
from braindecode_clip.decode import decode
from braindecode_clip.decode.bands import without_voxels
from braindecode_clip.decode.first_runs import first_runs
from braindecode_clip.decode.single_trials import decode_trials
from braindecode_clip.errors import DataError


@pytest.fixture
def with_trials(toy, picture_set):
    """Give the test rows three trials each, whose mean they are."""
    fold = picture_set.folds[0]
    test = fold.test
    noise = np.random.default_rng(0).standard_normal((3, *test.data.shape)).astype(np.float32)
    noise -= noise.mean(axis=0)
    trials = replace(
        test,
        data=(test.data + noise).reshape(-1, test.data.shape[1]),
        stimulus_id=np.tile(test.stimulus_id, 3),
        group=np.tile(test.group, 3),
        n_repeats=np.ones(3 * len(test.data), dtype=np.int64),
    )
    return replace(picture_set, folds=(replace(fold, test_trials=trials),))


def check(voxels, embeddings, **options):
    predictions, fitted = decode(voxels, embeddings, config=RidgeConfig(**options), seed=1)
    vectors, names = decode_trials(fitted, voxels)
    for name, mean in zip(predictions.stimulus_id, predictions.vectors, strict=True):
        np.testing.assert_allclose(vectors[names == name].mean(axis=0), mean, atol=1e-4)
    assert vectors.std() > predictions.vectors.std()
    return fitted


def test_the_mean_of_decoded_trials_is_the_decoded_mean(toy, with_trials):
    check(with_trials, toy.embeddings())


def test_also_after_fewer_runs_or_without_voxels(toy, with_trials):
    check(first_runs(with_trials, 4), toy.embeddings())
    dropped = np.arange(with_trials.space.n_voxels) % 3 == 0
    fitted = check(without_voxels(with_trials, dropped), toy.embeddings())
    with pytest.raises(DataError, match="other voxels"):
        decode_trials(fitted, with_trials)


def test_nothing_is_decoded_where_nothing_was_averaged_or_rows_lean_on_others(
    toy, picture_set, with_trials
):
    _, fitted = decode(picture_set, toy.embeddings(), config=RidgeConfig(), seed=1)
    assert decode_trials(fitted, picture_set) is None
    moving = RidgeConfig(name="ridge-transductive", calibration="transductive")
    _, fitted = decode(with_trials, toy.embeddings(), config=moving, seed=1)
    assert decode_trials(fitted, with_trials) is None
