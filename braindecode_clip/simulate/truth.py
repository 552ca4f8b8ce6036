"""What is true of a simulated subject: tuning, response shapes, sizes and noise ceilings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from braindecode_clip.artifacts import VoxelSpace
from braindecode_clip.config.simulate import SimulateConfig
from braindecode_clip.errors import ConfigError
from braindecode_clip.nuisance import cosine_drifts
from braindecode_clip.seeds import make_rng
from braindecode_clip.simulate.anatomy import Anatomy
from braindecode_clip.simulate.design import RunDesign
from braindecode_clip.simulate.features import PictureFeatures
from braindecode_clip.simulate.hrf import (
    CANONICAL_PEAK_S,
    CANONICAL_WIDTH_S,
    hrf,
    hrf_library,
    trial_regressors,
)
from braindecode_clip.simulate.noise import noise_covariance
from braindecode_clip.simulate.reliability import (
    HIGH_PASS_HZ,
    BetaStatistics,
    beta_statistics,
    draw_reliabilities,
    lss_operator,
    noise_ceiling,
    solve_amplitudes,
)
from braindecode_clip.simulate.responses import (
    early_receptive_fields,
    early_responses,
    higher_responses,
    standardise,
)

REGIONS: tuple[str, ...] = ("early", "colour", "shape", "scene")

# No voxel is more reliable than this share of what its response and the design allow.
_ATTAINABLE = 0.97


@dataclass(frozen=True)
class SubjectTruth:
    """What is true of a simulated subject; its columns are the visual voxels.

    Attributes
    ----------
    space : VoxelSpace
        The visual voxels.
    region : ndarray of str, (n_voxels,)
        early, colour, shape or scene.
    reliability : ndarray, (n_voxels,), float32
        Expected single-trial reliability of LSS betas with the canonical response (0 where
        a voxel does not respond).
    noise_ceiling : ndarray, (n_voxels,), float32
        Explainable variance, in percent, of the mean over ``n_repeats`` such betas.
    n_repeats : int
        Repeats of a test picture.
    mean_response, picture_sd, trial_sd, noise_sd : ndarray, (n_voxels,), float32
        Mean response, its standard deviation over pictures and over trials of the same
        picture, and the standard deviation of the noise in the time series; percent.
    hrf_index : ndarray of int64, (n_voxels,)
        Row of ``hrf_library``.
    hrf_library : ndarray, (n_hrfs, 2), float64
        Time to peak and width, seconds.
    field_x, field_y, field_size : ndarray, (n_voxels,), float32
        Receptive field of early voxels, in shares of the picture; NaN elsewhere.
    stimulus_id : ndarray of str, (n_stimuli,)
        Rows of ``responses``.
    responses : ndarray, (n_stimuli, n_voxels), float32
        Noiseless responses to every picture, mean 0 and variance 1 over pictures. The
        response in percent is ``mean_response + picture_sd * responses``.
    trials : DataFrame
        session, run, onset, stimulus_id of every trial, in order.
    """

    space: VoxelSpace
    region: np.ndarray
    reliability: np.ndarray
    noise_ceiling: np.ndarray
    n_repeats: int
    mean_response: np.ndarray
    picture_sd: np.ndarray
    trial_sd: np.ndarray
    noise_sd: np.ndarray
    hrf_index: np.ndarray
    hrf_library: np.ndarray
    field_x: np.ndarray
    field_y: np.ndarray
    field_size: np.ndarray
    stimulus_id: np.ndarray
    responses: np.ndarray
    trials: pd.DataFrame


def make_truth(
    label: str,
    features: PictureFeatures,
    stimulus_ids: np.ndarray,
    design: Sequence[RunDesign],
    anatomy: Anatomy,
    *,
    config: SimulateConfig,
    seed: int,
) -> SubjectTruth:
    """Draw the tuning and the sizes of all visual voxels of a subject.

    Parameters
    ----------
    label : str
        The subject, without "sub-".
    features : PictureFeatures
        Of the pictures of this subject.
    stimulus_ids : ndarray of str, (n_stimuli,)
        Their names.
    design : sequence of RunDesign
        Decides how much noise a single-trial beta takes in.
    anatomy : Anatomy
    config : SimulateConfig
    seed : int
        Master seed.

    Returns
    -------
    SubjectTruth

    Raises
    ------
    ConfigError
        If the design cannot reach the reliability.
    """
    region, responses, fields = _noiseless(features, anatomy, make_rng(seed, label, "tuning"))
    library = hrf_library(config.hrf_peak_sd_s, config.hrf_width_sd_s)
    statistics = design_statistics(design, library, config)
    sizes = _voxel_sizes(
        responses.any(axis=0), statistics, config, rng=make_rng(seed, label, "voxels")
    )
    shown = [
        run.events[["onset", "stimulus_id"]].assign(session=run.session, run=run.run)
        for run in design
    ]
    return SubjectTruth(
        space=_space(anatomy),
        region=region,
        n_repeats=config.test_repeats,
        hrf_library=library,
        field_x=fields[0],
        field_y=fields[1],
        field_size=fields[2],
        stimulus_id=stimulus_ids,
        responses=responses,
        trials=pd.concat(shown, ignore_index=True)[["session", "run", "onset", "stimulus_id"]],
        **sizes,
    )


def _voxel_sizes(
    can_respond: np.ndarray,
    statistics: BetaStatistics,
    config: SimulateConfig,
    *,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Draw response shape, noise, reliability and amplitudes of every voxel."""
    n_voxels = len(can_respond)
    hrf_index = rng.integers(len(statistics.own), size=n_voxels)
    responds = can_respond & (rng.random(n_voxels) < config.responsive_share)
    noise_sd = np.exp(rng.normal(0, 0.15, n_voxels)) * noise_percent(config)
    mean_response = responds * config.mean_response_percent * np.exp(rng.normal(0, 0.3, n_voxels))
    best = statistics.own / statistics.total
    if config.reliability >= best.max():
        raise ConfigError(
            f"simulate.reliability is {config.reliability}, but single-trial betas of this "
            f"design reach at most {best.max():.2f} without any noise, since trials every "
            f"{config.trial_s} s overlap. Lower it, or lengthen trial_s."
        )
    reliability = responds * draw_reliabilities(
        n_voxels,
        mean=config.reliability,
        spread=config.reliability_spread,
        highest=_ATTAINABLE * best[hrf_index],
        rng=rng,
    )
    amplitudes = solve_amplitudes(
        reliability,
        hrf_index,
        statistics,
        noise_variance=noise_sd**2,
        trial_noise_share=config.trial_noise_share,
        mean_response=mean_response,
    )
    sizes = {
        "reliability": reliability,
        "noise_ceiling": 100 * noise_ceiling(reliability, config.test_repeats),
        "noise_sd": noise_sd,
        "mean_response": mean_response,
        "picture_sd": amplitudes.picture_sd,
        "trial_sd": responds * amplitudes.trial_sd,
    }
    return {"hrf_index": hrf_index} | {k: v.astype(np.float32) for k, v in sizes.items()}


def noise_percent(config: SimulateConfig) -> float:
    """Return the standard deviation of autocorrelated plus thermal noise, in percent."""
    return float(np.hypot(config.ar1_noise_percent, config.thermal_noise_percent))


def _space(anatomy: Anatomy) -> VoxelSpace:
    visual = anatomy.rois["visual"]
    return VoxelSpace(
        affine=anatomy.affine,
        shape=np.array(visual.shape, dtype=np.int64),
        ijk=np.argwhere(visual).astype(np.int32),
    )


def _noiseless(
    features: PictureFeatures, anatomy: Anatomy, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return region names (n_voxels,), responses (n, n_voxels) and fields (3, n_voxels)."""
    visual = anatomy.rois["visual"]
    region = np.empty(int(visual.sum()), dtype="U8")
    responses = np.empty((len(features), len(region)), dtype=np.float32)
    fields = np.full((3, len(region)), np.nan, dtype=np.float32)
    for name in REGIONS:
        member = anatomy.rois[name][visual]
        region[member] = name
        if name == "early":
            seen = early_receptive_fields(anatomy.points_mm(anatomy.rois[name]), rng)
            fields[:, member] = seen.x, seen.y, seen.size
            responses[:, member] = early_responses(features, seen, rng)
        else:
            responses[:, member] = higher_responses(features, name, int(member.sum()), rng)
    return region, standardise(responses), fields


def run_regressors(
    run: RunDesign, peak_s: float, width_s: float, config: SimulateConfig
) -> np.ndarray:
    """Return the regressors (n_volumes, n_trials) of a run for one response shape."""
    return trial_regressors(
        run.events["onset"].to_numpy(),
        config.stimulus_s,
        hrf(peak_s, width_s),
        n_volumes=run.n_volumes,
        tr_s=config.tr_s,
    )


def design_statistics(
    design: Sequence[RunDesign], library: np.ndarray, config: SimulateConfig
) -> BetaStatistics:
    """Work out what LSS with the canonical response makes of this design."""
    operators, regressors, covariances = [], [], []
    for run in design:
        drifts = cosine_drifts(run.n_volumes, tr_s=config.tr_s, high_pass_hz=HIGH_PASS_HZ)
        nuisance = np.column_stack([np.ones(run.n_volumes), drifts])
        canonical = run_regressors(run, CANONICAL_PEAK_S, CANONICAL_WIDTH_S, config)
        operators.append(lss_operator(canonical, nuisance))
        regressors.append([run_regressors(run, *row, config) for row in library])
        covariances.append(noise_covariance(run.n_volumes, config))
    return beta_statistics(operators, regressors, covariances)
