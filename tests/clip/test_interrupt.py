"""Ctrl-C and SIGTERM end a run between two steps, with a state that goes on bit by bit."""

from __future__ import annotations

import json
import signal

import h5py
import pytest
import torch
import yaml
from safetensors.torch import load_file

from braindecode_clip.cli.clip_run import StopSignals
from braindecode_clip.cli.main import main
from braindecode_clip.clip.checkpoints import STATE_FILE, read_header
from braindecode_clip.clip.train import Trainer

WEIGHTS = "open_clip_model.safetensors"


@pytest.fixture
def command(tiny_recipe, make_pairs, tmp_path):
    """Return a maker of commands that train 9 steps on the same pairs."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe.model_dump(mode="json")), encoding="utf-8")
    for name, n, seed in (("train", 26, 1), ("held_out", 11, 2)):
        pairs = make_pairs(n, seed)
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["images"] = pairs.images
            captions = pairs.captions.tolist()
            file.create_dataset("captions", data=captions, dtype=h5py.string_dtype())

    def make(out, *more):
        words = ["clip", "train", "--recipe", recipe, "--pairs", tmp_path / "train.h5"]
        words += ["--validation", tmp_path / "held_out.h5", "--out", tmp_path / out]
        return [*map(str, words), "--threads", "1", "--no-report", *more]

    return make


@pytest.fixture
def raise_at(monkeypatch):
    """Return a function that makes a signal arrive within a step."""

    def arrange(step, number):
        take_step = Trainer.take_step

        def interrupted(self, rate):
            if self.step == step - 1:
                signal.raise_signal(number)
            return take_step(self, rate)

        monkeypatch.setattr(Trainer, "take_step", interrupted)

    return arrange


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "term"]
)
def test_an_interrupted_run_saves_its_state_and_goes_on(
    command, raise_at, number, code, monkeypatch, tmp_path, capsys
):
    handler = signal.getsignal(number)
    with monkeypatch.context():
        # Between two rows of the log, and between two states.
        raise_at(3, number)
        assert main(command("cut")) == code
        monkeypatch.undo()
    printed = capsys.readouterr().err
    assert "interrupted at step 3 of 9" in printed
    assert "cut-state" in printed and "--resume" in printed and "Traceback" not in printed
    assert signal.getsignal(number) is handler
    assert not (tmp_path / "cut").exists()
    record = json.loads((tmp_path / "cut-state" / "run.json").read_text("utf-8"))
    assert (record["status"], record["step"], record["n_steps"]) == ("interrupted", 3, 9)
    assert read_header(tmp_path / "cut-state" / STATE_FILE)["step"] == 3
    assert main(command("cut", "--resume")) == 0
    assert "taken up at step 3 of 9" in capsys.readouterr().err
    record = json.loads((tmp_path / "cut" / "run.json").read_text("utf-8"))
    assert (record["status"], record["step"], record["weights_of_step"]) == ("finished", 9, 9)
    if number == signal.SIGINT:
        assert main(command("whole")) == 0
        whole, cut = (load_file(tmp_path / name / WEIGHTS) for name in ("whole", "cut"))
        assert whole.keys() == cut.keys()
        assert all(torch.equal(value, cut[name]) for name, value in whole.items())


def test_a_second_ctrl_c_ends_at_once_and_a_second_term_does_not():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with StopSignals().watched() as stop:
        assert stop.received == 0
        signal.raise_signal(signal.SIGINT)
        # torchrun sends one after Ctrl-C.
        signal.raise_signal(signal.SIGTERM)
        assert stop.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
