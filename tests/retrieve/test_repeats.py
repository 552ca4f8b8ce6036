"""Predictions averaged over the repeats of a stimulus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from braindecode_clip.artifacts import Embeddings, Predictions
from braindecode_clip.retrieve import average_repeats

Study = tuple[Predictions, Embeddings]


def test_averages_within_stimulus_and_fold(make_study: Callable[..., Study]) -> None:
    predictions, _ = make_study((3, 1, 4, 2))
    fold = np.array(["a", "b"] * 5)
    weights = np.arange(1, 11)
    predictions = replace(predictions, fold=fold, n_repeats=weights)
    result = average_repeats(predictions)
    keys = list(dict.fromkeys(zip(fold, predictions.stimulus_id, strict=True)))
    assert list(zip(result.fold, result.stimulus_id, strict=True)) == keys
    for row, (name, stimulus) in enumerate(keys):
        own = (fold == name) & (predictions.stimulus_id == stimulus)
        total = sum(
            w * v for w, v in zip(weights[own], predictions.vectors[own].astype(float), strict=True)
        )
        np.testing.assert_allclose(result.vectors[row], total / weights[own].sum(), rtol=1e-6)
        assert result.n_repeats[row] == weights[own].sum()
        runs = list(dict.fromkeys(predictions.group[own]))
        assert result.group[row] == "+".join(runs)
    assert result.vectors.dtype == np.float32
    assert result.info["averaged_predictions"]


def test_runs_that_are_held_out_stay_apart(make_study: Callable[..., Study]) -> None:
    predictions, _ = make_study((3, 2, 4), unit="run")
    result = average_repeats(predictions)
    pairs = set(zip(predictions.group, predictions.stimulus_id, strict=True))
    assert set(zip(result.group, result.stimulus_id, strict=True)) == pairs
    assert len(result.stimulus_id) == len(pairs)
    assert result.n_repeats.sum() == 9


def test_one_sample_a_stimulus_stays_as_it_is(make_study: Callable[..., Study]) -> None:
    predictions, _ = make_study()
    result = average_repeats(predictions)
    np.testing.assert_array_equal(result.vectors, predictions.vectors)
    assert np.array_equal(result.stimulus_id, predictions.stimulus_id)
    assert np.array_equal(result.group, predictions.group)
