"""Fitting a decoder on the training rows of every fold, and predicting the test rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from braindecode_clip.artifacts import Embeddings, Fold, Ledger, Predictions, Samples, VoxelSet
from braindecode_clip.checks import Problems, differences, some
from braindecode_clip.config.decoders import SingleConfig
from braindecode_clip.decode.calibrate import apply_calibration, standardise
from braindecode_clip.decode.cross_fit import out_of_fold_by
from braindecode_clip.decode.fit_records import (
    calibrated,
    decoder_ledger,
    fit_estimator,
    records_of,
)
from braindecode_clip.decode.fitted import (
    FittedDecoder,
    FoldDecoder,
    held_out_arrays,
    named_arrays,
    predict_samples,
    space_arrays,
)
from braindecode_clip.decode.identify import MAX_GALLERY, mean_of_known, pairwise_shares
from braindecode_clip.decode.kinds import (
    CLOSED_FORM,
    ClosedForm,
    closed_form_estimator,
    closed_form_report,
)
from braindecode_clip.decode.targets import TargetSpace, fit_target_space, restore_targets
from braindecode_clip.errors import DataError, LeakageError
from braindecode_clip.seeds import derive_seed

if TYPE_CHECKING:
    from braindecode_clip.decode.contrastive import ContrastiveDecoder
    from braindecode_clip.decode.mlp import MLPDecoder
    from braindecode_clip.decode.training import Store

    Estimator = ClosedForm | ContrastiveDecoder | MLPDecoder


def decode(
    voxels: VoxelSet,
    embeddings: Embeddings,
    *,
    config: SingleConfig,
    seed: int,
    encoder: str = "",
    store: Store | None = None,
    bands: np.ndarray | None = None,
) -> tuple[Predictions, FittedDecoder]:
    """Fit on the training rows of every fold and predict its test rows.

    Hyper-parameters, early stopping and calibration use the training rows alone. Their inner
    folds repeat what the outer split does (:func:`inner_groups`).

    Parameters
    ----------
    voxels : VoxelSet
    embeddings : Embeddings
        Must hold every stimulus of the voxels.
    config : section of a single decoder, see :mod:`braindecode_clip.config.decoders`
    seed : int
        Master seed; every fold derives its own from it.
    encoder : str
        Label of the embeddings, kept in the results.
    store : Store, optional
        Keeps the state of the training of an MLP or a contrastive decoder, which then goes on
        where it was killed.
    bands : ndarray (n_voxels,) str, optional
        Band of every voxel of the ROI before selection
        (:func:`braindecode_clip.decode.bands.label_bands`); for the kind "banded" alone.

    Returns
    -------
    predictions : Predictions
        All test rows, fold by fold, calibrated.
    decoder : FittedDecoder

    Raises
    ------
    LeakageError
        A test stimulus was trained on, in a set whose unit is the stimulus.
    DataError
        Stimuli without an embedding, or too few groups.
    """
    check_inputs(voxels, embeddings)
    ledger = decoder_ledger(config.name, voxels)
    named = {"config": config, "seed": seed, "store": store, "bands": bands, "ledger": ledger}
    folds = [_fit_fold(voxels, fold, embeddings, **named) for fold in voxels.folds]
    fitted = FittedDecoder(
        kind=config.kind,
        name=config.name,
        encoder=encoder,
        subject=voxels.subject,
        roi=voxels.roi,
        split=voxels.split,
        unit=voxels.unit,
        space=voxels.space,
        fingerprint=embeddings.fingerprint,
        options=config.model_dump(mode="json"),
        folds=tuple(folds),
        records=voxels.records.joined(ledger.items),
    )
    return apply_decoder(fitted, voxels, embeddings), fitted


def apply_decoder(fitted: FittedDecoder, voxels: VoxelSet, embeddings: Embeddings) -> Predictions:
    """Predict the test rows of a voxel set with a stored decoder.

    Parameters
    ----------
    fitted : FittedDecoder
    voxels : VoxelSet
        The set that it was fitted on, or another with the same folds, voxels and scaling.
    embeddings : Embeddings
        Where predictions are going to be compared: must be of the decoder's own encoder.

    Raises
    ------
    DataError
        Embeddings of another encoder, or voxels of another mask, selection or scaling.
    LeakageError
        A test stimulus was trained on, in a set whose unit is the stimulus.
    """
    check_fingerprint(fitted.fingerprint, embeddings.fingerprint)
    check_same_voxels(fitted, voxels)
    vectors = [
        predict_samples(decoder, fold.test.data, kind=fitted.kind, transductive=fitted.transductive)
        for decoder, fold in zip(fitted.folds, voxels.folds, strict=True)
    ]
    return predictions_of(fitted, voxels, np.concatenate(vectors))


def predictions_of(fitted: FittedDecoder, voxels: VoxelSet, vectors: Any) -> Predictions:
    """Label the predicted vectors (n_queries, ...) of all test rows, fold by fold."""
    tests = [fold.test for fold in voxels.folds]
    return Predictions(
        vectors=vectors,
        stimulus_id=np.concatenate([test.stimulus_id for test in tests]),
        group=np.concatenate([test.group for test in tests]),
        fold=np.repeat(
            [fold.name for fold in voxels.folds], [len(test.stimulus_id) for test in tests]
        ),
        n_repeats=np.concatenate([test.n_repeats for test in tests]),
        train_ids=np.unique(np.concatenate([decoder.seen for decoder in fitted.folds])),
        unit=fitted.unit,
        fingerprint=fitted.fingerprint,
        info={
            "subject": fitted.subject,
            "roi": fitted.roi,
            "split": fitted.split,
            "encoder": fitted.encoder,
            "decoder": fitted.name,
            "kind": fitted.kind,
            "calibration": fitted.options["calibration"],
            "folds": [{"fold": decoder.fold, **decoder.info} for decoder in fitted.folds],
        },
        records=records_of(fitted, voxels),
    )


def check_fingerprint(trained_on: dict[str, Any], given: dict[str, Any]) -> None:
    """Refuse embeddings of another encoder than the decoder was trained on."""
    parts = differences(trained_on, given)
    if parts:
        raise DataError(
            "the embeddings were made by another encoder than those that the decoder was trained "
            f"on; decoder != embeddings in {'; '.join(parts)}. Pass the embedding file that the "
            "decoder was trained with, or train it again with this one."
        )


def inner_groups(fold: Fold, unit: str) -> np.ndarray | None:
    """Return which training rows must be held out together, so that inner repeats outer.

    Runs are held out by run. Where stimuli are held out, all repeats of a stimulus (or all
    trials of a category) go together; where none repeats, rows are free (None), and
    contiguous inner folds keep neighbours in time together.
    """
    if unit == "run":
        return fold.train.group
    ids = fold.train.stimulus_id
    return ids if len(np.unique(ids)) < len(ids) else None


def check_groups(fold: Fold, unit: str) -> tuple[np.ndarray | None, int]:
    """Return :func:`inner_groups` and their number; refuse fewer than two."""
    groups = inner_groups(fold, unit)
    n_groups = len(fold.train.data) if groups is None else len(np.unique(groups))
    if n_groups < 2:
        raise DataError(
            f"fold '{fold.name}': the training part is one run or stimulus, so nothing can be "
            "held out to choose the decoder's settings. Use more runs or stimuli."
        )
    return groups, n_groups


def refuse_tokens(embeddings: Embeddings) -> None:
    """Refuse embeddings of several vectors a stimulus."""
    if embeddings.has_tokens:
        raise DataError(
            f"the embeddings are tokens ({' x '.join(map(str, embeddings.vectors.shape[1:]))} a "
            "stimulus), which are decoded by `decode` with kind ridge, contrastive or mlp alone. "
            "Pass embeddings of 'targets: pooled'."
        )


def check_inputs(voxels: VoxelSet, embeddings: Embeddings) -> None:
    """Refuse tokens, stimuli without an embedding, and test stimuli that were trained on."""
    refuse_tokens(embeddings)
    shown = np.concatenate(
        [part.stimulus_id for fold in voxels.folds for part in (fold.train, fold.test)]
    )
    embeddings.rows(np.unique(shown))
    check_leakage({fold.name: fold.train.stimulus_id for fold in voxels.folds}, voxels)


def check_leakage(trained: dict[str, np.ndarray], voxels: VoxelSet) -> None:
    """Refuse a test stimulus that the fold was trained on, by rows or by statistics."""
    if voxels.unit != "stimulus":
        return
    problems = Problems("decode")
    for fold in voxels.folds:
        seen = set(map(str, trained[fold.name])) | set(map(str, fold.seen))
        both = sorted(seen & set(map(str, fold.test.stimulus_id)))
        if both:
            problems.add(
                f"fold '{fold.name}': {len(both)} stimuli are in train and test: {some(both)}. "
                "Re-run `voxels` with a split that keeps them apart."
            )
    problems.raise_if_any(LeakageError)


def check_same_voxels(fitted: FittedDecoder, voxels: VoxelSet) -> None:
    """Refuse voxels of another subject, mask, selection or scaling, and trained test stimuli."""
    problems = Problems("decode: the decoder does not fit the voxels")
    names = [fold.name for fold in voxels.folds]
    expected = [decoder.fold for decoder in fitted.folds]
    same_space = fitted.space.same_columns(voxels.space)
    if fitted.subject != voxels.subject:
        problems.add(f"it is of subject {fitted.subject}, the voxels are of {voxels.subject}.")
    elif not same_space:
        problems.add(
            f"it reads ROI '{fitted.roi}' ({fitted.space.n_voxels} voxels), the voxels are "
            f"'{voxels.roi}' ({voxels.space.n_voxels}) on another grid or mask."
        )
    elif names != expected:
        problems.add(f"its folds are {some(expected)}, those of the voxels {some(names)}.")
    else:
        for decoder, fold in zip(fitted.folds, voxels.folds, strict=True):
            if not (
                np.array_equal(decoder.voxel_index, fold.voxel_index)
                and np.allclose(decoder.mean, fold.mean, rtol=1e-5, atol=1e-6)
                and np.allclose(decoder.sd, fold.sd, rtol=1e-5, atol=1e-6)
            ):
                problems.add(
                    f"fold '{fold.name}': other voxels were selected, or they were scaled "
                    "otherwise, than when it was fitted. Fit it again."
                )
    problems.raise_if_any()
    check_leakage({decoder.fold: decoder.seen for decoder in fitted.folds}, voxels)


def _fit_fold(
    voxels: VoxelSet,
    fold: Fold,
    embeddings: Embeddings,
    *,
    config: SingleConfig,
    seed: int,
    store: Store | None,
    bands: np.ndarray | None,
    ledger: Ledger,
) -> FoldDecoder:
    train = fold.train
    targets = embeddings.vectors[embeddings.rows(train.stimulus_id)]
    groups, n_groups = check_groups(fold, voxels.unit)
    labels = (voxels.subject, voxels.roi, voxels.split, fold.name, config.name)
    estimator = make_estimator(
        config,
        n_groups=n_groups,
        seed=derive_seed(seed, "decode", *labels) % 2**31,
        bands=None if bands is None else bands[fold.voxel_index],
    )
    shown: dict[str, Any] = {}
    if config.kind not in CLOSED_FORM:
        shown["stimuli"] = train.stimulus_id
    if config.kind == "ridge" and config.weight_by_repeats:
        shown["sample_weight"] = train.n_repeats
    if config.kind not in CLOSED_FORM and store is not None:
        shown["store"] = store.part(fold.name)
    noted = {"fold": fold.name, "ledger": ledger}
    space = _target_space(config, targets, train, **noted)
    wanted = targets if space is None else space.apply(targets)
    fit_estimator(estimator, train, wanted, kind=config.kind, groups=groups, **noted, **shown)
    held, kept = estimator.out_of_fold_, named_arrays(estimator)
    found: dict[str, Any] = {}
    if space is not None:
        held = restore_targets(held, space.backward, space.mean)
        kept = (*kept, *space_arrays(space))
        n_kept = len(space.backward)
        found["target_space"] = {"n_components": n_kept, "explained": space.explained}
    gain, offset = calibrated(held, targets, train, method=config.calibration, **noted)
    out_of_fold = held
    if config.calibration == "transductive":
        held = standardise(held)
    shares = pairwise_shares(
        apply_calibration(held, gain, offset),
        targets,
        train.stimulus_id,
        max_gallery=MAX_GALLERY,
    )
    found |= _report(estimator, out_of_fold, targets, n_groups=n_groups, gain=gain)
    return FoldDecoder(
        fold=fold.name,
        voxel_index=fold.voxel_index,
        mean=fold.mean,
        sd=fold.sd,
        arrays=(*kept, *held_out_arrays(out_of_fold)),
        gain=gain,
        offset=offset,
        seen=np.union1d(fold.seen, train.stimulus_id),
        info=found | {"out_of_fold_pairwise": mean_of_known(shares)},
    )


def make_estimator(
    config: SingleConfig, *, n_groups: int, seed: int, bands: np.ndarray | None = None
) -> Estimator:
    """Build the unfitted estimator of a config; inner folds are at most the groups."""
    if config.kind in CLOSED_FORM:
        return closed_form_estimator(config, n_groups=n_groups, seed=seed, bands=bands)
    options = config.model_dump(
        exclude={"name", "kind", "calibration", "target_space", "target_components"}
    )
    options["cv"] = min(config.cv, n_groups)
    # Closed forms should not wait for torch.
    if config.kind == "contrastive":
        from braindecode_clip.decode.contrastive import ContrastiveDecoder

        grid = config.alphas
        options["alphas"] = np.geomspace(grid.low, grid.high, grid.count)
        return ContrastiveDecoder(**options, random_state=seed)
    from braindecode_clip.decode.mlp import MLPDecoder

    return MLPDecoder(**options, random_state=seed)


def _target_space(
    config: SingleConfig, targets: np.ndarray, rows: Samples, *, fold: str, ledger: Ledger
) -> TargetSpace | None:
    """Fit the space that the decoder predicts in to the training rows of the fold."""
    options = config.target_space
    if options.method == "none":
        return None
    ledger.add("PCA of targets", rows, fold=fold)
    return fit_target_space(targets, rows.stimulus_id, **options.model_dump())


def _report(
    estimator: Estimator,
    held: np.ndarray,
    targets: np.ndarray,
    *,
    n_groups: int,
    gain: np.ndarray,
) -> dict[str, Any]:
    """Return what the fit found, JSON-able."""
    known = ~np.isnan(held).any(axis=1)
    residual = np.square(targets[known] - held[known]).sum()
    total = np.square(targets[known] - targets[known].mean(axis=0)).sum()
    found = {
        "n_train": len(targets),
        "n_voxels": int(estimator.n_features_in_),
        "n_inner_groups": n_groups,
        "out_of_fold_r2": float(1 - residual / total) if total > 0 else 0.0,
        "out_of_fold_by": out_of_fold_by(estimator),
        "mean_gain": float(gain.mean()),
    }
    return found | choices_of(estimator)


def choices_of(estimator: Estimator) -> dict[str, Any]:
    """Return what a fit chose, JSON-able."""
    if isinstance(estimator, ClosedForm):
        return closed_form_report(estimator)
    if hasattr(estimator, "alpha_"):
        low, middle, high = np.quantile(estimator.alpha_, [0, 0.5, 1])
        # Of no epoch none is the best.
        epochs = {"best_epochs": [int(estimator.best_epoch_)]} if estimator.max_epochs else {}
        return epochs | {
            "flattening": float(estimator.flattening_),
            # NaN where nothing was left to identify, which JSON does not know.
            "ridge_infonce": _number(estimator.ridge_loss_),
            "start_infonce": _number(estimator.start_loss_),
            "alpha_min": float(low),
            "alpha_median": float(middle),
            "alpha_max": float(high),
            "share_at_edge": float(estimator.at_edge_.mean()),
        }
    return {"best_epochs": [int(item["best_epoch"]) for item in estimator.history_]}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
