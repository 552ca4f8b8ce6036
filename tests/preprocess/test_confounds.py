"""Which columns are chosen, what is filled, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from braindecode_clip.config.preprocess import DEFAULT_CONFOUNDS
from braindecode_clip.errors import DataError
from braindecode_clip.preprocess import choose_confounds


@pytest.fixture
def table():
    rng = np.random.default_rng(5)
    motion = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
    table = pd.DataFrame(rng.normal(size=(12, 6)), columns=motion)
    table["trans_x_derivative1"] = table["trans_x"].diff()
    table["framewise_displacement"] = np.r_[np.nan, rng.uniform(0, 1, 11)]
    table["a_comp_cor_00"] = rng.normal(size=12)
    table["a_comp_cor_01"] = rng.normal(size=12)
    table["non_steady_state_outlier00"] = np.r_[1.0, np.zeros(11)]
    return table


def test_the_default_takes_motion_and_unsteady_volumes(table):
    chosen = choose_confounds(table, DEFAULT_CONFOUNDS)
    assert chosen.columns.tolist() == [
        *["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"],
        "non_steady_state_outlier00",
    ]
    np.testing.assert_array_equal(chosen.to_numpy(), table[chosen.columns].to_numpy())
    # Most runs have no such volumes, which is no mistake.
    plain = table.drop(columns="non_steady_state_outlier00")
    assert choose_confounds(plain, DEFAULT_CONFOUNDS).shape == (12, 6)


def test_patterns_take_every_match_once(table):
    chosen = choose_confounds(table, ["a_comp_cor_0[0-5]", "a_comp*", "rot_z"])
    assert chosen.columns.tolist() == ["a_comp_cor_00", "a_comp_cor_01", "rot_z"]


def test_the_first_row_is_filled(table):
    chosen = choose_confounds(table, ["*_derivative1", "framewise_displacement"])
    assert chosen.loc[0, "trans_x_derivative1"] == 0.0
    mean = table["framewise_displacement"][1:].mean()
    assert chosen.loc[0, "framewise_displacement"] == pytest.approx(mean)
    np.testing.assert_array_equal(chosen.to_numpy()[1:], table[chosen.columns].to_numpy()[1:])


def test_all_problems_come_at_once_with_near_names(table):
    table["rot_z"] = table["rot_z"].astype(object)
    table.loc[3, "rot_z"] = "high"
    table.loc[4:6, "rot_x"] = np.nan
    with pytest.raises(DataError) as caught:
        choose_confounds(table, ["trans_X", "acompcor*", "rot_x", "rot_z"], where="confounds.tsv")
    message = str(caught.value)
    assert message.startswith("confounds.tsv: 4 problems")
    assert "no column 'trans_X'. Near names: 'trans_x'" in message
    assert "no column matches the pattern 'acompcor*'. Near names: 'a_comp_cor" in message
    assert "column 'rot_x' is n/a or infinite in 3 of 12 rows (first: row 5)" in message
    assert "column 'rot_z' holds 'high' in row 4" in message


def test_no_file_is_fine_only_when_nothing_is_wanted():
    assert choose_confounds(None, []).shape == (0, 0)
    with pytest.raises(DataError, match="there is no confounds file"):
        choose_confounds(None, ["trans_x"])
