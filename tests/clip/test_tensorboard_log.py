"""What the event files hold, read back by TensorBoard itself."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from braindecode_clip.clip.tensorboard_log import RECIPE_TAG, SECONDS_TAG, TAGS, TensorBoardLog
from braindecode_clip.clip.train import Trainer
from braindecode_clip.clip.training_log import LOG_FILE, read_log
from braindecode_clip.errors import ConfigError


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def events(folder):
    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def trainer(recipe, make_pairs, folder, **options):
    return Trainer(
        recipe, make_pairs(26, 1), validation=make_pairs(11, 2), state_dir=folder, **options
    )


def watched(run, folder, **options):
    """Run with a TensorBoard log, as the command does."""
    with TensorBoardLog(
        folder,
        recipe=run.recipe.model_dump(mode="json"),
        n_pairs_per_step=run.n_pairs_per_step,
        first_step=run.step,
    ) as log:

        def listen(step, n_steps, row):
            if row is not None:
                log.write(row)
            if step == options.get("die_at"):
                raise KeyboardInterrupt

        run.run(on_step=listen)


def test_event_files_hold_the_log_once_also_after_a_kill(tiny_recipe, make_pairs, tmp_path):
    # A state after step 4; the rows of steps 6 and 8 are written, lost, and written again.
    with pytest.raises(KeyboardInterrupt):
        watched(trainer(tiny_recipe, make_pairs, tmp_path / "run"), tmp_path / "tb", die_at=7)
    assert [e.step for e in events(tmp_path / "tb").Scalars(TAGS["loss"])] == [2, 4, 6]
    again = trainer(tiny_recipe, make_pairs, tmp_path / "run", resume=True)
    assert again.step == 4
    watched(again, tmp_path / "tb")
    rows = read_log(tmp_path / "run" / LOG_FILE)
    assert [row.step for row in rows] == [2, 4, 6, 8, 9]
    found = events(tmp_path / "tb")
    # InfoNCE has no loss of captions.
    tags = {column: tag for column, tag in TAGS.items() if column != "caption_loss"}
    assert set(found.Tags()["scalars"]) == {*tags.values(), SECONDS_TAG}
    for column, tag in tags.items():
        wanted = {row.step: getattr(row, column) for row in rows}
        wanted = {step: value for step, value in wanted.items() if value is not None}
        logged = {event.step: event.value for event in found.Scalars(tag)}
        assert len(found.Scalars(tag)) == len(logged)
        assert list(logged) == list(wanted)
        # The CSV keeps six digits, TensorBoard float32.
        np.testing.assert_allclose(list(logged.values()), list(wanted.values()), rtol=1e-5)
    assert [e.step for e in found.Scalars(TAGS["val_image_to_text_r1"])] == [9]
    speed, seconds = found.Scalars(TAGS["pairs_per_second"]), found.Scalars(SECONDS_TAG)
    np.testing.assert_allclose(
        [s.value * p.value for s, p in zip(seconds, speed, strict=True)], 8, rtol=1e-5
    )
    (recipe,) = found.Tensors(f"{RECIPE_TAG}/text_summary")
    assert recipe.step == 0
    text = recipe.tensor_proto.string_val[0].decode()
    assert "      batch_size: 8" in text.splitlines()


def test_a_new_run_hides_an_earlier_one_in_its_folder(tiny_recipe, make_pairs, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        watched(trainer(tiny_recipe, make_pairs, tmp_path / "a"), tmp_path / "tb", die_at=8)
    with pytest.raises(KeyboardInterrupt):
        watched(trainer(tiny_recipe, make_pairs, tmp_path / "b"), tmp_path / "tb", die_at=2)
    assert [e.step for e in events(tmp_path / "tb").Scalars(TAGS["loss"])] == [2]


def test_without_tensorboard_one_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r'pip install "braindecode-clip\[tensorboard\]"'):
        TensorBoardLog(tmp_path / "tb", recipe={}, n_pairs_per_step=8)
    assert not (tmp_path / "tb").exists()
