"""An ensemble of fitted decoders as a decoder of its own."""

from __future__ import annotations

import dataclasses

import numpy as np

from braindecode_clip.artifacts import Embeddings, Fold, Ledger, Predictions, Samples, VoxelSet
from braindecode_clip.checks import Problems
from braindecode_clip.config.decode import EnsembleConfig
from braindecode_clip.decode.calibrate import apply_calibration
from braindecode_clip.decode.ensemble import ensemble_weights
from braindecode_clip.decode.fit import apply_decoder
from braindecode_clip.decode.fit_records import calibrated, decoder_ledger
from braindecode_clip.decode.fitted import (
    FittedDecoder,
    FoldDecoder,
    NamedArray,
    held_out_arrays,
)
from braindecode_clip.decode.identify import MAX_GALLERY, mean_of_known, pairwise_shares
from braindecode_clip.errors import DataError


def combine(
    members: list[FittedDecoder],
    voxels: VoxelSet,
    embeddings: Embeddings,
    *,
    config: EnsembleConfig,
) -> tuple[Predictions, FittedDecoder]:
    """Weight decoders by their out-of-fold predictions, and predict the test rows.

    The members are copied into the ensemble, so its file stands alone. The out-of-fold
    predictions of an MLP without ``cross_fit`` are those of the networks that stopped by the
    row: such a member's weight and the score of the ensemble are optimistic.

    Parameters
    ----------
    members : list of FittedDecoder
        In the order of ``config.members``.
    voxels, embeddings
        Those that the members were fitted on.
    config : EnsembleConfig

    Raises
    ------
    DataError
        Members of other names, of other voxels or embeddings, or ensembles themselves.
    """
    problems = Problems("decode: ensemble")
    names = [member.name for member in members]
    if names != list(config.members):
        problems.add(f"got the decoders {names}, expected {list(config.members)}, in this order.")
    for member in members:
        if member.kind == "ensemble":
            problems.add(f"'{member.name}' is an ensemble itself: name its members instead.")
    problems.raise_if_any()
    # Refuses other voxels, encoders, and test stimuli that a member was trained on.
    for member in members:
        apply_decoder(member, voxels, embeddings)
    ledger = decoder_ledger(config.name, voxels)
    folds = [
        _combine_fold(
            [member.folds[i] for member in members],
            fold,
            embeddings,
            members,
            config=config,
            ledger=ledger,
        )
        for i, fold in enumerate(voxels.folds)
    ]
    fitted = dataclasses.replace(
        members[0],
        kind="ensemble",
        name=config.name,
        options=config.model_dump(mode="json"),
        folds=tuple(folds),
        records=voxels.records.joined(*(member.records.items for member in members), ledger.items),
    )
    return apply_decoder(fitted, voxels, embeddings), fitted


def _combine_fold(
    decoders: list[FoldDecoder],
    fold: Fold,
    embeddings: Embeddings,
    members: list[FittedDecoder],
    *,
    config: EnsembleConfig,
    ledger: Ledger,
) -> FoldDecoder:
    train = fold.train
    targets = embeddings.vectors[embeddings.rows(train.stimulus_id)]
    held = [_held_out(decoder, targets.shape) for decoder in decoders]
    if np.any([np.isnan(part).any(axis=1) for part in held], axis=0).sum() > len(targets) - 2:
        raise DataError(
            f"fold '{fold.name}': fewer than 2 training rows were held out by all members. Give "
            "the MLP `cross_fit: true`, more members, or a larger share of validation."
        )
    noted = {"fold": fold.name, "ledger": ledger}
    weights = _weights(held, targets, train, method=config.method, **noted)
    mixed = np.tensordot(weights, np.stack(held), axes=1)
    gain, offset = calibrated(mixed, targets, train, method=config.calibration, **noted)
    known = ~np.isnan(mixed).any(axis=1)
    residual = np.square(targets[known] - mixed[known]).sum()
    total = np.square(targets[known] - targets[known].mean(axis=0)).sum()
    shares = pairwise_shares(
        apply_calibration(mixed, gain, offset),
        targets,
        train.stimulus_id,
        max_gallery=MAX_GALLERY,
    )
    arrays = [NamedArray("weights", weights)]
    for i, decoder in enumerate(decoders):
        arrays += [
            NamedArray(f"{i}/{item.name}", item.data)
            for item in decoder.arrays
            if not item.name.startswith("out_of_fold")
        ]
        arrays += [NamedArray(f"{i}/calibration", np.stack([decoder.gain, decoder.offset]))]
    arrays += held_out_arrays(mixed)
    return dataclasses.replace(
        decoders[0],
        arrays=tuple(arrays),
        gain=gain,
        offset=offset,
        seen=np.unique(np.concatenate([decoder.seen for decoder in decoders])),
        info={
            "n_train": len(targets),
            "n_voxels": len(fold.voxel_index),
            "n_held_out": int(known.sum()),
            "out_of_fold_r2": float(1 - residual / total) if total > 0 else 0.0,
            "out_of_fold_pairwise": mean_of_known(shares),
            "out_of_fold_by": "+".join(sorted({_made_by(decoder) for decoder in decoders})),
            "mean_gain": float(gain.mean()),
            "members": [{"name": member.name, "kind": member.kind} for member in members],
            "weights": [float(weight) for weight in weights],
        },
    )


def _weights(
    held: list[np.ndarray],
    targets: np.ndarray,
    rows: Samples,
    *,
    method: str,
    fold: str,
    ledger: Ledger,
) -> np.ndarray:
    known = ~np.any([np.isnan(part).any(axis=1) for part in held], axis=0)
    ledger.add("ensemble weights", rows, known, fold=fold)
    return ensemble_weights(held, targets, stimulus_id=rows.stimulus_id, method=method)


def _made_by(decoder: FoldDecoder) -> str:
    return str(decoder.info.get("out_of_fold_by", "unknown"))


def _held_out(decoder: FoldDecoder, shape: tuple[int, int]) -> np.ndarray:
    """Return the calibrated out-of-fold predictions; NaN where a row was never held out."""
    predicted = np.full(shape, np.nan, dtype=np.float32)
    rows = decoder.array("out_of_fold_rows")
    predicted[rows] = apply_calibration(decoder.array("out_of_fold"), decoder.gain, decoder.offset)
    return predicted
