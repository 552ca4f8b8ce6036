"""Two processes that talk through gloo, against one."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from clip_processes import make_parts, recipe_of
from clip_reference import assert_equal_gradients, literal_gradients, make_inputs

from braindecode_clip.clip.checkpoints import read_state
from braindecode_clip.clip.distributed import Processes
from braindecode_clip.clip.step import ContrastiveStep
from braindecode_clip.errors import ConfigError

CASES = [
    {"loss": loss, "memory": memory, **options}
    for loss in ("infonce", "siglip")
    for memory in ("none", "gradcache", "checkpoint")
    for options in (
        {"false_negatives": "none"},
        {"false_negatives": "mask", "duplicate_similarity": 0.7},
        {"false_negatives": "soft", "word_loss_weight": 0.0},
    )
] + [
    {"memory": "gradcache", "distill_weight": 0.7},
    {"memory": "none", "distill_weight": 0.7, "duplicate_similarity": 0.5},
    {"gather_negatives": False},
    {"gather_negatives": False, "memory": "gradcache"},
    {"loss": "coca", "memory": "none", "word_loss_weight": 0.0},
    {"loss": "coca", "memory": "gradcache", "caption_loss_weight": 0.8, "word_loss_weight": 0.3},
    {"loss": "coca", "memory": "checkpoint", "contrastive_loss_weight": 0.4},
]


@pytest.fixture
def start(request, tmp_path):
    """Return a function that runs Python under torchrun with two processes."""

    def run(*command):
        paths = [str(request.config.rootpath), str(request.config.rootpath / "tests/shared")]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        environment = {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(paths)}
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        launch += ["--nproc-per-node", "2"]
        return subprocess.run(
            [*launch, *map(str, command)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def test_gradients_of_two_processes_equal_one_graph_in_float64(
    start, vit_recipe, changed, tmp_path, request
):
    recipe = changed(vit_recipe, batch_size=5, chunk_size=2, logit_scale_init=9.0)
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json(), encoding="utf-8")
    (tmp_path / "cases.json").write_text(json.dumps(CASES), encoding="utf-8")
    script = request.config.rootpath / "tests/shared/clip_processes.py"
    done = start(script, "recipe.json", "cases.json", "found")
    assert done.returncode == 0, done.stderr[-2000:]
    both = [torch.load(tmp_path / f"found-{rank}.pt") for rank in (0, 1)]
    inputs = make_inputs()
    for case, (loss, found), (other_loss, other) in zip(CASES, *both, strict=True):
        assert loss == other_loss
        assert all(torch.equal(g, other[name]) for name, g in found.items())
        one = recipe_of(recipe.model_dump(), case)
        distils = bool(case.get("distill_weight"))
        model, words, step = make_parts(one, Processes(), has_teacher=distils)
        halves = [inputs]
        if not one.training.gather_negatives:
            halves = [inputs.rows(slice(k, k + 5)) for k in (0, 5)]
        each = [
            literal_gradients(model, words, h, training=one.training, teacher=step.teacher)
            for h in halves
        ]
        assert loss == pytest.approx(np.mean([value for value, _ in each]), rel=1e-5)
        want = {k: sum(g[k] for _, g in each) / len(each) for k in each[0][1]}
        absent = {k: torch.zeros_like(found[k]) for k in found.keys() - want.keys()}
        assert_equal_gradients(found, want | absent)


def read_log(folder):
    with (folder / "training_log.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def train(vit_recipe, changed, make_pairs, tmp_path):
    """Return a maker of the command line of a run of 9 steps over 24 pairs of 8 a step."""
    import h5py

    for name, n, seed in (("train", 26, 1), ("held_out", 9, 2)):
        pairs = make_pairs(n, seed)
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["images"] = pairs.images
            captions = pairs.captions.tolist()
            file.create_dataset("captions", data=captions, dtype=h5py.string_dtype())

    def command(name, **options):
        recipe = changed(vit_recipe, log_every=1, validate_every=3, **options)
        text = yaml.safe_dump(recipe.model_dump(mode="json"))
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
        files = ["--pairs", tmp_path / "train.h5", "--validation", tmp_path / "held_out.h5"]
        main = ["-m", "braindecode_clip.cli.main", "clip", "train", *files]
        return [*main, "--recipe", tmp_path / f"{name}.yaml", "--out", tmp_path / name]

    return command


@pytest.mark.slow
@pytest.mark.parametrize(
    ("memory", "locks"),
    [("none", False), ("gradcache", False), ("none", True), ("gradcache", True)],
)
def test_the_curve_of_two_processes_is_that_of_one_with_twice_the_batch(
    start, train, tmp_path, memory, locks
):
    from braindecode_clip.cli.main import main

    options = {"optimiser": {"lr": 1e-4}, "ema_decay": 0.5, "early_stop_patience": 50}
    if locks:
        # All but the projections: each process takes the kept features of its own pairs.
        towers = {"image_tower": "lock", "text_tower": "lock"}
        groups = {"image_unlocked_groups": 1, "text_unlocked_layers": 1}
        options |= {"adapt": towers | groups, "max_shift_px": 0}
    assert main(list(map(str, train("one", batch_size=8, **options)[2:]))) == 0
    two = train("two", batch_size=4, memory=memory, chunk_size=2 if locks else 3, **options)
    done = start(*two)
    assert done.returncode == 0, done.stderr[-2000:]
    # One process writes and tells; the other is silent.
    assert done.stderr.count("wrote ") == 1
    assert done.stderr.count("step 9 of 9") == 1
    assert done.stderr.count("kept features of the locked") == (2 if locks else 0)
    logs = [read_log(tmp_path / f"{name}-state") for name in ("one", "two")]
    assert [row["step"] for row in logs[1]] == [str(k) for k in range(1, 10)]
    for key, tolerance in (("loss", 1e-5), ("logit_scale", 1e-5), ("grad_norm", 1e-3)):
        curves = [[float(row[key]) for row in log] for log in logs]
        np.testing.assert_allclose(curves[1], curves[0], rtol=tolerance)
    assert len({row["loss"] for row in logs[0]}) == 9
    assert start(*two).returncode == 1
    again = start(*two, "--resume")
    assert again.returncode == 0, again.stderr[-2000:]


@pytest.mark.slow
def test_two_processes_go_on_bit_by_bit(start, train, tmp_path):
    options = {"batch_size": 4, "vision": {"patch_dropout": 0.3}}
    assert start(*train("whole", **options)).returncode == 0
    state = tmp_path / "whole-state" / "training_state.safetensors"
    whole = read_state(state).tensors
    cut = train("cut", **options, checkpoint_every=1)
    job = f"""
import sys
from braindecode_clip.clip import train
trained = train.Trainer.run
train.Trainer.run = lambda self, **options: trained(self, stop_after=5, **options)
from braindecode_clip.cli.main import main
sys.exit(main({list(map(str, cut[2:]))!r}))
"""
    (tmp_path / "job.py").write_text(job, encoding="utf-8")
    # A run that has not come to its end writes no model, and says so by its exit code.
    done = start(tmp_path / "job.py")
    assert done.returncode != 0 and "interrupted at step 5 of 9" in done.stderr, done.stderr[-2000:]
    assert done.stderr.count("interrupted at step") == 1
    assert not (tmp_path / "cut").exists()
    done = start(*train("cut", **options, checkpoint_every=1), "--resume")
    assert done.returncode == 0, done.stderr[-2000:]
    found = read_state(tmp_path / "cut-state" / "training_state.safetensors")
    assert found.step == 9
    assert found.tensors.keys() == whole.keys()
    assert all(torch.equal(found.tensors[name], value) for name, value in whole.items())


def test_batch_normalisation_is_refused_for_several_processes(tiny_recipe):
    with pytest.raises(ConfigError, match="2 processes: the image tower has batch norm"):
        make_parts(tiny_recipe, Processes(0, 2), has_teacher=False)
    assert isinstance(make_parts(tiny_recipe, Processes(), has_teacher=False)[2], ContrastiveStep)
