"""A run that is killed again and again ends as one that never was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import torch
import yaml

from braindecode_clip.clip.checkpoints import BEST_FILE, STATE_FILE, read_state

N_KILLS = 5


@pytest.mark.slow
def test_five_kills_at_random_steps_change_no_bit(
    vit_recipe, changed, make_pairs, tmp_path, request
):
    for name, n, seed in (("train", 41, 1), ("held_out", 9, 2)):
        pairs = make_pairs(n, seed)
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["images"] = pairs.images
            captions = pairs.captions.tolist()
            file.create_dataset("captions", data=captions, dtype=h5py.string_dtype())
    recipe = changed(
        vit_recipe,
        vision={"patch_dropout": 0.5},
        epochs=40,
        log_every=1,
        checkpoint_every=3,
        validate_every=4,
        ema_decay=0.95,
        memory="gradcache",
        chunk_size=3,
    )
    text = yaml.safe_dump(recipe.model_dump(mode="json"))
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")

    messages = tmp_path / "messages.txt"

    def start(folder, *flags):
        command = [sys.executable, "-m", "braindecode_clip.cli.main", "clip", "train"]
        files = {"recipe": "recipe.yaml", "pairs": "train.h5", "validation": "held_out.h5"}
        command += [part for key, file in files.items() for part in (f"--{key}", file)]
        with messages.open("a") as stream:
            return subprocess.Popen(
                [*command, "--out", folder, "--threads", "1", "--device", "cpu", *flags],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(request.config.rootpath)},
                stderr=stream,
            )

    whole = start("whole")
    assert whole.wait(timeout=300) == 0, messages.read_text()[-2000:]
    rng = np.random.default_rng(int(time.time()))
    log = tmp_path / "cut-state" / "training_log.csv"
    done, killed_at = 0, []
    for kill in range(N_KILLS):
        # 200 steps: each kill falls into a fifth of its own, at a step of chance.
        goal = 40 * kill + int(rng.integers(4, 36))
        run = start("cut", "--resume")
        deadline = time.monotonic() + 200
        while done < goal and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
            lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
            steps = [line.split(",")[0] for line in lines[1:]]
            done = int(steps[-1]) if steps and steps[-1].isdigit() else 0
        run.send_signal(signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL, messages.read_text()[-2000:]
        killed_at.append(done)
    last = start("cut", "--resume")
    assert last.wait(timeout=300) == 0, messages.read_text()[-2000:]
    assert len(set(killed_at)) == N_KILLS
    for name in (STATE_FILE, BEST_FILE):
        states = [read_state(tmp_path / f"{folder}-state" / name) for folder in ("whole", "cut")]
        assert states[0].step == states[1].step
        assert states[0].progress == states[1].progress
        assert states[0].tensors.keys() == states[1].tensors.keys()
        for key, value in states[0].tensors.items():
            assert torch.equal(value, states[1].tensors[key]), (name, key, killed_at)
    assert states[0].tensors and any(key.startswith("model.mean.") for key in states[0].tensors)
    for file in ("open_clip_model.safetensors", "ema/open_clip_model.safetensors"):
        models = [(tmp_path / folder / file).read_bytes() for folder in ("whole", "cut")]
        assert models[0] == models[1]
