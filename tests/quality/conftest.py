"""A run without faults, and ways to plant them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from braindecode_clip.artifacts import Betas, Signals, VoxelSpace

SHAPE = (6, 5, 4)
N_VOXELS = 97
N_VOLUMES = 150
TR_S = 1.5
FIRST_S = 3.0


def make_signals(seed: int = 5, **changes) -> Signals:
    rng = np.random.default_rng(seed)
    n_volumes = changes.pop("n_volumes", N_VOLUMES)
    inside = rng.permutation(np.prod(SHAPE))[:N_VOXELS]
    ijk = np.argwhere(np.isin(np.arange(np.prod(SHAPE)), inside).reshape(SHAPE)).astype(np.int32)
    shared = rng.normal(size=(n_volumes, 1)) * rng.uniform(-0.4, 1.0, N_VOXELS)
    data = shared + rng.normal(size=(n_volumes, N_VOXELS))
    data = (data - data.mean(0)) / data.std(0, ddof=1)
    displacement = rng.gamma(2.0, 0.06, n_volumes)
    displacement[0] = np.nan
    dvars = rng.normal(30.0, 2.0, n_volumes)
    dvars[0] = np.nan
    fields = {
        "data": data.astype(np.float32),
        "mean": rng.uniform(700, 1300, N_VOXELS).astype(np.float32),
        "regressors": np.linalg.qr(rng.normal(size=(n_volumes, 9)))[0].astype(np.float32),
        "space": VoxelSpace(np.diag([2.0, 2.0, 2.5, 1.0]), np.array(SHAPE), ijk),
        "tr_s": TR_S,
        "first_volume_s": FIRST_S,
        "subject": "01",
        "session": "02",
        "run": "03",
        "unit": "zscore",
        "sd": rng.uniform(10, 30, N_VOXELS).astype(np.float32),
        "volumes": pd.DataFrame(
            {
                "framewise_displacement": displacement,
                "dvars": dvars,
                "censored": np.zeros(n_volumes, dtype=bool),
            }
        ),
    }
    return Signals(**{**fields, **changes})


def make_betas(seed: int = 6, *, n_trials: int = 23, last_s: float = 205.0, **changes) -> Betas:
    rng = np.random.default_rng(seed)
    onsets = np.linspace(5.0, last_s, n_trials) + rng.uniform(-2, 2, n_trials)
    trials = pd.DataFrame(
        {
            "onset": np.sort(onsets),
            "duration": 2.0,
            "trial_type": [f"t{i}" for i in range(n_trials)],
            "subject": "01",
            "session": "02",
            "run": "03",
        }
    )
    info = {"method": "lss", "vif_median": 1.3, "vif_max": 2.9, "efficiency": 0.71}
    fields = {
        "data": rng.normal(size=(n_trials, N_VOXELS)).astype(np.float32),
        "trials": trials,
        "info": info | changes.pop("info", {}),
        "r2": rng.uniform(-0.1, 0.6, N_VOXELS).astype(np.float32),
    }
    return Betas(**{**fields, **changes})


@pytest.fixture
def signals() -> Signals:
    """Return the signals of a run without faults."""
    return make_signals()


@pytest.fixture
def betas() -> Betas:
    """Return its trials."""
    return make_betas()


@pytest.fixture
def build():
    """Return the functions that make signals and betas with some fields changed."""
    return make_signals, make_betas
