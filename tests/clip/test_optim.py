from __future__ import annotations

import math

import pytest

from braindecode_clip.clip.models import build_model
from braindecode_clip.clip.optim import learning_rate, make_optimiser, parameter_groups
from braindecode_clip.clip.tokenizers import WordTokenizer
from braindecode_clip.config.clip import OptimiserConfig


@pytest.fixture
def model(tiny_recipe):
    return build_model(tiny_recipe, WordTokenizer(["red", "blue"], context_length=7))


def test_decay_is_on_matrices_only(model):
    groups = parameter_groups(model, weight_decay=0.3)
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, free = ({names[id(p)] for p in group["params"]} for group in groups)
    assert decayed | free == set(names.values())
    assert not decayed & free
    assert "logit_scale" in free
    assert "positional_embedding" in free
    assert all(name in free for name in names.values() if name.endswith("bias"))
    assert all(name in free for name in names.values() if ".bn" in name or "ln_" in name)
    assert {"visual.conv1.weight", "token_embedding.weight", "text_projection"} <= decayed


def test_frozen_parameters_are_left_out(model):
    model.visual.conv1.weight.requires_grad_(False)
    groups = parameter_groups(model, weight_decay=0.1)
    assert all(p is not model.visual.conv1.weight for g in groups for p in g["params"])


def test_optimiser_takes_its_options(model):
    config = OptimiserConfig(lr=2e-3, beta1=0.8, beta2=0.95, eps=1e-6, weight_decay=0.2)
    optimiser = make_optimiser(model, config=config)
    assert optimiser.defaults["betas"] == (0.8, 0.95)
    assert optimiser.defaults["eps"] == 1e-6
    assert optimiser.defaults["fused"]


def test_schedule_rises_then_falls_along_a_cosine():
    config = OptimiserConfig(lr=0.5, warmup_fraction=0.2, final_lr_fraction=0.1)
    rates = [learning_rate(step, 50, config) for step in range(50)]
    assert rates[:10] == pytest.approx([0.5 * (k + 1) / 11 for k in range(10)])
    assert rates[10] == max(rates) == 0.5
    assert rates[-1] == pytest.approx(0.05)
    # Half-way down, at step 10 + 39 / 2, the rate is the mean of peak and end.
    middle = (rates[29] + rates[30]) / 2
    assert middle == pytest.approx((0.5 + 0.05) / 2, rel=1e-12)
    want = 0.5 * (0.1 + 0.9 * (1 + math.cos(math.pi * 7 / 39)) / 2)
    assert rates[17] == pytest.approx(want)


@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_schedule_of_very_short_runs_is_finite_and_starts_above_zero(n_steps):
    config = OptimiserConfig(lr=1.0, warmup_fraction=0.5)
    rates = [learning_rate(step, n_steps, config) for step in range(n_steps)]
    assert rates[0] > 0
    assert all(0 <= rate <= 1 for rate in rates)
