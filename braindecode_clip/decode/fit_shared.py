"""Fitting one decoder over several subjects, with the guards against leaks between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from braindecode_clip.artifacts import Embeddings, Fold, Ledger, Predictions, VoxelSet
from braindecode_clip.checks import Problems, some
from braindecode_clip.config.decode import SharedConfig
from braindecode_clip.decode.aligned import Trials
from braindecode_clip.decode.fit import apply_decoder, inner_groups, refuse_tokens
from braindecode_clip.decode.fit_records import calibrated, decoder_ledger
from braindecode_clip.decode.fitted import FittedDecoder, FoldDecoder, NamedArray
from braindecode_clip.decode.shared import SharedDecoder, learn_space
from braindecode_clip.errors import DataError, LeakageError

#: Fewest training rows of a subject.
FEWEST_ROWS = 8


def decode_shared(
    voxel_sets: Sequence[VoxelSet],
    embeddings: Embeddings,
    *,
    config: SharedConfig,
    encoder: str = "",
) -> list[tuple[Predictions, FittedDecoder]]:
    """Fit a decoder for every subject with the training rows of all, and predict test rows.

    For each subject and fold the shared space is learned on the training rows of the fold of
    the same name of the *other* subjects, and the map on the subject's own.

    Parameters
    ----------
    voxel_sets : sequence of VoxelSet
        One for each subject, of one ROI and split. Voxels may differ in number and place.
    embeddings : Embeddings
        Must hold every stimulus of all of them.
    config : SharedConfig
    encoder : str
        Label of the embeddings, kept in the results.

    Returns
    -------
    list of (Predictions, FittedDecoder)
        In the order of ``voxel_sets``. Nothing is drawn at random.

    Raises
    ------
    LeakageError
        A test stimulus of one subject was trained on in another.
    DataError
        Fewer than two subjects, sets of another ROI or split, or a split by runs.
    """
    return [
        decode_new_subject(
            voxels,
            [item for item in voxel_sets if item is not voxels],
            embeddings,
            config=config,
            encoder=encoder,
        )
        for voxels in voxel_sets
    ]


def decode_new_subject(
    voxels: VoxelSet,
    others: Sequence[VoxelSet],
    embeddings: Embeddings,
    *,
    config: SharedConfig,
    encoder: str = "",
) -> tuple[Predictions, FittedDecoder]:
    """Fit a decoder for one subject with the help of others; see :func:`decode_shared`."""
    refuse_tokens(embeddings)
    voxel_sets = [voxels, *others]
    check_sets(voxel_sets)
    shown = [part.stimulus_id for s in voxel_sets for f in s.folds for part in (f.train, f.test)]
    embeddings.rows(np.unique(np.concatenate(shown)))
    ledger = decoder_ledger(config.name, voxels)
    helping = [item for other in others for item in other.records.items]
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
        folds=tuple(
            fit_shared_fold(
                fold,
                {item.subject: named_fold(item, fold.name) for item in others},
                embeddings,
                subject=voxels.subject,
                config=config,
                unit=voxels.unit,
                ledger=ledger,
            )
            for fold in voxels.folds
        ),
    )
    fitted = replace(fitted, records=voxels.records.joined(helping, ledger.items))
    return apply_decoder(fitted, voxels, embeddings), fitted


def check_sets(voxel_sets: Sequence[VoxelSet]) -> None:
    """Refuse sets that cannot be decoded together."""
    problems = Problems("decode over subjects")
    subjects = [item.subject for item in voxel_sets]
    if len(set(subjects)) < 2 or len(set(subjects)) < len(subjects):
        problems.add(
            f"got the voxels of {some(subjects)}, expected two or more different subjects. Use "
            "another kind of decoder where there is one."
        )
    for name in ("roi", "split"):
        found = sorted({str(getattr(item, name)) for item in voxel_sets})
        if len(found) > 1:
            problems.add(f"'{name}' differs between the sets: {some(found)}. Pass one of them.")
    if any(item.unit != "stimulus" for item in voxel_sets):
        problems.add(
            "the split holds out runs, so that other subjects are trained on the test stimuli. "
            "Split by stimulus or category."
        )
    problems.raise_if_any(DataError)


def named_fold(voxels: VoxelSet, name: str) -> Fold:
    """Return the fold of a name, or raise DataError."""
    for fold in voxels.folds:
        if fold.name == name:
            return fold
    raise DataError(
        f"sub-{voxels.subject} has no fold '{name}' (it has {some(f.name for f in voxels.folds)}). "
        "Subjects that are decoded together need the same held-out categories."
    )


def fit_shared_fold(
    fold: Fold,
    others: Mapping[str, Fold],
    embeddings: Embeddings,
    *,
    subject: str,
    config: SharedConfig,
    unit: str,
    ledger: Ledger,
) -> FoldDecoder:
    """Fit the decoder of one subject and fold; see :func:`decode_shared`.

    Raises
    ------
    LeakageError
        A test stimulus of the fold is among the training rows or statistics of another.
    DataError
        Fewer than 8 training rows, or one group of them.
    """
    seen = np.unique(
        np.concatenate(
            [part for f in (fold, *others.values()) for part in (f.seen, f.train.stimulus_id)]
        )
    )
    both = sorted(set(map(str, seen)) & set(map(str, fold.test.stimulus_id)))
    if both:
        raise LeakageError(
            f"decode over subjects, fold '{fold.name}': {len(both)} test stimuli were trained on, "
            f"in this subject or another: {some(both)}. Give every stimulus one split for all "
            "subjects and re-run `voxels`."
        )
    train = fold.train
    groups = inner_groups(fold, unit)
    n_groups = len(train.data) if groups is None else len(np.unique(groups))
    if len(train.data) < FEWEST_ROWS or n_groups < 2:
        raise DataError(
            f"fold '{fold.name}': {len(train.data)} training rows of {n_groups} stimuli, expected "
            f"{FEWEST_ROWS} rows of 2 stimuli or more. Use more runs."
        )
    targets = embeddings.vectors[embeddings.rows(train.stimulus_id)]
    trials = [
        Trials(
            subject,
            item.train.data,
            embeddings.vectors[embeddings.rows(item.train.stimulus_id)],
            item.train.stimulus_id,
        )
        for subject, item in others.items()
    ]
    for part in (fold, *others.values()):
        ledger.add("shared space", part.train, fold=fold.name)
        if config.alignment != "none":
            ledger.add("alignment", part.train, fold=fold.name)
    space = learn_space(
        [item.X for item in trials],
        [item.Y for item in trials],
        n_components=config.n_components,
        own=targets,
    )
    grid = config.alphas
    estimator = SharedDecoder(
        space,
        n_components=config.n_components,
        alphas=np.geomspace(grid.low, grid.high, grid.count),
        cv=min(config.cv, n_groups),
        whitening=config.whitening,
        residual_weight=config.residual_weight,
        alignment=config.alignment,
    )
    estimator.fit(
        train.data,
        targets,
        groups=groups,
        stimuli=train.stimulus_id,
        others=trials,
        subject=subject,
    )
    for statistic in ("decoder weights", "penalty"):
        ledger.add(statistic, train, fold=fold.name)
    gain, offset = calibrated(
        estimator.out_of_fold_,
        targets,
        train,
        method=config.calibration,
        fold=fold.name,
        ledger=ledger,
    )
    return FoldDecoder(
        fold=fold.name,
        voxel_index=fold.voxel_index,
        mean=fold.mean,
        sd=fold.sd,
        arrays=(
            NamedArray("coef", estimator.coef_),
            NamedArray("intercept", estimator.intercept_),
            NamedArray("alpha", estimator.alpha_),
        ),
        gain=gain,
        offset=offset,
        seen=seen,
        info={
            "n_train": len(train.data),
            "n_voxels": int(estimator.n_features_in_),
            "n_inner_groups": n_groups,
            "n_other_subjects": len(others),
            "n_other_rows": sum(len(item.X) for item in trials),
            "n_components": len(space.variance),
            "mean_gain": float(gain.mean()),
            "shares": estimator.shares_,
            "whitening": estimator.whitening_,
            "n_aligned_stimuli": estimator.n_shared_stimuli_,
        },
    )
