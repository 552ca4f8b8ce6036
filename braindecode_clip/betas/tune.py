"""What the estimation of single trials takes from all runs of a subject.

Four choices, in this order, each by how well it predicts runs that it has not seen:

1. the response of the library, for each voxel;
2. the number of noise regressors, for the subject; their components come from voxels that no
   other run predicts;
3. the response once more, with the noise gone;
4. the ridge penalty, for each voxel (see :mod:`braindecode_clip.betas.shrinkage`).

Trials of stimuli that may not be seen are nuisance in all of them: each has a regressor of its
own, which is projected out. Only the time courses of the noise regressors of a run come from
that very run, test trials and all, without any label: they are transductive by nature.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

from braindecode_clip.artifacts import Ledger, Records, RunRegressors, Tuning, VoxelSpace
from braindecode_clip.betas.crossvalidate import LeaveOneRunOut, repeated_conditions, run_columns
from braindecode_clip.betas.noise_pool import (
    MIN_VOXELS,
    enough_components,
    noise_pool,
    principal_components,
    unit_gram,
)
from braindecode_clip.betas.penalties import choose_penalties
from braindecode_clip.betas.tuned_run import (
    RunToTune,
    ShownTrials,
    TunedRun,
    prepare_runs,
    voxel_blocks,
)
from braindecode_clip.config.betas import BetasConfig
from braindecode_clip.errors import DataError
from braindecode_clip.logs import get_logger, milestone

logger = get_logger(__name__)

#: Voxels on which the number of noise regressors is judged, at most: the best predicted ones.
MAX_JUDGES = 4000

#: Weight of the mean over voxels beside a voxel's own score of a response: on simulated subjects
#: it costs nothing at low noise and keeps noise from choosing at high noise.
SHARED_WEIGHT = 0.3


def tune_subject(
    runs: Sequence[RunToTune],
    *,
    config: BetasConfig,
    seen: Collection[str] | None = None,
    use_labels: bool = True,
    subject: str = "",
    space: VoxelSpace | None = None,
) -> Tuning:
    """Choose responses, noise regressors and penalties from all runs of a subject.

    Parameters
    ----------
    runs : sequence of RunToTune
        At least two. Their signals are read in blocks of voxels, several times over.
    config : BetasConfig
    seen : collection of str, optional
        Stimuli whose trials the choices may see; all by default.
    use_labels : bool
        Whether the choices may know which trials show the same stimulus. Where test trials are
        seen they must not.
    subject : str
    space : VoxelSpace, optional
        Where the voxels lie.

    Returns
    -------
    Tuning

    Raises
    ------
    DataError
        With fewer than two runs that hold trials to be seen, or other voxels from run to run.
    """
    tuned = prepare_runs(runs, config=config, seen=seen)
    fitted = [run for run in tuned if len(run.labels)]
    if len(fitted) < 2:
        raise DataError(
            f"sub-{subject}: {len(fitted)} of {len(tuned)} runs hold trials that the tuning may "
            "see, and it needs at least 2, since runs are predicted from each other. Set "
            "'tune: {trials: all}', give more runs, or choose hrf, noise_regressors and "
            "shrinkage that need no tuning."
        )
    info: dict[str, Any] = {"n_runs": len(tuned), "n_runs_seen": len(fitted)}
    shown = np.unique(np.concatenate([run.labels for run in fitted]))
    ledger = Ledger("tune", f"sub-{subject}")
    how: dict[str, Any] = {"labels_used": use_labels, "transductive": not use_labels}
    how["reason"] = "" if use_labels else "chosen from all runs without labels"
    if not use_labels:
        for run in fitted:
            run.labels = np.full(len(run.labels), "")
    conditions = repeated_conditions([run.labels for run in fitted])
    info["n_conditions"] = len(conditions.names)
    info["choices_by"] = (
        "prediction of left-out runs: the response to all trials and to the conditions that "
        "come in several runs"
        if len(conditions.names)
        else "prediction of left-out runs: the response to all trials alone, since "
        + ("no stimulus comes in two runs" if use_labels else "no label may be used")
    )
    info["labels_used"] = use_labels
    with milestone(logger, "responses chosen") as note:
        hrf_index, r2 = choose_responses(fitted, conditions.matrices)
        note(f"{len(r2)} voxels, {int((r2 > 0).sum())} of them predicted by other runs")
    if config.hrf == "library":
        ledger.add("HRF choice", ShownTrials.of(fitted), **how)
    pool = noise_pool(r2, runs[0].mean, mean_share=config.tune.noise_pool_mean)
    regressors: list[np.ndarray] = []
    curve = pd.DataFrame({"n_regressors": [0], "gain": [0.0]})
    if config.noise_regressors != 0:
        with milestone(logger, "noise regressors chosen") as note:
            regressors, curve, found = _noise_regressors(
                tuned, conditions.matrices, hrf_index, r2, pool, config=config
            )
            info |= found
            note(f"{found['n_noise_regressors']} from {int(pool.sum())} voxels")
        ledger.add("noise regressors", ShownTrials.of(fitted), **how)
        if regressors and config.hrf == "library":
            with milestone(logger, "responses chosen again, without the noise"):
                hrf_index, r2 = choose_responses(fitted, conditions.matrices)
    mean_response = np.zeros(len(r2), np.float32)
    penalty = np.zeros(len(r2), np.float32)
    if config.shrinkage == "ridge":
        with milestone(logger, "penalties chosen") as note:
            mean_response, penalty, by = choose_penalties(fitted, hrf_index, config=config)
            info["penalties_by"] = by
            note(f"{by}, median {np.median(penalty):.3g}")
        ledger.add("shrinkage penalty", ShownTrials.of(fitted), **how)
    if regressors:
        ledger.add(
            "noise time courses",
            ShownTrials.of(tuned, unseen=True),
            labels_used=False,
            transductive=True,
            reason="components of each run's own signals, without labels",
        )
    info["transductive"] = _transductive(config, labelled=use_labels, noise=bool(regressors))
    return Tuning(
        subject=subject,
        hrf_index=hrf_index,
        r2=r2,
        noise_pool=pool,
        mean_response=mean_response,
        penalty=penalty,
        noise_regressors=tuple(
            RunRegressors(run.session, run.run, columns.astype(np.float32))
            for run, columns in zip(tuned, regressors, strict=bool(regressors))
        ),
        curve=curve,
        seen=shown,
        space=space,
        info=info,
        records=Records.of(ledger.items),
    )


def _transductive(config: BetasConfig, *, labelled: bool, noise: bool) -> list[str]:
    """Name the choices that see test trials, though never their labels."""
    found = ["noise_regressors"] if noise else []
    if not labelled:
        found += ["hrf"] if config.hrf == "library" else []
        found += ["shrinkage"] if config.shrinkage != "none" else []
    return found


def choose_responses(
    runs: Sequence[TunedRun], conditions: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the response that predicts left-out runs best, and how well, for every voxel.

    Where the data of a voxel say little, what suits the other voxels decides: to a voxel's own
    share of explained variance for every response comes 0.3 times its mean over all voxels,
    weighted by how well each is predicted.

    Parameters
    ----------
    runs : sequence of TunedRun
    conditions : sequence of ndarray (n_trials, n_conditions)

    Returns
    -------
    hrf_index : ndarray (n_voxels,) int16
    r2 : ndarray (n_voxels,) float32
        Share of the variance that the predictions explain.
    """
    models = []
    for index in range(len(runs[0].columns)):
        columns = [
            run_columns(run.columns[index], matrix, run.basis)
            for run, matrix in zip(runs, conditions, strict=True)
        ]
        models.append(LeaveOneRunOut(columns))
    n_voxels = runs[0].n_voxels
    shares = np.empty((len(models), n_voxels), np.float32)
    for block in voxel_blocks(n_voxels):
        signals = [run.cleaned(block) for run in runs]
        total = sum(np.square(s).sum(axis=0, dtype=np.float64) for s in signals)
        for share, model in zip(shares, models, strict=True):
            share[block] = model.gain(signals) / np.where(total > 0, total, 1.0)
    weight = np.maximum(shares.max(axis=0), 0.0)
    shared = shares @ weight / max(float(weight.sum()), 1e-30)
    hrf_index = (shares + SHARED_WEIGHT * shared[:, None]).argmax(axis=0).astype(np.int16)
    return hrf_index, np.take_along_axis(shares, hrf_index[None].astype(np.int64), axis=0)[0]


def _noise_regressors(
    runs: Sequence[TunedRun],
    conditions: Sequence[np.ndarray],
    hrf_index: np.ndarray,
    r2: np.ndarray,
    pool: np.ndarray,
    *,
    config: BetasConfig,
) -> tuple[list[np.ndarray], pd.DataFrame, dict[str, Any]]:
    """Return the regressors of every run, the curve of their number, and how it was chosen.

    The runs get them into their nuisance.
    """
    curve = pd.DataFrame({"n_regressors": [0], "gain": [0.0]})
    how: dict[str, Any] = {"n_noise_regressors": 0, "n_noise_pool": int(pool.sum())}
    if pool.sum() < MIN_VOXELS:
        logger.warning(
            "no noise regressors: only %d voxels are unexplained by the task, and at least %d "
            "are needed. Give a larger mask",
            pool.sum(),
            MIN_VOXELS,
        )
        return [], curve, how | {"noise_regressors_by": "none: too few voxels in the pool"}
    auto = config.noise_regressors == "auto"
    number = config.tune.max_noise_regressors if auto else int(config.noise_regressors)
    components = [principal_components(gram, number) for gram in _pool_grams(runs, pool)]
    how["noise_regressors_by"] = "number given"
    if auto:
        gains = _component_gains(runs, conditions, hrf_index, r2, components)
        number = enough_components(gains)
        curve = pd.DataFrame({"n_regressors": np.arange(len(gains)), "gain": gains - gains[0]})
        how["noise_regressors_by"] = "prediction of left-out runs"
    if number == 0:
        return [], curve, how
    chosen = [component[:, :number] for component in components]
    for run, columns in zip(runs, chosen, strict=True):
        run.add_nuisance(columns)
    return chosen, curve, how | {"n_noise_regressors": number}


def _pool_grams(runs: Sequence[TunedRun], pool: np.ndarray) -> list[np.ndarray]:
    grams = [np.zeros((len(run.basis), len(run.basis))) for run in runs]
    for block in voxel_blocks(len(pool)):
        if pool[block].any():
            for gram, run in zip(grams, runs, strict=True):
                gram += unit_gram(run.cleaned(block)[:, pool[block]])
    return grams


def _component_gains(
    runs: Sequence[TunedRun],
    conditions: Sequence[np.ndarray],
    hrf_index: np.ndarray,
    r2: np.ndarray,
    components: Sequence[np.ndarray],
) -> np.ndarray:
    """Return the gain (1 + n_components,) of prediction, the mean over the judging voxels.

    The fit has the components in its nuisance; the run that is predicted has not, so that all
    numbers predict the same signals.
    """
    most = min(component.shape[1] for component in components)
    judges = np.flatnonzero(r2 > 0)
    judges = np.sort(judges[np.argsort(-r2[judges], kind="stable")[:MAX_JUDGES]])
    if len(judges) == 0:
        logger.warning("no noise regressors: other runs predict nothing in any voxel")
        return np.zeros(most + 1)
    by_label = [(run, part) for run, part in zip(runs, components, strict=True) if len(run.labels)]
    signals = [_gather(run, judges) for run, _ in by_label]
    total = sum(np.square(s).sum(axis=0, dtype=np.float64) for s in signals)
    gains = np.zeros(most + 1)
    for index in np.unique(hrf_index[judges]):
        mine = hrf_index[judges] == index
        plain = [
            run_columns(run.columns[index], matrix, run.basis)
            for (run, _), matrix in zip(by_label, conditions, strict=True)
        ]
        own = [s[:, mine] for s in signals]
        for number in range(most + 1):
            parts = [part[:, :number] for _, part in by_label]
            fitted = [g - part @ (part.T @ g) for g, part in zip(plain, parts, strict=True)]
            denoised = [
                s - part.astype(s.dtype) @ (part.T.astype(s.dtype) @ s)
                for s, part in zip(own, parts, strict=True)
            ]
            model = LeaveOneRunOut(fitted, plain)
            gains[number] += (model.gain(denoised, own) / total[mine]).sum() / len(judges)
    return gains


def _gather(run: TunedRun, voxels: np.ndarray) -> np.ndarray:
    parts = []
    for block in voxel_blocks(run.n_voxels):
        inside = voxels[(voxels >= block.start) & (voxels < block.stop)] - block.start
        if len(inside):
            parts.append(run.cleaned(block)[:, inside])
    return np.concatenate(parts, axis=1)
