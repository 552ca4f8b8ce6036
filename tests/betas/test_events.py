"""What counts as a trial, and messages about events that cannot be right."""

import numpy as np
import pandas as pd
import pytest

from braindecode_clip.betas.events import select_trials
from braindecode_clip.errors import DataError


def select(events, **options):
    times = {"run_start_s": 0.0, "run_end_s": 198.0, "earliest_s": -24.0}
    return select_trials(pd.DataFrame(events), where="sub-01_events.tsv", **(times | options))


def test_onset_and_duration_are_enough():
    trials = select({"onset": [20, 4.5], "duration": [1, 2]}).trials
    assert trials.to_dict("list") == {
        "onset": [4.5, 20.0],
        "duration": [2.0, 1.0],
        "trial_type": ["trial", "trial"],
    }


def test_equal_onsets_stay_in_the_order_of_the_table():
    events = {"onset": [9, 5, 5, 1], "duration": [1, 3, 2, 1], "trial_type": list("dbca")}
    assert select(events).trials["trial_type"].tolist() == ["a", "b", "c", "d"]


def test_whole_numbers_name_stimuli_without_a_point():
    events = {"onset": [1, 9, 15], "duration": [1, 1, 1], "stimulus_id": [417.0, np.nan, 3.0]}
    assert select(events).trials["stimulus_id"].tolist() == ["417", "", "3"]


def test_other_types_are_kept_apart():
    events = {"onset": [1, 9, 15], "duration": [1, 1, 1], "trial_type": ["cue", "face", "cue"]}
    found = select(events, trial_types=["face", "house"])
    assert found.trials["onset"].tolist() == [9.0]
    assert found.others["onset"].tolist() == [1.0, 15.0]


def test_all_problems_come_in_one_message():
    events = {
        "onset": [-3.0, np.nan, 500.0, 30.0, 30.0, 60.0],
        "duration": [1.0, 1.0, 1.0, 2.0, 2.0, -1.0],
        "trial_type": ["a", "b", "c", "a", "b", np.nan],
    }
    with pytest.raises(DataError) as caught:
        select(events)
    message = str(caught.value)
    assert message.startswith("sub-01_events.tsv: 6 problems")
    for part in (
        "'onset' is no number in 1 of 6 rows (first: row 2",
        "'trial_type' is n/a in 1 of 6 rows (first: row 6)",
        "have a negative duration (first: row 6, onset 60 s, duration -1 s)",
        "begin before the run (first: row 1, onset -3 s",
        "begin after the last volume, at 198 s (first: row 3, onset 500 s",
        "2 trials share their onset and duration with another (rows 4, 5",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("events", "options", "message"),
    [
        ({"trial_type": ["a"]}, {}, r"(?s)'onset' is missing.*'duration' is missing"),
        ({"onset": [], "duration": []}, {}, "holds no events"),
        ({"onset": ["4 s"], "duration": [1]}, {}, "'onset' is no number .*'4 s'"),
        (
            {"onset": [1.0], "duration": [1.0], "trial_type": ["rest"]},
            {"trial_types": ["face"]},
            "none of the trial_types 'face' occurs; the table has 'rest'",
        ),
        (
            {"onset": [1.0], "duration": [1.0]},
            {"run_start_s": 40.0, "earliest_s": 16.0},
            "begin more than 24 s before the first volume kept, at 40 s",
        ),
    ],
)
def test_one_message_says_what_is_wrong(events, options, message):
    with pytest.raises(DataError, match=message):
        select(events, **options)


def test_late_trials_and_absent_types_give_warnings(caplog):
    events = {"onset": [10.0, 197.0], "duration": [1.0, 1.0], "trial_type": ["a", "a"]}
    assert len(select(events, trial_types=["a", "b"]).trials) == 2
    assert "no event of the trial_types 'b'" in caplog.text
    assert "1 trials begin less than 5 s before the last volume" in caplog.text
