"""Decoding the single trials that test rows average, to see how much of them repeats."""

from __future__ import annotations

import numpy as np

from braindecode_clip.artifacts import VoxelSet
from braindecode_clip.decode.fit import check_same_voxels
from braindecode_clip.decode.fitted import FittedDecoder, predict_samples


def decode_trials(fitted: FittedDecoder, voxels: VoxelSet) -> tuple[np.ndarray, np.ndarray] | None:
    """Predict every single test trial with a stored decoder.

    Parameters
    ----------
    fitted : FittedDecoder
        Not transductive: its predictions would depend on what is decoded with them.
    voxels : VoxelSet
        The set that it was fitted on.

    Returns
    -------
    vectors : ndarray (n_trials, n_dims) float32
        Calibrated.
    stimulus_id : ndarray (n_trials,) str
        None instead of both where the test rows average nothing.

    Raises
    ------
    DataError
        The decoder was fitted on other voxels.
    """
    check_same_voxels(fitted, voxels)
    if fitted.transductive or any(fold.test_trials is None for fold in voxels.folds):
        return None
    pairs = [
        (decoder, fold.test_trials)
        for decoder, fold in zip(fitted.folds, voxels.folds, strict=True)
        if fold.test_trials is not None
    ]
    vectors = [predict_samples(decoder, trials.data, kind=fitted.kind) for decoder, trials in pairs]
    return np.concatenate(vectors), np.concatenate([trials.stimulus_id for _, trials in pairs])
