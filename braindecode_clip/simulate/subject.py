"""One subject with known truth: anatomy, responses, and the volumes of every run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from braindecode_clip.artifacts import VoxelSpace
from braindecode_clip.config.simulate import SimulateConfig
from braindecode_clip.seeds import make_rng
from braindecode_clip.simulate.anatomy import Anatomy, make_anatomy
from braindecode_clip.simulate.confounds import confounds_table, cosine_drifts
from braindecode_clip.simulate.design import RunDesign, make_design
from braindecode_clip.simulate.features import PictureFeatures
from braindecode_clip.simulate.hrf import (
    CANONICAL_PEAK_S,
    CANONICAL_WIDTH_S,
    hrf,
    hrf_library,
    trial_regressors,
)
from braindecode_clip.simulate.noise import (
    drift,
    motion_effect,
    noise_covariance,
    physiology,
    simulate_motion,
    spike_artefacts,
    time_series_noise,
)
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

# The reliability handed out stays this share below what the design allows.
_ATTAINABLE = 0.9


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


@dataclass(frozen=True)
class Subject:
    """A subject before the scanner: who, what is true, and what will be shown."""

    label: str
    seed: int
    config: SimulateConfig
    anatomy: Anatomy
    truth: SubjectTruth
    design: tuple[RunDesign, ...]


@dataclass(frozen=True)
class SimulatedRun:
    """One run as the scanner and the preprocessing deliver it.

    Attributes
    ----------
    design : RunDesign
    bold : ndarray, (nx, ny, nz, n_volumes), float32
        Zero outside the brain.
    confounds : DataFrame
        One row a volume.
    """

    design: RunDesign
    bold: np.ndarray
    confounds: pd.DataFrame


def make_subject(
    label: str,
    features: PictureFeatures,
    stimulus_ids: Sequence[str],
    splits: Sequence[str],
    *,
    config: SimulateConfig,
    seed: int,
) -> Subject:
    """Draw a subject: anatomy, tuning, design, and responses of the wanted reliability.

    Parameters
    ----------
    label : str
        Without "sub-". It belongs to the seed: subjects differ.
    features : PictureFeatures
        Of the pictures that this subject sees.
    stimulus_ids : sequence of str
        Their names, in the same order.
    splits : sequence of str
        "train" or "test" for each.
    config : SimulateConfig
    seed : int
        Master seed; every part has a stream of its own, so that another noise level leaves
        brain and design as they were.

    Returns
    -------
    Subject

    Raises
    ------
    ConfigError
        If the design cannot hold the trials, or cannot reach the reliability.
    """
    ids = np.array(stimulus_ids, dtype=str)
    is_test = np.array(splits) == "test"
    anatomy = make_anatomy(config, rng=make_rng(seed, label, "anatomy"))
    design = make_design(ids[~is_test], ids[is_test], config, rng=make_rng(seed, label, "design"))
    truth = _make_truth(label, features, ids, design, anatomy, config, seed)
    return Subject(label, seed, config, anatomy, truth, tuple(design))


def _make_truth(
    label: str,
    features: PictureFeatures,
    ids: np.ndarray,
    design: list[RunDesign],
    anatomy: Anatomy,
    config: SimulateConfig,
    seed: int,
) -> SubjectTruth:
    region, responses, fields = _noiseless(features, anatomy, make_rng(seed, label, "tuning"))
    n_voxels = len(region)
    rng = make_rng(seed, label, "voxels")
    library = hrf_library(config.hrf_peak_sd_s, config.hrf_width_sd_s)
    hrf_index = rng.integers(len(library), size=n_voxels)
    responds = rng.random(n_voxels) < config.responsive_share
    responds &= responses.any(axis=0)
    noise_level = np.exp(rng.normal(0, 0.15, n_voxels))
    mean_response = responds * config.mean_response_percent * np.exp(rng.normal(0, 0.3, n_voxels))
    noise_sd = noise_level * np.hypot(config.ar1_noise_percent, config.thermal_noise_percent)
    statistics = _design_statistics(design, library, config)
    highest = _ATTAINABLE * (statistics.own / statistics.total)[hrf_index]
    reliability = responds * draw_reliabilities(
        n_voxels,
        mean=config.reliability,
        spread=config.reliability_spread,
        highest=highest,
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
    ceiling = 100 * noise_ceiling(reliability, config.test_repeats)
    shown = [
        run.events[["onset", "stimulus_id"]].assign(session=run.session, run=run.run)
        for run in design
    ]
    small = {
        "reliability": reliability,
        "noise_ceiling": ceiling,
        "noise_sd": noise_sd,
        "mean_response": mean_response,
        "picture_sd": amplitudes.picture_sd,
        "trial_sd": responds * amplitudes.trial_sd,
    }
    return SubjectTruth(
        space=_space(anatomy),
        region=region,
        n_repeats=config.test_repeats,
        hrf_index=hrf_index,
        hrf_library=library,
        field_x=fields[0],
        field_y=fields[1],
        field_size=fields[2],
        stimulus_id=ids,
        responses=responses,
        trials=pd.concat(shown, ignore_index=True)[["session", "run", "onset", "stimulus_id"]],
        **{name: values.astype(np.float32) for name, values in small.items()},
    )


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


def _regressors(
    run: RunDesign, peak_s: float, width_s: float, config: SimulateConfig
) -> np.ndarray:
    return trial_regressors(
        run.events["onset"].to_numpy(),
        config.stimulus_s,
        hrf(peak_s, width_s),
        n_volumes=run.n_volumes,
        tr_s=config.tr_s,
    )


def _design_statistics(
    design: list[RunDesign], library: np.ndarray, config: SimulateConfig
) -> BetaStatistics:
    """Work out what LSS with the canonical response makes of this design."""
    operators, regressors, covariances = [], [], []
    for run in design:
        drifts = cosine_drifts(run.n_volumes, config.tr_s, HIGH_PASS_HZ)
        nuisance = np.column_stack([np.ones(run.n_volumes), drifts])
        canonical = _regressors(run, CANONICAL_PEAK_S, CANONICAL_WIDTH_S, config)
        operators.append(lss_operator(canonical, nuisance))
        regressors.append([_regressors(run, *row, config) for row in library])
        covariances.append(noise_covariance(run.n_volumes, config))
    return beta_statistics(operators, regressors, covariances)


def simulate_runs(subject: Subject) -> Iterator[SimulatedRun]:
    """Scan a subject, run after run; only one run is in memory at a time.

    Yields
    ------
    SimulatedRun
        In the order of the design; a run of 24 x 28 x 18 voxels and 158 volumes takes about
        30 MB.
    """
    for run in subject.design:
        yield _scan(subject, run)


def _scan(subject: Subject, run: RunDesign) -> SimulatedRun:
    config, anatomy, truth = subject.config, subject.anatomy, subject.truth
    rng = make_rng(subject.seed, subject.label, "run", run.session, run.run)
    brain, points = anatomy.brain, anatomy.points_mm(anatomy.brain)
    visual = anatomy.rois["visual"][brain]
    n_volumes = run.n_volumes
    motion = simulate_motion(n_volumes, config, rng=rng)
    level = np.ones(len(points), dtype=np.float32)
    base = np.hypot(config.ar1_noise_percent, config.thermal_noise_percent)
    level[visual] = truth.noise_sd / base
    percent = time_series_noise(n_volumes, brain, level, config, rng=rng)
    percent += drift(n_volumes, points, config, rng=rng)
    percent += physiology(n_volumes, anatomy, config, rng=rng)
    percent += spike_artefacts(motion, points, n_volumes, config, rng=rng)
    percent[:, visual] += _evoked(subject, run, rng)
    mean = anatomy.epi_mean[brain]
    data = mean * (1 + percent / 100) + motion_effect(motion, anatomy, config)
    bold = np.zeros((*brain.shape, n_volumes), dtype=np.float32)
    bold[brain] = data.T
    return SimulatedRun(run, bold, confounds_table(data, motion, anatomy, tr_s=config.tr_s))


def _evoked(subject: Subject, run: RunDesign, rng: np.random.Generator) -> np.ndarray:
    """Return the response (n_volumes, n_visual) to a run's pictures in percent."""
    truth = subject.truth
    row = {name: i for i, name in enumerate(truth.stimulus_id)}
    shown = [row[name] for name in run.events["stimulus_id"]]
    amplitude = truth.mean_response + truth.picture_sd * truth.responses[shown]
    amplitude += truth.trial_sd * rng.standard_normal(amplitude.shape, dtype=np.float32)
    out = np.empty((run.n_volumes, amplitude.shape[1]), dtype=np.float32)
    for index, (peak_s, width_s) in enumerate(truth.hrf_library):
        member = truth.hrf_index == index
        regressors = _regressors(run, peak_s, width_s, subject.config)
        out[:, member] = regressors.astype(np.float32) @ amplitude[:, member]
    return out
