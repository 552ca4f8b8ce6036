from __future__ import annotations

import math

import pytest

from braindecode_clip.clip.models import build_model
from braindecode_clip.clip.optim import (
    layer_scales,
    learning_rate,
    make_optimiser,
    parameter_groups,
    set_rate,
)
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


def test_constant_and_cooldown_schedules():
    config = OptimiserConfig(
        lr=0.5,
        warmup_fraction=0.2,
        schedule="cooldown",
        cooldown_fraction=0.3,
        final_lr_fraction=0.1,
    )
    rates = [learning_rate(step, 50, config) for step in range(50)]
    cosine = [
        learning_rate(step, 50, OptimiserConfig(lr=0.5, warmup_fraction=0.2)) for step in (9,)
    ]
    assert rates[9] == cosine[0]
    assert rates[10:35] == [0.5] * 25
    # A straight line over 15 steps, from the peak to a tenth of it.
    want = [0.5 * (0.1 + 0.9 * (49 - step) / 15) for step in range(35, 50)]
    assert rates[35:] == pytest.approx(want)
    constant = config.model_copy(update={"schedule": "constant"})
    assert [learning_rate(step, 50, constant) for step in range(10, 50)] == [0.5] * 40


def test_layers_learn_slower_towards_the_input(vit_recipe):
    tokenizer = WordTokenizer(["red", "blue"], context_length=7)
    model = build_model(vit_recipe, tokenizer)
    scales = layer_scales(model, 0.5)
    # Two layers in the image tower, one in the text tower.
    want = {
        "visual.conv1.weight": 0.125,
        "visual.class_embedding": 0.125,
        "visual.positional_embedding": 0.125,
        "visual.ln_pre.weight": 0.125,
        "visual.transformer.resblocks.0.mlp.c_fc.weight": 0.25,
        "visual.transformer.resblocks.1.ln_1.bias": 0.5,
        "visual.ln_post.weight": 1.0,
        "visual.proj": 1.0,
        "token_embedding.weight": 0.25,
        "positional_embedding": 0.25,
        "transformer.resblocks.0.attn.in_proj_weight": 0.5,
        "ln_final.bias": 1.0,
        "text_projection": 1.0,
        "logit_scale": 1.0,
    }
    assert {name: scales[name] for name in want} == want
    assert set(scales) == {name for name, _ in model.named_parameters()}


def test_layers_of_a_residual_network(model):
    scales = layer_scales(model, 0.5)
    want = {
        "visual.conv2.weight": 2**-5,
        "visual.bn3.bias": 2**-5,
        "visual.layer1.0.conv1.weight": 2**-4,
        "visual.layer4.0.bn3.weight": 0.5,
        "visual.attnpool.positional_embedding": 1.0,
        "visual.attnpool.q_proj.weight": 1.0,
    }
    assert {name: scales[name] for name in want} == want


def test_rates_of_groups_follow_their_layers(vit_recipe):
    model = build_model(vit_recipe, WordTokenizer(["red", "blue"], context_length=7))
    config = OptimiserConfig(layer_decay=0.5, weight_decay=0.2)
    optimiser = make_optimiser(model, config=config)
    set_rate(optimiser, 0.8)
    scales, names = layer_scales(model, 0.5), {id(p): n for n, p in model.named_parameters()}
    seen = []
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            seen.append(name)
            assert group["lr"] == pytest.approx(0.8 * scales[name])
            is_free = parameter.ndim < 2 or name in model.no_weight_decay()
            assert group["weight_decay"] == (0.0 if is_free else 0.2)
    assert sorted(seen) == sorted(names.values())
    assert optimiser.param_groups[0]["lr"] == 0.8
