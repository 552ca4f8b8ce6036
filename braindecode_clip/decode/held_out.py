"""Predictions of training samples by models that had not seen them, out of a stored decoder."""

from __future__ import annotations

import numpy as np

from braindecode_clip.artifacts import Predictions, VoxelSet
from braindecode_clip.checks import Problems
from braindecode_clip.decode.calibrate import apply_calibration, standardise
from braindecode_clip.decode.fitted import FittedDecoder
from braindecode_clip.errors import DataError


def held_out_predictions(fitted: FittedDecoder, voxels: VoxelSet) -> Predictions:
    """Return what the decoder predicted of its training samples when they were held out.

    Parameters
    ----------
    fitted : FittedDecoder
        With out-of-fold predictions: of every kind but "shared".
    voxels : VoxelSet
        That it was fitted on; tells the stimulus of every training sample.

    Returns
    -------
    Predictions
        Training samples, fold by fold, calibrated as predictions of test samples are.

    Raises
    ------
    DataError
        A decoder without out-of-fold predictions, or other voxels than it was fitted on.
    """
    problems = Problems(f"decoder '{fitted.name}'")
    folds = {fold.name: fold for fold in voxels.folds}
    if fitted.kind == "shared":
        problems.add(
            "keeps no predictions of held-out training samples (kind shared). Choose another "
            "decoder, or what needs none."
        )
    elif (fitted.subject, fitted.roi, fitted.split) != (voxels.subject, voxels.roi, voxels.split):
        problems.add(
            f"is of subject {fitted.subject}, ROI {fitted.roi} and split {fitted.split}; the "
            f"voxels are of {voxels.subject}, {voxels.roi} and {voxels.split}."
        )
    problems.raise_if_any(DataError)
    parts = []
    for decoder in fitted.folds:
        fold = folds.get(decoder.fold)
        rows = decoder.array("out_of_fold_rows")
        train = None if fold is None else fold.train
        if train is None or rows.max(initial=-1) >= len(train.stimulus_id):
            problems.add(f"fold '{decoder.fold}' is not that of the voxels. Fit it again.")
            continue
        if not set(train.stimulus_id.astype(str)) <= set(decoder.seen.astype(str)):
            problems.add(f"fold '{decoder.fold}' was trained on other stimuli. Fit it again.")
            continue
        predicted = decoder.array("out_of_fold")
        if fitted.transductive:
            predicted = standardise(predicted)
        parts.append(
            (apply_calibration(predicted, decoder.gain, decoder.offset), train, rows, fold.name)
        )
    problems.raise_if_any(DataError)
    return Predictions(
        vectors=np.concatenate([vectors for vectors, *_ in parts]),
        stimulus_id=np.concatenate([train.stimulus_id[rows] for _, train, rows, _ in parts]),
        group=np.concatenate([train.group[rows] for _, train, rows, _ in parts]),
        fold=np.concatenate([np.full(len(rows), name) for *_, rows, name in parts]),
        n_repeats=np.concatenate([train.n_repeats[rows] for _, train, rows, _ in parts]),
        train_ids=np.unique(np.concatenate([decoder.seen for decoder in fitted.folds])),
        unit=fitted.unit,
        fingerprint=fitted.fingerprint,
        info={"subject": fitted.subject, "roi": fitted.roi, "decoder": fitted.name},
    )
