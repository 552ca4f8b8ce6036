from __future__ import annotations

import pytest

from braindecode_clip.clip.training_log import LogRow, append_row, read_log, write_log

ROWS = [
    LogRow(20, 0.051, 2.5, 1e-3, 14.25, 3.5, None, None, 9.47, 270.25),
    LogRow(40, 0.103, 2.25, 1.5e-3, 14.5, 4.5, 0.25, 0.125, 10.69, 240.5),
]

EARLIER = """\
step,epoch,loss,lr,logit_scale,grad_norm,val_image_to_text_r1,val_text_to_image_r1,seconds
20,0.051,2.5,0.001,14.25,3.5,,,9.47
40,0.103,2.25,0.0015,14.5,4.5,0.25,0.125,10.69
"""


def test_rows_come_back_and_more_can_be_added(tmp_path):
    path = tmp_path / "log.csv"
    write_log(path, ROWS[:1])
    append_row(path, ROWS[1])
    assert read_log(path) == ROWS
    text = path.read_bytes()
    write_log(path, read_log(path))
    assert path.read_bytes() == text
    assert read_log(tmp_path / "none.csv") == []
    (tmp_path / "empty.csv").touch()
    assert read_log(tmp_path / "empty.csv") == []


def test_logs_of_earlier_versions_are_read(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(EARLIER, encoding="utf-8")
    found = read_log(path)
    assert [row.pairs_per_second for row in found] == [None, None]
    assert [row.seconds for row in found] == [9.47, 10.69]
    assert [row.val_image_to_text_r1 for row in found] == [None, 0.25]
    write_log(path, found)
    append_row(path, ROWS[1])
    assert [row.pairs_per_second for row in read_log(path)] == [None, None, 240.5]


@pytest.mark.parametrize("n_bytes", [1, 2, 3, 12, -1])
def test_a_row_that_a_kill_cut_off_is_left_out(tmp_path, n_bytes):
    path = tmp_path / "log.csv"
    write_log(path, ROWS)
    whole = path.read_bytes()
    # Its beginning "1" would pass for a row of step 1, and its end cut for a smaller number.
    append_row(path, LogRow(160, 0.5, 2.0, 1e-3, 15.0, 3.0, None, None, 9.0, 250.0))
    added = path.read_bytes()[len(whole) :]
    path.write_bytes(whole + added[:n_bytes])
    assert read_log(path) == ROWS


def test_rows_that_are_no_numbers_are_left_out(tmp_path):
    path = tmp_path / "log.csv"
    write_log(path, ROWS)
    with path.open("a", encoding="utf-8") as stream:
        stream.write("60,0.1,2.0,oops,14.5,4.5,,,10.69,240\n")
        stream.write("80,0.1,,0.001,14.5,4.5,,,10.69,240\n")
        stream.write("100,0.1,2.0,0.001\n")
    assert read_log(path) == ROWS
