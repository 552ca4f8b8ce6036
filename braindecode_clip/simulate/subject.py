"""One subject, from a label and pictures to the volumes of every run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from braindecode_clip.config.simulate import SimulateConfig
from braindecode_clip.seeds import make_rng
from braindecode_clip.simulate.anatomy import Anatomy, make_anatomy
from braindecode_clip.simulate.confounds import confounds_table
from braindecode_clip.simulate.design import RunDesign, make_design
from braindecode_clip.simulate.features import PictureFeatures
from braindecode_clip.simulate.noise import (
    drift,
    motion_effect,
    physiology,
    simulate_motion,
    spike_artefacts,
    time_series_noise,
)
from braindecode_clip.simulate.truth import (
    SubjectTruth,
    make_truth,
    noise_percent,
    run_regressors,
)


@dataclass(frozen=True)
class Subject:
    """A subject before the scanner: who, what is true, and what will be shown.

    Attributes
    ----------
    label : str
        Without "sub-".
    seed : int
        Master seed.
    config : SimulateConfig
    anatomy : Anatomy
    truth : SubjectTruth
    design : tuple of RunDesign
    """

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
    truth = make_truth(label, features, ids, design, anatomy, config=config, seed=seed)
    return Subject(label, seed, config, anatomy, truth, tuple(design))


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
    level[visual] = truth.noise_sd / noise_percent(config)
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
        regressors = run_regressors(run, peak_s, width_s, subject.config)
        out[:, member] = regressors.astype(np.float32) @ amplitude[:, member]
    return out
