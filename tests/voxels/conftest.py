"""Responses of a few runs on a small grid, whose numbers say where they came from."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from braindecode_clip.artifacts import Betas, VoxelSpace

SHAPE = (4, 3, 2)
AFFINE = np.diag([3.0, 3.0, 3.5, 1.0])


def space_of(inside):
    """The space of a boolean grid."""
    return VoxelSpace(AFFINE, np.array(SHAPE), np.argwhere(inside).astype(np.int32))


def make_betas(labels, *, run, space, data, session="01", trial_type="picture", **more):
    """One run; ``labels`` are stimulus ids."""
    trials = pd.DataFrame(
        {
            "onset": 4.0 * np.arange(len(labels)),
            "duration": 2.0,
            "trial_type": trial_type,
            "stimulus_id": labels,
            "subject": "01",
            "session": session,
            "run": run,
        }
        | more
    )
    return Betas(data=np.asarray(data, dtype=np.float32), trials=trials, space=space)


class World:
    """A brain of 22 voxels, an ROI of 9 of which two lie outside, three runs of 10 trials.

    Pictures a to h (train) twice, t to w (test): t, u thrice, v twice, w once, and x (train) twice.
    """

    ORDER = (
        list("abcdtefugv"),
        list("htaxbuwcde"),
        list("vfghxtuabc"),
    )

    def __init__(self, *, seed=0, noise=0.5):
        rng = np.random.default_rng(seed)
        brain = np.ones(SHAPE, dtype=bool)
        brain[0, 0, 0] = brain[0, 0, 1] = False
        self.brain = space_of(brain)
        roi = np.zeros(SHAPE, dtype=bool)
        roi[0, 0] = True
        roi[1:3, 1:, :1] = roi[3, 0, :] = roi[3, 1, 1] = True
        self.roi = space_of(roi)
        self.columns = np.flatnonzero(roi[tuple(self.brain.ijk.T)])
        names = sorted({name for run in self.ORDER for name in run})
        self.signal = {name: 10 + rng.standard_normal(22) for name in names}
        self.data = [
            np.array([self.signal[name] for name in run])
            + noise * rng.standard_normal((len(run), 22))
            for run in self.ORDER
        ]
        self.stimuli = pd.DataFrame(
            {
                "stimulus_id": names,
                "image": [f"{name}.png" for name in names],
                "split": ["test" if name in "tuvw" else "train" for name in names],
            }
        )

    def betas(self):
        return [
            make_betas(labels, run=f"{i + 1:02d}", space=self.brain, data=data)
            for i, (labels, data) in enumerate(zip(self.ORDER, self.data, strict=True))
        ]

    @property
    def labels(self):
        return np.concatenate(self.ORDER)

    @property
    def roi_data(self):
        return np.concatenate(self.data).astype(np.float32)[:, self.columns]


@pytest.fixture
def world():
    return World()


@pytest.fixture
def make_run():
    return make_betas


@pytest.fixture
def make_space():
    return space_of
