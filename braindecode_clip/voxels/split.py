"""Which trials are train and which are test, and the guards against a picture in both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from braindecode_clip.checks import Problems, some
from braindecode_clip.config.voxels import SplitConfig
from braindecode_clip.errors import DataError, LeakageError
from braindecode_clip.voxels.pool import Pool

#: What a test row must not share with training rows, by scheme.
UNITS = {
    "stimulus": "stimulus",
    "leave_one_run_out": "run",
    "leave_one_category_out": "stimulus",
}


@dataclass(frozen=True)
class TrialSplit:
    """One fold: positions of trials.

    Attributes
    ----------
    name : str
    train, test : ndarray (n,) int
    """

    name: str
    train: np.ndarray
    test: np.ndarray


def split_trials(
    pool: Pool,
    split: SplitConfig,
    *,
    stimuli: pd.DataFrame | None = None,
    pictures: Mapping[str, str] | None = None,
) -> list[TrialSplit]:
    """Split the trials by the scheme of the config.

    Parameters
    ----------
    pool : Pool
    split : SplitConfig
    stimuli : DataFrame, optional
        Columns stimulus_id and split (train or test); needed by the scheme "stimulus".
    pictures : mapping, optional
        Stimulus id to a digest of its picture's content: the same picture under two ids counts
        as the same stimulus.

    Raises
    ------
    LeakageError
        A stimulus or a picture is in train and test.
    DataError
        Stimuli without a split, or a part without trials.
    """
    if split.scheme == "stimulus":
        part = _part_of_stimuli(pool, stimuli)
        check_pictures(part, pictures or {})
        of_trial = np.array([part[name] for name in pool.label])
        folds = [
            TrialSplit(
                "all", np.flatnonzero(of_trial == "train"), np.flatnonzero(of_trial == "test")
            )
        ]
    else:
        by = pool.run if split.scheme == "leave_one_run_out" else pool.label
        folds = [
            TrialSplit(str(name), np.flatnonzero(by != name), np.flatnonzero(by == name))
            for name in dict.fromkeys(by)
        ]
    problems = Problems(f"split '{split.name}' ({split.scheme})")
    for fold in folds:
        for name, rows in (("train", fold.train), ("test", fold.test)):
            if not len(rows):
                problems.add(
                    f"fold '{fold.name}' has no {name} trials among {len(pool.label)}. It needs "
                    "stimuli of both parts, or at least two runs or categories."
                )
        both = set(pool.label[fold.train]) & set(pool.label[fold.test])
        if UNITS[split.scheme] == "stimulus" and both:
            raise LeakageError(
                f"split '{split.name}', fold '{fold.name}': in train and test: "
                f"{some(sorted(both))}."
            )
    problems.raise_if_any()
    return folds


def _part_of_stimuli(pool: Pool, stimuli: pd.DataFrame | None) -> dict[str, str]:
    """Return train or test for every stimulus of the table, which must hold all that were shown."""
    if stimuli is None:
        raise DataError(
            "the split scheme 'stimulus' reads train and test from a stimulus table, and none "
            "was given. Pass --stimuli stimuli.tsv with the columns stimulus_id and split, or "
            "split by run or category."
        )
    missing = [name for name in ("stimulus_id", "split") if name not in stimuli]
    if missing:
        raise DataError(f"the stimulus table lacks the columns {some(missing)}. Add them.")
    ids = stimuli["stimulus_id"].astype(str).to_numpy()
    parts = stimuli["split"].astype(str).to_numpy()
    table = pd.DataFrame({"id": ids, "part": parts}).groupby("id", sort=True)["part"]
    both = sorted(name for name, values in table if {"train", "test"} <= set(values))
    if both:
        raise LeakageError(
            f"the stimulus table lists {len(both)} stimuli as train and as test: {some(both)}. "
            "Give every stimulus one split."
        )
    problems = Problems("the stimulus table")
    twice = sorted(name for name, values in table if len(values) > 1)
    if twice:
        problems.add(f"lists more than once: {some(twice)}. Keep one row for each stimulus.")
    part = dict(zip(ids, parts, strict=True))
    shown = sorted(set(pool.label))
    absent = [name for name in shown if name not in part]
    if absent:
        problems.add(
            f"lacks {len(absent)} of {len(shown)} stimuli that were shown: {some(absent)}. Add "
            "their rows, or leave the trials out with `voxels.exclude`."
        )
    odd = [name for name in shown if name in part and part[name] not in ("train", "test")]
    if odd:
        problems.add(
            f"has a split that is neither 'train' nor 'test' for {some(odd)} "
            f"({some(sorted({part[name] for name in odd}))})."
        )
    problems.raise_if_any()
    return part


def check_pictures(part: Mapping[str, str], pictures: Mapping[str, str]) -> None:
    """Refuse two stimuli of one picture, one in train and one in test.

    Parameters
    ----------
    part : mapping
        Stimulus id to train or test.
    pictures : mapping
        Stimulus id to the digest of the picture file; stimuli without a file may be absent.
    """
    owners: dict[str, dict[str, str]] = {}
    for name, digest in pictures.items():
        if name in part:
            owners.setdefault(digest, {}).setdefault(part[name], name)
    same = [f"{own['train']} = {own['test']}" for own in owners.values() if len(own) > 1]
    if same:
        raise LeakageError(
            f"{len(same)} pictures are in train and test under two names (train = test): "
            f"{some(same)}. The files are identical: give both names one split, or drop one."
        )
