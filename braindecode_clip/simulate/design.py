"""Which picture is shown when: sessions, runs and trials in the manner of NSD."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from braindecode_clip.config.simulate import SimulateConfig, expected_runs
from braindecode_clip.errors import ConfigError

TRIAL_TYPE = "picture"


@dataclass(frozen=True)
class RunDesign:
    """The trials of one run.

    Attributes
    ----------
    session, run : str
        Labels without prefix.
    events : DataFrame
        onset and duration (s), trial_type, stimulus_id; in the order of the onsets.
    n_volumes : int
    """

    session: str
    run: str
    events: pd.DataFrame
    n_volumes: int


def make_design(
    train_ids: Sequence[str],
    test_ids: Sequence[str],
    config: SimulateConfig,
    *,
    rng: np.random.Generator,
) -> list[RunDesign]:
    """Deal the pictures into runs and order them.

    Every training picture is shown once and every test picture ``test_repeats`` times, in
    different runs. Runs differ by at most one trial in length where the numbers allow it;
    blank trials are spread at random, never two in a row and never first.

    Parameters
    ----------
    train_ids, test_ids : sequence of str
        Pictures of one subject.
    config : SimulateConfig
        Timing and number of runs.
    rng : numpy.random.Generator
        Source of the order.

    Returns
    -------
    list of RunDesign
        In the order of :func:`~braindecode_clip.config.simulate.expected_runs`.

    Raises
    ------
    ConfigError
        If a run would stay empty, or has too few trials to keep its blanks apart.
    """
    labels = expected_runs(config)
    decks = _deal(list(train_ids), list(test_ids), config.test_repeats, len(labels), rng)
    if min(len(deck) for deck in decks) <= config.blank_trials_per_run:
        raise ConfigError(
            f"simulate: {min(len(deck) for deck in decks)} trials in a run cannot hold "
            f"{config.blank_trials_per_run} blank trials apart. Lower blank_trials_per_run or "
            "the number of runs, or show more pictures."
        )
    return [
        _run(session, run, deck, config, rng)
        for (session, run), deck in zip(labels, decks, strict=True)
    ]


def _deal(
    train: list[str], test: list[str], repeats: int, n_runs: int, rng: np.random.Generator
) -> list[list[str]]:
    decks: list[list[str]] = [[] for _ in range(n_runs)]
    # Repeat r of the i-th picture goes to run i + offset_r: different offsets, different runs.
    offsets = rng.choice(n_runs, size=repeats, replace=False)
    for index, name in enumerate(rng.permutation(test)):
        for offset in offsets:
            decks[(index + int(offset)) % n_runs].append(str(name))
    for name in rng.permutation(train):
        min(decks, key=len).append(str(name))
    return decks


def _run(
    session: str, run: str, deck: list[str], config: SimulateConfig, rng: np.random.Generator
) -> RunDesign:
    order = [str(name) for name in rng.permutation(deck)]
    # A blank follows a picture; distinct pictures keep blanks apart.
    after = set(rng.choice(len(order), size=config.blank_trials_per_run, replace=False).tolist())
    onsets: list[float] = []
    slot = 0
    for position in range(len(order)):
        onsets.append(config.lead_in_s + slot * config.trial_s)
        slot += 2 if position in after else 1
    events = pd.DataFrame(
        {
            "onset": np.round(onsets, 4),
            "duration": config.stimulus_s,
            "trial_type": TRIAL_TYPE,
            "stimulus_id": order,
        }
    )
    seconds = config.lead_in_s + slot * config.trial_s + config.tail_s
    return RunDesign(session, run, events, math.ceil(seconds / config.tr_s))
