import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def make_run():
    """Return (signals, events, confounds) of a run with drifts, uneven trials and a mean."""

    def make(*, n_volumes=140, tr_s=2.0, n_trials=13, n_voxels=7, n_confounds=3, seed=0):
        rng = np.random.default_rng(seed)
        length_s = n_volumes * tr_s
        spacing = (length_s - 30.0) / n_trials
        onsets = 3.0 + spacing * (np.arange(n_trials) + rng.uniform(0, 0.7, n_trials))
        events = pd.DataFrame(
            {
                "onset": onsets,
                "duration": rng.choice([0.5, 2.0, 4.0], n_trials),
                "trial_type": [["face", "house", "chair"][i % 3] for i in range(n_trials)],
            }
        )
        walk = rng.normal(size=(n_volumes, n_voxels)).cumsum(axis=0)
        signals = 5.0 * rng.normal(size=walk.shape) + walk + rng.uniform(500, 1500, n_voxels)
        confounds = rng.normal(size=(n_volumes, n_confounds)).cumsum(axis=0) + 40.0
        return signals, events, confounds

    return make
