"""The records that a real chain leaves in predictions, for predictions that are made up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from braindecode_clip.artifacts import Fitted, Predictions, Records, VoxelSet
from braindecode_clip.artifacts.records import names_of, runs_of

STATISTICS = (
    ("betas", "cleaning of the run"),
    ("voxels", "voxel mask"),
    ("voxels", "mean"),
    ("decode", "decoder weights"),
    ("decode", "calibration"),
)


def with_records(predictions: Predictions) -> Predictions:
    """Record that everything saw ``train_ids`` (and the other runs where runs are held out)."""
    items = []
    for fold in np.unique(predictions.fold.astype(str)):
        tested = predictions.group[predictions.fold.astype(str) == fold].astype(str)
        groups = frozenset(predictions.group.astype(str).tolist()) - frozenset(tested.tolist())
        trained = frozenset(map(str, predictions.train_ids))
        for stage, statistic in STATISTICS:
            items.append(Fitted(statistic, stage, "made up", str(fold), trained, groups))
    return replace(predictions, records=Records.of(items))


def with_voxel_records(voxels: VoxelSet) -> VoxelSet:
    """Record that the statistics of every fold saw its training rows."""
    items = [
        Fitted(
            statistic,
            stage,
            "made up",
            fold.name,
            names_of(fold.train.stimulus_id),
            runs_of(fold.train.group),
        )
        for fold in voxels.folds
        for stage, statistic in STATISTICS[:3]
    ]
    return replace(voxels, records=Records.of(items))
