"""Out-of-fold predictions of training samples, read back from a stored decoder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from braindecode_clip.config.decode import EnsembleConfig, RidgeConfig
from braindecode_clip.decode import decode
from braindecode_clip.decode.combine import combine
from braindecode_clip.decode.held_out import held_out_predictions
from braindecode_clip.errors import DataError


@pytest.mark.parametrize("calibration", ["spread", "none", "transductive"])
def test_are_the_calibrated_out_of_fold_predictions(calibration, picture_set, toy):
    config = RidgeConfig(name=f"ridge-{calibration}", calibration=calibration)
    predictions, fitted = decode(picture_set, toy.embeddings(), config=config, seed=1)
    held = held_out_predictions(fitted, picture_set)
    train = picture_set.folds[0].train
    (decoder,) = fitted.folds
    rows = decoder.array("out_of_fold_rows")
    raw = decoder.array("out_of_fold").astype(float)
    if calibration == "transductive":
        raw = (raw - raw.mean(axis=0)) / raw.std(axis=0)
    np.testing.assert_allclose(held.vectors, raw * decoder.gain + decoder.offset, atol=1e-5)
    np.testing.assert_array_equal(held.stimulus_id, train.stimulus_id[rows])
    np.testing.assert_array_equal(held.group, train.group[rows])
    assert held.fingerprint == predictions.fingerprint
    assert not set(held.stimulus_id) & set(predictions.stimulus_id)
    assert set(held.fold) == {"all"}


def test_an_ensemble_has_them_too(picture_set, toy):
    members = [
        decode(picture_set, toy.embeddings(), config=RidgeConfig(name=name), seed=1)[1]
        for name in ("a", "b")
    ]
    config = EnsembleConfig(name="both", members=["a", "b"])
    _, fitted = combine(members, picture_set, toy.embeddings(), config=config)
    held = held_out_predictions(fitted, picture_set)
    assert len(held.stimulus_id) == 160 and np.isfinite(held.vectors).all()


def test_what_does_not_belong_together_is_refused(picture_set, toy):
    _, fitted = decode(picture_set, toy.embeddings(), config=RidgeConfig(), seed=1)
    with pytest.raises(DataError, match="kind shared"):
        held_out_predictions(replace(fitted, kind="shared"), picture_set)
    with pytest.raises(DataError, match="of subject 01, ROI visual"):
        held_out_predictions(fitted, replace(picture_set, roi="other"))
    fold = picture_set.folds[0]
    renamed = replace(picture_set, folds=(replace(fold, name="b"),))
    with pytest.raises(DataError, match="fold 'all' is not that of the voxels"):
        held_out_predictions(fitted, renamed)
    swapped = replace(picture_set, folds=(replace(fold, train=fold.test),))
    with pytest.raises(DataError):
        held_out_predictions(fitted, swapped)
    names = np.array([f"new-{i}" for i in range(160)])
    other = replace(
        picture_set, folds=(replace(fold, train=replace(fold.train, stimulus_id=names)),)
    )
    with pytest.raises(DataError, match="trained on other stimuli"):
        held_out_predictions(fitted, other)
