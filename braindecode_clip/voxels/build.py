"""The voxel set: for every fold selection and scaling fitted on train, repeats averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from braindecode_clip.artifacts import Betas, Fitted, Fold, Records, Samples, VoxelSet, VoxelSpace
from braindecode_clip.config.voxels import SplitConfig, VoxelsConfig
from braindecode_clip.errors import DataError
from braindecode_clip.voxels.fits import (
    carried,
    fit_mask,
    fit_mean,
    fit_reliability,
    fit_sd,
    normalising,
)
from braindecode_clip.voxels.pool import Pool, pool_trials
from braindecode_clip.voxels.reliability import (
    MIN_STIMULI,
    noise_ceiling,
    noise_ceiling_snr,
    select_reliable,
)
from braindecode_clip.voxels.split import UNITS, TrialSplit, split_trials


def build_voxel_set(
    betas: Sequence[Betas],
    mask: VoxelSpace,
    *,
    roi: str,
    config: VoxelsConfig,
    split: SplitConfig,
    stimuli: pd.DataFrame | None = None,
    pictures: Mapping[str, str] | None = None,
) -> VoxelSet:
    """Turn the responses of all runs of a subject into train and test rows of an ROI.

    In every fold, in this order: repeats are averaged as configured (raw responses, so that
    the scaling sees the rows that the decoder sees); voxels that are constant over the
    training rows are dropped; unreliable ones too, judged on the training trials; the rest
    is scaled by mean and standard deviation of the training rows. Test rows are only ever
    transformed. A test row that averages n repeats has less noise than single training
    trials, so its spread is smaller after scaling; that is meant.

    Parameters
    ----------
    betas : sequence of Betas
        All runs of one subject, in any order.
    mask : VoxelSpace
        The ROI.
    roi : str
        Its name.
    config : VoxelsConfig
    split : SplitConfig
    stimuli, pictures : optional
        See :func:`braindecode_clip.voxels.split.split_trials`.

    Returns
    -------
    VoxelSet

    Raises
    ------
    DataError
        See :func:`~braindecode_clip.voxels.pool.pool_trials`; also when reliability is asked
        for and no training stimulus repeats, or no voxel is left.
    LeakageError
        A stimulus or a picture is in train and test.
    """
    pool = pool_trials(betas, mask, config=config)
    folds, rows = [], []
    records = list(carried(betas, pool.names, pool.label))
    source = f"sub-{pool.subject}, ROI {roi}"
    if config.normalise != "none":
        records.append(normalising(pool, config.normalise))
    reliability = None
    for part in split_trials(pool, split, stimuli=stimuli, pictures=pictures):
        measured, seen = fit_reliability(pool, part.train, fold=part.name, source=source)
        reliability = measured if reliability is None else reliability
        fold, dropped, fits = _build_fold(
            pool, part, measured, seen, config=config, scheme=split.scheme
        )
        records += fits
        folds.append(fold)
        for name, trials in (("train", part.train), ("test", part.test)):
            rows.append(
                _count(pool, fold, name=name, trials=trials) | dropped | _roi_counts(pool, mask)
            )
    ncsnr = noise_ceiling_snr(pool.data, pool.label)
    mean_inverse_n = float(np.mean(1 / folds[0].test.n_repeats))
    return VoxelSet(
        subject=pool.subject,
        roi=roi,
        split=split.name,
        unit=UNITS[split.scheme],
        folds=tuple(folds),
        space=pool.space,
        reliability=reliability,
        ncsnr=ncsnr,
        noise_ceiling=noise_ceiling(ncsnr, mean_inverse_n=mean_inverse_n),
        table=pd.DataFrame(rows),
        records=Records.of(records),
    )


def _build_fold(
    pool: Pool,
    part: TrialSplit,
    reliability: np.ndarray,
    measured_on: Fitted,
    *,
    config: VoxelsConfig,
    scheme: str,
) -> tuple[Fold, dict[str, int], list[Fitted]]:
    """Average, select and scale; also count the voxels that were dropped, and record the fits."""
    # By run or category the repeats of a label are other pictures or other runs, which are the
    # samples of the statistics: they stay apart.
    within_run = scheme != "stimulus"
    train = _samples(pool, part.train, average=config.average_train, within_run=within_run)
    test = _samples(pool, part.test, average=config.average_test, within_run=within_run)
    named = {"fold": part.name, "source": measured_on.source}
    (mean, mean_fit), (sd, sd_fit) = fit_mean(train, **named), fit_sd(train, **named)
    varies, mask_fit = fit_mask(mean, sd, [mean_fit, sd_fit])
    fits = [mask_fit, *([mean_fit, sd_fit] if config.scale != "none" else [])]
    if config.reliability.min is not None or config.reliability.top is not None:
        fits.append(measured_on)
    keep = varies & _reliable(reliability, part, config=config)
    if not keep.any():
        raise DataError(
            f"fold '{part.name}': no voxel is left of {len(keep)}: {int((~varies).sum())} are "
            f"constant over the training rows, the others less reliable than asked. Lower "
            "`reliability.min`, or take a larger ROI."
        )
    index = np.flatnonzero(keep)
    mean, sd = mean[index], sd[index]
    if config.scale == "none":
        mean, sd = np.zeros_like(mean), np.ones_like(sd)
    trials = None
    if (test.n_repeats > 1).any():
        single = _samples(pool, part.test, average=False, within_run=within_run)
        trials = _scaled(single, index, mean=mean, sd=sd)
    fold = Fold(
        name=part.name,
        train=_scaled(train, index, mean=mean, sd=sd),
        test=_scaled(test, index, mean=mean, sd=sd),
        voxel_index=index.astype(np.int64),
        mean=mean.astype(np.float32),
        sd=sd.astype(np.float32),
        seen=np.unique(train.stimulus_id),
        test_trials=trials,
    )
    dropped = {
        "n_voxels_kept": len(index),
        "dropped_constant": int((~varies).sum()),
        "dropped_unreliable": int((varies & ~keep).sum()),
    }
    return fold, dropped, fits


def _reliable(reliability: np.ndarray, part: TrialSplit, *, config: VoxelsConfig) -> np.ndarray:
    wanted = config.reliability
    if wanted.min is None and wanted.top is None:
        return np.ones(len(reliability), dtype=bool)
    if np.isnan(reliability).all():
        raise DataError(
            f"fold '{part.name}': voxels are to be selected by reliability, but fewer than "
            f"{MIN_STIMULI} training stimuli were shown twice or more, so none can be measured "
            "without looking at test trials. Remove `reliability`, or take a split whose "
            "training part repeats stimuli."
        )
    return select_reliable(reliability, minimum=wanted.min, top=wanted.top)


def _samples(pool: Pool, trials: np.ndarray, *, average: bool, within_run: bool) -> Samples:
    """Return one row a trial, or one a stimulus (and run), in order of first presentation."""
    label, run = pool.label[trials], pool.run[trials]
    if not average:
        return Samples(
            data=pool.data[trials],
            stimulus_id=label,
            group=run,
            n_repeats=np.ones(len(trials), dtype=np.int64),
        )
    places: dict[tuple[str, str], list[int]] = {}
    for i, (name, where) in enumerate(zip(label, run, strict=True)):
        places.setdefault((str(name), str(where) if within_run else ""), []).append(i)
    groups = list(places.values())
    return Samples(
        data=np.array(
            [pool.data[trials[rows]].mean(axis=0, dtype=np.float64) for rows in groups]
        ).astype(np.float32),
        stimulus_id=np.array([label[rows[0]] for rows in groups], dtype=str),
        group=np.array(["+".join(dict.fromkeys(run[rows])) for rows in groups], dtype=str),
        n_repeats=np.array([len(rows) for rows in groups], dtype=np.int64),
    )


def _scaled(samples: Samples, index: np.ndarray, *, mean: np.ndarray, sd: np.ndarray) -> Samples:
    data = ((samples.data[:, index] - mean) / sd).astype(np.float32)
    return Samples(data, samples.stimulus_id, samples.group, samples.n_repeats)


def _count(pool: Pool, fold: Fold, *, name: str, trials: np.ndarray) -> dict[str, object]:
    _, repeats = np.unique(pool.label[trials], return_counts=True)
    samples = fold.train if name == "train" else fold.test
    return {
        "fold": fold.name,
        "part": name,
        "n_trials": len(trials),
        "n_excluded": pool.n_excluded,
        "n_stimuli": len(repeats),
        "repeats_min": int(repeats.min()),
        "repeats_median": float(np.median(repeats)),
        "repeats_max": int(repeats.max()),
        "n_rows": len(samples.stimulus_id),
    }


def _roi_counts(pool: Pool, mask: VoxelSpace) -> dict[str, int]:
    return {"n_voxels_roi": mask.n_voxels, "dropped_outside_brain": pool.n_outside}
