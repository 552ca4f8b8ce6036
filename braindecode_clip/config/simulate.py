"""Options of the simulated data set, and which runs it has."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from braindecode_clip.config.base import Section


class SimulateConfig(Section):
    """Scenes shown to subjects with known truth, in the manner of NSD.

    Training pictures differ between subjects and are shown once; test pictures are the
    same for all subjects and come back in different runs.
    """

    subjects: tuple[str, ...] = Field(
        ("01", "02"), min_length=1, description="Labels of the subjects, without 'sub-'."
    )
    n_sessions: int = Field(2, ge=1, le=99, description="Sessions of each subject.")
    runs_per_session: int = Field(5, ge=1, le=99, description="Runs in each session.")
    n_train_pictures: int = Field(
        480, ge=1, description="Training pictures of each subject, shown once."
    )
    n_test_pictures: int = Field(60, ge=2, description="Test pictures, shared by all subjects.")
    test_repeats: int = Field(3, ge=1, description="Times that each test picture is shown.")
    test_held_out_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share (0 to 1) of test pictures that hold a pair of shape and colour that "
        "no training picture holds.",
    )
    style: Literal["filled", "lines"] = Field(
        "filled",
        description="Look of the pictures. filled: shapes filled with textures on a coloured "
        "ground, as the scenes CLIP knows them; lines: coloured pencil on white paper, which it "
        "never saw. Scenes, captions and the voxels' tuning are the same in both.",
    )
    image_size_px: int = Field(128, ge=64, le=1024, description="Side of the pictures in pixels.")

    tr_s: float = Field(2.0, gt=0.2, le=5, description="Repetition time in seconds.")
    trial_s: float = Field(4.0, gt=0, description="From one onset to the next, in seconds.")
    stimulus_s: float = Field(3.0, gt=0, description="Time that a picture is shown, in seconds.")
    blank_trials_per_run: int = Field(6, ge=0, description="Trials without a picture in each run.")
    lead_in_s: float = Field(8.0, ge=0, description="Rest before the first trial, in seconds.")
    tail_s: float = Field(14.0, ge=0, description="Rest after the last trial, in seconds.")

    grid_shape: tuple[int, int, int] = Field(
        (24, 28, 18), description="Voxels along the three axes of the functional grid."
    )
    voxel_mm: float = Field(3.0, gt=0, description="Side of a voxel in mm.")
    responsive_share: float = Field(
        0.85, gt=0, le=1, description="Share (0 to 1) of ROI voxels that respond to pictures."
    )

    reliability: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="Expected single-trial reliability of responsive voxels: the share (0 to 1) "
        "of the variance of their single-trial LSS betas that the picture explains. 0: the data "
        "say nothing about the pictures.",
    )
    reliability_spread: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Standard deviation over voxels of the reliability, relative to its mean.",
    )
    trial_noise_share: float = Field(
        0.3,
        ge=0,
        lt=1,
        description="Share (0 to 1) of the noise in a beta that arises in the brain, from trial "
        "to trial; the rest comes from the time series.",
    )
    mean_response_percent: float = Field(
        1.0, ge=0, description="Mean response to any picture, in percent of the signal."
    )
    hrf_peak_sd_s: float = Field(
        0.6, ge=0, le=1.5, description="Spread over voxels of the response's time to peak, s."
    )
    hrf_width_sd_s: float = Field(
        0.2, ge=0, le=0.6, description="Spread over voxels of the response's width, s."
    )

    ar1_noise_percent: float = Field(
        0.8, gt=0, description="Standard deviation of the autocorrelated noise, percent."
    )
    ar1_coefficient: float = Field(0.35, ge=0, lt=1, description="Its lag-1 coefficient.")
    noise_fwhm_voxels: float = Field(
        1.5, ge=0, description="Smoothness (FWHM, voxels) of the autocorrelated noise in space."
    )
    thermal_noise_percent: float = Field(
        0.6, gt=0, description="Standard deviation of the white noise, percent."
    )
    drift_percent: float = Field(1.0, ge=0, description="Standard deviation of drifts, percent.")
    physiology_percent: float = Field(
        0.8, ge=0, description="Standard deviation of physiological noise in CSF, percent."
    )
    motion_mm: float = Field(
        0.25, ge=0, description="Standard deviation of head translations within a run, mm."
    )
    motion_residual: float = Field(
        0.25,
        ge=0,
        le=1,
        description="Share (0 to 1) of the effect of motion that realignment leaves in the data.",
    )
    spikes_per_run: float = Field(
        1.0, ge=0, description="Expected number of volumes hit by a sudden artefact in each run."
    )
    spike_percent: float = Field(2.0, ge=0, description="Size of such an artefact, percent.")

    @model_validator(mode="after")
    def _fits(self) -> SimulateConfig:
        if len(set(self.subjects)) != len(self.subjects):
            raise ValueError("subjects must differ from each other")
        if not all(label.isalnum() for label in self.subjects):
            raise ValueError("subjects are letters and digits, without 'sub-'")
        if self.stimulus_s > self.trial_s:
            raise ValueError("stimulus_s must be at most trial_s")
        n_runs = self.n_sessions * self.runs_per_session
        if self.test_repeats > n_runs:
            raise ValueError(
                f"test_repeats must be at most the number of runs ({n_runs}): the repeats of a "
                "test picture stand in different runs"
            )
        if min(self.grid_shape) < 8:
            raise ValueError("grid_shape must be at least 8 voxels along every axis")
        return self


def expected_runs(config: SimulateConfig) -> list[tuple[str, str]]:
    """List the (session, run) labels that every simulated subject has, in their order.

    >>> expected_runs(SimulateConfig(n_sessions=2, runs_per_session=2))
    [('01', '01'), ('01', '02'), ('02', '01'), ('02', '02')]
    """
    return [
        (f"{session:02d}", f"{run:02d}")
        for session in range(1, config.n_sessions + 1)
        for run in range(1, config.runs_per_session + 1)
    ]


def run_stem(subject: str, session: str, run: str) -> str:
    """Return a run's path without its ending, relative to the data set's root.

    >>> run_stem("01", "02", "03")
    'sub-01/ses-02/func/sub-01_ses-02_task-scenes_run-03'
    """
    name = f"sub-{subject}_ses-{session}_task-{TASK}_run-{run}"
    return f"sub-{subject}/ses-{session}/func/{name}"


#: The task label in the names of the files.
TASK = "scenes"

#: ROI masks written for every subject: ``sub-XX_roi-<name>_mask.nii.gz``.
ROI_NAMES: tuple[str, ...] = ("early", "colour", "shape", "scene", "higher", "visual")
