"""Schedules, repeats and the resume of the MLP's training."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from braindecode_clip.decode import MLPDecoder
from braindecode_clip.decode.network import ResidualMLP, network_arrays
from braindecode_clip.decode.training import Plan, Rows, Training, averaged, make_optimizer
from braindecode_clip.io.training_state import TrainingState

FIT = """
import functools
import sys
import numpy as np
import braindecode_clip.decode.mlp as mlp
from braindecode_clip.decode import ContrastiveDecoder
from braindecode_clip.decode.training import Plan
from braindecode_clip.io.training_state import TrainingState

kind, folder, out, interval = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
mlp.Plan = functools.partial(Plan, interval_s=interval)
rng = np.random.default_rng(0)
X = rng.standard_normal((96, 300)).astype(np.float32)
Y = (X[:, :24] + rng.standard_normal((96, 24))).astype(np.float32)
model = {
    "mlp": mlp.MLPDecoder(
        hidden=128, n_members=2, max_epochs=24, patience=24, ema=0.9, mixco_share=0.3,
        temperature_end=0.2, cosine=0.5, repeats="draw", random_state=4, cv=3,
    ),
    "contrastive": ContrastiveDecoder(batch_size=16, random_state=4),
}[kind]
model.fit(X, Y, stimuli=np.arange(96) // 2, groups=np.arange(96) // 2,
          store=TrainingState(folder, key={"seed": 4}))
arrays = model.arrays_ if kind == "mlp" else {"coef": model.coef_, "intercept": model.intercept_}
np.savez(out, held=model.out_of_fold_, **arrays)
"""


def plan(**changes):
    given = {
        "weights": {"contrastive": 1.0},
        "temperature": 0.004,
        "temperature_end": 0.0075,
        "mixco_share": 1 / 3,
        "mixco_beta": 0.15,
        "mixco_temperature": 0.006,
        "learning_rate": 1e-3,
        "weight_decay": 0.01,
        "ema": 0.0,
        "batch_size": 8,
        "max_epochs": 30,
        "patience": 30,
        "draw": False,
        "bfloat16": False,
        "n_tokens": 1,
        "pooled": False,
    }
    return Plan(**{**given, **changes})


def rows(n, seed=0, stimuli=None):
    rng = np.random.default_rng(seed)
    inputs, targets = (
        torch.tensor(rng.standard_normal((n, k)), dtype=torch.float32) for k in (9, 4)
    )
    return Rows(inputs, targets, torch.arange(n) if stimuli is None else torch.tensor(stimuli))


def training(**changes):
    torch.manual_seed(0)
    network = ResidualMLP(9, 4, hidden=6, n_blocks=1, dropout=0.2)
    return Training(network, train=rows(32), check=rows(8, seed=1), plan=plan(**changes))


def test_schedule_of_mindeye():
    schedule = plan()
    assert [schedule.mixes(epoch) for epoch in (0, 9, 10, 29)] == [True, True, False, False]
    assert schedule.tau(5) == 0.006
    assert schedule.tau(10) == pytest.approx(0.004)
    assert schedule.tau(29) == pytest.approx(0.0075)
    middle = [schedule.tau(epoch) for epoch in (19, 20)]
    assert np.mean(middle) == pytest.approx((0.004 + 0.0075) / 2)
    assert np.all(np.diff([schedule.tau(epoch) for epoch in range(10, 30)]) > 0)


def test_gains_and_biases_do_not_decay():
    network = ResidualMLP(9, 4, hidden=6, n_blocks=2)
    decayed, free = make_optimizer(network, plan()).param_groups
    assert decayed["weight_decay"] == 0.01 and free["weight_decay"] == 0.0
    names = {id(value): name for name, value in network.named_parameters()}
    assert all("weight" in names[id(value)] for value in decayed["params"])
    assert {names[id(value)].split(".")[-2] for value in free["params"]} >= {"norm", "head"}
    n_all = len(decayed["params"]) + len(free["params"])
    assert n_all == len(list(network.parameters()))


def test_average_of_the_weights_by_its_sum():
    run = training(ema=0.6)
    seen = []
    follow = run._follow
    run._follow = lambda: (seen.append(network_arrays(run.network)), follow())
    run.run_epoch()
    weights = 0.6 ** np.arange(len(seen))[::-1]
    for name, value in run._with_average().items():
        expected = np.average([arrays[name] for arrays in seen], axis=0, weights=weights)
        np.testing.assert_allclose(value, expected, atol=1e-6)
        np.testing.assert_array_equal(run.best_arrays[name], value)


def test_repeats_are_drawn_or_averaged():
    shown = [3, 5, 3, 8, 5, 3, 1, 1, 9, 9]
    many = rows(10, stimuli=shown)
    run = Training(
        ResidualMLP(9, 4, hidden=6, n_blocks=0), train=many, check=many, plan=plan(draw=True)
    )
    drawn = [torch.cat(list(run._batches())) for _ in range(20)]
    # Batches of 2 leave the fifth stimulus for another epoch.
    assert all(len(set(np.array(shown)[order])) == len(order) == 4 for order in drawn)
    assert len({tuple(sorted(order.tolist())) for order in drawn}) > 5
    mean = averaged(many)
    assert mean.stimuli.tolist() == [1, 3, 5, 8, 9]
    np.testing.assert_allclose(mean.inputs[1], many.inputs[[0, 2, 5]].mean(dim=0), atol=1e-6)


def test_bfloat16_trains_close_to_float32():
    losses = []
    for bfloat16 in (False, True):
        run = training(bfloat16=bfloat16, weights={"mse": 1.0})
        run.run_epoch()
        losses.append(run.losses[0])
        assert run.best_arrays["head.weight"].dtype == np.float32
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_tokens(toy):
    X, Y = toy.responses(np.arange(60)), toy.vectors[:60].reshape(60, 4, 8)
    options = {"hidden": 8, "max_epochs": 3, "n_members": 1, "random_state": 0}
    model = MLPDecoder(**options, pooled=True, cosine=1.0).fit(X, Y)
    assert model.predict(X).shape == model.out_of_fold_.shape == Y.shape
    flat = MLPDecoder(**options).fit(X, Y.reshape(60, -1)).predict(X)
    np.testing.assert_array_equal(MLPDecoder(**options).fit(X, Y).predict(X), flat.reshape(Y.shape))


def test_state_of_another_key_is_not_seen(tmp_path):
    one = TrainingState(tmp_path, key={"seed": 1})
    one.part("a").save("m", {"x": np.arange(3)[::-1]}, {"epoch": 2})
    arrays, facts = one.part("a").load("m")
    assert arrays["x"].tolist() == [2, 1, 0] and facts == {"epoch": 2}
    assert one.part("b").load("m") is None
    assert TrainingState(tmp_path, key={"seed": 2}).part("a").load("m") is None
    next(tmp_path.rglob("m.safetensors")).write_bytes(b"cut off")
    assert one.part("a").load("m") is None
    one.remove()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "stops"),
    # Members of the decoder itself write 48 times, then each fold 49 times; or each fold once.
    [("mlp", (5, 60, 70)), ("contrastive", (1, 2))],
)
def test_killed_and_not_killed_give_the_same_bits(kind, stops, tmp_path):
    script = tmp_path / "fit.py"
    script.write_text(FIT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def start(folder, out, interval):
        command = [sys.executable, str(script), kind, str(tmp_path / folder), str(tmp_path / out)]
        return subprocess.Popen([*command, str(interval)], env=environment)

    assert start("whole", "whole.npz", 1e9).wait() == 0
    for n_saves in stops:
        process = start("cut", "cut.npz", 0.0)
        seen: set[int] = set()
        while process.poll() is None and len(seen) < n_saves:
            for path in (tmp_path / "cut").rglob("*.safetensors"):
                seen.add(_changed(path))
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (tmp_path / "cut.npz").exists()
    assert start("cut", "cut.npz", 0.0).wait() == 0
    whole, cut = (np.load(tmp_path / name) for name in ("whole.npz", "cut.npz"))
    assert set(whole) == set(cut) and len(whole.files) > (20 if kind == "mlp" else 2)
    for name in whole:
        np.testing.assert_array_equal(whole[name], cut[name], err_msg=name)


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
