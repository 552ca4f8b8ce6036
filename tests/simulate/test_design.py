"""Stimuli and design: who sees what, when, and how often."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from braindecode_clip.config.base import parse_section
from braindecode_clip.config.simulate import SimulateConfig, expected_runs, run_stem
from braindecode_clip.errors import ConfigError
from braindecode_clip.simulate.design import make_design
from braindecode_clip.simulate.scenes import is_held_out, scene_from_json
from braindecode_clip.simulate.stimuli import make_stimuli, stimuli_table

CONFIG = SimulateConfig(
    subjects=("01", "02", "ab"),
    n_train_pictures=53,
    n_test_pictures=17,
    test_repeats=3,
    n_sessions=3,
    runs_per_session=2,
    blank_trials_per_run=4,
)


@pytest.fixture(scope="module")
def table():
    return stimuli_table(make_stimuli(CONFIG, rng=np.random.default_rng(8)))


def test_stimuli_of_each_subject_and_split(table) -> None:
    assert Counter(table["shown_to"]) == {"all": 17, "01": 53, "02": 53, "ab": 53}
    assert set(table.loc[table["shown_to"] == "all", "split"]) == {"test"}
    assert set(table.loc[table["shown_to"] != "all", "split"]) == {"train"}
    assert table["stimulus_id"].is_unique and table["scene"].is_unique
    assert table.loc[table["split"] == "test", "caption"].is_unique


def test_held_out_compositions_only_in_the_test_part(table) -> None:
    truth = np.array([is_held_out(scene_from_json(text)) for text in table["scene"]])
    np.testing.assert_array_equal(truth, table["held_out"])
    assert not truth[table["split"] == "train"].any()
    assert truth[table["split"] == "test"].sum() == round(0.5 * 17)


@pytest.fixture(scope="module")
def design():
    train = [f"train-{k}" for k in range(53)]
    test = [f"test-{k}" for k in range(17)]
    return make_design(train, test, CONFIG, rng=np.random.default_rng(5))


def test_train_once_test_in_distinct_runs(design) -> None:
    shown = Counter(name for run in design for name in run.events["stimulus_id"])
    assert all(shown[f"train-{k}"] == 1 for k in range(53))
    for k in range(17):
        runs = [i for i, run in enumerate(design) if f"test-{k}" in set(run.events["stimulus_id"])]
        assert shown[f"test-{k}"] == 3 == len(runs)
    assert sum(shown.values()) == 53 + 3 * 17


def test_runs_are_those_expected_and_of_even_length(design) -> None:
    assert [(run.session, run.run) for run in design] == expected_runs(CONFIG)
    lengths = [len(run.events) for run in design]
    assert max(lengths) - min(lengths) <= 1


def test_timing_blanks_and_run_length(design) -> None:
    for run in design:
        onsets = run.events["onset"].to_numpy()
        steps = np.diff(onsets)
        assert onsets[0] == CONFIG.lead_in_s
        # One picture every four seconds, or after one blank; a last blank may end the run.
        assert set(steps) <= {4.0, 8.0}
        assert CONFIG.blank_trials_per_run - 1 <= (steps == 8.0).sum()
        assert (steps == 8.0).sum() <= CONFIG.blank_trials_per_run
        assert set(run.events["duration"]) == {CONFIG.stimulus_s}
        rest = run.n_volumes * CONFIG.tr_s - onsets[-1] - CONFIG.trial_s
        assert rest >= CONFIG.tail_s


def test_order_depends_on_the_seed_alone() -> None:
    train, test = ["a", "b", "c", "d", "e", "f", "g"], ["x", "y"]
    config = SimulateConfig(
        n_train_pictures=7,
        n_test_pictures=2,
        test_repeats=2,
        n_sessions=1,
        runs_per_session=2,
        blank_trials_per_run=1,
    )
    runs = [make_design(train, test, config, rng=np.random.default_rng(s)) for s in (1, 1, 2)]
    orders = [[name for run in made for name in run.events["stimulus_id"]] for made in runs]
    assert orders[0] == orders[1] != orders[2]


def test_too_many_blanks_are_refused() -> None:
    config = SimulateConfig(
        n_train_pictures=4, n_test_pictures=2, test_repeats=1, blank_trials_per_run=9
    )
    with pytest.raises(ConfigError, match="blank_trials_per_run"):
        make_design(list("abcd"), list("xy"), config, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"reliabilty": 0.1}, "Did you mean 'reliability'"),
        ({"reliability": 1.0}, "reliability"),
        ({"subjects": ["01", "01"]}, "differ"),
        ({"subjects": ["sub-01"]}, "letters and digits"),
        ({"stimulus_s": 5}, "stimulus_s"),
        ({"test_repeats": 11}, "different runs"),
        ({"grid_shape": [24, 28, 4]}, "grid_shape"),
    ],
)
def test_impossible_options_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_section(SimulateConfig, wrong, where="test")


def test_names_of_runs() -> None:
    assert len(expected_runs(SimulateConfig())) == 10
    assert run_stem("01", "02", "03").endswith("func/sub-01_ses-02_task-scenes_run-03")
