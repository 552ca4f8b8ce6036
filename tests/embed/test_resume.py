"""A run that is killed goes on where it was: real processes, and a real model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from braindecode_clip.artifacts import Embeddings
from braindecode_clip.cli.main import main
from braindecode_clip.io.hdf5 import load_artifact, read_provenance

ROOT = Path(__file__).resolve().parents[2]
N_PICTURES, BATCH = 61, 4
OPTIONS = {"name": "x", "kind": "scenes", "batch_size": BATCH}


@pytest.fixture
def stimuli(tmp_path):
    rng = np.random.default_rng(6)
    lines = ["stimulus_id\timage\tcaption"]
    for k in range(N_PICTURES):
        coarse = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((300, 225)).save(tmp_path / f"{k}.jpg", quality=85)
        lines.append(f"s{k}\t{k}.jpg\tpicture {k}")
    # The content of an earlier one under another name.
    (tmp_path / "7.jpg").write_bytes((tmp_path / "3.jpg").read_bytes())
    path = tmp_path / "stimuli.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def arguments(stimuli, out, cache=None):
    more = [] if cache is None else ["--cache", str(cache)]
    options = ["--stimuli", str(stimuli), "--options", json.dumps(OPTIONS), "--threads", "2"]
    return ["embed", "--out", str(out), *options, *more]


def kept(folder):
    """Return the keys in every shard, by reading the files, in no order."""
    found = []
    for path in folder.rglob("*.npz"):
        if not path.name.startswith("."):
            with path.open("rb") as stream, np.load(stream) as content:
                found.append(content["keys"].tolist())
    return found


def start_and_kill(command, folder, n_shards):
    """Run until that many shards lie in the folder, then kill -9."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "braindecode_clip.cli.main", *command],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if len(kept(folder)) >= n_shards:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(2e-3)
    finally:
        process.kill()
        process.wait()
        errors = process.stderr.read()
        process.stderr.close()
    assert process.returncode == -signal.SIGKILL, errors


class Stalled:
    """A picture whose reading waits for ever: a named pipe that nobody writes into.

    So a kill comes in the middle for sure, however fast the machine is.
    """

    def __init__(self, path):
        self.path, self.content = path, path.read_bytes()
        path.unlink()
        os.mkfifo(path)

    def go_on(self):
        self.path.unlink()
        self.path.write_bytes(self.content)


def test_killed_twice_and_started_again(stimuli, tmp_path, capsys):
    out, whole = tmp_path / "killed" / "enc.h5", tmp_path / "whole" / "enc.h5"
    # Without --cache: the vectors lie beside the output until it is there.
    folder = out.parent / ".enc.h5.parts"
    command = arguments(stimuli, out)
    early, late = Stalled(tmp_path / "14.jpg"), Stalled(tmp_path / "33.jpg")
    start_and_kill(command, folder, 3)
    first = kept(folder)
    early.go_on()
    start_and_kill(command, folder, 5)
    second = kept(folder)
    late.go_on()
    assert not out.exists()
    known = list(chain(*second))
    # Whole batches, nothing twice, and the first run's are still there.
    assert (len(first), {len(shard) for shard in second}) == (3, {BATCH})
    assert 5 * BATCH <= len(known) == len(set(known)) < 33
    assert set(chain(*first)) < set(known)

    assert main(command) == 0
    assert f"{N_PICTURES - 1 - len(known)} encoded now" in capsys.readouterr().err
    assert main(arguments(stimuli, whole)) == 0
    assert f"{N_PICTURES - 1} encoded now" in capsys.readouterr().err
    assert out.read_bytes() == whole.read_bytes()
    assert read_provenance(out) == read_provenance(whole)
    result = load_artifact(out, Embeddings)
    np.testing.assert_array_equal(result.vectors[3], result.vectors[7])
    assert [path.name for path in out.parent.iterdir()] == ["enc.h5"]


def test_damaged_pictures_are_all_named_and_the_rest_is_encoded_once(stimuli, tmp_path, capsys):
    out = tmp_path / "out" / "enc.h5"
    assert main(arguments(stimuli, out)) == 0
    before = out.read_bytes()
    contents = {k: (tmp_path / f"{k}.jpg").read_bytes() for k in (0, 20, 41, 60)}
    (tmp_path / "0.jpg").unlink()
    (tmp_path / "20.jpg").write_bytes(contents[20][:900])
    (tmp_path / "41.jpg").write_bytes(b"")
    (tmp_path / "60.jpg").write_bytes(b"GIF89a, or so it says")
    capsys.readouterr()
    assert main(arguments(stimuli, out)) == 1
    printed = capsys.readouterr().err
    assert "4 problems" in printed and "Traceback" not in printed
    reasons = {
        "s0": "no such file",
        "s20": "truncated",
        "s41": "empty",
        "s60": "cannot be decoded",
    }
    for name, reason in reasons.items():
        (line,) = [line for line in printed.splitlines() if f" {name}: " in line]
        assert reason in line or "no picture" in line, line
    assert f"{N_PICTURES - 5} vectors are kept" in printed and ".enc.h5.parts" in printed
    assert out.read_bytes() == before

    for k, content in contents.items():
        (tmp_path / f"{k}.jpg").write_bytes(content)
    assert main(arguments(stimuli, out)) == 0
    assert "4 encoded now" in capsys.readouterr().err
    again = load_artifact(out, Embeddings)
    out.write_bytes(before)
    # Batches of other neighbours: rounding apart, the same.
    np.testing.assert_allclose(
        again.vectors, load_artifact(out, Embeddings).vectors, atol=64 * np.finfo(np.float32).eps
    )


def test_an_unfinished_run_keeps_its_automatic_batches(stimuli, tmp_path, monkeypatch):
    from braindecode_clip.clip import batch_size

    def sizes(free_bytes):
        monkeypatch.setattr(batch_size, "free_memory_bytes", lambda device: free_bytes)
        command = arguments(stimuli, tmp_path / "enc.h5", tmp_path / "cache")
        command[command.index("--options") + 1] = json.dumps({"name": "x"})
        return main(command), sorted(map(len, kept(tmp_path / "cache")))

    contents = {k: (tmp_path / f"{k}.jpg").read_bytes() for k in range(21, N_PICTURES)}
    for k in contents:
        (tmp_path / f"{k}.jpg").unlink()
    # 20 contents; the largest power of two that 61 rows give two threads is 16.
    assert sizes(1e12) == (1, [4, 16])
    record = next((tmp_path / "cache").rglob("unfinished.json"))
    assert json.loads(record.read_text())["batch_size"] == 16
    for k in range(21, N_PICTURES - 1):
        (tmp_path / f"{k}.jpg").write_bytes(contents[k])
    # 39 more, and hardly any memory is left now.
    assert sizes(1.0) == (1, [4, 7, 16, 16, 16])
    (tmp_path / f"{N_PICTURES - 1}.jpg").write_bytes(contents[N_PICTURES - 1])
    assert sizes(1.0) == (0, [N_PICTURES - 1])
    assert not record.exists()
    # A finished run leaves no size behind.
    Image.new("RGB", (50, 50)).save(tmp_path / "3.jpg")
    Image.new("RGB", (50, 60)).save(tmp_path / "4.jpg")
    (tmp_path / "5.jpg").unlink()
    assert sizes(1.0) == (1, [1, 1, N_PICTURES - 1])
